"""A request with the conversation that its ids stand for; plain functions on JSON."""

import json
from typing import Any

import pytest

from tollhouse.dialects.openai_responses import history
from tollhouse.dialects.openai_responses.history import Turn
from tollhouse.errors import BadRequest

OURS = "ab" * 24
THEIRS = "cd" * 25


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


def response(identity: str, *output: Any, **fields: Any) -> bytes:
    return json.dumps({"id": f"resp_{identity}", "object": "response", "output": output, **fields}).encode()


def turn(identity: str, *output: Any, given: str = '["x"]') -> Turn:
    return Turn(f"resp_{identity}", given.encode(), response(identity, *output))


def stream(*events: tuple[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps(data).encode()) for kind, data in events)


def test_most_requests_bring_their_conversation_along():
    for fields in (
        {"input": "Hi"},
        {"input": [{"role": "user", "content": "item_reference"}]},
        {"input": "item_reference"},
    ):
        asked = history.asked(body(**fields))
        assert asked.is_whole
        assert asked.keeps


@pytest.mark.parametrize(("store", "keeps"), [(True, True), (False, False)])
def test_a_client_says_whether_its_answer_is_kept(store: bool, keeps: bool):
    assert history.asked(body(input="Hi", store=store)).keeps is keeps


@pytest.mark.parametrize(
    "item",
    [
        b'{"id": "msg_1"}',
        b'{"type": null, "id": "msg_1"}',
        b'{"type": "item\\u005freference", "id": "msg_1"}',
        b'{"type": "item_reference", "id": "msg_1", "role": 5}',
        b'{"type": "image_generation_call", "id": "msg_1"}',
        b'{"type": "image_generation_call", "id": "msg_1", "result": null}',
    ],
)
def test_no_item_of_a_provider_s_account_is_named_past_the_gateway(item: bytes):
    """However a reference is written: the account is everybody's, so what it names must be the tenant's own."""
    asked = history.asked(b'{"model": "m", "input": [{"role": "user", "content": "Hi"}, %b, 7]}' % item)
    assert asked.references == ("msg_1",)
    assert history.asked(b'{"model": "m", "input": [%b]}' % item).references == ("msg_1",)


@pytest.mark.parametrize(
    "item",
    [
        {"id": "msg_1", "role": "assistant", "content": "Hi"},
        {"type": "message", "id": "msg_1", "role": "assistant", "content": []},
        {"type": "image_generation_call", "id": "ig_1", "result": "AAAA"},
        {"type": "item_reference"},
    ],
)
def test_an_item_that_is_there_is_no_reference(item: dict[str, Any]):
    assert history.asked(body(input=[item])).is_whole


def test_what_a_request_refers_to_is_found():
    items = [
        {"role": "user", "content": "Hi"},
        {"type": "item_reference", "id": "rs_1"},
        {"type": "item_reference", "id": "m"},
    ]
    asked = history.asked(body(input=items, previous_response_id="resp_1"))
    assert asked.previous_id == "resp_1"
    assert asked.references == ("rs_1", "m")
    assert not asked.is_whole
    assert history.asked(body(input="Hi", previous_response_id=None)).is_whole


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": 7}, "previous_response_id"),
        ({"previous_response_id": ""}, "previous_response_id"),
        ({"previous_response_id": "x" * 201}, "previous_response_id"),
        ({"previous_response_id": "a\u0000b"}, "previous_response_id"),
        ({"store": "no"}, "store"),
        ({"input": [{"type": "item_reference", "id": "a\u0000b"}]}, "input"),
        ({"input": [{"type": "item_reference", "id": f"i{n}"} for n in range(201)]}, "input"),
    ],
)
def test_ids_that_cannot_be_are_refused(fields: Any, param: str):
    with pytest.raises(BadRequest) as caught:
        history.asked(body(**fields))
    assert caught.value.param == param


def test_what_a_request_adds_is_a_list_of_items():
    assert json.loads(history.own_input(history.asked(body(input="Hi")).fields, {})) == [
        {"type": "message", "role": "user", "content": "Hi"}
    ]
    assert history.own_input(history.asked(body()).fields, {}) == b"[]"
    items = [{"role": "user", "content": "Hi"}]
    assert json.loads(history.own_input(history.asked(body(input=items)).fields, {})) == items


def test_a_conversation_is_put_together_oldest_first():
    answer = {"type": "message", "id": f"msg_{THEIRS}", "status": "completed", "content": []}
    turns = [turn(THEIRS, answer, given='[{"n":1}]'), turn("ef" * 25, {"type": "x"}, given='[{"n":2}]')]
    asked = history.asked(body(input=[{"n": 3}], previous_response_id="resp_2", temperature=0.5))
    whole = json.loads(history.whole_request(asked.fields, turns, history.own_input(asked.fields, {})))
    assert whole["input"] == [{"n": 1}, answer, {"n": 2}, {"type": "x"}, {"n": 3}]
    assert whole["temperature"] == 0.5
    assert whole["previous_response_id"] == "resp_2", "for the answer to repeat"


def test_ids_that_we_made_up_are_not_told_to_providers():
    ours = {"type": "message", "id": f"msg_{OURS}0000", "status": "completed", "role": "assistant", "content": []}
    (item,) = history.output_of(turn(OURS, ours))
    assert json.loads(bytes(item)) == {"type": "message", "role": "assistant", "content": []}
    found = history.items_by_id([turn(OURS, ours)], [f"msg_{OURS}0000", "other"])
    assert list(found) == [f"msg_{OURS}0000"]


def test_a_reference_becomes_the_item():
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gA"}
    asked = history.asked(body(input=[{"type": "item_reference", "id": "rs_1"}, {"role": "user", "content": "Hi"}]))
    found = history.items_by_id([turn(THEIRS, thought)], asked.references)
    assert json.loads(history.own_input(asked.fields, found)) == [thought, {"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_an_answer_is_found_in_the_end_of_a_stream(status: str):
    answer = json.loads(response(THEIRS, {"type": "message", "id": "msg_1"}, {"type": "reasoning"}, status=status))
    last = stream(("response.output_item.done", {"type": "x"}), (f"response.{status}", {"response": answer}))
    kept = history.kept_answer(last)
    assert kept is not None
    assert kept.id == f"resp_{THEIRS}"
    assert kept.item_ids == ("msg_1",)
    assert json.loads(kept.body) == answer
    assert history.kept_answer(json.dumps(answer).encode()) == kept._replace(body=json.dumps(answer).encode())


@pytest.mark.parametrize(
    "last",
    [
        b"",
        b"{",
        b'{"error":{"message":"no"}}',
        response("x", status="failed"),
        response("x" * 300),
        response("a\n"),
        json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "output": []}).encode(),
        stream(("response.failed", {"response": {"id": "resp_1"}})),
        stream(("response.output_text.delta", {"delta": "x"})),
        stream(("response.completed", {})),
        b": comment\n\n",
    ],
)
def test_what_is_no_answer_is_not_kept(last: bytes):
    assert history.kept_answer(last) is None


def test_a_kept_answer_says_what_it_went_on_from():
    shown = history.with_previous(response(THEIRS, previous_response_id=None), "resp_0")
    assert json.loads(shown)["previous_response_id"] == "resp_0"
    assert history.with_previous(response(THEIRS), None) == response(THEIRS)


def test_input_is_listed_as_openai_lists_it():
    given = '[{"role":"user","content":"Hi"},{"type":"reasoning","id":"rs_1"},{"role":"assistant","content":"Yes"}]'
    page = json.loads(history.input_page(turn(OURS, given=given), limit=2, after=None, newest_first=False))
    first, second = page["data"]
    assert first == {
        "id": f"item_{OURS}_0",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "Hi"}],
    }
    assert second == {"type": "reasoning", "id": "rs_1"}
    assert page["has_more"]
    rest = json.loads(history.input_page(turn(OURS, given=given), limit=2, after=page["last_id"], newest_first=False))
    assert [item["content"] for item in rest["data"]] == [[{"type": "output_text", "text": "Yes"}]]
    assert not rest["has_more"]
    with pytest.raises(BadRequest):
        history.input_page(turn(OURS, given=given), limit=2, after="nothing", newest_first=True)


def test_an_answer_with_a_picture_in_it_can_be_kept():
    """A drawn picture stands in the last event, which is larger than any other may be."""
    answer = {
        "id": f"resp_{THEIRS}",
        "object": "response",
        "status": "completed",
        "output": [{"type": "image_generation_call", "id": "ig_1", "result": "A" * 5_000_000}],
    }
    kept = history.kept_answer(stream(("response.completed", {"type": "response.completed", "response": answer})))
    assert kept is not None
    assert kept.item_ids == ("ig_1",)


def test_an_answer_with_items_that_cannot_be_read_is_not_kept():
    """What is kept is no reason to break an answer off that its client can read."""
    assert history.kept_answer(response(THEIRS, {"type": "message", "id": 7}, status="completed")) is None
