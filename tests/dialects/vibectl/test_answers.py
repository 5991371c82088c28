"""What is written of an answer: text, and word of what was left out."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.conversations import responses
from tollhouse.chat.events import Delta, Ended, Event, Failed, PartOpened, Pinged, Started
from tollhouse.chat.fold import unfold
from tollhouse.chat.model import Choice, Refusal, Request, Response, Text, Thinking
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.delimited import Splitter, delimit
from tollhouse.dialects.vibectl import DIALECT
from tollhouse.dialects.vibectl.answers import MAX_PIECE_CHARACTERS, cut
from tollhouse.proto.vibectl_pb2 import ExecuteResponse, StreamChunk

ASKED = Request(model="m", messages=())


def whole(response: Response, receipt: Receipt | None = None) -> str:
    body = DIALECT.encode_response(response, ASKED, Receipt() if receipt is None else receipt)
    return ExecuteResponse.FromString(body).success.response_text


def chunks(events: Iterable[Event], receipt: Receipt | None = None) -> list[StreamChunk]:
    encoder = DIALECT.stream_encoder(ASKED, Receipt() if receipt is None else receipt)
    made: list[StreamChunk] = []
    for event in events:
        data = encoder.encode(event)
        messages = Splitter().feed(data)
        assert b"".join(map(delimit, messages)) == data, "an event gives whole messages"
        made += map(StreamChunk.FromString, messages)
    return made


def answer(*parts: Text | Thinking | Refusal) -> Response:
    return Response(id="1", model="m", choices=(Choice(parts=parts, finish="stop"),))


@given(responses())
def test_a_stream_says_what_the_whole_answer_says(response: Response):
    made = chunks(unfold(response))
    assert "".join(chunk.text_chunk for chunk in made) == whole(response)
    assert [chunk.HasField("complete") for chunk in made] == [False] * (len(made) - 1) + [True]


@given(responses())
def test_a_stream_and_a_whole_answer_lose_the_same(response: Response):
    streamed, at_once = Receipt(), Receipt()
    chunks(unfold(response), streamed)
    whole(response, at_once)
    assert sorted(streamed.entries) == sorted(at_once.entries)


def test_reasoning_is_left_out_and_noted():
    receipt = Receipt()
    assert whole(answer(Thinking("hm"), Text("yes")), receipt) == "yes"
    assert receipt.entries == ("dropped content: an answer's Thinking part has no form in this protocol",)


def test_a_refusal_is_said_as_text():
    assert whole(answer(Refusal("I would rather not."))) == "I would rather not."


@given(st.text(alphabet=st.sampled_from("ab \n東"), max_size=2_000))
def test_long_text_is_cut_into_pieces_that_make_it_again(text: str):
    pieces = list(cut(text))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= MAX_PIECE_CHARACTERS for piece in pieces)


def test_long_text_is_cut_after_a_blank_where_there_is_one():
    pieces = list(cut("word " * 100))
    assert len(pieces) > 1
    assert all(piece.endswith(" ") for piece in pieces)


def test_what_a_provider_streams_is_passed_on_piece_by_piece():
    events: list[Event] = [
        Started(id="1", model="m"),
        PartOpened(0, Text("")),
        Delta(0, "Hel"),
        Delta(0, "lo"),
        Pinged(),
    ]
    assert [chunk.text_chunk for chunk in chunks(events)] == ["Hel", "lo"]


def test_other_answers_than_the_first_are_left_out():
    receipt = Receipt()
    events: list[Event] = [PartOpened(0, Text("")), PartOpened(0, Text(""), 1), Delta(0, "no", 1), Delta(0, "yes")]
    assert [chunk.text_chunk for chunk in chunks(events, receipt)] == ["yes"]
    assert "choices[1:]" in receipt.header()


@pytest.mark.parametrize("event", [Failed(message="sk-secret said the provider", provider_code="overloaded_error")])
def test_a_failure_in_the_stream_is_an_error_without_the_provider_s_words(event: Failed):
    (chunk,) = chunks([event])
    assert chunk.error.error_code == "PROVIDER_ERROR"
    assert "secret" not in str(chunk)
    assert "overloaded_error" in chunk.error.error_message


def test_the_end_is_complete_without_the_name_of_the_model():
    (chunk,) = chunks([Ended()])
    assert chunk.HasField("complete")
    assert not chunk.complete.actual_model_used
    assert not chunk.request_id
