"""Between `llm`'s messages and the canonical conversation, both ways.

What a provider signed or encrypted travels in `provider_metadata`, which `llm` keeps with each part and gives back.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import llm
import msgspec
from llm.parts import AttachmentPart, Message, ReasoningPart, StreamEvent, TextPart, ToolCallPart, ToolResultPart

from tollhouse.chat.events import Delta, Event, PartOpened, Signed
from tollhouse.chat.fold import unfold
from tollhouse.chat.model import (
    Audio,
    Document,
    Image,
    Inline,
    JsonSchema,
    Opaque,
    Part,
    Reasoning,
    RedactedThinking,
    Remote,
    Request,
    Role,
    Source,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from tollhouse.chat.model import Message as Turn
from tollhouse.chat.opaque import seal, unseal
from tollhouse.client.answer import Answer

KEY: Final = "tollhouse"
"""Ours in `provider_metadata`: a signature, or encrypted reasoning, sealed."""
_NOWHERE: Final = ""
"""The home of nothing: every value is sealed."""
_ROLES: Final[dict[str, Role]] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_AUDIO: Final = {"audio/wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


def request_of(prompt: Any, model: str) -> Request:
    """The canonical request of an `llm` prompt, its whole history included.  Raises `llm.ModelError`."""
    options = prompt.options
    schema = prompt.schema
    return Request(
        model=model,
        messages=tuple(_turn(message) for message in prompt.messages),
        tools=tuple(_tool(tool) for tool in prompt.tools),
        max_output_tokens=options.max_tokens,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        stop=(options.stop,) if options.stop else (),
        reasoning=Reasoning(effort=options.effort) if options.effort else None,
        response_format=JsonSchema(schema=msgspec.Raw(msgspec.json.encode(schema))) if schema else None,
    )


def _turn(message: Message) -> Turn:
    parts = (made for part in message.parts if (made := _part(part)) is not None)
    return Turn(_ROLES.get(message.role, "user"), tuple(parts))


def _part(part: Any) -> Part | None:
    opaque = _opaque(part.provider_metadata)
    match part:
        case TextPart():
            return Text(part.text, signature=opaque)
        case ReasoningPart():
            if not part.text:
                return None if opaque is None else RedactedThinking(opaque)
            return Thinking(part.text, opaque)
        case ToolCallPart():
            arguments = msgspec.json.encode(part.arguments).decode()
            return ToolCall(part.tool_call_id or part.name, part.name, arguments, signature=opaque)
        case ToolResultPart():
            content = (Text(part.output), *(_attached(each) for each in part.attachments))
            shown = tuple(each for each in content if isinstance(each, Text | Image | Document))
            return ToolResult(part.tool_call_id or part.name, shown, is_error=part.exception is not None)
        case AttachmentPart(attachment=attachment) if attachment is not None:
            return _attached(attachment)
        case _:
            return None


def _attached(attachment: Any) -> Part:  # `llm` types none of its methods
    kind = attachment.resolve_type() or ""
    if kind in _AUDIO:
        return Audio(attachment.base64_content(), _AUDIO[kind])
    if kind == "text/plain":
        return Text(attachment.content_bytes().decode("utf-8", "replace"))
    source: Source = Remote(attachment.url) if attachment.url else Inline(kind, attachment.base64_content())
    return Image(source) if kind.startswith("image/") else Document(source, title=attachment.path)


def _tool(tool: Any) -> Tool:
    if not isinstance(tool, llm.Tool):
        raise llm.ModelError(f"The tool {type(tool).__name__} runs at one provider only; a gateway's model has none.")
    schema = msgspec.Raw(msgspec.json.encode(tool.input_schema)) if tool.input_schema else None
    return Tool(name=tool.name, description=tool.description, schema=schema)


def _opaque(metadata: dict[str, Any] | None) -> Opaque | None:
    sealed = (metadata or {}).get(KEY)
    return unseal(sealed, _NOWHERE) if isinstance(sealed, str) else None


class Pieces:
    """Turns an answer's events into `llm`'s, of its first choice."""

    def __init__(self) -> None:
        self._open: Part | None = None

    def of(self, events: Iterable[Event]) -> Iterator[StreamEvent]:
        """The pieces of some events."""
        for event in events:
            match event:
                case PartOpened(part=part, index=index, choice=0):
                    self._open = part
                    yield from _opened(part, index)
                case Delta(text=text, index=index, choice=0) if text and self._open is not None:
                    kind = _KINDS.get(type(self._open))
                    if kind is not None:
                        yield StreamEvent(kind, text, index, _call_id(self._open))
                case Signed(signature=signature, index=index, choice=0) if self._open is not None:
                    yield _signed(self._open, signature, index)
                case _:
                    pass

    def whole(self, answer: Answer) -> Iterator[StreamEvent]:
        """The pieces of a whole answer."""
        return self.of(unfold(answer.response))


_KINDS: Final[dict[type, str]] = {Text: "text", Thinking: "reasoning", ToolCall: "tool_call_args"}


def _opened(part: Part, index: int) -> Sequence[StreamEvent]:
    match part:
        case Text():
            pieces = [StreamEvent("text", part.text, index)] if part.text else []
        case Thinking():
            pieces = [StreamEvent("reasoning", part.text, index)] if part.text else []
        case RedactedThinking():
            return [_signed(part, part.data, index)]
        case ToolCall():
            pieces = [StreamEvent("tool_call_name", part.name, index, part.id)]
            if part.arguments:
                pieces.append(StreamEvent("tool_call_args", part.arguments, index, part.id))
        case _:
            return []
    if part.signature is not None:
        pieces.append(_signed(part, part.signature, index))
    return pieces


def _signed(part: Part, signature: Opaque, index: int) -> StreamEvent:
    """A piece without words that holds what has to come back with its part."""
    kind = _KINDS.get(type(part), "reasoning")
    return StreamEvent(kind, "", index, _call_id(part), provider_metadata={KEY: seal(signature, _NOWHERE)})


def _call_id(part: Part) -> str | None:
    return part.id if isinstance(part, ToolCall) else None
