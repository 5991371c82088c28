"""The Responses API as OpenAI's own SDK uses it: over providers of each dialect, and going on from answers that were kept."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import openai
import pytest
import pytest_asyncio
from openai.types.responses import Response

from support import grammar_responses
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Call, Cut, ErrorAfter, Failure, Stall, faulty, words
from support.fake_responses import ENCRYPTED
from support.serving import KEY, Running, start
from tollhouse.server.http1.listener import Http1Listener

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHERS_KEY: Final = "th-test-key-of-another-tenant"
CONFIGURATION: Final = """
providers:
  openai: {{base_url: '{openai}', api_key: x, models: [gpt-5.2, gpt-5-codex, gpt-4o, {{name: chatty, api: chat}}]}}
  anthropic: {{base_url: '{anthropic}', api_key: x}}
  lab: {{type: openai-compatible, base_url: '{lab}', api_key: x}}
  xai: {{base_url: '{xai}', api_key: x, models: [{{name: grok-4, api: responses}}]}}
models:
  gpt: openai/gpt-5.2
  codex: openai/gpt-5-codex
  claude: anthropic/claude
  lab: lab/small
  chatty: openai/chatty
  grok: xai/grok-4
auth: {{keys: [{{name: test, key: {key}, tenant: ours}}, {{name: other, key: {other}, tenant: theirs}}]}}
retry: {{max_attempts: 1}}
"""
MODELS: Final = ["gpt", "claude", "lab"]
by_model = pytest.mark.parametrize("model", MODELS)
by_stream = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

TOOL: Final[Any] = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "strict": False,
}


@dataclass
class Stage:
    """The gateway, its providers, and the SDK at it with the keys of two tenants."""

    fake: FakeProvider
    gateway: Running
    ours: openai.AsyncOpenAI
    theirs: openai.AsyncOpenAI

    async def answer(self, model: str, *, stream: bool, **fields: Any) -> Response:
        """The whole answer, as the SDK has it in the end."""
        if not stream:
            whole: Response = await self.ours.responses.create(model=model, **fields)
            return whole
        async with self.ours.responses.stream(model=model, **fields) as events:
            async for _ in events:
                pass
            return await events.get_final_response()

    async def raw(self, **body: Any) -> bytes:
        """The bytes of a stream."""
        answer = await self.gateway.ask("/v1/responses", {"stream": True, **body})
        assert answer.status == 200, answer.body
        return answer.body

    def sent(self, number: int = -1) -> Any:
        """The body that a provider got."""
        return self.fake.calls[number].json


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeProvider())
        text = CONFIGURATION.format(
            openai=fake.base_url("openai"),
            anthropic=fake.base_url("anthropic"),
            lab=fake.base_url("compatible"),
            xai=fake.base_url("xai"),
            key=KEY,
            other=OTHERS_KEY,
        )
        gateway = await start(text, tmp_path_factory.mktemp("responses"), Http1Listener)
        stack.push_async_callback(gateway.close)
        pool = await stack.enter_async_context(httpx2.AsyncClient(verify=False))

        def sdk(key: str) -> openai.AsyncOpenAI:
            return openai.AsyncOpenAI(api_key=key, base_url=f"{gateway.url}/v1", max_retries=0, http_client=pool)

        yield Stage(fake, gateway, sdk(KEY), sdk(OTHERS_KEY))


@pytest.fixture
def stage(running: Stage) -> Stage:
    """The one gateway of this module, its provider's memory emptied."""
    running.fake.calls.clear()
    running.fake.other_calls.clear()
    running.fake.default = Answer(text=words(8))
    return running


def naming(item_id: str | None) -> Any:
    return [{"type": "item_reference", "id": item_id}]


def said(response: Response) -> list[tuple[str, str]]:
    """What an answer holds, by kind, without ids."""
    found: list[tuple[str, str]] = []
    for item in response.output:
        match item.type:
            case "message":
                found += [
                    (part.type, part.text if part.type == "output_text" else part.refusal) for part in item.content
                ]
            case "reasoning":
                found.append(("reasoning", "".join(part.text for part in item.summary)))
            case "function_call":
                found.append((item.name, json.dumps(json.loads(item.arguments))))
            case "custom_tool_call":
                found.append((item.name, item.input))
            case kind:
                found.append((kind, ""))
    return found


# ------------------------------------------------------------------------------------------------------------- answers


@by_model
@by_stream
async def test_words_arrive_with_their_counts(stage: Stage, model: str, stream: bool):
    response = await stage.answer(model, stream=stream, input="Where?", instructions="Be terse.", metadata={"a": "b"})

    assert response.output_text == words(8)
    assert response.status == "completed"
    assert response.id.startswith("resp_")
    assert response.instructions == "Be terse."
    assert response.metadata == {"a": "b"}
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (10, 8)
    row = stage.gateway.rows()[-1]
    assert (row["door"], row["lane"]) == ("openai_responses", "same" if model == "gpt" else "translated")
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (10, 8, "reported")


@by_model
@by_stream
async def test_calls_arrive_beside_words(stage: Stage, model: str, stream: bool):
    stage.fake.default = Answer(text="Adding.", calls=(Call("add", '{"a":1}'), Call("add", '{"a":2}')))
    response = await stage.answer(model, stream=stream, input="Add.", tools=[TOOL])

    assert said(response) == [("output_text", "Adding."), ("add", '{"a": 1}'), ("add", '{"a": 2}')]
    ids = [item.call_id for item in response.output if item.type == "function_call"]
    assert len(set(ids)) == 2


@by_stream
async def test_anthropic_s_thinking_comes_and_goes_back_with_its_signature(stage: Stage, stream: bool):
    stage.fake.default = Answer(thinking="Let me see.", text="Two.", calls=(Call("add", '{"a":1}'),))
    first = await stage.answer("claude", stream=stream, input="Add.", tools=[TOOL], reasoning={"effort": "low"})
    assert said(first)[0] == ("reasoning", "Let me see.")
    call = first.output[-1]
    assert call.type == "function_call"

    items: Any = [{"role": "user", "content": "Add."}, *[item.model_dump(exclude_none=True) for item in first.output]]
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": "2"})
    await stage.answer("claude", stream=stream, input=items, tools=[TOOL], reasoning={"effort": "low"})

    assistant = stage.sent()["messages"][1]
    assert [block["type"] for block in assistant["content"]] == ["thinking", "text", "tool_use"]
    assert assistant["content"][0]["thinking"] == "Let me see."
    assert assistant["content"][0]["signature"], "as Anthropic signed it"
    assert "tollhouse-sealed" not in assistant["content"][0]["signature"]
    assert stage.sent()["messages"][2]["content"][0]["tool_use_id"] == call.call_id


@by_model
async def test_streams_keep_their_grammar(stage: Stage, model: str):
    for answer in (
        Answer(text=words(5)),
        Answer(thinking="Hm. Well.", text="So.", calls=(Call("add", '{"a":1}'), Call("add"))),
        Answer(refusal="I would rather not."),
        Answer(text="Cut", finish="length"),
        Answer(calls=(Call("add", '{"a'),), finish="length"),
    ):
        if model == "claude" and answer.calls and answer.finish:
            continue  # the fake of Anthropic needs whole arguments
        stage.fake.default = answer
        body = await stage.raw(model=model, input="Go.", tools=[TOOL], reasoning={"effort": "low", "summary": "auto"})
        last = grammar_responses.check(body)
        assert last["status"] == ("incomplete" if answer.finish == "length" else "completed")


@by_model
async def test_an_answer_cut_by_its_limit_says_so(stage: Stage, model: str):
    stage.fake.default = Answer(text="Cut", finish="length")
    response = await stage.answer(model, stream=False, input="Go.", max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"

    events = [event async for event in await stage.ours.responses.create(model=model, input="Go.", stream=True)]
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.output_text == "Cut"


@by_model
@by_stream
async def test_a_schema_reaches_the_provider(stage: Stage, model: str, stream: bool):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    stage.fake.default = Answer(text='{"a":1}')
    form: Any = {"format": {"type": "json_schema", "name": "one", "schema": schema, "strict": True}}
    response = await stage.answer(model, stream=stream, input="Go.", text=form)

    assert json.loads(response.output_text) == {"a": 1}
    assert json.dumps(schema, separators=(",", ":")).encode() in stage.fake.calls[-1].body.replace(b": ", b":")


async def test_tools_as_codex_sends_them_come_back_as_it_knows_them(stage: Stage):
    """A namespace, a free-form tool, and two that no provider but OpenAI has."""
    tools: Any = [
        {"type": "namespace", "name": "crm", "description": "Customers", "tools": [TOOL]},
        {"type": "custom", "name": "apply_patch", "description": "Edits", "format": {"type": "text"}},
        {"type": "tool_search"},
        {"type": "web_search"},
    ]
    patch = '*** Begin Patch\n"quoted"\n*** End Patch'
    stage.fake.default = Answer(
        calls=(Call("crm__add", '{"a":1}'), Call("apply_patch", json.dumps({"input": patch}))),
    )
    body = await stage.raw(model="claude", input="Go.", tools=tools)
    last = grammar_responses.check(body)

    assert [tool["name"] for tool in stage.sent()["tools"]] == ["crm__add", "apply_patch"]
    call, edit = last["output"]
    assert (call["type"], call["namespace"], call["name"]) == ("function_call", "crm", "add")
    assert (edit["type"], edit["name"], edit["input"]) == ("custom_tool_call", "apply_patch", patch)
    assert last["tools"] == tools

    items: Any = [{"role": "user", "content": "Go."}, call, edit]
    items.append({"type": "function_call_output", "call_id": call["call_id"], "output": "1"})
    items.append({"type": "custom_tool_call_output", "call_id": edit["call_id"], "output": "Done"})
    stage.fake.default = Answer(text="Well.")
    await stage.raw(model="claude", input=items, tools=tools)
    used = stage.sent()["messages"][1]["content"]
    assert [block["name"] for block in used] == ["crm__add", "apply_patch"]
    assert used[1]["input"] == {"input": patch}


# -------------------------------------------------------------------------------------------------------------- errors


@by_model
@by_stream
async def test_a_provider_s_refusal_is_the_sdk_s_error(stage: Stage, model: str, stream: bool):
    stage.fake.default = Failure(status=400, message="That is too much.")
    with pytest.raises(openai.BadRequestError, match="too much"):
        await stage.answer(model, stream=stream, input="Go.")


@pytest.mark.parametrize("model", ["claude", "lab"])
async def test_an_error_in_the_middle_ends_the_stream_by_the_grammar(stage: Stage, model: str):
    stage.fake.default = faulty(Answer(text=words(8)), ErrorAfter(5, Failure(status=500, message="Gave up.")))
    last = grammar_responses.check(await stage.raw(model=model, input="Go."), fails=True)
    assert last["error"]["message"] == "Gave up."


@pytest.mark.parametrize("model", ["codex", "grok", "claude", "lab"])
@pytest.mark.parametrize("at", [7, 9])
async def test_a_cut_in_the_middle_ends_the_stream_by_the_grammar(stage: Stage, model: str, at: int):
    """The numbers go on, the id stays, and what was finished is repeated: forwarded or translated."""
    stage.fake.default = faulty(Answer(thinking="Hm.", text=words(8)), Cut(at))
    body = await stage.raw(model=model, input="Go.")
    last = grammar_responses.check(body, fails=True)
    announced = grammar_responses.events(body)[0]["response"]
    assert {**last, "status": "", "error": None, "output": []} == {**announced, "status": "", "error": None}
    assert "in the middle of the body" in last["error"]["message"]


async def test_a_gateway_that_stops_ends_the_stream_by_the_grammar(stage: Stage):
    stage.fake.default = faulty(Answer(text=words(8)), Stall(6))
    incoming = await stage.gateway.open("/v1/responses", {"model": "codex", "stream": True, "input": "Go."})
    begun = await incoming.read_some()
    stage.gateway.worker.running.cut()
    last = grammar_responses.check(begun + await incoming.read_all(1_000_000), fails=True)
    assert last["status"] == "failed"


@by_model
@pytest.mark.parametrize(
    "fault", [ErrorAfter(6, Failure(status=500, message="Gave up.")), Cut(6)], ids=["error", "cut"]
)
async def test_the_sdk_raises_at_a_stream_that_breaks(stage: Stage, model: str, fault: Any):
    stage.fake.default = faulty(Answer(text=words(8)), fault)
    with pytest.raises(openai.APIError):
        await stage.answer(model, stream=True, input="Go.")


async def test_what_is_wrong_with_a_request_is_named(stage: Stage):
    for fields, param in (
        ({"input": None}, "input"),
        ({"input": [{"type": "message"}]}, "input[0].role"),
        ({"input": "x", "conversation": "conv_1"}, "conversation"),
        ({"input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
    ):
        answer = await stage.gateway.ask("/v1/responses", {"model": "claude", **fields})
        assert answer.status == 400
        assert answer.json()["error"]["param"] == param
    answer = await stage.gateway.ask("/v1/responses", {"model": "gpt", "input": "x", "conversation": "conv_1"})
    assert answer.status == 400


async def test_compaction_is_refused_with_what_to_do_instead(stage: Stage):
    for path in ("/v1/responses/compact", "/openai/v1/responses/compact"):
        answer = await stage.gateway.ask(path, {"model": "gpt", "input": "x"})
        assert answer.status == 404
        assert "tollhouse setup codex" in answer.json()["error"]["message"]
    with pytest.raises(openai.NotFoundError, match="not compacted"):
        await stage.ours.responses.compact(model="gpt", input="x")
    assert (await stage.gateway.ask("/v1/responses/compact", {}, headers=[])).status == 401
    assert not stage.fake.calls


@by_model
async def test_the_sdk_that_waits_for_the_background_has_its_answer_at_once(stage: Stage, model: str):
    """It polls while the status is `queued` or `in_progress`, and finds the answer kept."""
    stage.fake.default = Answer(text="Done.")
    given = await stage.ours.responses.create(model=model, input="Go.", background=True)
    assert (given.status, given.output_text, given.background) == ("completed", "Done.", False)
    assert "background" not in stage.sent()
    assert (await stage.ours.responses.retrieve(given.id)).output_text == "Done."
    with pytest.raises(openai.BadRequestError, match="none does here"):
        await stage.ours.responses.cancel(given.id)


async def test_a_websocket_is_refused_at_once(stage: Stage):
    upgrade = [
        (b"authorization", b"Bearer " + KEY.encode()),
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        (b"openai-beta", b"responses_websockets=2026-02-06"),
    ]
    answer = await stage.gateway.get("/v1/responses", headers=upgrade)
    assert answer.status == 426
    assert (await stage.gateway.get("/v1/responses")).status == 405


# ------------------------------------------------------------------------------------------------ the provider's side


@by_stream
async def test_a_model_without_a_chat_endpoint_is_asked_by_responses(stage: Stage, stream: bool):
    """The caller speaks Chat Completions, and sees nothing of it."""
    stage.fake.default = Answer(thinking="Hm.", text="Adding.", calls=(Call("add", '{"a":1}'),))
    tools: Any = [{"type": "function", "function": {"name": "add", "parameters": TOOL["parameters"]}}]
    messages: Any = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Add."}]
    answer = await stage.gateway.ask(
        "/v1/chat/completions", {"model": "codex", "messages": messages, "tools": tools, "stream": stream}
    )
    assert answer.status == 200
    assert b"Adding." in answer.body
    assert b"tool_calls" in answer.body
    assert stage.fake.calls[-1].path == "/v1/responses"
    sent = stage.sent()
    assert [item["role"] for item in sent["input"]] == ["system", "user"]
    assert sent["store"] is False
    assert sent["include"] == ["reasoning.encrypted_content"]
    assert ENCRYPTED.encode() in answer.body, "sealed, for the client to send back"


async def test_encrypted_reasoning_finds_its_way_home_through_chat(stage: Stage):
    stage.fake.default = Answer(thinking="Hm.", calls=(Call("add", '{"a":1}'),))
    tools: Any = [{"type": "function", "function": {"name": "add", "parameters": TOOL["parameters"]}}]
    messages: list[Any] = [{"role": "user", "content": "Add."}]
    body: Any = {"model": "codex", "messages": messages, "tools": tools}
    answer = (await stage.gateway.ask("/v1/chat/completions", body)).json()
    message = answer["choices"][0]["message"]
    messages += [message, {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "2"}]
    await stage.gateway.ask("/v1/chat/completions", body)

    items = stage.sent()["input"]
    assert [item["type"] for item in items] == ["message", "reasoning", "function_call", "function_call_output"]
    assert items[1]["encrypted_content"] == ENCRYPTED


async def test_what_another_provider_encrypts_is_not_taken_for_openai_s(stage: Stage):
    stage.fake.default = Answer(thinking="Hm.", text="So.")
    given = await stage.answer("grok", stream=True, input="First?", include=["reasoning.encrypted_content"])
    assert stage.fake.calls[-1].path == "/v1/responses"
    assert stage.gateway.rows()[-1]["lane"] == "translated"
    thought = given.output[0]
    assert thought.type == "reasoning"
    assert thought.encrypted_content == f"tollhouse-sealed.xai.{ENCRYPTED}"

    await stage.answer("gpt", stream=False, input="Second?", previous_response_id=given.id)
    assert ENCRYPTED not in json.dumps(stage.sent())
    await stage.answer("grok", stream=False, input="Second?", previous_response_id=given.id)
    assert stage.sent()["input"][1]["encrypted_content"] == ENCRYPTED


async def test_each_model_is_asked_as_its_client_speaks_where_it_can(stage: Stage):
    chat = {"messages": [{"role": "user", "content": "Go."}]}
    for path, model, fields, asked in (
        ("/v1/responses", "gpt", {"input": "Go."}, "/v1/responses"),
        ("/v1/chat/completions", "gpt", chat, "/v1/chat/completions"),
        ("/v1/messages", "gpt", {**chat, "max_tokens": 9}, "/v1/chat/completions"),
        ("/v1/messages", "codex", {**chat, "max_tokens": 9}, "/v1/responses"),
        ("/v1/responses", "chatty", {"input": "Go."}, "/v1/chat/completions"),
        ("/v1/responses", "lab", {"input": "Go."}, "/v1/chat/completions"),
        ("/v1/chat/completions", "grok", chat, "/v1/responses"),
    ):
        answer = await stage.gateway.ask(path, {"model": model, **fields})
        assert answer.status == 200, answer.body
        assert stage.fake.calls[-1].path == asked, (path, model)


async def test_prompts_are_counted(stage: Stage):
    counted = await stage.ours.responses.input_tokens.count(model="gpt", input="How long is this?")
    assert counted.input_tokens == 10
    asked = stage.fake.other_calls[-1]
    assert asked.path == "/v1/responses/input_tokens"
    assert asked.json == {"model": "gpt-5.2", "input": "How long is this?"}

    answer = await stage.gateway.ask("/v1/responses/input_tokens", {"model": "lab", "input": "How long is this?"})
    assert answer.headers["x-tollhouse-count"] == "estimated"
    assert answer.json()["object"] == "response.input_tokens"
    assert answer.json()["input_tokens"] > 0


# -------------------------------------------------------------------------------------------------------- kept answers


@by_model
@by_stream
async def test_a_kept_answer_is_shown_again_as_it_was(stage: Stage, model: str, stream: bool):
    given = await stage.answer(model, stream=stream, input=f"Where, {model} {stream}?")
    shown = await stage.ours.responses.retrieve(given.id)

    assert shown.output_text == given.output_text
    assert shown.id == given.id
    page = await stage.ours.responses.input_items.list(given.id)
    (item,) = page.data
    assert item.type == "message"
    assert f"Where, {model} {stream}?" in json.dumps(item.model_dump())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_conversation_goes_on_with_another_provider_each_time(stage: Stage, stream: bool):
    stage.fake.default = Answer(thinking="Hm.", text="One.", calls=(Call("add", '{"a":1}'),))
    first = await stage.answer("claude", stream=stream, input="First?", tools=[TOOL], instructions="Only now.")
    call = first.output[-1]
    assert call.type == "function_call"

    stage.fake.default = Answer(text="Two.")
    output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "2"}]
    second = await stage.answer("lab", stream=stream, input=output, previous_response_id=first.id)
    assert second.previous_response_id == first.id
    messages = stage.sent()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"], (
        "instructions are not carried over"
    )
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"] == call.call_id

    stage.fake.default = Answer(text="Three.")
    third = await stage.answer("gpt", stream=stream, input="Third?", previous_response_id=second.id)
    sent = stage.sent()
    assert "previous_response_id" not in sent, "it would mean something else to the provider, or another's conversation"
    assert [item.get("type", "message") for item in sent["input"]] == [
        "message",
        "message",
        "function_call",
        "function_call_output",
        "message",
        "message",
    ], "what Anthropic thought stays with Anthropic"
    assert not any(item.get("id", "").endswith(third.id[-8:]) for item in sent["input"])

    again = await stage.answer("claude", stream=stream, input="And?", previous_response_id=third.id)
    texts = json.dumps(stage.sent()["messages"])
    for word in ("First?", "Hm.", "One.", "Two.", "Third?", "Three.", "And?"):
        assert word in texts, word
    shown = await stage.ours.responses.retrieve(again.id)
    assert shown.previous_response_id == third.id


async def test_a_branch_may_be_taken_from_any_answer(stage: Stage):
    first = await stage.answer("lab", stream=False, input="First?")
    for name in ("left", "right"):
        await stage.answer("lab", stream=False, input=name, previous_response_id=first.id)
        assert [message["content"] for message in stage.sent()["messages"]] == ["First?", words(8), name]


async def test_an_item_may_be_named_by_its_id(stage: Stage):
    """As Vercel's SDK sends what it has seen before."""
    first = await stage.answer("gpt", stream=True, input="First?")
    items: Any = [
        {"role": "user", "content": "First?"},
        {"type": "item_reference", "id": first.output[0].id},
        {"role": "user", "content": "Second?"},
    ]
    second = await stage.ours.responses.create(model="claude", input=items)
    assert [message["role"] for message in stage.sent()["messages"]] == ["user", "assistant", "user"]
    assert words(8) in json.dumps(stage.sent()["messages"][1], ensure_ascii=False)

    with pytest.raises(openai.NotFoundError, match=r"Item with id 'msg_nowhere' not found"):
        await stage.ours.responses.create(model="claude", input=naming("msg_nowhere"))
    third = await stage.ours.responses.create(model="lab", input="Third?", previous_response_id=second.id)
    assert third.output_text
    assert words(8) in json.dumps(stage.sent()["messages"], ensure_ascii=False), "kept as the item, not as its name"


async def test_another_tenant_s_answer_is_not_there(stage: Stage):
    given = await stage.answer("gpt", stream=False, input="Secret?")
    with pytest.raises(openai.NotFoundError):
        await stage.theirs.responses.retrieve(given.id)
    with pytest.raises(openai.NotFoundError):
        await stage.theirs.responses.input_items.list(given.id)
    with pytest.raises(openai.NotFoundError):
        await stage.theirs.responses.delete(given.id)
    with pytest.raises(openai.NotFoundError) as caught:
        await stage.theirs.responses.create(model="gpt", input="And?", previous_response_id=given.id)
    assert caught.value.code == "response_not_found"
    assert caught.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):
        await stage.theirs.responses.create(model="gpt", input=naming(given.output[0].id))
    assert len(stage.fake.calls) == 1, "nothing of it reached a provider"
    assert (await stage.ours.responses.retrieve(given.id)).id == given.id


async def test_a_stranger_is_told_nothing(stage: Stage):
    given = await stage.answer("gpt", stream=False, input="Secret?")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")):
        answer = await stage.gateway.ask(f"/v1/responses/{given.id}{path}", method=method, headers=[])
        assert answer.status == 401


@by_model
@by_stream
async def test_what_shall_not_be_kept_is_not(stage: Stage, model: str, stream: bool):
    given = await stage.answer(model, stream=stream, input="Secret?", store=False)
    with pytest.raises(openai.NotFoundError):
        await stage.ours.responses.retrieve(given.id)


@pytest.mark.parametrize("name", ["resp_%00", "%20", "x" * 500, "..", "resp_1%0a"])
async def test_what_cannot_be_an_id_is_not_there(stage: Stage, name: str):
    for method in ("GET", "DELETE"):
        assert (await stage.gateway.ask(f"/v1/responses/{name}", method=method)).status == 404


async def test_a_deleted_answer_is_gone(stage: Stage):
    given = await stage.answer("claude", stream=False, input="Secret?")
    await stage.ours.responses.delete(given.id)
    with pytest.raises(openai.NotFoundError):
        await stage.ours.responses.retrieve(given.id)
    with pytest.raises(openai.NotFoundError):
        await stage.answer("claude", stream=False, input="And?", previous_response_id=given.id)


async def test_a_conversation_whose_beginning_is_gone_cannot_go_on(stage: Stage):
    first = await stage.answer("lab", stream=False, input="First?")
    second = await stage.answer("lab", stream=False, input="Second?", previous_response_id=first.id)
    await stage.ours.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match="not kept any more"):
        await stage.answer("lab", stream=False, input="Third?", previous_response_id=second.id)


async def test_a_failed_answer_is_not_kept(stage: Stage):
    stage.fake.default = faulty(Answer(text=words(8)), ErrorAfter(5, Failure(status=500, message="Gave up.")))
    last = grammar_responses.check(await stage.raw(model="claude", input="Go."), fails=True)
    with pytest.raises(openai.NotFoundError):
        await stage.ours.responses.retrieve(last["id"])


async def test_what_a_response_was_asked_is_listed_in_pages(stage: Stage):
    items: Any = [{"role": "user", "content": f"Number {n}"} for n in range(5)]
    given = await stage.answer("lab", stream=False, input=items)
    found = [item async for item in stage.ours.responses.input_items.list(given.id, limit=2, order="asc")]
    assert [f"Number {n}" in json.dumps(item.model_dump()) for n, item in enumerate(found)] == [True] * 5
    newest = await stage.ours.responses.input_items.list(given.id, limit=1)
    assert "Number 4" in json.dumps(newest.data[0].model_dump())
    for query in ("limit=0", "limit=x", f"limit={'9' * 5_000}", "order=up", "after=nothing"):
        assert (await stage.gateway.get(f"/v1/responses/{given.id}/input_items?{query}")).status == 400


async def test_kept_answers_are_found_at_each_of_the_paths(stage: Stage):
    given = await stage.answer("lab", stream=False, input="Go.")
    for path in ("/responses", "/openai/v1/responses"):
        assert (await stage.gateway.get(f"{path}/{given.id}")).json()["id"] == given.id
        assert (await stage.gateway.ask(path, {"model": "lab", "input": "Go."})).status == 200
    assert (await stage.gateway.get(f"/v1/responses/{given.id}/nothing")).status == 404
    assert (await stage.gateway.get(f"/v1/responses/{given.id}?stream=true")).status == 400


async def test_a_provider_s_own_paths_lead_to_the_same_answers(stage: Stage):
    """Else one tenant could ask the gateway's account for what another one was answered."""
    given = (await stage.gateway.ask("/lab/v1/responses", {"model": "small", "input": "Go."})).json()
    assert stage.fake.calls[-1].path == "/v1/chat/completions"
    others = [(b"authorization", b"Bearer " + OTHERS_KEY.encode())]
    for name in ("lab", "openai", "anthropic"):
        path = f"/{name}/v1/responses/{given['id']}"
        assert (await stage.gateway.get(path)).json()["id"] == given["id"]
        assert (await stage.gateway.get(path, headers=others)).status == 404
    assert len(stage.fake.calls) == 1


async def test_many_answers_at_once_are_all_kept(stage: Stage):
    given = await asyncio.gather(*(stage.answer("lab", stream=n % 2 == 0, input=f"Number {n}") for n in range(12)))
    shown = await asyncio.gather(*(stage.ours.responses.retrieve(each.id) for each in given))
    assert [each.id for each in shown] == [each.id for each in given]
    assert len({each.id for each in given}) == 12


async def test_a_gateway_may_keep_nothing(tmp_path_factory: pytest.TempPathFactory, stage: Stage):
    text = f"""
providers: {{lab: {{type: openai-compatible, base_url: '{stage.fake.base_url("compatible")}', api_key: x}}}}
responses: {{store: false}}
"""
    gateway = await start(text, tmp_path_factory.mktemp("forgetful"), Http1Listener)
    try:
        given = (await gateway.ask("/v1/responses", {"model": "lab/m", "input": "Secret?", "store": True})).json()
        assert given["store"] is False
        assert (await gateway.get(f"/v1/responses/{given['id']}")).status == 404
        streamed = await gateway.ask("/v1/responses", {"model": "lab/m", "input": "Secret?", "stream": True})
        assert {
            each["response"]["store"] for each in grammar_responses.events(streamed.body) if "response" in each
        } == {False}
        answer = await gateway.ask(
            "/v1/responses", {"model": "lab/m", "input": "And?", "previous_response_id": given["id"]}
        )
        assert answer.status == 400
        assert "keeps no responses" in answer.json()["error"]["message"]
        assert b"Secret?" not in gateway.ledger.read_bytes()
    finally:
        await gateway.close()


async def test_an_answer_that_is_too_large_is_given_and_not_kept(
    tmp_path_factory: pytest.TempPathFactory, stage: Stage
):
    text = f"""
providers: {{lab: {{type: openai-compatible, base_url: '{stage.fake.base_url("compatible")}', api_key: x}}}}
responses: {{max_response_bytes: 2KB}}
"""
    gateway = await start(text, tmp_path_factory.mktemp("small"), Http1Listener)
    try:
        small = (await gateway.ask("/v1/responses", {"model": "lab/m", "input": "Hi"})).json()
        large = (await gateway.ask("/v1/responses", {"model": "lab/m", "input": "x" * 4096})).json()
        assert (await gateway.get(f"/v1/responses/{small['id']}")).status == 200
        assert large["status"] == "completed"
        assert (await gateway.get(f"/v1/responses/{large['id']}")).status == 404
    finally:
        await gateway.close()


async def test_an_answer_does_not_wait_for_a_ledger_that_is_gone(
    tmp_path_factory: pytest.TempPathFactory, stage: Stage
):
    text = f"""
providers: {{lab: {{type: openai-compatible, base_url: '{stage.fake.base_url("compatible")}', api_key: x}}}}
"""
    gateway = await start(text, tmp_path_factory.mktemp("gone"), Http1Listener)
    try:
        kept = (await gateway.ask("/v1/responses", {"model": "lab/m", "input": "Hi"})).json()
        for file in (gateway.ledger, *gateway.ledger.parent.glob("ledger.db-*")):
            file.unlink()
        lost = await gateway.ask("/v1/responses", {"model": "lab/m", "input": "Hi", "stream": True})
        assert grammar_responses.check(lost.body)["status"] == "completed"
        for name in (kept["id"], "resp_nothing"):
            assert (await gateway.get(f"/v1/responses/{name}")).status in {404, 503}
    finally:
        await gateway.close()
