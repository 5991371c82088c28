"""A stream that breaks off with bare JSON is broken, in every dialect, in both lanes, wherever the network cuts it.

Google breaks off like that, and so do servers that imitate OpenAI's: by the rules of server-sent events these lines are nothing,
and an answer whose finish reason has come would end as if it were whole.
"""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tollhouse.chat.events import Failed
from tollhouse.chat.sse import Parser
from tollhouse.dialects.anthropic.observer import AnthropicObserver
from tollhouse.dialects.anthropic.stream_decoder import AnthropicStreamDecoder
from tollhouse.dialects.dialect import Observer, StreamDecoder
from tollhouse.dialects.gemini.array import ArrayFraming
from tollhouse.dialects.gemini.failure import encode_stream_error
from tollhouse.dialects.gemini.observer import GeminiObserver
from tollhouse.dialects.gemini.stream_decoder import GeminiStreamDecoder
from tollhouse.dialects.openai_chat.decoder import OpenAIChatDecoder
from tollhouse.dialects.openai_chat.observer import OpenAIChatObserver
from tollhouse.dialects.openai_responses.decoder import ResponsesDecoder
from tollhouse.dialects.openai_responses.observer import ResponsesObserver
from tollhouse.errors import StreamFailed, UpstreamMalformed, UpstreamTimeout

CHAT = (
    b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}]}\n\n'
    b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)
RESPONSES = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","model":"m","status":"in_progress"}}\n\n'
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hi"}\n\n'
)
ANTHROPIC = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","model":"m","usage":{"input_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    b"event: content_block_delta\ndata: "
    b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}\n\n'
)
GEMINI = (
    b'data: {"candidates":[{"content":{"parts":[{"text":"Hi"}]}}]}\r\n\r\n'
    b'data: {"candidates":[{"content":{"parts":[{"text":"!"}]},"finishReason":"STOP"}]}\r\n\r\n'
)

Side = tuple[bytes, Callable[[], Observer], Callable[[], StreamDecoder]]

SIDES: dict[str, Side] = {
    "openai_chat": (
        CHAT,
        lambda: OpenAIChatObserver(strips_usage=False, reasoning_outside_output=False),
        lambda: OpenAIChatDecoder(reasoning_outside_output=False, home="openai"),
    ),
    "openai_responses": (RESPONSES, ResponsesObserver, lambda: ResponsesDecoder(home="openai")),
    "anthropic": (ANTHROPIC, AnthropicObserver, AnthropicStreamDecoder),
    "gemini": (GEMINI, GeminiObserver, GeminiStreamDecoder),
}
FAULT = b'{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}'
ERRORS = {
    "one line": FAULT,
    "an array": b"[" + FAULT + b"]",
    "line by line": b'[{\n  "error": {\n    "code": 503,\n    "message": "The model is overloaded.",\n'
    b'    "status": "UNAVAILABLE"\n  }\n}\n]',
    "with CRLF": b'{\r\n  "error": {\r\n    "code": 503,\r\n    "message": "The model is overloaded."\r\n  }\r\n}',
}
ENDS = [b"", b"\n", b"\r\n\r\n", b"\n\ndata: [DONE]\n\n"]

every_side = pytest.mark.parametrize("side", SIDES)
every_error = pytest.mark.parametrize("error", ERRORS)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    marks = sorted({min(place, len(data)) for place in places})
    return [data[a:b] for a, b in zip([0, *marks], [*marks, len(data)], strict=True)]


def watched(observer: Observer, pieces: list[bytes]) -> bytes:
    """What the client would get.  Raises what breaks the stream."""
    out = b""
    for piece in pieces:
        out += observer.feed(piece)
        if observer.is_final:
            break
    assert observer.failure is None, "the bytes of such an error say nothing to a client"
    return out + observer.close()


@every_side
@every_error
@pytest.mark.parametrize("end", ENDS)
@settings(max_examples=20)
@given(places=st.lists(st.integers(0, 1_000), max_size=6))
def test_the_forwarding_lane_says_that_it_broke(side: str, error: str, end: bytes, places: list[int]):
    begun, observer, _ = SIDES[side]
    with pytest.raises(StreamFailed, match="overloaded"):
        watched(observer(), cut(begun + ERRORS[error] + end, places))


@every_side
@every_error
@pytest.mark.parametrize("end", ENDS)
@settings(max_examples=20)
@given(places=st.lists(st.integers(0, 1_000), max_size=6))
def test_the_translating_lane_says_that_it_broke(side: str, error: str, end: bytes, places: list[int]):
    begun, _, decoder = SIDES[side]
    parser, decoding = Parser(), decoder()
    frames = [frame for piece in cut(begun + ERRORS[error] + end, places) for frame in parser.feed(piece)]
    events = [event for frame in [*frames, *parser.close()] for event in decoding.feed(frame)]
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert "overloaded" in failed.message
    assert failed.status == (None if side == "anthropic" else 503), "Anthropic's own errors have no number"


@every_side
@pytest.mark.parametrize("junk", [b"{", b'{"a":', b"[]", b'{"text":"more"}'])
def test_bare_json_that_is_no_error_is_no_end_either(side: str, junk: bytes):
    begun, observer, decoder = SIDES[side]
    with pytest.raises((StreamFailed, UpstreamMalformed)):
        watched(observer(), [begun, junk])
    decoding = decoder()
    parser = Parser()
    events = [event for frame in [*parser.feed(begun + junk), *parser.close()] for event in decoding.feed(frame)]
    assert isinstance(events[-1], Failed)


def test_an_array_has_an_error_once_though_the_gateway_says_it_twice():
    framing = ArrayFraming()
    error = encode_stream_error(UpstreamTimeout("No more came.", phase="between_chunks"), "req_1")
    written = framing.feed(GEMINI) + framing.feed(error) + framing.close()
    assert written.count(b"No more came") == 1
    assert written.startswith(b"[{")
    assert written.endswith(b"}\r\n]\r\n")
