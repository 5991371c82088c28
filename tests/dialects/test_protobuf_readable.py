"""What is kept of typed calls: JSON, whatever they were."""

from typing import Any

import msgspec
import pytest

from tollhouse.chat.events import Delta, Ended, Failed, Finished, PartClosed, PartOpened, Started
from tollhouse.chat.model import Choice, Image, Inline, Message, Request, Response, Text
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.protobuf import TypedTraits, typed
from tollhouse.dialects.protobuf.readable import READABLES
from tollhouse.dialects.protobuf.shapes import Fault
from tollhouse.errors import BadRequest

ASKED = Request(
    model="m",
    messages=(
        Message(
            "user",
            (Text("My card is 4111."), Image(Inline("image/png", "iVBORw=="))),
        ),
    ),
)
SAID = [Started(id="a", model="m"), PartOpened(0, Text("")), Delta(0, "Hel"), Delta(0, "lo"), PartClosed(0)]
FORMS = ("json", "protobuf")


@pytest.mark.parametrize("reads", FORMS)
@pytest.mark.parametrize("writes", FORMS)
def test_every_call_can_be_read(reads: Any, writes: Any):
    dialect = typed(reads, writes)
    readable = READABLES[dialect.name]()
    asked = msgspec.json.decode(readable.request(typed(reads).encode_request(ASKED, TypedTraits(), Receipt())))
    assert asked["messages"][0]["parts"][0] == {"text": {"text": "My card is 4111."}}
    assert asked["messages"][0]["parts"][1]["image"]["source"]["inline"]["data"] == "iVBORw=="
    body = dialect.encode_response(
        Response(id="a", model="m", choices=(Choice(parts=(Text("Hello"),)),)), ASKED, Receipt()
    )
    answer = msgspec.json.decode(readable.answer(body, is_stream=False, is_error=False))
    assert answer["choices"] == [{"parts": [{"text": {"text": "Hello"}}]}]
    error = readable.answer(dialect.encode_error(BadRequest("No."), "req_1"), is_stream=False, is_error=True)
    assert msgspec.json.decode(error)["error"]["message"] == "No."


@pytest.mark.parametrize("writes", FORMS)
@pytest.mark.parametrize(
    ("end", "complete", "error"),
    [
        ([Finished("stop"), Ended()], True, None),
        ([], False, None),
        ([Failed(message="Overloaded.")], False, "Overloaded."),
    ],
    ids=["whole", "cut", "failed"],
)
def test_a_stream_is_the_answer_that_it_makes(writes: Any, end: list[Any], complete: bool, error: str | None):
    dialect = typed(writes)
    encoder = dialect.stream_encoder(ASKED, Receipt())
    body = b"".join(map(encoder.encode, [*SAID, *end]))
    kept = msgspec.json.decode(READABLES[dialect.name]().answer(body, is_stream=True, is_error=False))
    assert (kept["complete"], kept.get("error")) == (complete, error)
    assert kept["answer"]["choices"][0]["parts"] == [{"text": {"text": "Hello"}}]


def test_what_is_no_message_is_not_kept():
    with pytest.raises(Fault):
        READABLES["tollhouse_protobuf"]().request(b"\xff")
