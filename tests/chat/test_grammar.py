"""The event grammar: what may follow what."""

import pytest
from hypothesis import given

from support.conversations import responses
from tollhouse.chat.events import (
    Cited,
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    PartClosed,
    PartOpened,
    Pinged,
    Signed,
    Started,
    UsageReported,
)
from tollhouse.chat.fold import unfold
from tollhouse.chat.grammar import CHOICE, STREAM, ChoiceState, GrammarFault, StreamState, check
from tollhouse.chat.model import Citation, Opaque, RedactedThinking, Refusal, Response, Text, Thinking
from tollhouse.chat.usage import Usage

START = Started(id="1", model="m")
HELLO: list[Event] = [START, PartOpened(0, Text("")), Delta(0, "hel"), Delta(0, "lo"), PartClosed(0), Finished("stop")]


@given(responses())
def test_every_unfolded_answer_keeps_the_grammar(response: Response):
    check(unfold(response))


def test_a_whole_stream_passes():
    check([*HELLO, UsageReported(Usage(input_tokens=1)), Ended()])


def test_a_failure_may_come_at_any_moment_and_is_the_end():
    for length in range(len(HELLO) + 1):
        check([*HELLO[:length], Failed(message="x")])
    with pytest.raises(GrammarFault, match="FAILED"):
        check([START, Failed(message="x"), Ended()])


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([], "stopped without"),
        (HELLO, "stopped without"),
        ([Delta(0, "x")], "NEW"),
        ([START, START], "STARTED"),
        ([START, Ended()], "none at all"),
        ([*HELLO[:-1], Ended()], "0 IDLE"),
        ([START, Delta(0, "x")], "IDLE"),
        ([START, PartOpened(1, Text(""))], "where 0 was next"),
        ([*HELLO[:3], PartOpened(1, Text(""))], "OPEN"),
        ([*HELLO[:3], Delta(1, "x")], "while 0 is open"),
        ([*HELLO[:3], Finished("stop")], "OPEN"),
        ([*HELLO, PartOpened(1, Text(""))], "FINISHED"),
        ([*HELLO, Finished("stop")], "FINISHED"),
        ([*HELLO, Ended(), Pinged()], "ENDED"),
        ([START, PartOpened(0, Refusal("")), Signed(0, Opaque("s", "x"))], "Refusal"),
        ([START, PartOpened(0, Thinking("")), Cited(0, Citation())], "Thinking"),
        ([START, PartOpened(0, RedactedThinking(Opaque("d", "x"))), Delta(0, "x")], "RedactedThinking"),
        ([*HELLO[:3], Delta(0, "x", choice=1)], "choice 1"),
    ],
)
def test_an_event_out_of_place_is_named(events: list[Event], words: str):
    with pytest.raises(GrammarFault, match=words):
        check(events)


def test_choices_interleave():
    check(
        [
            START,
            PartOpened(0, Text(""), 0),
            PartOpened(0, Text(""), 1),
            Delta(0, "a", 1),
            Delta(0, "b", 0),
            PartClosed(0, 0),
            Finished("stop", None, 0),
            PartClosed(0, 1),
            Finished("length", None, 1),
            Ended(),
        ]
    )


def test_the_tables_lead_out_of_every_state_but_the_last_ones():
    assert {state for state, _ in STREAM} == {StreamState.NEW, StreamState.STARTED}
    assert {state for state, _ in CHOICE} == set(ChoiceState)
