"""What is kept of calls, as JSON."""

import msgspec
import pytest
from google.protobuf.message import DecodeError

from tollhouse.chat.events import Delta, Ended, Event, PartOpened, Started
from tollhouse.chat.model import Choice, Request, Response, Text
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.vibectl import DIALECT
from tollhouse.dialects.vibectl.readable import READABLE
from tollhouse.errors import BadRequest
from tollhouse.proto.vibectl_pb2 import ExecuteRequest

ASKED = Request(model="m", messages=())


def read(body: bytes, *, is_stream: bool = False, is_error: bool = False) -> object:
    return msgspec.json.decode(READABLE.answer(body, is_stream=is_stream, is_error=is_error))


def test_a_request_has_its_fragments():
    body = ExecuteRequest(system_fragments=["Be kind."], user_fragments=["Hi", "東京"]).SerializeToString()
    assert msgspec.json.decode(READABLE.request(body)) == {
        "system_fragments": ["Be kind."],
        "user_fragments": ["Hi", "東京"],
    }


def test_a_whole_answer_has_its_text():
    response = Response(id="1", model="m", choices=(Choice(parts=(Text("Hi"),), finish="stop"),))
    assert read(DIALECT.encode_response(response, ASKED, Receipt())) == {"success": {"response_text": "Hi"}}


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_stream_is_the_text_that_it_makes(*, is_cut: bool):
    encoder = DIALECT.stream_encoder(ASKED, Receipt())
    events: list[Event] = [
        Started(id="1", model="m"),
        PartOpened(0, Text("")),
        Delta(0, "Hel"),
        Delta(0, "lo"),
        Ended(),
    ]
    body = b"".join(encoder.encode(event) for event in events)
    said = read(body[:-1] if is_cut else body, is_stream=True)
    assert said == {"complete": not is_cut, "answer": {"response_text": "Hello"}}


def test_a_broken_stream_has_its_error():
    body = DIALECT.encode_stream_error(BadRequest("no"), "r")
    assert read(body, is_stream=True) == {"complete": False, "answer": {"response_text": ""}, "error": "no"}


def test_an_error_has_its_code():
    said = read(DIALECT.encode_error(BadRequest("no"), ""), is_error=True)
    assert said == {"error_code": "INVALID_REQUEST", "error_message": "no"}


def test_what_is_no_message_raises():
    for body in (b"\xff", b"\x05\xff"):
        with pytest.raises(DecodeError):
            READABLE.request(body)
