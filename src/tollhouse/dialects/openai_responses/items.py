"""The turns of a conversation as items, in their order."""

from typing import Final, assert_never

import msgspec

from tollhouse.chat.call_ids import fitted
from tollhouse.chat.model import (
    Audio,
    CacheMarker,
    Citation,
    Document,
    Extra,
    Foreign,
    Image,
    Inline,
    Message,
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
from tollhouse.dialects.openai_chat.both import document_text, url_of
from tollhouse.dialects.openai_chat.encode_request import LEFT_OUT
from tollhouse.dialects.openai_chat.wire import NAME as CHAT
from tollhouse.dialects.openai_responses.pieces import Fields, mapping, write_annotation
from tollhouse.dialects.openai_responses.traits import ResponsesTraits
from tollhouse.dialects.openai_responses.wire import NAME

_FILE_DIALECTS: Final = frozenset({NAME, CHAT})
"""Those whose uploaded files are OpenAI's."""


class ItemWriter:
    """Writes turns as items, in order."""

    def __init__(self, traits: ResponsesTraits, receipt: Receipt) -> None:
        self._traits = traits
        self._receipt = receipt
        self._out: list[object] = []
        self._custom: set[str] = set()
        """Ids of free-form calls, whose answers have a type of their own."""

    def items(self, messages: tuple[Message, ...]) -> list[object]:
        leading = 0
        while leading < len(messages) and messages[leading].role in {"system", "developer"}:
            leading += 1
        for index, message in enumerate(messages):
            # Callers of other dialects keep the leading system prompt apart and count messages without it.
            path = f"system[{index}]" if index < leading else f"messages[{index - leading}]"
            self._message(message, path)
        return self._out

    def _message(self, message: Message, path: str) -> None:
        if message.name is not None:
            self._receipt.dropped(f"{path}.name", "messages of the Responses API have no names")
        match message.role:
            case "system" | "developer":
                role = "system" if message.role == "system" or not self._traits.developer_role else "developer"
                self._said(role, message, path)
            case "user" | "tool":
                self._said("user", message, path)
            case "assistant":
                self._assistant(message, path)
            case _:
                assert_never(message.role)

    def _said(self, role: str, message: Message, path: str) -> None:
        """A message that is not the model's; the tools' answers in it are items of their own, before it."""
        content: list[object] = []
        is_turn = not message.parts
        for index, part in enumerate(message.parts):
            place = f"{path}.content[{index}]"
            if isinstance(part, ToolResult):
                self._result(part, place)
                continue
            is_turn = True
            wire = self._part(part, place)
            if wire is not None:
                content.append(wire)
        if not is_turn:
            return
        if not content and message.parts:
            # A turn that vanished would have the model answer something else.
            content.append({"type": "input_text", "text": LEFT_OUT})
        item: Fields = {"type": "message", "role": role, "content": content}
        _add_extra(item, message.extra, path, self._receipt)
        self._out.append(item)

    def _result(self, part: ToolResult, path: str) -> None:
        content: list[Fields] = []
        for index, inner in enumerate(part.content):
            wire = self._part(inner, f"{path}.content[{index}]")
            if wire is not None:
                content.append(wire)
        if part.is_error:
            self._receipt.dropped(f"{path}.is_error", "a call's output cannot say that the call failed")
        if part.cache is not None:
            self._receipt.dropped(f"{path}.cache_control", "a call's output has no cache marker")
        is_plain = all(wire.keys() == {"type", "text"} for wire in content)
        kind = "custom_tool_call_output" if part.call_id in self._custom else "function_call_output"
        item: Fields = {
            "type": kind,
            "call_id": fitted(part.call_id, "up_to_64"),
            "output": "\n\n".join(str(wire["text"]) for wire in content) if is_plain else content,
        }
        _add_extra(item, part.extra, path, self._receipt)
        self._out.append(item)

    def _assistant(self, message: Message, path: str) -> None:
        said: list[object] = []
        phase: msgspec.Raw | None = None

        def flush() -> None:
            if said:
                item: Fields = {"type": "message", "role": "assistant", "content": list(said)}
                if phase is not None:
                    item["phase"] = phase
                self._out.append(item)
                said.clear()

        for index, part in enumerate(message.parts):
            place = f"{path}.content[{index}]"
            match part:
                case Text():
                    own = part.extra.fields if part.extra is not None and part.extra.dialect == NAME else {}
                    if own.get("phase") != phase:
                        flush()
                        phase = own.get("phase")
                    said.append(self._words(part, place))
                case Refusal():
                    said.append({"type": "refusal", "refusal": part.text})
                case Thinking() | RedactedThinking():
                    flush()
                    self._thought(part, place)
                case ToolCall():
                    flush()
                    self._call(part, place)
                case Foreign() if part.dialect == NAME:
                    flush()
                    self._out.append(part.raw)
                case _:
                    self._receipt.dropped(place, f"a {_kind(part)} part has no form in an assistant's turn here")
        flush()
        if message.extra is not None and message.extra.dialect != NAME:
            for name in message.extra.fields:
                self._receipt.dropped(f"{path}.{name}", f"only {message.extra.dialect} knows it")

    def _words(self, part: Text, path: str) -> Fields:
        self._no_marker(part.cache, path)
        self._unsign(part, path)
        wire: Fields = {"type": "output_text", "text": part.text}
        annotations = [self._annotation(citation, part, path) for citation in part.citations]
        if annotations:
            wire["annotations"] = [annotation for annotation in annotations if annotation is not None]
        return wire

    def _annotation(self, citation: Citation, part: Text, path: str) -> object | None:
        annotation = write_annotation(citation, len(part.text))
        if annotation is None:
            self._receipt.dropped(f"{path}.citations", "only what has an address can be cited here")
        return annotation

    def _thought(self, part: Thinking | RedactedThinking, path: str) -> None:
        value = part.data if isinstance(part, RedactedThinking) else part.signature
        text = part.text if isinstance(part, Thinking) else ""
        item: Fields = {"type": "reasoning", "summary": []}
        own = None if value is None else sent(value, self._traits.home)
        if own is not None:
            if text:
                item["summary"] = [{"type": "summary_text", "text": text}]
            item["encrypted_content"] = own
        elif text and self._traits.reasoning_text:
            item["content"] = [{"type": "reasoning_text", "text": text}]
        else:
            self._receipt.dropped(path, "only the provider that did this thinking takes it back")
            return
        self._out.append(item)

    def _call(self, call: ToolCall, path: str) -> None:
        self._no_marker(call.cache, path)
        self._unsign(call, path)
        item: Fields
        if call.custom and self._traits.custom_tools:
            self._custom.add(call.id)
            item = {
                "type": "custom_tool_call",
                "call_id": fitted(call.id, "up_to_64"),
                "name": call.name,
                "input": call.arguments,
            }
        else:
            arguments = (
                msgspec.json.encode({"input": call.arguments}).decode() if call.custom else call.arguments or "{}"
            )
            item = {
                "type": "function_call",
                "call_id": fitted(call.id, "up_to_64"),
                "name": call.name,
                "arguments": arguments,
            }
        _add_extra(item, call.extra, path, self._receipt)
        self._out.append(item)

    def _unsign(self, part: Text | ToolCall, path: str) -> None:
        if part.signature is not None:
            self._receipt.dropped(f"{path}.signature", "only the provider that signed this takes it back")

    # -- parts of what is given

    def _part(self, part: Part, path: str) -> Fields | None:
        wire: Fields | None
        match part:
            case Text():
                wire = {"type": "input_text", "text": part.text}
                self._finish(wire, part.cache, part.extra, path)
            case Image():
                wire = self._image(part, path)
            case Document():
                wire = self._document(part, path)
            case Audio() if self._traits.audio:
                wire = {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
            case Refusal():
                wire = {"type": "input_text", "text": part.text}
            case Foreign() if part.dialect == NAME:
                return dict(mapping(part.raw))
            case _:
                self._receipt.dropped(path, f"a {_kind(part)} part cannot be given to this provider")
                return None
        return wire

    def _image(self, part: Image, path: str) -> Fields | None:
        if not self._traits.images:
            self._receipt.dropped(path, "the provider takes no images")
            return None
        wire: Fields = {"type": "input_image"}
        match part.source:
            case StoredFile() if part.source.dialect in _FILE_DIALECTS:
                wire["file_id"] = part.source.id
            case _:
                url = url_of(part.source, path, self._receipt)
                if url is None:
                    return None
                wire["image_url"] = url
        wire["detail"] = part.detail or "auto"
        self._finish(wire, part.cache, part.extra, path)
        return wire

    def _document(self, part: Document, path: str) -> Fields | None:
        if part.cite:
            self._receipt.dropped(f"{path}.citations", "the Responses API cannot be asked to cite a document")
        source = part.source
        wire: Fields
        if isinstance(source, Inline) and source.media_type == "text/plain":
            wire = {"type": "input_text", "text": document_text(part, source.data)}
        elif not self._traits.documents:
            self._receipt.dropped(path, "the provider takes no documents")
            return None
        else:
            if part.context is not None:
                self._receipt.dropped(f"{path}.context", "a file part has no place for it")
            wire = {"type": "input_file"}
            match source:
                case StoredFile() if source.dialect in _FILE_DIALECTS:
                    wire["file_id"] = source.id
                case Remote():
                    wire["file_url"] = source.url
                case _:
                    data = url_of(source, path, self._receipt)
                    if data is None:
                        return None
                    # A name is needed with data, and refused with an address or an id.
                    wire["filename"] = part.title or "document.pdf"
                    wire["file_data"] = data
        self._finish(wire, part.cache, part.extra, path)
        return wire

    def _finish(self, wire: Fields, marker: CacheMarker | None, extra: Extra | None, path: str) -> None:
        if marker is not None and self._traits.cache_breakpoints:
            wire["prompt_cache_breakpoint"] = {"mode": "explicit"}
            if marker.ttl == "1h":
                self._receipt.changed(f"{path}.cache_control.ttl", "all that OpenAI caches has one lifetime")
        else:
            self._no_marker(marker, path)
        _add_extra(wire, extra, path, self._receipt)

    def _no_marker(self, marker: CacheMarker | None, path: str) -> None:
        if marker is not None:
            self._receipt.dropped(f"{path}.cache_control", "the provider caches by itself")


def _add_extra(wire: Fields, extra: Extra | None, path: str, receipt: Receipt) -> None:
    if extra is None:
        return
    for name, raw in extra.fields.items():
        if extra.dialect == NAME:
            wire.setdefault(name, raw)
        else:
            receipt.dropped(f"{path}.{name}", f"only {extra.dialect} knows it")


def _kind(part: Part) -> str:
    return part.kind[:40] if isinstance(part, Foreign) else part.__class__.__name__.lower()
