"""Whole answers, both ways."""

from typing import Final, assert_never

import msgspec

from tollhouse.chat.model import (
    Audio,
    Choice,
    Citation,
    Document,
    Foreign,
    Image,
    Part,
    RedactedThinking,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tollhouse.chat.opaque import carrier, signed_id
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.openai_chat.counts import read_usage, write_usage
from tollhouse.dialects.openai_chat.decoder import settled
from tollhouse.dialects.openai_chat.failure import failed, words_of
from tollhouse.dialects.openai_chat.finish import finish_reason, finish_word
from tollhouse.dialects.openai_chat.logprobs import read_logprobs, write_logprobs
from tollhouse.dialects.openai_chat.pieces import (
    arguments_text,
    decoded,
    encoded,
    encrypted_detail,
    invented_id,
    kept,
    read_annotations,
    read_details,
    read_sources,
    service_tier,
    signed_detail,
    write_annotation,
)
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.dialects.openai_chat.wire import NAME, Answer, AnswerChoice, Delta, FunctionPiece, Json, ToolPiece, read
from tollhouse.errors import StreamFailed, UpstreamMalformed

_decoder: Final = msgspec.json.Decoder(Answer)
_json: Final = msgspec.json.Decoder()


def decode_response(body: bytes, traits: OpenAIChatTraits) -> Response:
    """Raises `UpstreamMalformed`, or `StreamFailed` for an error in a 200 body or an answer that the provider gave up."""
    answer = read(body, _decoder, Answer, "an answer")
    if answer.error is not None:
        raise failed(_json.decode(body))
    if not answer.choices:
        if answer.choices is None and words_of(_json.decode(body)) is not None:
            raise failed(_json.decode(body))
        raise UpstreamMalformed("The provider's answer has no `choices`.")
    sources = read_sources(answer.citations, answer.search_results)
    choices = sorted(answer.choices, key=lambda choice: choice.index)
    return Response(
        id=answer.id or "",
        model=answer.model or "",
        created=int(answer.created) if answer.created else None,
        service_tier=answer.service_tier,
        choices=tuple(_read_choice(choice, answer.id or "", sources, traits.home) for choice in choices),
        usage=read_usage(answer.usage, reasoning_outside_output=traits.reasoning_outside_output),
    )


def encode_response(response: Response, request: Request, receipt: Receipt) -> bytes:
    """A whole answer for the client that sent `request`."""
    body: dict[str, Json] = {
        "id": response.id or "chatcmpl-unnamed",
        "object": "chat.completion",
        "created": response.created or 0,
        "model": response.model,
        "choices": [_write_choice(choice, request, receipt) for choice in response.choices],
    }
    if not response.usage.is_empty:
        body["usage"] = write_usage(response.usage)
    if response.service_tier is not None:
        body["service_tier"] = service_tier(response.service_tier)
    return msgspec.json.encode(body)


# -------------------------------------------------------------------------------------------------------------- reading


def _read_choice(wire: AnswerChoice, answer_id: str, sources: tuple[Citation, ...], home: str) -> Choice:
    # A filtered choice may have no message at all (`azure-openai-chat-json-finish-content-filter-ad8f0b`).
    message = wire.message or Delta()
    parts = tuple(_read_parts(message, answer_id, wire.index, sources, home))
    word = wire.finish_reason or ""
    reason = finish_reason(word) if word else None
    if reason == "error":
        raise StreamFailed(f"The provider gave up in mid-answer ({word[:50]}).", provider_code=word[:50])
    if reason is not None:
        reason = settled(
            reason,
            has_calls=any(isinstance(part, ToolCall) for part in parts),
            has_refusal=any(isinstance(part, Refusal) for part in parts),
        )
    return Choice(
        index=wire.index,
        parts=parts,
        finish=reason,
        finish_detail=word if reason == "other" else None,
        logprobs=read_logprobs(wire.logprobs),
        extra=kept({"extra_content": message.extra_content}),
    )


def _read_parts(message: Delta, answer_id: str, choice: int, sources: tuple[Citation, ...], home: str) -> list[Part]:
    opaque = read_details(message.reasoning_details, home)
    thought = message.reasoning_content or message.reasoning or opaque.text
    parts: list[Part] = []
    if len(opaque.thoughts) > 1 and thought == "".join(text for text, _ in opaque.thoughts):
        parts += (Thinking(text, signature) for text, signature in opaque.thoughts)
    elif thought or opaque.signature is not None:
        parts.append(Thinking(thought, opaque.signature))
    parts += (RedactedThinking(data) for data in opaque.encrypted)
    parts += _read_content(message.content, (*read_annotations(message.annotations), *sources))
    if message.refusal:
        parts.append(Refusal(message.refusal))
    if message.audio is not None:
        parts.append(Foreign(NAME, "audio", encoded(message.audio)))
    pieces = [*(message.tool_calls or ())]
    if message.function_call is not None:
        pieces.append(ToolPiece(function=message.function_call))
    parts += (_read_call(piece, answer_id, choice, number) for number, piece in enumerate(pieces))
    return parts


def _read_content(content: str | list[Json] | None, citations: tuple[Citation, ...]) -> list[Part]:
    if not content:
        return [Text("", citations=citations)] if citations else []
    if isinstance(content, str):
        return [Text(content, citations=citations)]
    parts: list[Part] = []
    for part in content:
        match part:
            case {"type": "text", "text": str(text)}:
                parts.append(Text(text, citations=citations))
                citations = ()
            case {"type": "thinking", "thinking": list(inner)}:
                pieces = [piece["text"] for piece in inner if isinstance(piece, dict) and "text" in piece]
                parts.append(Thinking("".join(piece for piece in pieces if isinstance(piece, str))))
            case {"type": str(kind)}:
                parts.append(Foreign(NAME, kind, encoded(part)))
            case _:
                raise UpstreamMalformed("The provider's answer has a content part without a type.")
    return parts


def _read_call(piece: ToolPiece, answer_id: str, choice: int, number: int) -> ToolCall:
    function = piece.function or FunctionPiece()
    name, text, is_custom = function.name, arguments_text(function), False
    if piece.custom is not None:
        name, text, is_custom = piece.custom.name, piece.custom.input or "", True
    if not name:
        raise UpstreamMalformed("The provider's answer has a tool call without a name.")
    return ToolCall(
        piece.id or invented_id(answer_id, choice, number),
        name,
        text,
        custom=is_custom,
        extra=kept({"extra_content": piece.extra_content}),
    )


# -------------------------------------------------------------------------------------------------------------- writing


class _Message:
    """A message as it is gathered from its parts."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.signed: list[str] = []
        """Those of the thoughts that are signed."""
        self.details: list[Json] = []
        self.refusals: list[str] = []
        self.annotations: list[Json] = []
        self.calls: list[ToolCall] = []
        self.audio: Json = None
        self.last: Part | None = None

    def add(self, part: Part, receipt: Receipt) -> None:
        self.last = part
        match part:
            case Text():
                if self.calls and part.text:
                    receipt.changed(f"{self.path}.content", "text that came after a tool call stands before it")
                start = sum(map(len, self.texts))
                self.texts.append(part.text)
                self._cite(part, start, receipt)
                if part.signature is not None:
                    self.details.append(encrypted_detail(carrier(part.signature).data, len(self.details)))
            case Thinking():
                self.thoughts.append(part.text)
                if part.signature is not None:
                    self.signed.append(part.text)
                    self.details.append(signed_detail(part.text, part.signature, len(self.details)))
            case RedactedThinking():
                self.details.append(encrypted_detail(part.data, len(self.details)))
            case Refusal():
                self.refusals.append(part.text)
            case ToolCall():
                self.calls.append(part)
            case Foreign() if part.dialect == NAME and part.kind == "audio" and self.audio is None:
                self.audio = decoded(part.raw)
            case Foreign():
                receipt.dropped(f"{self.path}.content", f"a {part.kind} part has no form in OpenAI chat")
            case Image() | Audio() | Document() | ToolResult():
                kind = part.__class__.__name__.lower()
                receipt.dropped(f"{self.path}.content", f"an answer's {kind} part has no form in OpenAI chat")
            case _:
                assert_never(part)

    def _cite(self, part: Text, start: int, receipt: Receipt) -> None:
        for citation in part.citations:
            annotation = write_annotation(citation, start, start + len(part.text))
            if annotation is None:
                receipt.dropped(f"{self.path}.annotations", "OpenAI chat can cite only what has an address")
            else:
                self.annotations.append(annotation)

    def fields(self, request: Request, receipt: Receipt, *, is_cut: bool) -> dict[str, Json]:
        is_silent = not self.texts and bool(self.calls or self.refusals or self.audio)
        fields: dict[str, Json] = {
            "role": "assistant",
            "content": None if is_silent else "".join(self.texts),
            "refusal": "".join(self.refusals) if self.refusals else None,
        }
        if self.thoughts:
            fields["reasoning_content"] = "".join(self.thoughts)
            if len(self.signed) > 1 and "".join(self.signed) != fields["reasoning_content"]:
                receipt.changed(
                    f"{self.path}.reasoning_details",
                    "of several signed thoughts beside one without a signature only the last comes back",
                )
        if self.details:
            fields["reasoning_details"] = self.details
        if self.annotations:
            fields["annotations"] = self.annotations
        if self.audio is not None:
            fields["audio"] = self.audio
        if self.calls and request.legacy_functions:
            call, *others = self.calls
            fields["function_call"] = _write_function(call, "arguments", is_cut=is_cut and call is self.last)
            if others:
                receipt.dropped(f"{self.path}.function_call", "the old form holds one call; ask with `tools` for more")
        elif self.calls:
            fields["tool_calls"] = [_write_call(call, is_cut=is_cut and call is self.last) for call in self.calls]
        return fields


def _write_choice(choice: Choice, request: Request, receipt: Receipt) -> Json:
    message = _Message(f"choices[{choice.index}].message")
    for part in choice.parts:
        message.add(part, receipt)
    if choice.finish == "pause":
        receipt.changed(f"choices[{choice.index}].finish_reason", "the provider paused its turn, said as `stop`")
    is_cut = choice.finish in {"length", "content_filter"}
    fields = message.fields(request, receipt, is_cut=is_cut)
    if choice.extra is not None and choice.extra.dialect == NAME:
        fields.update({name: decoded(raw) for name, raw in choice.extra.fields.items()})
    of_refusal = bool(message.refusals) and not message.texts
    return {
        "index": choice.index,
        "message": fields,
        "logprobs": None if choice.logprobs is None else write_logprobs(choice.logprobs, of_refusal=of_refusal),
        "finish_reason": finish_word(
            choice.finish,
            choice.finish_detail,
            is_legacy=request.legacy_functions and bool(message.calls),
            has_refusal=bool(message.refusals),
        ),
    }


def _write_call(call: ToolCall, *, is_cut: bool) -> Json:
    kind, field = ("custom", "input") if call.custom else ("function", "arguments")
    wire: dict[str, Json] = {
        "id": signed_id(call.id, call.signature),
        "type": kind,
        kind: _write_function(call, field, is_cut=is_cut),
    }
    if call.extra is not None and call.extra.dialect == NAME:
        wire.update({name: decoded(raw) for name, raw in call.extra.fields.items()})
    return wire


def _write_function(call: ToolCall, field: str, *, is_cut: bool) -> Json:
    # Clients parse the arguments; none at all means an empty object, unless a limit cut the answer off before them.
    text = call.arguments or ("" if call.custom or is_cut else "{}")
    return {"name": call.name, field: text}
