"""The turns of a conversation, in the form that Anthropic insists on.

It is stricter than others: system text stands apart, turns alternate, all results of a turn's tool calls come in one user turn
right after it and first in it, no text is empty, ids are plain, cache markers are few.  What has to be rearranged for
that loses nothing and is not noted; what is dropped or means something else is noted in the receipt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, assert_never

from tollhouse.chat.call_ids import fitted
from tollhouse.chat.markers import Markers, Place
from tollhouse.chat.model import (
    Document,
    Foreign,
    Image,
    Inline,
    Message,
    Part,
    RedactedThinking,
    Refusal,
    Remote,
    Source,
    StoredFile,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tollhouse.chat.opaque import sent
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.anthropic.blocks import (
    Block,
    input_object,
    merge_extra,
    part_name,
)
from tollhouse.dialects.anthropic.lane import SYSTEM_REMINDER
from tollhouse.dialects.anthropic.response import custom_input
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.dialects.anthropic.wire import NAME

_Role = Literal["user", "assistant", "system"]


@dataclass(slots=True)
class Turn:
    """One message for the provider, as it grows."""

    role: _Role
    blocks: list[object] = field(default_factory=list)


class TurnWriter:
    """Writes the turns of one request."""

    __slots__ = ("_markers", "_place", "_receipt", "_traits")

    def __init__(self, traits: AnthropicTraits, markers: Markers, receipt: Receipt) -> None:
        self._traits = traits
        self._markers = markers
        self._place: Place = "system"
        self._receipt = receipt

    def write(self, messages: Sequence[Message]) -> tuple[list[object], list[Turn]]:
        """The top-level system blocks, and the turns."""
        first = next((i for i, m in enumerate(messages) if m.role not in {"system", "developer"}), len(messages))
        system = [block for i in range(first) for block in self._system_blocks(messages[i], i)]
        self._place = "messages"
        turns: list[Turn] = []
        owed: set[str] = set()
        waiting: list[tuple[_Role, list[object]]] = []
        for index in range(first, len(messages)):
            message = messages[index]
            self._note_message(message, index)
            match message.role:
                case "system" | "developer":
                    late = self._late_system(message, index)
                    # Nothing may part tool calls from their results, so a system turn in between waits for the last one.
                    if owed:
                        waiting.append(late)
                    else:
                        _add(turns, *late)
                case "assistant":
                    _add_all(turns, waiting)
                    _add(turns, "assistant", self._assistant_blocks(message, index))
                    owed = {part.id for part in message.parts if isinstance(part, ToolCall)}
                case "user" | "tool":
                    _add(turns, "user", self._user_blocks(message, index))
                    owed -= {part.call_id for part in message.parts if isinstance(part, ToolResult)}
                    if not owed:
                        _add_all(turns, waiting)
                case _:
                    assert_never(message.role)
        _add_all(turns, waiting)
        for turn in turns:
            if turn.role == "user":
                turn.blocks.sort(key=lambda block: not _is_tool_result(block))
        self._trim_prefill(turns)
        if not turns and system:
            self._receipt.changed("messages[0]", "sent as the user's, as Anthropic needs a user's turn")
            return [], [Turn("user", system)]
        return system, turns

    def _note_message(self, message: Message, index: int) -> None:
        if message.name is not None:
            self._receipt.dropped(f"messages[{index}].name", "Anthropic's messages have no names")
        if message.extra is not None and message.extra.dialect != NAME:
            for name in message.extra.fields:
                self._receipt.dropped(f"messages[{index}].{name}", "Anthropic's dialect has no such field")

    def _system_blocks(self, message: Message, index: int) -> list[object]:
        blocks: list[object] = []
        for number, part in enumerate(message.parts):
            path = f"messages[{index}].content[{number}]"
            match part:
                case Text() | Refusal():
                    self._append_text(blocks, part, path)
                case Foreign() if part.dialect == NAME:
                    self._append_foreign(blocks, part)
                case _:
                    self._receipt.dropped(path, "a system prompt holds only text")
        return blocks

    def _late_system(self, message: Message, index: int) -> tuple[_Role, list[object]]:
        blocks = self._system_blocks(message, index)
        if self._traits.system_in_messages:
            return "system", blocks
        self._receipt.changed(f"messages[{index}]", "a system message after the beginning is sent as the user's text")
        for block in blocks:
            if isinstance(block, dict) and isinstance(text := block.get("text"), str):
                block["text"] = SYSTEM_REMINDER.format(text)
        return "user", blocks

    def _user_blocks(self, message: Message, index: int) -> list[object]:
        blocks: list[object] = []
        for number, part in enumerate(message.parts):
            path = f"messages[{index}].content[{number}]"
            if isinstance(part, ToolResult):
                blocks.append(self._tool_result(part, path))
            else:
                self._append_material(blocks, part, path)
        return blocks

    def _assistant_blocks(self, message: Message, index: int) -> list[object]:
        blocks: list[object] = []
        for number, part in enumerate(message.parts):
            path = f"messages[{index}].content[{number}]"
            match part:
                case Text() | Refusal():
                    if isinstance(part, Text):
                        self._unsign(part, path)
                    self._append_text(blocks, part, path)
                case ToolCall():
                    self._unsign(part, path)
                    blocks.append(self._tool_use(part, path))
                case Thinking() | RedactedThinking():
                    self._append_thought(blocks, part, path)
                case Foreign() if part.dialect == NAME:
                    self._append_foreign(blocks, part)
                case _:
                    self._receipt.dropped(path, f"{part_name(part)} has no place in an assistant's turn")
        return blocks

    def _append_thought(self, blocks: list[object], part: Thinking | RedactedThinking, path: str) -> None:
        value = part.data if isinstance(part, RedactedThinking) else part.signature
        own = None if value is None else sent(value, self._traits.home)
        if own is None and isinstance(part, Thinking) and part.text and self._traits.unsigned_thinking:
            if value is not None:
                self._receipt.dropped(f"{path}.signature", "only the provider that did this thinking takes it back")
            own = ""
        if own is None and value is None:
            self._receipt.dropped(path, "Anthropic takes back only thinking that it signed")
        elif own is None:
            self._receipt.dropped(path, "only the provider that did this thinking takes it back")
        elif isinstance(part, RedactedThinking):
            blocks.append({"type": "redacted_thinking", "data": own})
        else:
            block: Block = {"type": "thinking", "thinking": part.text, "signature": own}
            merge_extra(block, part.extra)
            blocks.append(block)

    def _unsign(self, part: Text | ToolCall, path: str) -> None:
        if part.signature is not None:
            self._receipt.dropped(f"{path}.signature", "Anthropic signs thinking only")

    def _append_material(self, blocks: list[object], part: Part, path: str) -> None:
        """What a user shows: in a turn, or in a tool's result."""
        match part:
            case Text() | Refusal():
                self._append_text(blocks, part, path)
            case Image():
                block = self._image(part, path)
                if block is not None:
                    blocks.append(block)
            case Document():
                block = self._document(part, path)
                if block is not None:
                    blocks.append(block)
            case Foreign() if part.dialect == NAME:
                self._append_foreign(blocks, part)
            case _:
                self._receipt.dropped(path, f"{part_name(part)} has no place in a user's turn")

    def _append_text(self, blocks: list[object], part: Text | Refusal, path: str) -> None:
        cache = part.cache if isinstance(part, Text) else None
        if not part.text.strip():
            # Anthropic refuses blank text.  A marker on it is about what comes before, so it moves there.
            if part.text:
                self._receipt.dropped(path, "Anthropic refuses text of blanks only")
            if cache is not None:
                before = blocks[-1] if blocks else None
                if isinstance(before, dict) and not before.keys() & {"cache_control", "thinking", "data"}:
                    self._markers.mark(before, cache, self._place)
                else:
                    self._receipt.dropped(f"{path}.cache_control", "there is no text to mark")
            return
        block: Block = {"type": "text", "text": part.text}
        if isinstance(part, Text):
            own = [c.extra.fields for c in part.citations if c.extra is not None and c.extra.dialect == NAME]
            if len(own) < len(part.citations):
                self._receipt.dropped(f"{path}.citations", "Anthropic takes back only citations of its own")
            if own:
                block["citations"] = own
            self._markers.mark(block, cache, self._place)
            merge_extra(block, part.extra)
        blocks.append(block)

    def _append_foreign(self, blocks: list[object], part: Foreign) -> None:
        self._markers.count_fixed(part.raw)
        blocks.append(part.raw)

    def _image(self, part: Image, path: str) -> Block | None:
        source = self._source(part.source, path) if self._traits.images else None
        if not self._traits.images:
            self._receipt.dropped(path, "the provider takes no images")
        if source is None:
            return None
        if part.detail not in {None, "auto"}:
            self._receipt.dropped(f"{path}.detail", "Anthropic chooses an image's detail itself")
        block: Block = {"type": "image", "source": source}
        self._markers.mark(block, part.cache, self._place)
        merge_extra(block, part.extra)
        return block

    def _document(self, part: Document, path: str) -> Block | None:
        if not self._traits.documents:
            self._receipt.dropped(path, "the provider takes no documents")
            return None
        source: Block | None
        match part.source:
            case Inline(media_type="text/plain", data=data):
                source = {"type": "text", "media_type": "text/plain", "data": data}
            case Inline(media_type=media_type) if media_type != "application/pdf":
                self._receipt.dropped(path, f"Anthropic takes PDF and plain text, not {media_type[:60]}")
                return None
            case _:
                source = self._source(part.source, path)
        if source is None:
            return None
        block: Block = {"type": "document", "source": source}
        if part.title is not None:
            block["title"] = part.title
        if part.context is not None:
            block["context"] = part.context
        if part.cite:
            block["citations"] = {"enabled": True}
        self._markers.mark(block, part.cache, self._place)
        merge_extra(block, part.extra)
        return block

    def _source(self, source: Source, path: str) -> Block | None:
        match source:
            case Inline():
                return {"type": "base64", "media_type": source.media_type, "data": source.data}
            case Remote():
                return {"type": "url", "url": source.url}
            case StoredFile(dialect=dialect) if dialect == NAME:
                return {"type": "file", "file_id": source.id}
            case StoredFile():
                self._receipt.dropped(path, "a file that was uploaded to another provider is unknown to Anthropic")
                return None
            case _:
                assert_never(source)

    def _tool_use(self, part: ToolCall, path: str) -> Block:
        arguments: object = custom_input(part.arguments) if part.custom else input_object(part.arguments)
        if arguments is None:
            # Cut off by a length limit: the model shall still see what it began to say.
            self._receipt.changed(path, "arguments that are no JSON object are sent as {_raw: text}")
            arguments = {"_raw": part.arguments}
        block: Block = {"type": "tool_use", "id": fitted(part.id, "plain"), "name": part.name, "input": arguments}
        self._markers.mark(block, part.cache, self._place)
        merge_extra(block, part.extra)
        return block

    def _tool_result(self, part: ToolResult, path: str) -> Block:
        content: list[object] = []
        for number, piece in enumerate(part.content):
            self._append_material(content, piece, f"{path}.content[{number}]")
        block: Block = {"type": "tool_result", "tool_use_id": fitted(part.call_id, "plain")}
        if content:
            block["content"] = simplest(content)
        if part.is_error:
            block["is_error"] = True
        self._markers.mark(block, part.cache, self._place)
        merge_extra(block, part.extra)
        return block

    def _trim_prefill(self, turns: list[Turn]) -> None:
        """Anthropic refuses an assistant's last turn that ends in white space."""
        if not turns or turns[-1].role != "assistant":
            return
        blocks = turns[-1].blocks
        last = blocks[-1]
        if isinstance(last, dict) and isinstance(text := last.get("text"), str) and text != text.rstrip():
            last["text"] = text.rstrip()
            self._receipt.changed("messages[-1]", "white space at the end of the assistant's beginning is left out")


def simplest(blocks: list[object]) -> object:
    """Content as a plain string where it is nothing more."""
    only = blocks[0] if len(blocks) == 1 else None
    return only["text"] if isinstance(only, dict) and only.keys() == {"type", "text"} else blocks


def _add(turns: list[Turn], role: _Role, blocks: list[object]) -> None:
    """Adds to the turn under way, as turns alternate; a turn of nothing is none."""
    if not blocks:
        return
    if turns and turns[-1].role == role:
        turns[-1].blocks += blocks
    else:
        turns.append(Turn(role, list(blocks)))


def _add_all(turns: list[Turn], waiting: list[tuple[_Role, list[object]]]) -> None:
    for role, blocks in waiting:
        _add(turns, role, blocks)
    waiting.clear()


def _is_a(block: object, *kinds: str) -> bool:
    return isinstance(block, dict) and block["type"] in kinds


def _is_tool_result(block: object) -> bool:
    return _is_a(block, "tool_result")


def goes_on_without_thinking(turns: list[Turn]) -> bool:
    """Whether tool results answer calls whose turn does not begin with thinking, which manual thinking demands."""
    last = next((turn for turn in reversed(turns) if turn.role == "assistant"), None)
    return (
        last is not None
        and turns[-1].role == "user"
        and any(_is_tool_result(block) for block in turns[-1].blocks)
        and not _is_a(last.blocks[0], "thinking", "redacted_thinking")
    )
