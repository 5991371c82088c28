"""One streamed answer straight from a running local model, without the gateway: what `tollhouse local run` uses."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final

import msgspec

from tollhouse.chat.sse import Parser
from tollhouse.errors import ProviderRefused, StreamFailed, UpstreamTruncated
from tollhouse.local.runner import LocalModel
from tollhouse.upstream.address import parse_address, target
from tollhouse.upstream.transport import Deadlines, Incoming, Outgoing, Transport

DEADLINES: Final = Deadlines(first_byte=600.0, between_chunks=120.0, total=3600.0)
"""Generous: on a slow machine a long prompt is read for minutes before the first word."""
MAX_ERROR_BYTES: Final = 1 << 16
PROVIDER: Final = "local"


class Turn(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: str
    content: str


class Words(msgspec.Struct, frozen=True):
    """More of the answer's text."""

    text: str


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The answer is complete; always the last item."""

    reason: str
    """`stop` or `length`."""
    input_tokens: int = 0
    output_tokens: int = 0
    tokens_per_second: float = 0.0
    """While generating, by llama.cpp's own clock."""


class _Options(msgspec.Struct):
    include_usage: bool = True


class _Ask(msgspec.Struct, omit_defaults=True):
    messages: Sequence[Turn]
    max_tokens: int
    model: str
    temperature: float | None = None
    stream: bool = False
    stream_options: _Options | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Timings(msgspec.Struct):
    predicted_per_second: float | None = None


class _Error(msgspec.Struct):
    message: str = ""
    code: int | None = None
    type: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: _Error | None = None


async def stream_answer(
    transport: Transport,
    model: LocalModel,
    turns: Sequence[Turn],
    *,
    max_tokens: int,
    temperature: float | None = None,
) -> AsyncGenerator[Words | Finished, None]:
    """Streams the answer to `turns`.  Closing the iterator cancels the computation.

    Raises the transport's errors, `ProviderRefused` with llama.cpp's words (a prompt too long for the context, say), and
    `UpstreamTruncated` when the answer breaks off.
    """
    address = parse_address(model.base_url)
    ask = _Ask(
        messages=turns,
        max_tokens=max_tokens,
        model=model.settings.name,
        temperature=temperature,
        stream=True,
        stream_options=_Options(),
    )
    request = Outgoing(
        address=address,
        method=b"POST",
        target=target(address, "/chat/completions"),
        headers=((b"authorization", b"Bearer " + model.api_key.encode()), (b"content-type", b"application/json")),
        body=msgspec.json.encode(ask),
    )
    answer = await transport.send(request, DEADLINES)
    try:
        if answer.status != 200:
            raise await _refusal(answer)
        async for item in _read(answer):
            yield item
    finally:
        answer.close()


async def _refusal(answer: Incoming) -> ProviderRefused:
    body = await answer.read_all(MAX_ERROR_BYTES)
    try:
        error = msgspec.json.decode(body, type=_Chunk).error or _Error()
    except msgspec.DecodeError:
        error = _Error()
    message = error.message or "llama.cpp refused without a reason"
    return ProviderRefused(message, status=answer.status, provider=PROVIDER, kind=error.type)


async def _read(answer: Incoming) -> AsyncIterator[Words | Finished]:
    parser = Parser()
    reason: str | None = None
    usage = _Usage()
    timings = _Timings()
    while piece := await answer.read_some():
        for frame in parser.feed(piece):
            if frame.data == b"[DONE]":
                if reason is None:
                    break
                yield Finished(
                    reason=reason,
                    input_tokens=usage.prompt_tokens,
                    output_tokens=usage.completion_tokens,
                    tokens_per_second=timings.predicted_per_second or 0.0,
                )
                return
            chunk = msgspec.json.decode(frame.data, type=_Chunk)
            if chunk.error:
                raise StreamFailed(chunk.error.message, provider=PROVIDER, kind=chunk.error.type)
            usage, timings = chunk.usage or usage, chunk.timings or timings
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
                if choice.delta.content:
                    yield Words(choice.delta.content)
    raise UpstreamTruncated("The local model's answer broke off.", provider=PROVIDER)
