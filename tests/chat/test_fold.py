"""A stream and its whole answer say the same."""

import msgspec
import pytest
from hypothesis import given

from support.conversations import responses
from tollhouse.chat.events import Delta, Ended, Event, Failed, Finished, PartClosed, PartOpened, Started
from tollhouse.chat.fold import Folder, fold, unfold
from tollhouse.chat.model import Foreign, Response, Text, ToolCall
from tollhouse.errors import StreamFailed, UpstreamTruncated


@given(responses())
def test_folding_an_unfolded_answer_gives_it_back(response: Response):
    assert fold(unfold(response)) == response


def test_a_stream_without_its_end_is_cut():
    with pytest.raises(UpstreamTruncated):
        fold([Started(id="1", model="m"), PartOpened(0, Text("")), Delta(0, "half")])


def test_a_failed_stream_raises_what_the_provider_said():
    with pytest.raises(StreamFailed) as caught:
        fold([Started(id="1", model="m"), Failed(message="Overloaded", kind="overloaded_error", status=529)])
    assert (caught.value.message, caught.value.kind, caught.value.status) == ("Overloaded", "overloaded_error", 529)


def test_what_came_before_a_cut_can_still_be_counted():
    folder = Folder()
    events: list[Event] = [Started(id="1", model="m"), PartOpened(0, Text("a")), Delta(0, "b"), Delta(0, "c")]
    for event in events:
        folder.feed(event)
    assert folder.partial().choices[0].parts == (Text("abc"),)
    assert folder.partial().choices[0].finish is None


def test_a_server_side_call_gets_its_streamed_input():
    raw = msgspec.Raw(b'{"type":"server_tool_use","id":"s1","input":{}}')
    events: list[Event] = [
        Started(id="1", model="m"),
        PartOpened(0, Foreign("anthropic", "server_tool_use", raw)),
        Delta(0, '{"query":'),
        Delta(0, '"x"}'),
        PartClosed(0),
        Finished("stop"),
        Ended(),
    ]
    part = fold(events).choices[0].parts[0]
    assert isinstance(part, Foreign)
    assert msgspec.json.decode(part.raw)["input"] == {"query": "x"}


def test_arguments_that_a_limit_cut_off_stay_as_they_came():
    events: list[Event] = [
        Started(id="1", model="m"),
        PartOpened(0, ToolCall("c", "f", "")),
        Delta(0, '{"a": "unfin'),
        PartClosed(0),
        Finished("length"),
        Ended(),
    ]
    assert fold(events).choices[0].parts == (ToolCall("c", "f", '{"a": "unfin'),)
