"""The turns of a conversation, in the form that Gemini insists on.

System text stands apart; a model's function calls are answered by all of their responses, in one content, right after them
and with nothing else in it; a response names its function; no part is empty.  What has to be rearranged for that loses nothing
and is not noted; what is dropped or means something else is noted in the receipt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, assert_never

from tollhouse.chat.model import (
    Audio,
    CacheMarker,
    Document,
    Foreign,
    Image,
    Inline,
    Message,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Remote,
    StoredFile,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tollhouse.chat.opaque import sent
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.gemini.parts import (
    arguments_object,
    audio_data,
    call_arguments,
    file_data,
    inline_data,
    part_name,
    plain_text_data,
)
from tollhouse.dialects.gemini.signatures import SKIP
from tollhouse.dialects.gemini.traits import GeminiTraits
from tollhouse.dialects.gemini.wire import NAME, Block, merge_extra

SYSTEM_REMINDER: Final = "<system-reminder>\n{}\n</system-reminder>"
"""How a system text after the beginning is put into a user's turn, as agents themselves do it."""

UNKNOWN_FUNCTION: Final = "unknown_function"
"""Names the function of a result whose call is not in the conversation."""


@dataclass(slots=True)
class Turn:
    """One content for the provider, as it grows."""

    role: Literal["user", "model"]
    parts: list[object] = field(default_factory=list)
    holds_responses: bool = False
    """Whether it is the responses to the calls before it, and nothing else."""


class TurnWriter:
    """Writes the turns of one request."""

    __slots__ = ("_call_order", "_names", "_owed", "_receipt", "_traits", "_turns", "_waiting")

    def __init__(self, traits: GeminiTraits, receipt: Receipt) -> None:
        self._traits = traits
        self._receipt = receipt
        self._names: dict[str, str] = {}
        """Function names by call id."""
        self._owed: set[str] = set()
        """The calls of the last model's turn that wait for their results."""
        self._call_order: list[str] = []
        self._turns: list[Turn] = []
        self._waiting: list[list[object]] = []
        """What must not come between calls and their results."""

    def write(self, messages: Sequence[Message]) -> tuple[list[object], list[Turn]]:
        """The parts of the system instruction, and the turns."""
        first = next((i for i, m in enumerate(messages) if m.role not in {"system", "developer"}), len(messages))
        system = [part for i in range(first) for part in self._system_parts(messages[i], i)]
        if system and not self._traits.system:
            self._receipt.changed("messages[0]", "sent as the user's, as the model takes no system prompt")
            self._add("user", system)
            system = []
        for index in range(first, len(messages)):
            self._write_message(messages[index], index)
        self._release()
        if self._traits.wants_signatures:
            self._sign_calls()
        if not self._turns and system:
            self._receipt.changed("messages[0]", "sent as the user's, as Gemini needs a user's turn")
            return [], [Turn("user", system)]
        return system, self._turns

    def _write_message(self, message: Message, index: int) -> None:
        if message.name is not None:
            self._receipt.dropped(f"messages[{index}].name", "Gemini's contents have no names")
        if message.extra is not None and message.extra.dialect != NAME:
            for name in message.extra.fields:
                self._receipt.dropped(f"messages[{index}].{name}", "Gemini's dialect has no such field")
        match message.role:
            case "system" | "developer":
                self._receipt.changed(
                    f"messages[{index}]", "a system message after the beginning is sent as the user's"
                )
                self._add_user(self._reminder(message, index))
            case "assistant":
                self._release()
                self._add("model", self._model_parts(message, index))
                self._owed = {part.id for part in message.parts if isinstance(part, ToolCall)}
                self._call_order = [part.id for part in message.parts if isinstance(part, ToolCall)]
            case "user" | "tool":
                self._write_user(message, index)
            case _:
                assert_never(message.role)

    def _write_user(self, message: Message, index: int) -> None:
        responses: list[tuple[str, object]] = []
        others: list[object] = []
        for number, part in enumerate(message.parts):
            path = f"messages[{index}].content[{number}]"
            if isinstance(part, ToolResult):
                responses.append((part.call_id, self._response(part, path)))
                self._owed.discard(part.call_id)
            else:
                self._append_material(others, part, path)
        self._add_responses(responses)
        self._add_user(others)

    # -- arranging

    def _add(self, role: Literal["user", "model"], parts: list[object]) -> None:
        """Adds to the turn under way where it is of that role; a turn of nothing is none."""
        if not parts:
            return
        last = self._turns[-1] if self._turns else None
        if last is not None and last.role == role and not last.holds_responses:
            last.parts += parts
        else:
            self._turns.append(Turn(role, list(parts)))

    def _add_user(self, parts: list[object]) -> None:
        if self._owed:
            self._waiting.append(parts)
        else:
            self._release()
            self._add("user", parts)

    def _add_responses(self, responses: list[tuple[str, object]]) -> None:
        if not responses:
            return
        last = self._turns[-1] if self._turns else None
        if last is None or not last.holds_responses:
            last = Turn("user", holds_responses=True)
            self._turns.append(last)
        last.parts += [part for _, part in responses]
        order = {identity: place for place, identity in enumerate(self._call_order)}
        last.parts.sort(key=lambda part: order.get(_response_id(part), len(order)))
        if not self._owed:
            self._release()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._owed = set()
        for parts in waiting:
            self._add("user", parts)

    def _sign_calls(self) -> None:
        """Gives calls that Gemini did not make the placeholder that its documentation has for them.

        Google looks only at the turn under way, at what came after the user last said something; but what is sent once must be
        sent so again, as Google caches beginnings that are the same.  Of calls made at once the first has the signature.
        """
        for turn in self._turns:
            calls = [part for part in turn.parts if isinstance(part, dict) and "functionCall" in part]
            if turn.role == "model" and calls and not any("thoughtSignature" in part for part in calls):
                calls[0]["thoughtSignature"] = SKIP
                self._receipt.changed(
                    "messages",
                    "calls that this provider did not make are sent with the placeholder for a thought signature",
                )

    # -- the system's, the model's and the user's parts

    def _system_parts(self, message: Message, index: int) -> list[object]:
        parts: list[object] = []
        for number, part in enumerate(message.parts):
            path = f"messages[{index}].content[{number}]"
            match part:
                case Text() | Refusal():
                    self._append_text(parts, part, path)
                case _:
                    self._receipt.dropped(path, "a system prompt holds only text")
        return parts

    def _reminder(self, message: Message, index: int) -> list[object]:
        parts = self._system_parts(message, index)
        for part in parts:
            if isinstance(part, dict) and isinstance(text := part.get("text"), str):
                part["text"] = SYSTEM_REMINDER.format(text)
        return parts

    def _model_parts(self, message: Message, index: int) -> list[object]:
        parts: list[object] = []
        for number, part in enumerate(message.parts):
            path = f"messages[{index}].content[{number}]"
            match part:
                case Text() | Refusal():
                    self._append_text(parts, part, path)
                case ToolCall():
                    parts.append(self._call(part, path))
                case Thinking():
                    self._append_thought(parts, part, path)
                case RedactedThinking():
                    self._receipt.dropped(path, "only the provider that did this thinking takes it back")
                case Image(source=Inline()):
                    self._append_material(parts, part, path)
                case Foreign(dialect=dialect) if dialect == NAME:
                    parts.append(part.raw)
                case _:
                    self._receipt.dropped(path, f"{part_name(part)} has no place in a model's turn")
        return parts

    def _append_material(self, parts: list[object], part: Part, path: str) -> None:
        """What a user shows."""
        written: Block | None = None
        match part:
            case Text() | Refusal():
                self._append_text(parts, part, path)
                return
            case Foreign(dialect=dialect) if dialect == NAME:
                parts.append(part.raw)
                return
            case Image():
                written = self._image(part, path)
            case Document():
                written = self._document(part, path)
            case Audio():
                if self._traits.audio:
                    written = audio_data(part)
                    merge_extra(written, part.extra)
                else:
                    self._receipt.dropped(path, "the model takes no sound")
            case _:
                self._receipt.dropped(path, f"{part_name(part)} has no place in a user's turn")
        if written is not None:
            parts.append(written)

    def _append_text(self, parts: list[object], part: Text | Refusal, path: str) -> None:
        if isinstance(part, Refusal):
            if part.text:
                parts.append({"text": part.text})
            return
        self._note_cache(part.cache, path)
        if part.citations:
            self._receipt.dropped(f"{path}.citations", "Gemini does not take citations back")
        block: Block = {"text": part.text}
        self._sign(block, part.signature, path)
        if not part.text and "thoughtSignature" not in block:
            return  # a part of nothing is refused
        merge_extra(block, part.extra)
        parts.append(block)

    def _append_thought(self, parts: list[object], part: Thinking, path: str) -> None:
        if part.signature is None:
            self._receipt.dropped(path, "Google takes back only thinking that it signed")
            return
        signature = sent(part.signature, self._traits.home)
        if signature is None:
            self._receipt.dropped(path, "only the provider that did this thinking takes it back")
            return
        block: Block = {"text": part.text, "thought": True, "thoughtSignature": signature}
        merge_extra(block, part.extra)
        parts.append(block)

    def _sign(self, block: Block, signature: Opaque | None, path: str) -> None:
        if signature is None:
            return
        own = sent(signature, self._traits.home)
        if own is not None:
            block["thoughtSignature"] = own
        else:
            self._receipt.dropped(f"{path}.signature", "only the provider that made this signature takes it back")

    def _call(self, part: ToolCall, path: str) -> Block:
        self._names[part.id] = part.name
        self._note_cache(part.cache, path)
        arguments, is_own = call_arguments(part)
        if not is_own:
            # Cut off by a length limit: the model shall still see what it began to say.
            self._receipt.changed(path, "arguments that are no JSON object are sent as {_raw: text}")
        block: Block = {"functionCall": {"id": part.id, "name": part.name, "args": arguments}}
        self._sign(block, part.signature, path)
        merge_extra(block, part.extra)
        return block

    def _response(self, part: ToolResult, path: str) -> Block:
        self._note_cache(part.cache, path)
        texts: list[str] = []
        media: list[object] = []
        for number, piece in enumerate(part.content):
            if isinstance(piece, Text):
                self._note_cache(piece.cache, f"{path}.content[{number}]")
                texts.append(piece.text)
            else:
                self._append_material(media, piece, f"{path}.content[{number}]")
        name = self._names.get(part.call_id)
        if name is None:
            name = UNKNOWN_FUNCTION
            self._receipt.changed(path, "a result without its call is sent as an unknown function's")
        text = "\n".join(texts)
        said: object = {"error": text} if part.is_error else (arguments_object(text) if text.strip() else None)
        answer: Block = {"id": part.call_id, "name": name, "response": {"output": text} if said is None else said}
        if media:
            answer["parts"] = media
        block: Block = {"functionResponse": answer}
        merge_extra(block, part.extra)
        return block

    # -- media

    def _image(self, part: Image, path: str) -> Block | None:
        self._note_cache(part.cache, path)
        if not self._traits.images:
            self._receipt.dropped(path, "the model takes no images")
            return None
        if part.detail not in {None, "auto"}:
            self._receipt.dropped(f"{path}.detail", "Gemini chooses an image's detail itself")
        return self._medium(part, path, "image/jpeg")

    def _document(self, part: Document, path: str) -> Block | None:
        self._note_cache(part.cache, path)
        if not self._traits.documents:
            self._receipt.dropped(path, "the model takes no documents")
            return None
        for name, value in (("title", part.title), ("context", part.context), ("citations", part.cite)):
            if value:
                self._receipt.dropped(f"{path}.{name}", "Gemini's dialect has no such field for a document")
        if isinstance(part.source, Inline) and part.source.media_type == "text/plain":
            block = plain_text_data(part.source.data)
            merge_extra(block, part.extra)
            return block
        return self._medium(part, path, "application/pdf")

    def _medium(self, part: Image | Document, path: str, fallback: str) -> Block | None:
        match part.source:
            case Inline(media_type=media_type, data=data):
                block = inline_data(media_type, data)
            case Remote(url=url):
                block = file_data(url, fallback)
            case StoredFile(id=identity, dialect=dialect) if dialect == NAME:
                block = {"fileData": {"fileUri": identity}}
            case StoredFile():
                self._receipt.dropped(path, "a file that was uploaded to another provider is unknown to Google")
                return None
            case _:
                assert_never(part.source)
        merge_extra(block, part.extra)
        return block

    def _note_cache(self, cache: CacheMarker | None, path: str) -> None:
        if cache is not None:
            self._receipt.dropped(f"{path}.cache_control", "Gemini caches on its own, or by `cachedContent`")


def _response_id(part: object) -> str:
    answer = part.get("functionResponse") if isinstance(part, dict) else None
    identity = answer.get("id") if isinstance(answer, dict) else None
    return identity if isinstance(identity, str) else ""
