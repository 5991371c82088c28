"""Requests in the typed protocol: what they are checked for, and how they are forwarded."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from support.conversations import responses
from support.typed_values import values_of
from tollhouse.chat.embedding import EmbeddingRequest
from tollhouse.chat.model import Choice, Extra, Message, Request, Response, Text, Thinking, ToolCall, ToolResult
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.protobuf import Form, TypedTraits, typed
from tollhouse.dialects.protobuf.messages import REQUEST, RESPONSE
from tollhouse.dialects.protobuf.reports import Attempted, Settlement
from tollhouse.dialects.protobuf.request import HAS_ITS_OWN_FIELD
from tollhouse.errors import (
    BadRequest,
    BudgetExceeded,
    ModelNotFound,
    ProviderRefused,
    RateLimited,
    TollhouseError,
    Untranslatable,
    UpstreamMalformed,
)
from tollhouse.proto.v1 import gateway_pb2

FORMS: tuple[Form, ...] = ("json", "protobuf")
TRAITS = TypedTraits()
HELLO = Message("user", (Text("Hello"),))

by_form = pytest.mark.parametrize("form", FORMS)


def body_of(request: Request, form: Form) -> bytes:
    return typed(form).encode_request(request, TRAITS, Receipt())


def said(*messages: Message, **fields: Any) -> Request:
    return Request(model="m", messages=messages or (HELLO,), include_usage=True, **fields)


# ------------------------------------------------------------------------------------------------- there and back


@by_form
def test_a_request_that_is_right_comes_back_as_it_was(form: Form):
    @settings(max_examples=30)
    @given(values_of(REQUEST))
    def law(request: Request) -> None:
        request = msgspec.structs.replace(request, include_usage=True)
        body = body_of(request, form)
        try:
            decoded = typed(form).decode_request(body)
        except BadRequest as error:
            refused = error
        else:
            assert decoded == request
            return
        assert refused.param

    law()


@by_form
@settings(max_examples=30)
@given(response=responses())
def test_an_answer_comes_back_as_it_was(form: Form, response: Response):
    dialect = typed(form)
    body = dialect.encode_response(response, said(), Receipt())
    assert dialect.decode_response(body, TRAITS) == response
    glance = dialect.glance(body, TRAITS)
    assert (glance.usage, glance.finish) == (response.usage, response.choices[0].finish)


@by_form
def test_peeking_tells_what_decoding_tells(form: Form):
    request = said(max_output_tokens=9, choices=3, stream=True)
    peek = typed(form).peek(body_of(request, form))
    assert (peek.model, peek.stream, peek.max_output_tokens, peek.choices) == ("m", True, 9, 3)
    peek = typed(form).peek(body_of(said(), form))
    assert (peek.model, peek.stream, peek.max_output_tokens, peek.choices) == ("m", False, None, 1)


@by_form
def test_results_of_tools_stand_apart_in_the_canonical_form(form: Form):
    results = tuple(ToolResult(f"c{n}", (Text("x"),)) for n in range(3))
    calls = Message("assistant", tuple(ToolCall(f"c{n}", "f", "{}") for n in range(3)))
    decoded = typed(form).decode_request(body_of(said(HELLO, calls, Message("tool", results)), form))
    assert decoded.messages[2:] == tuple(Message("tool", (result,)) for result in results)


# --------------------------------------------------------------------------------------------------------- refusals

WRONG: list[tuple[Request, str]] = [
    (Request(model="m" * 501, messages=(HELLO,)), "model"),
    (Request(model="m", messages=()), "messages"),
    (said(choices=0), "choices"),
    (said(choices=129), "choices"),
    (said(max_output_tokens=0), "max_output_tokens"),
    (said(Message("user", (Thinking("hm"),))), "messages[0].parts[0]"),
    (said(Message("system", (Text("a"), ToolCall("c", "f", "{}")))), "messages[0].parts[1]"),
    (said(HELLO, Message("assistant", (ToolResult("c", ()),))), "messages[1].parts[0]"),
    (said(HELLO, Message("assistant", (ToolCall("", "f", "{}"),))), "messages[1].parts[0]"),
    (said(HELLO, Message("tool", (ToolResult("", ()),))), "messages[1].parts[0]"),
    (said(HELLO, Message("tool", ())), "messages[1].parts"),
    (said(extra=Extra("openai_chat", {"n": msgspec.Raw(b"100")})), "extra.fields.n"),
]


@by_form
@pytest.mark.parametrize(("request_", "param"), WRONG, ids=[param for _, param in WRONG])
def test_a_request_that_is_not_right_is_refused_by_its_field(form: Form, request_: Request, param: str):
    with pytest.raises(BadRequest) as caught:
        typed(form).decode_request(body_of(request_, form))
    assert caught.value.param == param
    assert param in caught.value.message


@by_form
@pytest.mark.parametrize(
    "request_", [said(choices=0), said(max_output_tokens=-1), Request(model="m" * 501, messages=(HELLO,))]
)
def test_what_a_hold_is_computed_from_is_refused_at_the_first_glance(form: Form, request_: Request):
    with pytest.raises(BadRequest):
        typed(form).peek(body_of(request_, form))


def test_a_number_that_does_not_fit_is_the_callers_to_change():
    with pytest.raises(Untranslatable, match="`seed` does not fit into 64 bits"):
        body_of(said(seed=1 << 70), "protobuf")


def test_text_that_no_encoding_has_is_never_sent():
    for form in FORMS:
        with pytest.raises(Untranslatable, match="not valid Unicode"):
            body_of(said(Message("user", (Text("\ud800"),))), form)


def test_fields_that_nobody_knows_are_kept_for_the_receipt():
    decoded = typed("json").decode_request(
        b'{"model":"m","messages":[{"role":"USER","parts":[{"text":{"text":"a"}}]}],"newer":{"a":1},"older":null}'
    )
    assert decoded.extra == Extra("tollhouse", {"newer": msgspec.Raw(b'{"a":1}')})


def test_a_request_of_another_dialect_is_told_so():
    """Its words would go nowhere, and the model would be asked nothing."""
    with pytest.raises(BadRequest, match="here a message has `parts`") as caught:
        typed().decode_request(b'{"model":"m","messages":[{"role":"user","content":"Hello"}]}')
    assert caught.value.param == "messages[0].content"


def test_the_fields_by_which_calls_are_held_cannot_be_said_past_the_protocol():
    """Whatever another dialect reads itself is not among what it keeps for its own kind."""
    from tollhouse.dialects.openai_chat import decode_request as openai

    legitimate = {"tool_choice", "response_format", "stream_options"}
    harmless = {
        "cache_control",
        "function_call",
        "parallel_tool_calls",
        "presence_penalty",
        "frequency_penalty",
        "enable_thinking",
        "thinking_budget",
    }
    assert openai._KNOWN - legitimate - harmless <= HAS_ITS_OWN_FIELD


@pytest.mark.parametrize("name", ["model", "Model", "models", "fallbacks", "MaxOutputTokens", "Best_Of"])
def test_a_kept_field_is_not_known_by_its_case(name: str):
    with pytest.raises(BadRequest, match="the gateway has to know of it"):
        typed().decode_request(body_of(said(extra=Extra("openai_chat", {name: msgspec.Raw(b"1")})), "json"))


# -------------------------------------------------------------------------------------------------------- forwarding


def test_there_is_one_object_for_each_pair_of_forms():
    """Who speaks the same dialect is told by the object, and forwarding hangs on that."""
    assert typed() is typed("json") is typed("json", "json")
    assert typed("protobuf") is typed("protobuf", "protobuf") is not typed("protobuf", "json")


@by_form
def test_a_forwarded_request_is_the_same_for_another_model(form: Form):
    dialect = typed(form)
    request = said(stream=True, temperature=0.5, max_output_tokens=9)
    peek = dialect.peek(body_of(request, form))
    forwarded = dialect.decode_request(dialect.patch(peek, "other", TRAITS, Receipt()))
    assert forwarded == msgspec.structs.replace(request, model="other")
    forwarded = dialect.decode_request(dialect.patch(peek, "other", TRAITS, Receipt(), 5))
    assert forwarded == msgspec.structs.replace(request, model="other", max_output_tokens=5)


def test_a_limit_in_the_other_spelling_is_replaced_too():
    dialect = typed("json")
    peek = dialect.peek(b'{"model":"m","maxOutputTokens":"9","messages":[]}')
    assert peek.max_output_tokens == 9
    assert msgspec.json.decode(dialect.patch(peek, "x", TRAITS, Receipt(), 5)) == {
        "model": "x",
        "messages": [],
        "stream": False,
        "max_output_tokens": 5,
    }


def test_fields_of_a_newer_client_are_forwarded():
    json, binary = typed("json"), typed("protobuf")
    patched = json.patch(json.peek(b'{"model":"m","newer":[1, 2]}'), "x", TRAITS, Receipt())
    assert b'"newer":[1, 2]' in patched
    newer = gateway_pb2.ChatRequest(model="m").SerializeToString() + b"\xa2\x06\x02hi"
    assert b"\xa2\x06\x02hi" in binary.patch(binary.peek(newer), "x", TRAITS, Receipt())


def test_the_method_says_whether_a_forwarded_request_streams():
    """Over gRPC the body need not say it."""
    for form in FORMS:
        dialect = typed(form)
        peek = msgspec.structs.replace(dialect.peek(body_of(said(), form)), stream=True)
        assert dialect.decode_request(dialect.patch(peek, "m", TRAITS, Receipt())).stream


# -------------------------------------------------------------------------------------------------------- settlements

OURS = Settlement(request_id="req_1", outcome="ok", attempts=(Attempted(provider="p", model="m", outcome="ok"),))
THEIRS = Settlement(request_id="req_0", outcome="ok", cost_nano_usd=1, attempts=OURS.attempts * 3)


@by_form
def test_a_settlement_takes_the_place_of_the_one_before(form: Form):
    response = Response(id="a", model="m", choices=(Choice(parts=(Text("settlement"),), finish="stop"),))
    dialect = typed(form)
    body = dialect.encode_response(response, said(), Receipt())
    settled = dialect.settle(RESPONSE, dialect.settle(RESPONSE, body, THEIRS), OURS)
    assert dialect.decode_response(settled, TRAITS) == response
    if form == "protobuf":
        settlement = gateway_pb2.ChatResponse.FromString(settled).settlement
        assert (settlement.request_id, len(settlement.attempts)) == ("req_1", 1)
        assert not settlement.HasField("cost_nano_usd")
    else:
        assert msgspec.json.decode(settled)["settlement"]["request_id"] == "req_1"
        assert settled.count(b'"settlement":') == 1


# ------------------------------------------------------------------------------------------------------------- errors


@by_form
@pytest.mark.parametrize(
    ("error", "status", "wait"),
    [
        (RateLimited("Too many.", retry_after_seconds=1.5), 429, 1.5),
        (ModelNotFound("x", nearest=["y"]), 404, None),
        (ModelNotFound("x", reason="it is gone"), 404, None),
        (BudgetExceeded(budget="b", spent_nano=1, limit_nano=2, resets_in_seconds=60.0), 402, 60.0),
        (ProviderRefused("Wrong.", status=422, kind="invalid", provider_code="bad"), 422, None),
    ],
)
def test_an_error_reaches_the_tollhouse_before_with_what_can_be_done(
    form: Form, error: TollhouseError, status: int, wait: float | None
):
    dialect = typed(form)
    refused = dialect.decode_error(status, dialect.encode_error(error, "req_1"))
    assert (refused.http_status, refused.retry_after_seconds) == (status, wait)
    assert refused.message == error.message
    assert refused.kind == (error.kind if isinstance(error, ProviderRefused) else error.code)


def test_a_providers_names_for_the_gateways_own_credential_are_not_passed_on():
    error = ProviderRefused("No.", status=401, kind="authentication_error", provider_code="invalid_api_key")
    assert b"invalid_api_key" not in typed().encode_error(error, "req_1")


@by_form
@pytest.mark.parametrize("body", [b"", b"<html><title>502 Bad Gateway</title>", b'{"error":{"message":"Down."}}'])
def test_an_error_that_is_not_of_this_protocol_is_understood_all_the_same(form: Form, body: bytes):
    refused = typed(form).decode_error(502, body)
    assert refused.status == 502
    assert refused.message


def test_a_credential_in_a_peers_words_is_masked():
    dialect = typed()
    refused = dialect.decode_error(400, dialect.encode_error(BadRequest("Key sk-abcdefghijklmnop."), ""))
    assert "abcdefghijklmnop" not in refused.message


def test_an_answer_that_is_not_of_this_protocol_is_malformed():
    for form in FORMS:
        with pytest.raises(UpstreamMalformed):
            typed(form).decode_response(b"\xff<html>", TRAITS)


# --------------------------------------------------------------------------------------------------------- embeddings


@by_form
@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (EmbeddingRequest(model="m" * 501, inputs=("a",)), "model"),
        (EmbeddingRequest(model="m", inputs=()), "inputs"),
        (EmbeddingRequest(model="m", inputs=("a", "")), "inputs[1]"),
        (EmbeddingRequest(model="m", inputs=("a", ())), "inputs[1]"),
        (EmbeddingRequest(model="m", inputs=("a",), dimensions=0), "dimensions"),
    ],
)
def test_a_call_for_vectors_that_is_not_right_is_refused_by_its_field(
    form: Form, request_: EmbeddingRequest, param: str
):
    wire = typed(form).embeddings
    with pytest.raises(BadRequest) as caught:
        wire.decode_request(wire.encode_request(request_, Receipt()))
    assert caught.value.param == param


def test_a_text_may_stand_for_itself_in_json():
    assert typed().embeddings.decode_request(b'{"model":"m","inputs":["a",{"tokens":{"ids":[1,2]}}]}').inputs == (
        "a",
        (1, 2),
    )
