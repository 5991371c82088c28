"""The Gemini door: Google's own SDK and plain clients, over providers of each dialect."""

import json
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio

from support.fake_gemini import SIGNATURE
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Call, Cut, ErrorAfter, Failure, NoFinish, Replay, Tokens, faulty, words
from support.grammar_gemini import check_answer, check_error, check_stream
from support.recordings import by_id, recordings
from support.serving import KEY, Running, start
from tollhouse.server.http1.listener import Http1Listener

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the SDK's own modules say of each other when they are imported
    from google import genai
    from google.genai import errors, types

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),  # of the SDK's own
]

CONFIGURATION: Final = """
providers:
  google: {{base_url: '{google}', api_key: AIzaFakeUpstreamKey, models: [{{name: gemini-3-flash-preview}}]}}
  openai: {{base_url: '{openai}', api_key: x}}
  anthropic: {{base_url: '{anthropic}', api_key: x}}
models:
  gemini: google/gemini-3-flash-preview
  gpt: openai/gpt
  claude: anthropic/claude
  relayed: [anthropic/claude, google/gemini-3-flash-preview]
retry: {{max_attempts: 2}}
"""
MODELS: Final = ["gemini", "gpt", "claude"]
by_model = pytest.mark.parametrize("model", MODELS)
HI: Final = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
GOOG: Final = [(b"x-goog-api-key", KEY.encode()), (b"content-type", b"application/json")]


@dataclass
class Stage:
    """The gateway, its providers, and Google's SDK at it."""

    fake: FakeProvider
    gateway: Running
    sdk: Any
    """`genai.Client`; nearly everything in its types may be absent, which is what the tests are about."""

    async def ask(self, path: str, body: Any = HI, headers: list[tuple[bytes, bytes]] | None = None) -> Any:
        return await self.gateway.ask(path, body, headers=GOOG if headers is None else headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeProvider())
        addresses = {name: fake.base_url(name) for name in ("google", "openai", "anthropic")}
        gateway = await start(CONFIGURATION.format(**addresses), tmp_path_factory.mktemp("gemini"), Http1Listener)
        stack.push_async_callback(gateway.close)
        sdk = genai.Client(api_key=KEY, http_options=types.HttpOptions(base_url=gateway.url))
        stack.push_async_callback(sdk.aio.aclose)
        yield Stage(fake, gateway, sdk)


@pytest.fixture
def stage(running: Stage) -> Stage:
    """The one gateway of this module, its provider's memory emptied."""
    running.fake.calls.clear()
    running.fake.other_calls.clear()
    running.fake.default = Answer(text=words(8))
    return running


# --------------------------------------------------------------------------------------------------------- Google's SDK


@by_model
async def test_the_sdk_reads_an_answer_of_any_provider(stage: Stage, model: str):
    stage.fake.default = Answer(text=words(12), tokens=Tokens(input=50, cache_read=20, output=12))
    answer = await stage.sdk.aio.models.generate_content(model=model, contents="hi")
    assert answer.text == words(12)
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    counts = answer.usage_metadata
    assert (counts.prompt_token_count, counts.cached_content_token_count) == (50, 20)
    assert (counts.candidates_token_count, counts.total_token_count) == (12, 62)
    row = stage.gateway.rows()[-1]
    assert (row["door"], row["input_tokens"], row["output_tokens"]) == ("gemini", 50, 12)
    assert row["lane"] == ("same" if model == "gemini" else "translated")


@by_model
async def test_the_sdk_reads_a_stream_of_any_provider(stage: Stage, model: str):
    stage.fake.default = Answer(text=words(30))
    stream = await stage.sdk.aio.models.generate_content_stream(model=model, contents="hi")
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text or "" for chunk in chunks) == words(30)
    assert len(chunks) > 10
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata.candidates_token_count == 30
    assert stage.gateway.rows()[-1]["streamed"] == 1


@by_model
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_tool_loop_goes_round_over_any_provider(stage: Stage, model: str, stream: bool):
    """Two calls at once, their results in the next turn, and then the answer."""
    stage.fake.reply(
        Answer(calls=(Call("weather", '{"city":"Paris"}'), Call("weather", '{"city":"Oslo"}'))), Answer(text="Sunny.")
    )
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    declared = types.FunctionDeclaration(name="weather", description="Tells it.", parameters_json_schema=schema)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])
    history: list[Any] = [types.Content(role="user", parts=[types.Part(text="Weather?")])]

    async def turn() -> list[Any]:
        if not stream:
            answer = await stage.sdk.aio.models.generate_content(model=model, contents=history, config=config)
            return list(answer.candidates[0].content.parts)
        chunks = await stage.sdk.aio.models.generate_content_stream(model=model, contents=history, config=config)
        return [part async for chunk in chunks for part in chunk.candidates[0].content.parts]

    parts = await turn()
    calls = [part.function_call for part in parts if part.function_call]
    assert [(call.name, call.args) for call in calls] == [("weather", {"city": "Paris"}), ("weather", {"city": "Oslo"})]
    history.append(types.Content(role="model", parts=[part for part in parts if part.text != ""]))
    results = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"output": "sun"}))
        for call in calls
    ]
    history.append(types.Content(role="user", parts=results))
    assert "".join(part.text or "" for part in await turn()) == "Sunny."

    asked = stage.fake.calls[-1].json
    match model:
        case "gpt":
            assert asked["tools"][0]["function"]["parameters"] == schema
            ids = [call["id"] for call in asked["messages"][1]["tool_calls"]]
            assert [(m["tool_call_id"], m["content"]) for m in asked["messages"][2:]] == [(i, "sun") for i in ids]
        case "claude":
            assert asked["tools"][0]["input_schema"] == schema
            ids = [block["id"] for block in asked["messages"][1]["content"]]
            assert [block["tool_use_id"] for block in asked["messages"][2]["content"]] == ids
        case _:
            assert asked["contents"][1]["parts"][0]["thoughtSignature"] == SIGNATURE


async def test_the_sdk_counts_and_embeds_and_lists(stage: Stage):
    models = stage.sdk.aio.models
    assert (await models.count_tokens(model="gemini", contents="hi")).total_tokens == 10
    assert (await models.count_tokens(model="claude", contents="hi")).total_tokens == 10
    estimated = await models.count_tokens(model="gpt", contents="hi " * 100)
    assert estimated.total_tokens > 50
    for model, name in (("gemini", "batchEmbedContents"), ("gpt", "embeddings")):
        vectors = await models.embed_content(
            model=model,
            contents=[types.Content(parts=[types.Part(text=text)]) for text in ("a", "bb b")],
            config=types.EmbedContentConfig(output_dimensionality=4),
        )
        assert [each.values for each in vectors.embeddings] == [[1, 10, 100, 1000], [4, 40, 400, 4000]]
        assert stage.fake.calls[-1].path.endswith(name)
        assert stage.gateway.rows()[-1]["input_tokens"] == 3
    listed = [model.name async for model in await models.list()]
    assert listed == [
        f"models/{name}"
        for name in (*MODELS, "relayed", "google/gemini-3-flash-preview", "openai/gpt", "anthropic/claude")
    ]
    assert (await models.get(model="anthropic/claude")).name == "models/anthropic/claude"
    with pytest.raises(errors.ClientError) as caught:
        await models.get(model="nothing")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


@by_model
async def test_the_sdk_raises_what_a_provider_says(stage: Stage, model: str):
    stage.fake.default = Failure(status=400, message="The contents are too long.")
    with pytest.raises(errors.ClientError) as refused:
        await stage.sdk.aio.models.generate_content(model=model, contents="hi")
    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")
    assert refused.value.message == "The contents are too long."
    stage.fake.default = faulty(Answer(text=words(20)), ErrorAfter(5, Failure(status=503, message="Overloaded.")))
    with pytest.raises(errors.APIError, match=r"Overloaded\."):
        async for _ in await stage.sdk.aio.models.generate_content_stream(model=model, contents="hi"):
            pass


# ----------------------------------------------------------------------------------------------------------- the door


@pytest.mark.parametrize("version", ["v1", "v1beta"])
@by_model
async def test_a_stream_is_framed_as_it_is_asked_for(stage: Stage, model: str, version: str):
    path = f"/{version}/models/{model}:streamGenerateContent"
    events = await stage.ask(f"{path}?alt=sse")
    assert events.headers["content-type"].startswith("text/event-stream")
    array = await stage.ask(path)
    assert array.headers["content-type"] == "application/json"
    for chunks in (check_stream(events.body), array.json()):
        said = [part["text"] for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
        assert "".join(said) == words(8)
    assert array.json()[-1]["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize("query", ["", "?alt=sse"], ids=["array", "events"])
@by_model
async def test_a_cut_answer_never_looks_whole(stage: Stage, model: str, query: str):
    for fault in (Cut(6), NoFinish()):
        stage.fake.default = faulty(Answer(text=words(20)), fault)
        answer = await stage.ask(f"/v1beta/models/{model}:streamGenerateContent{query}")
        if answer.status != 200:
            # The end of the connection was seen before the beginning of the answer: the network's choice.
            check_error(answer.json())
            continue
        chunks = check_stream(answer.body) if query else answer.json()
        check_error(chunks[-1])
        assert not any("finishReason" in c for chunk in chunks for c in chunk.get("candidates", ()))
        row = stage.gateway.rows()[-1]
        assert row["outcome"] != "ok"
        assert row["output_tokens"] > 0


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-goog-api-key", KEY.encode())],
        [(b"authorization", b"Bearer " + KEY.encode())],
        [(b"authorization", b"Bearer " + KEY.encode()), (b"x-goog-api-key", KEY.encode())],
    ],
    ids=["header", "bearer", "both"],
)
async def test_keys_are_taken_from_headers(stage: Stage, headers: list[tuple[bytes, bytes]]):
    assert (await stage.ask("/v1beta/models/gpt:generateContent", headers=headers)).status == 200
    assert (await stage.gateway.get("/v1beta/models", headers=headers)).status == 200


async def test_a_key_in_the_query_is_taken_and_never_told(stage: Stage, caplog: pytest.LogCaptureFixture):
    for path in ("/v1beta/models/gemini:generateContent", "/v1/models/gpt:streamGenerateContent"):
        assert (await stage.ask(f"{path}?key={KEY}", headers=[])).status == 200
    for path in ("/v1beta/models", "/v1/models", "/v1/models/gpt", "/v1beta/models/gpt"):
        listed = await stage.gateway.get(f"{path}?key={KEY}", headers=[])
        assert listed.status == 200
        assert b'"models/gpt"' in listed.body
    wrong = await stage.ask("/v1beta/models/gpt:generateContent?key=th-wrong-0123456789", headers=[])
    assert wrong.status == 401
    for call in stage.fake.calls:
        assert KEY not in call.query
        assert KEY not in str(call.headers)
    written = b"".join(path.read_bytes() for path in stage.gateway.ledger.parent.iterdir() if path.is_file())
    config = (stage.gateway.ledger.parent / "tollhouse.yaml").read_bytes()
    assert KEY.encode() not in written.replace(config, b"")
    assert b"th-wrong-0123456789" not in written + wrong.body
    assert KEY not in caplog.text


async def test_names_with_slashes_colons_and_escapes_are_whole(stage: Stage):
    for path, asked in (
        ("/v1beta/models/openai/gpt:generateContent", "gpt"),
        ("/v1beta/models/openai%2Fgpt:generateContent", "gpt"),
        ("/v1beta/models/openai/org/m:7b:generateContent", "org/m:7b"),
        ("/v1/models/google/tunedModels/mine:generateContent", None),
    ):
        assert (await stage.ask(path)).status == 200, path
        if asked is not None:
            assert stage.fake.calls[-1].model == asked
    assert stage.fake.calls[-1].path == "/v1beta/tunedModels/mine:generateContent"


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("POST", "/v1beta/models/gpt:predict", 404, "NOT_FOUND"),
        ("POST", "/v1/models/gpt:predict", 404, "NOT_FOUND"),
        ("POST", "/v1beta/models/nothing-like-it:generateContent", 404, "NOT_FOUND"),
        ("POST", "/v1beta/elsewhere", 404, "NOT_FOUND"),
        ("POST", "/v1beta/models/:generateContent", 400, "INVALID_ARGUMENT"),
        ("POST", "/v1/models/:countTokens", 400, "INVALID_ARGUMENT"),
        ("POST", "/v1beta/models/a%0d%0ab:generateContent", 404, "NOT_FOUND"),
        ("DELETE", "/v1beta/models/gpt", 405, "UNIMPLEMENTED"),
    ],
)
async def test_errors_of_the_door_are_said_as_google_does(stage: Stage, method: str, path: str, status: int, name: str):
    answer = await stage.gateway.ask(path, HI if method == "POST" else None, method=method, headers=GOOG)
    assert answer.status == status
    check_error(answer.json())
    assert answer.json()["error"]["status"] == name


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "contents"),
        ({"contents": [{"role": "judge", "parts": [{"text": "x"}]}]}, "contents[0].role"),
        ({"contents": [{"parts": [{"functionCall": {"args": {}}}]}]}, "contents[0].parts[0].functionCall.name"),
        ({**HI, "generationConfig": {"maxOutputTokens": -1}}, "generationConfig.maxOutputTokens"),
        ({**HI, "generationConfig": {"temperature": "hot"}}, "generationConfig.temperature"),
    ],
)
async def test_a_wrong_request_is_refused_with_its_place(stage: Stage, body: Any, field: str):
    answer = await stage.ask("/v1beta/models/gpt:generateContent", body)
    assert answer.status == 400
    details = answer.json()["error"]["details"]
    assert field in [each["field"] for detail in details for each in detail.get("fieldViolations", ())]
    assert not stage.fake.calls


# ------------------------------------------------------------------------------------------- what survives, what is lost


async def test_every_recording_comes_through_byte_for_byte(stage: Stage):
    for recording in recordings("gemini", error=False):
        if recording.id == "gemini-generate-stream-text-21b513":
            continue  # an array, which the gateway never asks for
        stage.fake.default = Replay(name=f"gemini/{recording.id}")
        method = "streamGenerateContent?alt=sse" if recording.is_stream else "generateContent"
        answer = await stage.ask(f"/v1beta/models/gemini:{method}")
        assert answer.body == recording.response.body, recording.id


@pytest.mark.parametrize("recording", recordings("gemini", error=True), ids=by_id)
async def test_a_recorded_error_is_passed_on(stage: Stage, recording: Any):
    stage.fake.default = Replay(name=f"gemini/{recording.id}")
    answer = await stage.ask("/v1beta/models/gemini:generateContent")
    check_error(answer.json())
    # Its 403 is about the gateway's own key.
    assert answer.status == (502 if recording.response.status == 403 else recording.response.status)
    if recording.response.status == 429:
        assert answer.headers["retry-after"] == "48"


async def test_a_signature_survives_the_trip_through_another_dialect(stage: Stage):
    """Gemini's signature, through an Anthropic client and back; then the same history to another provider."""
    stage.fake.reply(Answer(calls=(Call("f", "{}"),)))
    tools = [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]
    asked: dict[str, Any] = {"max_tokens": 100, "tools": tools, "messages": [{"role": "user", "content": "go"}]}
    first = (await stage.gateway.ask("/v1/messages", {**asked, "model": "gemini"})).json()
    call = next(block for block in first["content"] if block["type"] == "tool_use")
    asked["messages"] += [
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"], "content": "done"}]},
    ]
    await stage.gateway.ask("/v1/messages", {**asked, "model": "gemini"})
    sent = stage.fake.calls[-1].json["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in sent if "functionCall" in part] == [SIGNATURE]

    answer = await stage.gateway.ask("/v1/messages", {**asked, "model": "claude"})
    assert answer.status == 200
    assert SIGNATURE.encode() not in stage.fake.calls[-1].body
    assert "signature" in answer.headers["x-tollhouse-receipt"] or "thinking" in answer.headers["x-tollhouse-receipt"]


async def test_an_anthropic_signature_survives_a_gemini_client(stage: Stage):
    stage.fake.reply(Answer(thinking="hm", text="ok"))
    first = check_answer((await stage.ask("/v1beta/models/claude:generateContent")).body)
    contents = [*HI["contents"], first["candidates"][0]["content"], *HI["contents"]]
    await stage.ask("/v1beta/models/claude:generateContent", {"contents": contents})
    block = stage.fake.calls[-1].json["messages"][1]["content"][0]
    assert (block["type"], block["thinking"], block["signature"]) == ("thinking", "hm", "ZmFrZSBzaWduYXR1cmU=")

    # To Google itself it means nothing: it is taken out, and the receipt says so, though the dialect is the same.
    answer = await stage.ask("/v1beta/models/gemini:generateContent", {"contents": contents})
    assert "only the provider that did this thinking takes it back" in answer.headers["x-tollhouse-receipt"]
    assert "thoughtSignature" not in json.dumps(stage.fake.calls[-1].json)


async def test_the_sdk_s_chat_goes_on_with_what_was_streamed(stage: Stage):
    """The SDK keeps a content for each chunk: to the provider it is the one turn that it was."""
    stage.fake.reply(Answer(thinking=words(6), text=words(9)))
    chat = stage.sdk.aio.chats.create(model="claude")
    async for _ in await chat.send_message_stream("hi"):
        pass
    assert len(chat.get_history()) > 10
    await chat.send_message("go on")
    assert [turn["role"] for turn in stage.fake.calls[-1].json["messages"]] == ["user", "assistant", "user"]
    assert stage.fake.calls[-1].json["messages"][1]["content"] == [
        {"type": "thinking", "thinking": words(6), "signature": "ZmFrZSBzaWduYXR1cmU="},
        {"type": "text", "text": words(9)},
    ]
    assert stage.gateway.rows()[-1]["receipt"] == ""


async def test_calls_made_elsewhere_go_to_gemini_with_the_documented_placeholder(stage: Stage):
    messages = [
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]
    answer = await stage.gateway.ask("/v1/chat/completions", {"model": "gemini", "messages": messages})
    parts = stage.fake.calls[-1].json["contents"][1]["parts"]
    assert parts[0]["thoughtSignature"] == "skip_thought_signature_validator"
    assert "placeholder for a thought signature" in answer.headers["x-tollhouse-receipt"]
    response = stage.fake.calls[-1].json["contents"][2]["parts"][0]["functionResponse"]
    assert response == {"id": "c1", "name": "f", "response": {"output": "done"}}


async def test_failover_takes_the_conversation_to_another_dialect(stage: Stage):
    stage.fake.reply(Failure(status=529, message="Overloaded"), Answer(text="from google"))
    answer = await stage.ask("/v1beta/models/relayed:generateContent")
    assert check_answer(answer.body)["candidates"][0]["content"]["parts"] == [{"text": "from google"}]
    assert answer.headers["x-tollhouse-model"] == "google/gemini-3-flash-preview"


async def test_a_whole_count_asks_for_the_instructions_and_the_tools_too(stage: Stage):
    asked = {**HI, "systemInstruction": {"parts": [{"text": "be kind"}]}}
    answer = await stage.ask(
        "/v1beta/models/gemini:countTokens", {"generateContentRequest": {**asked, "model": "models/x"}}
    )
    assert answer.json()["totalTokens"] == 10
    sent = stage.fake.other_calls[-1].json["generateContentRequest"]
    assert sent == {**asked, "model": "models/gemini-3-flash-preview"}
    await stage.ask("/v1beta/models/gemini:countTokens", HI)
    assert stage.fake.other_calls[-1].json == HI


async def test_one_text_is_embedded_by_any_provider(stage: Stage):
    asked = {"content": {"parts": [{"text": "four"}]}, "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 4}
    answer = await stage.ask("/v1beta/models/gemini:embedContent", asked)
    assert answer.json()["embedding"] == {"values": [4, 40, 400, 4000]}
    assert stage.fake.calls[-1].json["requests"][0]["taskType"] == "RETRIEVAL_QUERY"
    answer = await stage.ask("/v1beta/models/gpt:embedContent", asked)
    assert answer.json()["embedding"] == {"values": [4, 40, 400, 4000]}
    assert "taskType" in answer.headers["x-tollhouse-receipt"]


async def test_openai_clients_embed_with_google(stage: Stage):
    answer = await stage.gateway.ask("/v1/embeddings", {"model": "gemini", "input": ["four", "a b"], "dimensions": 4})
    assert [each["embedding"] for each in answer.json()["data"]] == [[4, 40, 400, 4000], [3, 30, 300, 3000]]
    assert answer.json()["usage"]["prompt_tokens"] == 3
    tokens = await stage.gateway.ask("/v1/embeddings", {"model": "gemini", "input": [1, 2, 3]})
    assert tokens.status == 400


async def test_the_shared_list_speaks_each_dialect(stage: Stage):
    openai = await stage.gateway.get("/v1/models")
    assert openai.json()["object"] == "list"
    bearer = (b"authorization", b"Bearer " + KEY.encode())
    anthropic = await stage.gateway.get("/v1/models", headers=[bearer, (b"anthropic-version", b"2023-06-01")])
    assert anthropic.json()["has_more"] is False
    for header in ((b"x-goog-api-client", b"google-genai-sdk/3.4.0"), (b"x-goog-api-key", KEY.encode())):
        google = await stage.gateway.get("/v1/models", headers=[bearer, header])
        assert google.json()["models"][0]["name"] == "models/gemini"
        one = await stage.gateway.get("/v1/models/gpt", headers=[bearer, header])
        assert one.json()["name"] == "models/gpt"


async def test_a_models_methods_below_a_providers_name_are_answered_by_it_alone(stage: Stage):
    stage.fake.default = Answer(text=words(3))
    for method, door in (
        ("generateContent", "gemini"),
        ("streamGenerateContent?alt=sse", "gemini"),
        ("countTokens", "gemini_count_tokens"),
    ):
        answer = await stage.ask(f"/google/v1beta/models/gemini-3-flash-preview:{method}")
        assert answer.status == 200
        row = stage.gateway.rows()[-1]
        assert (row["door"], row["provider"], row["model"]) == (door, "google", "gemini-3-flash-preview")
    asked = {"requests": [{"content": {"parts": [{"text": "four"}]}}]}
    vectors = await stage.ask("/google/v1beta/models/gemini-embedding-001:batchEmbedContents", asked)
    assert vectors.json()["embeddings"] == [{"values": [4, 40, 400, 4000]}]
    # An alias of the gateway's is no model of the provider's.
    await stage.ask("/google/v1beta/models/claude:generateContent")
    assert stage.fake.calls[-1].path == "/v1beta/models/claude:generateContent"
