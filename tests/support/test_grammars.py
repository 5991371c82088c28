"""The checkers of streams find what they are for: each fault is put into a stream that is right without it."""

from collections.abc import Iterator

import pytest

from support import checked_streams, grammar_anthropic, grammar_openai_chat
from support.four_dialects import FOUR
from support.four_sides import SIDES, Side
from tollhouse.chat.events import Delta, Ended, Event, Finished, PartClosed, PartOpened, Started, UsageReported
from tollhouse.chat.model import Message, Request, Text, ToolCall
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage

ASKED = Request(model="m", messages=(Message("user", (Text("hi"),)),), include_usage=True)
EVENTS: list[Event] = [
    Started(id="a", model="m", created=1),
    PartOpened(0, Text("")),
    Delta(0, "Hello"),
    PartClosed(0),
    PartOpened(1, ToolCall("call_1", "f", "")),
    Delta(1, "{}"),
    PartClosed(1),
    UsageReported(Usage(input_tokens=3, output_tokens=4, source="reported")),
    Finished("tool_calls"),
    Ended(),
]


class Silent:
    """An encoder that forgets everything."""

    def encode(self, event: Event) -> bytes:
        return b""


def written(side: Side) -> list[bytes]:
    """The events of a stream that is right."""
    encoder = FOUR[side].stream_encoder(ASKED, Receipt())
    body = b"".join(encoder.encode(event) for event in EVENTS)
    return [frame + b"\n\n" for frame in body.split(b"\n\n")[:-1]]


def faults_of(side: Side) -> Iterator[list[bytes]]:
    """The same with each event left out, said twice, or said in the other's place."""
    frames = written(side)
    for number in range(len(frames)):
        yield [*frames[:number], *frames[number + 1 :]]
        yield [*frames[: number + 1], *frames[number:]]
        if number:
            yield [*frames[: number - 1], frames[number], frames[number - 1], *frames[number + 1 :]]


def is_harmless(frames: list[bytes], right: list[bytes]) -> bool:
    """Without a delta, or with it twice, a stream says less or more, in a form that is right; counts need not come, and a
    chunk of text may follow one of a call."""
    if sorted(frames) == sorted(right):
        return b'"delta":{"content":"Hello"}' in next(a for a, b in zip(right, frames, strict=True) if a != b)
    changed = [frame for frame in {*frames, *right} if frames.count(frame) != right.count(frame)]
    return (
        len(changed) == 1
        and any(mark in changed[0] for mark in (b'"Hello"', b'"{}"', b"input_json_delta", b'"choices":[],'))
        and (frames.count(changed[0]) == 0 or b'"choices":[],' not in changed[0])
    )


@pytest.mark.parametrize("side", ["openai_chat", "anthropic"])
def test_every_event_has_its_place(side: Side) -> None:
    check = {"openai_chat": grammar_openai_chat.check_stream, "anthropic": grammar_anthropic.check_stream}[side]
    right = written(side)
    check(b"".join(right))
    for frames in faults_of(side):
        if not is_harmless(frames, right):
            with pytest.raises(AssertionError):
                check(b"".join(frames))


@pytest.mark.parametrize("side", SIDES)
def test_every_encoder_is_watched(side: Side) -> None:
    before = checked_streams.checked.get(side, 0)
    written(side)
    assert checked_streams.checked[side] == before + 1


def test_a_fault_fails_where_it_is_written() -> None:
    encoder = checked_streams.Watched(Silent(), "anthropic", grammar_anthropic.check_stream)
    with pytest.raises(grammar_anthropic.MessagesFault):
        encoder.encode(Ended())
    assert len(checked_streams.faults) == 1
    checked_streams.faults.clear()
    with checked_streams.unchecked("an encoder that says nothing"):
        encoder.encode(Ended())
