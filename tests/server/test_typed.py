"""The typed protocol over HTTP, in both of its forms, against a client made from the generated code."""

import asyncio
import base64

import msgspec
import pytest
from google.protobuf import json_format

from support.clients import settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Call, Cut, ErrorAfter, Failure, faulty
from support.serving import KEY, Serving
from support.typed_client import FORMS, MEDIA_TYPES, STREAMS, Form, ask, question
from tollhouse.proto.v1 import gateway_pb2 as wire

pytestmark = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""

by_form = pytest.mark.parametrize("form", FORMS)
BOTH_WAYS = [(request, answer) for request in FORMS for answer in FORMS]


# ------------------------------------------------------------------------------------------------------------ answers


@pytest.mark.parametrize(("form", "answer"), BOTH_WAYS)
async def test_an_answer_comes_in_the_form_that_is_asked_for_with_what_it_cost(
    serving: Serving, fake_provider: FakeProvider, form: Form, answer: Form
):
    gateway = await serving(settings(fake_provider))
    fake_provider.reply(Answer(text="A tollhouse."))
    reply = await ask(gateway, question(), form, answer=answer)
    assert (reply.status, reply.headers["content-type"]) == (200, MEDIA_TYPES[answer])
    (choice,) = reply.response.choices
    assert [part.text.text for part in choice.parts] == ["A tollhouse."]
    assert choice.finish == wire.Choice.STOP
    (row,) = gateway.rows()
    settlement = reply.response.settlement
    assert settlement.request_id == row["id"] == reply.headers["x-request-id"]
    assert (row["door"], row["lane"]) == ("tollhouse", "translated")
    assert settlement.cost_nano_usd == row["cost_nano"] > 0
    assert settlement.usage.output_tokens == row["output_tokens"] > 0
    assert settlement.usage.source == wire.Usage.REPORTED
    assert (settlement.outcome, settlement.provider) == ("ok", "openai")
    assert [(one.provider, one.outcome, one.status) for one in settlement.attempts] == [("openai", "ok", 200)]
    assert 0 < settlement.first_byte_us <= settlement.duration_us


@pytest.mark.parametrize("model", ["to-openai", "to-anthropic"])
@pytest.mark.parametrize(("form", "answer"), BOTH_WAYS)
async def test_a_stream_ends_with_its_settlement(
    serving: Serving, fake_provider: FakeProvider, form: Form, answer: Form, model: str
):
    gateway = await serving(settings(fake_provider))
    fake_provider.reply(Answer(thinking="Hm. ", text="A toll house stood there."))
    reply = await ask(gateway, question(model, stream=True), form, answer=answer)
    assert (reply.status, reply.headers["content-type"]) == (200, STREAMS[answer])
    streamed = reply.streamed
    assert streamed.text.endswith("A toll house stood there.")
    kinds = [kind for kind in streamed.kinds if kind not in {"usage", "signed", "ping"}]
    assert kinds[0] == "started"
    assert kinds[-3:] == ["finished", "ended", "settled"]
    (row,) = gateway.rows()
    assert streamed.settlement.request_id == row["id"]
    assert streamed.settlement.cost_nano_usd == row["cost_nano"] > 0


@by_form
async def test_everything_of_a_conversation_reaches_the_provider(
    serving: Serving, fake_provider: FakeProvider, form: Form
):
    gateway = await serving(settings(fake_provider))
    fake_provider.reply(Answer(text="Now?", calls=(Call("add", '{"a": 1}'),)))
    png = b"\x89PNG and so on"
    request = question(
        messages=[
            {"role": "SYSTEM", "parts": [{"text": {"text": "Be brief."}}]},
            {
                "role": "USER",
                "parts": [
                    {"text": {"text": "Add."}},
                    {"image": {"source": {"inline": {"media_type": "image/png", "data": png}}, "detail": "low"}},
                ],
            },
            {"role": "ASSISTANT", "parts": [{"tool_call": {"id": "c1", "name": "add", "arguments": '{"a":0}'}}]},
            {"role": "TOOL", "parts": [{"tool_result": {"call_id": "c1", "content": [{"text": {"text": "0"}}]}}]},
        ],
        tools=[{"function": {"name": "add", "schema": '{"type":"object"}'}}],
        tool_choice={"mode": "REQUIRED"},
        max_output_tokens=50,
        temperature=0.5,
        stop=["END"],
        response_format={"json_schema": {"schema": '{"type":"object"}', "name": "sum"}},
    )
    reply = await ask(gateway, request, form)
    sent = (await fake_provider.call(0)).json
    roles = [message["role"] for message in sent["messages"]]
    assert roles == ["system", "user", "assistant", "tool"]
    image = sent["messages"][1]["content"][1]["image_url"]
    assert image == {"url": f"data:image/png;base64,{base64.b64encode(png).decode()}", "detail": "low"}
    assert sent["messages"][2]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a":0}'}
    assert sent["messages"][3] == {"role": "tool", "tool_call_id": "c1", "content": "0"}
    assert sent["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert (sent["tool_choice"], sent["temperature"], sent["stop"]) == ("required", 0.5, ["END"])
    assert sent["response_format"]["json_schema"] == {"name": "sum", "schema": {"type": "object"}}
    (choice,) = reply.response.choices
    assert choice.finish == wire.Choice.TOOL_CALLS
    assert [part.WhichOneof("part") for part in choice.parts] == ["text", "tool_call"]
    assert choice.parts[1].tool_call.arguments == '{"a": 1}'


@by_form
async def test_what_a_translation_loses_stands_in_the_settlement(
    serving: Serving, fake_provider: FakeProvider, form: Form
):
    gateway = await serving(settings(fake_provider))
    reply = await ask(gateway, question("to-anthropic", seed=7), form)
    assert "seed" in reply.response.settlement.receipt


async def test_json_that_nobody_knows_is_told_of_and_not_refused(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    body = msgspec.json.decode(json_format.MessageToJson(question()))
    got = await gateway.ask("/v1/chat", {**body, "temprature": 0.1})
    assert "temprature" in got.json()["settlement"]["receipt"]


# ------------------------------------------------------------------------------------------------------------- errors


@by_form
@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_model_is_an_error_with_the_nearest(
    serving: Serving, fake_provider: FakeProvider, form: Form, stream: bool
):
    gateway = await serving(settings(fake_provider))
    reply = await ask(gateway, question("to-opnai", stream=stream), form)
    error = reply.failure.error
    assert (reply.status, error.status, error.code, error.param) == (404, 404, "model_not_found", "model")
    assert "to-openai" in error.suggestions
    assert error.hint
    assert error.request_id == reply.headers["x-request-id"]
    assert reply.headers["content-type"] == MEDIA_TYPES[form]


@by_form
async def test_a_providers_refusal_keeps_its_status_and_says_when_to_retry(
    serving: Serving, fake_provider: FakeProvider, form: Form
):
    gateway = await serving(settings(fake_provider) + "\nretry: {max_attempts: 1}")
    fake_provider.reply(Failure(status=429, retry_after="7"))
    reply = await ask(gateway, question(), form)
    failure = reply.failure
    assert (reply.status, failure.error.code, failure.error.retry_after_seconds) == (429, "provider_refused", 7.0)
    assert reply.headers["retry-after"] == "7"
    assert [(one.outcome, one.status) for one in failure.settlement.attempts] == [("provider_refused", 429)]


@by_form
@pytest.mark.parametrize("fault", [Cut(2), ErrorAfter(2, Failure(status=500))], ids=["cut", "error in the stream"])
async def test_a_broken_stream_says_so_and_what_it_cost(
    serving: Serving, fake_provider: FakeProvider, form: Form, fault: Cut | ErrorAfter
):
    gateway = await serving(settings(fake_provider))
    fake_provider.reply(faulty(Answer(text="one two three four five six"), fault))
    streamed = (await ask(gateway, question(stream=True), form)).streamed
    assert streamed.kinds[-2:] == ["failed", "settled"]
    assert "ended" not in streamed.kinds
    (row,) = gateway.rows()
    assert streamed.events[-2].failed.code == streamed.settlement.outcome == row["outcome"]
    assert streamed.settlement.usage.source == wire.Usage.REBUILT


@by_form
async def test_a_wrong_key_is_told_in_the_form_of_the_call(serving: Serving, fake_provider: FakeProvider, form: Form):
    gateway = await serving(settings(fake_provider))
    headers = [(b"authorization", b"Bearer th-no"), (b"content-type", MEDIA_TYPES[form].encode())]
    got = await gateway.ask("/v1/chat", b"", headers=headers)
    assert (got.status, got.headers["content-type"]) == (401, MEDIA_TYPES[form])


@by_form
async def test_what_is_not_a_message_is_refused(serving: Serving, fake_provider: FakeProvider, form: Form):
    gateway = await serving(settings(fake_provider))
    headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"content-type", MEDIA_TYPES[form].encode())]
    got = await gateway.ask("/v1/chat", b"\xff\xff", headers=headers)
    assert got.status == 400


async def test_a_form_that_is_not_read_is_415_with_those_that_are(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"content-type", b"text/yaml")]
    got = await gateway.ask("/v1/chat", b"model: x", headers=headers)
    assert got.status == 415
    assert got.json()["error"]["suggestions"] == ["application/json", "application/x-protobuf"]


async def test_a_form_that_is_not_spoken_is_406_with_those_that_are(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    reply = await ask(gateway, question(), "json", accept="text/html")
    assert (reply.status, reply.failure.error.code) == (406, "not_acceptable")
    assert list(reply.failure.error.suggestions) == ["application/json", "application/x-protobuf"]


@pytest.mark.parametrize("name", ["n", "model", "max_tokens", "service_tier"])
async def test_what_has_a_field_of_its_own_cannot_be_said_past_it(
    serving: Serving, fake_provider: FakeProvider, name: str
):
    """Else a client could ask for a hundred answers and have one held, or for a model that its key may not use."""
    gateway = await serving(settings(fake_provider))
    reply = await ask(gateway, question(extra={"dialect": "openai_chat", "fields": {name: "100"}}))
    assert (reply.status, reply.failure.error.param) == (400, f"extra.fields.{name}")
    assert not fake_provider.calls


async def test_raw_json_cannot_break_out_of_its_place(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    schema = '{"type":"object"}},{"type":"x","y":{}'
    reply = await ask(gateway, question(tools=[{"function": {"name": "f", "schema": schema}}]))
    assert (reply.status, reply.failure.error.param) == (400, "tools[0].function.schema")
    assert not fake_provider.calls


# ------------------------------------------------------------------------------------------------------ other methods


@by_form
async def test_a_prompt_is_counted(serving: Serving, fake_provider: FakeProvider, form: Form):
    gateway = await serving(settings(fake_provider))
    reply = await ask(gateway, question(), form, path="/v1/chat/count_tokens")
    count = reply.as_(wire.TokenCount)
    assert count.is_estimate
    assert 3 <= count.input_tokens <= 30


@pytest.mark.parametrize(("form", "answer"), BOTH_WAYS)
async def test_texts_become_vectors(serving: Serving, fake_provider: FakeProvider, form: Form, answer: Form):
    gateway = await serving(settings(fake_provider))
    request = wire.EmbedRequest(model="openai/text-embedding-3-small", dimensions=4)
    request.inputs.add().text = "one two"
    request.inputs.add().text = "three"
    reply = await ask(gateway, request, form, answer=answer, path="/v1/embed")
    made = reply.as_(wire.EmbedResponse)
    assert [vector.values[0] for vector in made.vectors] == [7.0, 5.0]
    (row,) = gateway.rows()
    assert row["door"] == "tollhouse_embeddings"
    assert (made.settlement.request_id, made.settlement.cost_nano_usd) == (row["id"], row["cost_nano"])


@by_form
async def test_the_server_says_who_it_is_and_what_it_takes(serving: Serving, fake_provider: FakeProvider, form: Form):
    gateway = await serving(settings(fake_provider))
    headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"accept", MEDIA_TYPES[form].encode())]
    got = await gateway.get("/v1/server", headers=headers)
    info = json_format.Parse(got.body, wire.ServerInfo()) if form == "json" else wire.ServerInfo.FromString(got.body)
    assert (info.name, list(info.protocols), info.key) == ("tollhouse", ["v1"], "test")
    assert "to-openai" in [model.id for model in info.models]
    assert info.limits.request_bytes > 1_000_000
    assert (await gateway.get("/v1/server", headers=[])).status == 401


async def test_models_are_listed_in_protobuf_where_that_is_asked_for(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    bearer = (b"authorization", b"Bearer " + KEY.encode())
    got = await gateway.get("/v1/models", headers=[bearer, (b"accept", b"application/x-protobuf")])
    assert "to-openai" in [model.id for model in wire.ListModelsResponse.FromString(got.body).models]
    assert "data" in (await gateway.get("/v1/models", headers=[bearer, (b"accept", b"*/*")])).json()


# -------------------------------------------------------------------------------------------------------------- shared


async def test_callers_in_different_forms_share_a_kept_answer_each_in_its_own(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider) + "\ncache: {responses: {ttl: 10m}}")
    first = await ask(gateway, question(temperature=0), "protobuf")
    second = await ask(gateway, question(temperature=0), "json")
    streamed = await ask(gateway, question(temperature=0, stream=True), "protobuf")
    assert first.response.choices[0].parts == second.response.choices[0].parts
    assert second.response.settlement.cache == streamed.streamed.settlement.cache == "hit"
    assert (second.response.settlement.cost_nano_usd, len(fake_provider.calls)) == (0, 1)
    assert streamed.streamed.text == second.response.choices[0].parts[0].text.text


async def test_callers_that_share_a_call_under_way_have_settlements_of_their_own(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider) + "\ncache: {coalesce: true}")
    replies = await asyncio.gather(*(ask(gateway, question(temperature=0)) for _ in range(3)))
    settlements = [reply.response.settlement for reply in replies]
    assert len({settlement.request_id for settlement in settlements}) == 3
    assert sum(settlement.cost_nano_usd > 0 for settlement in settlements) == len(fake_provider.calls)
