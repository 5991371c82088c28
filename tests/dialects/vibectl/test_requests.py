"""What is read of a request."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.chat.model import JsonSchema, Message, Text
from tollhouse.dialects.vibectl import DIALECT
from tollhouse.dialects.vibectl.requests import MAX_REQUEST_ID_CHARACTERS
from tollhouse.errors import BadRequest
from tollhouse.proto.vibectl_pb2 import ExecuteRequest


def test_a_peek_has_the_model_and_knows_no_limit_of_tokens():
    peek = DIALECT.peek(ExecuteRequest(model_name="fast", user_fragments=["x"]).SerializeToString())
    assert (peek.model, peek.stream, peek.max_output_tokens, peek.choices) == ("fast", False, None, 1)


def test_a_request_without_a_model_leaves_the_choice_to_the_gateway():
    assert DIALECT.peek(ExecuteRequest(user_fragments=["x"]).SerializeToString()).model == ""


@pytest.mark.parametrize(
    ("system", "user", "messages"),
    [
        ([], ["Hi"], (Message("user", (Text("Hi"),)),)),
        (["A", "B"], ["C", "D"], (Message("system", (Text("A\n\nB"),)), Message("user", (Text("C\n\nD"),)))),
        ([" ", ""], ["\n", "C"], (Message("user", (Text("C"),)),)),
        (["A"], ["  indented\n"], (Message("system", (Text("A"),)), Message("user", (Text("  indented\n"),)))),
    ],
)
def test_fragments_become_one_text_of_each_role(system: list[str], user: list[str], messages: tuple[Message, ...]):
    request = DIALECT.decode_request(ExecuteRequest(system_fragments=system, user_fragments=user).SerializeToString())
    assert request.messages == messages


@pytest.mark.parametrize("user", [[], [""], [" ", "\n\t"]])
def test_an_empty_prompt_is_refused_even_with_a_system_prompt(user: list[str]):
    body = ExecuteRequest(system_fragments=["Be kind."], user_fragments=user).SerializeToString()
    with pytest.raises(BadRequest) as caught:
        DIALECT.decode_request(body)
    assert caught.value.param == "user_fragments"


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ('{"type":"object"}', "answer"),
        ('{"title":"LLMPlannerResponse"}', "LLMPlannerResponse"),
        ('{"title":"A title: with words"}', "A_title_with_words"),
        ('{"title":"…"}', "answer"),
        ('{"title":7}', "answer"),
        ('{"title":"' + "x" * 90 + '"}', "x" * 64),
    ],
)
def test_a_schema_is_kept_as_it_came_under_a_name_that_providers_take(schema: str, name: str):
    body = ExecuteRequest(user_fragments=["x"], response_model_schema=schema).SerializeToString()
    wanted = DIALECT.decode_request(body).response_format
    assert isinstance(wanted, JsonSchema)
    assert (bytes(wanted.schema), wanted.name) == (schema.encode(), name)


@pytest.mark.parametrize("schema", ["", "  "])
def test_an_empty_schema_is_none(schema: str):
    body = ExecuteRequest(user_fragments=["x"], response_model_schema=schema).SerializeToString()
    assert DIALECT.decode_request(body).response_format is None


@pytest.mark.parametrize("schema", ["{", "[]", '"text"', "{} trailing"])
def test_a_schema_that_is_no_json_object_is_refused(schema: str):
    body = ExecuteRequest(user_fragments=["x"], response_model_schema=schema).SerializeToString()
    with pytest.raises(BadRequest) as caught:
        DIALECT.decode_request(body)
    assert caught.value.param == "response_model_schema"


def test_an_endless_request_id_is_refused_for_it_comes_back_with_every_message():
    body = ExecuteRequest(user_fragments=["x"], request_id="x" * (MAX_REQUEST_ID_CHARACTERS + 1)).SerializeToString()
    with pytest.raises(BadRequest) as caught:
        DIALECT.decode_request(body)
    assert caught.value.param == "request_id"


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05ab", b"\x0a\x01\xff"])
def test_bytes_that_are_no_message_are_refused(body: bytes):
    for read in (DIALECT.peek, DIALECT.decode_request):
        with pytest.raises(BadRequest):
            read(body)


def test_no_provider_speaks_it():
    with pytest.raises(NotImplementedError, match="vibectl"):
        DIALECT.decode_models(b"")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes):
    for read in (DIALECT.peek, DIALECT.decode_request):
        with suppress(BadRequest):
            read(body)
