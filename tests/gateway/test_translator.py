"""The translation lane of a stream, with a decoder and an encoder of a language of their own.

A frame's data is a row of words: `+text` is text, `?` a ping, `$n` a usage report of n output tokens, `!` an error, `#` the
finish, `.` the end, and `x` is nothing that the language knows.
"""

from collections.abc import Iterable

import pytest

from tollhouse.chat.events import (
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    PartOpened,
    Pinged,
    Started,
    UsageReported,
)
from tollhouse.chat.model import Text, ToolCall
from tollhouse.chat.sse import Frame
from tollhouse.chat.usage import Usage
from tollhouse.dialects.dialect import MAX_EVENT_BYTES, MAX_LARGE_EVENT_BYTES
from tollhouse.errors import StreamFailed, UpstreamMalformed, UpstreamTooLarge, UpstreamTruncated
from tollhouse.gateway.translator import Translator

WORDS: dict[str, Event] = {
    "<": Started(id="a", model="m"),
    "<7": Started(id="a", model="m", usage=Usage(input_tokens=7, output_tokens=1, source="reported")),
    "[": PartOpened(0, Text("")),
    "(": PartOpened(0, ToolCall(id="c", name="f", arguments="")),
    "?": Pinged(),
    "!": Failed(message="Overloaded", kind="overloaded_error", status=529),
    "#": Finished("stop"),
    ".": Ended(),
}


class Decoder:
    def __init__(self) -> None:
        self.has_finished = False
        self.has_ended = False

    def feed(self, frame: Frame) -> Iterable[Event]:
        for word in bytes(frame.data).decode().split():
            self.has_finished |= word == "#"
            self.has_ended |= word in {".", "!"}
            if word == "x":
                raise UpstreamMalformed("No such word.")
            if word[0] == "+":
                yield Delta(0, word[1:])
            elif word[0] == "$":
                yield UsageReported(Usage(input_tokens=7, output_tokens=int(word[1:]), source="reported"))
            else:
                yield WORDS[word]

    def close(self) -> Iterable[Event]:
        if self.has_ended:
            return ()
        if not self.has_finished:
            raise UpstreamTruncated("It stopped before its end.")
        return (Ended(),)


class Encoder:
    """Writes each event's first letter; text as it is."""

    def __init__(self) -> None:
        self.created: int | None = None

    def encode(self, event: Event) -> bytes:
        if isinstance(event, Started):
            self.created = event.created
        return event.text.encode() if isinstance(event, Delta) else type(event).__name__[0].encode()

    def ping(self) -> bytes:
        return b""


def translator() -> Translator:
    return Translator(Decoder(), Encoder(), created=1_790_000_000)


def frames(*lines: str) -> bytes:
    return "".join(f"data: {line}\n\n" for line in lines).encode()


WHOLE = frames("<", "[", "+Hel", "+lo", "#", "$2", ".")


def test_bytes_become_the_clients_bytes_and_the_last_are_held_back():
    one = translator()
    assert one.feed(WHOLE) == b"SPHelloFU"
    assert one.is_final
    assert one.close() == b"E"
    assert (one.finish, one.usage()) == ("stop", Usage(input_tokens=7, output_tokens=2, source="reported"))


def test_the_outcome_does_not_depend_on_how_the_bytes_are_cut():
    for at in range(len(WHOLE) + 1):
        one = translator()
        assert one.feed(WHOLE[:at]) + one.feed(WHOLE[at:]) + one.close() == b"SPHelloFUE"


def test_nothing_is_translated_after_the_end():
    one = translator()
    assert one.feed(frames("<", "[", "#", ".", "+late")).endswith(b"F")
    assert one.close() == b"E"


def test_a_stream_without_its_end_marker_is_ended_by_the_close():
    one = translator()
    out = one.feed(frames("<", "[", "+Hi", "#"))
    assert not one.is_final
    assert (out, one.close()) == (b"SPHiF", b"E")


def test_a_last_event_without_its_empty_line_counts():
    one = translator()
    one.feed(frames("<", "[", "+Hi") + b"data: # .")
    assert one.close() == b"FE"


def test_an_event_may_hold_a_picture_where_the_dialect_says_so():
    one = Translator(Decoder(), Encoder(), created=0, max_event_bytes=MAX_LARGE_EVENT_BYTES)
    picture = "+" + "y" * (MAX_LARGE_EVENT_BYTES // 4)
    assert len(one.feed(frames("<", "[", picture, "#"))) == len(picture) + 2


def test_a_stream_without_an_end_is_broken_off():
    one = Translator(Decoder(), Encoder(), created=0, max_stream_bytes=100)
    one.feed(frames("<", "["))
    with pytest.raises(UpstreamTooLarge):
        one.feed(frames("+" + "more" * 25))


def test_a_cut_stream_is_an_error_and_not_an_end():
    one = translator()
    one.feed(frames("<", "[", "+Hi"))
    with pytest.raises(UpstreamTruncated):
        one.close()


def test_a_reported_error_is_the_last_thing_and_the_failure():
    one = translator()
    out = one.feed(frames("<", "[", "+Hi", "! +late", "+later"))
    assert out == b"SPHiF"
    assert one.is_final
    assert isinstance(one.failure, StreamFailed)
    assert (one.failure.kind, one.failure.status) == ("overloaded_error", 529)
    with pytest.raises(StreamFailed):
        one.close()


def test_what_is_not_the_dialect_is_an_error():
    with pytest.raises(UpstreamMalformed):
        translator().feed(frames("<", "x"))


def test_an_event_has_a_bound():
    with pytest.raises(UpstreamTooLarge):
        translator().feed(b"data: " + b"y" * (MAX_EVENT_BYTES + 1))


@pytest.mark.parametrize(
    ("words", "expected"), [(("<",), False), (("<", "?"), False), (("<", "("), True), (("<", "[", "+a"), True)]
)
def test_a_greeting_and_a_ping_are_no_content(words: tuple[str, ...], expected: bool):
    one = translator()
    one.feed(frames(*words))
    assert one.has_content is expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), Usage()),
        (("<",), Usage()),
        (("<7",), Usage(input_tokens=7, output_tokens=1, source="rebuilt")),
        (("<", "[", "+" + "a" * 9), Usage(output_tokens=3, source="rebuilt")),
        (("<", "[", "+a", "+b", "+c"), Usage(output_tokens=3, source="rebuilt")),
        (("<", "(", "+ab"), Usage(output_tokens=15, source="rebuilt")),
        (("<7", "[", "+" + "a" * 9), Usage(input_tokens=7, output_tokens=3, source="rebuilt")),
        (("<7", "[", "+abc", "#"), Usage(input_tokens=7, output_tokens=1, source="rebuilt")),
        (("<", "[", "+abc", "$50"), Usage(input_tokens=7, output_tokens=50, source="rebuilt")),
        (("<", "[", "+abc", "#", "$50"), Usage(input_tokens=7, output_tokens=50, source="reported")),
        (("<", "[", "+abc", "$40", "#", "$50"), Usage(input_tokens=7, output_tokens=50, source="reported")),
        (("<", "[", "+abc", "#", "$0"), Usage(input_tokens=7, output_tokens=0, source="reported")),
    ],
    ids=[
        "nothing came",
        "only a greeting",
        "a greeting that knows the prompt's tokens",
        "text of an unknown prompt",
        "a piece of text is a token at least",
        "a call costs its name and what is around it too",
        "text of a known prompt",
        "finished, and never reported but at the start: the first count is of next to nothing",
        "reported before the finish: more may have come",
        "reported at the end",
        "the last report holds",
        "a reported zero is a zero",
    ],
)
def test_usage_is_what_was_reported_or_else_counted(words: tuple[str, ...], expected: Usage):
    one = translator()
    one.feed(frames(*words))
    assert one.usage() == expected


def test_a_whole_answer_can_be_given_as_events():
    one = translator()
    events = [WORDS["<"], WORDS["["], Delta(0, "Hi"), Finished("length"), WORDS["."]]
    assert one.feed_events(events) + one.close() == b"SPHiFE"
    assert one.finish == "length"


def test_the_finish_is_the_first_choices():
    one = translator()
    one.feed_events(
        [WORDS["<"], Finished("length", choice=1), Finished("stop", choice=0), Finished("length", choice=2)]
    )
    assert one.finish == "stop"


@pytest.mark.parametrize(("said", "expected"), [(None, 1_790_000_000), (5, 5)])
def test_a_provider_that_does_not_say_when_gets_the_gateways_clock(said: int | None, expected: int):
    encoder = Encoder()
    one = Translator(Decoder(), encoder, created=1_790_000_000)
    one.feed_events([Started(id="a", model="m", created=said)])
    assert encoder.created == expected
