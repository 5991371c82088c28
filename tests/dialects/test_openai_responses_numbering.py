"""An end from outside the encoder continues the stream that went before it."""

import msgspec
import pytest

from support import grammar_responses
from tollhouse.chat.events import Delta, Event, PartClosed, PartOpened, Started
from tollhouse.chat.model import Message, Request, Text, Thinking
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.openai_responses import DIALECT
from tollhouse.dialects.openai_responses.numbering import Numbering
from tollhouse.errors import UpstreamTruncated

END = DIALECT.encode_stream_error(UpstreamTruncated("The provider's stream stopped before its end."), "req_1")
ASKED = Request(model="m", messages=(Message("user", (Text("hi"),)),))
SAID: list[Event] = [
    Started(id="x", model="model-1", created=7),
    PartOpened(0, Thinking("")),
    Delta(0, "Hm."),
    PartClosed(0),
    PartOpened(1, Text("")),
    Delta(1, 'a "sequence_number":900 of my own'),
    Delta(1, "b"),
]


def broken(pieces: list[bytes]) -> bytes:
    numbering = Numbering()
    return b"".join(map(numbering.feed, [*pieces, END])) + numbering.close()


@pytest.mark.parametrize("so_far", range(len(SAID) + 1))
@pytest.mark.parametrize("is_one_piece", [True, False])
def test_it_goes_on_wherever_the_stream_broke(so_far: int, is_one_piece: bool):
    encoder = DIALECT.stream_encoder(ASKED, Receipt())
    pieces = [piece for event in SAID[:so_far] if (piece := encoder.encode(event))]
    body = broken([b"".join(pieces)] if is_one_piece else pieces)
    assert body.startswith(b"".join(pieces))
    last = grammar_responses.check(body, fails=True)
    assert last["error"]["message"].startswith("The provider's stream stopped")
    if so_far:
        assert (last["model"], last["created_at"]) == ("model-1", 7)
    assert [item["type"] for item in last["output"]] == ["reasoning"] * (so_far > 3)


def test_signs_of_life_do_not_make_it_forget():
    encoder = DIALECT.stream_encoder(ASKED, Receipt())
    grammar_responses.check(broken([encoder.ping(), *map(encoder.encode, SAID[:3]), encoder.ping()]), fails=True)


def test_what_a_provider_ends_with_itself_is_passed_on_as_it_came():
    event = b'event: error\ndata: {"type":"error","sequence_number":4,"error":{"message":"No."}}\n\n'
    assert Numbering().feed(event) == event


def test_events_that_cannot_be_read_are_no_hindrance():
    said = b'data: {"type":"response.output_item.done","item":\n\ndata: {"sequence_number":8}\n\n'
    body = broken([said])
    ends = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")][-2:]
    events = [msgspec.json.decode(end) for end in ends]
    assert [event["sequence_number"] for event in events] == [9, 10]
    assert events[-1]["response"]["output"] == []
