"""Bodies that are nested more deeply than anybody means, through every door and from every provider."""

import json

import pytest

from support.fake_provider import FakeProvider
from support.peer import Peer, Visit
from support.serving import Serving

pytestmark = pytest.mark.parametrize("server", ["own"])
# Within reach of every decoder; at the end of Python 3.11's stack; beyond Python's own calls on all of them; beyond every stack.
LEVELS = [210, 900, 930, 945, 950, 3000, 9980, 200_000]
SHAPES = {"arrays": (b"[", b"]"), "schemas": (b'{"type":"object","properties":{"a":', b"}}")}
TEXT = b'[{"role":"user","content":"hi"}]'
PARTS = b'[{"role":"user","parts":[{"text":"hi"}]}]'
BODIES = {
    "openai, unknown": ("/v1/chat/completions", b'{"model":"%b","messages":' + TEXT + b',"x":@}'),
    "openai, a part": ("/v1/chat/completions", b'{"model":"%b","messages":[{"role":"user","content":[@]}]}'),
    "openai, a tool": (
        "/v1/chat/completions",
        b'{"model":"%b","messages":'
        + TEXT
        + b',"tools":[{"type":"function","function":{"name":"f","parameters":{"a":@}}}]}',
    ),
    "openai, options": ("/v1/chat/completions", b'{"model":"%b","messages":' + TEXT + b',"stream_options":{"a":@}}'),
    "openai, arguments": (
        "/v1/chat/completions",
        (
            b'{"model":"%b","messages":[{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":'
            b'{"name":"f","arguments":"~"}}]},{"role":"tool","tool_call_id":"c","content":"1"}]}'
        ),
    ),
    "anthropic, a block": ("/v1/messages", b'{"model":"%b","max_tokens":9,"messages":[{"role":"user","content":[@]}]}'),
    "anthropic, a tool": (
        "/v1/messages",
        b'{"model":"%b","max_tokens":9,"messages":' + TEXT + b',"tools":[{"name":"f","input_schema":{"a":@}}]}',
    ),
    "responses, input": ("/v1/responses", b'{"model":"%b","input":@}'),
    "responses, a word": ("/v1/responses", b'{"model":"%b","input":"hi","truncation":@}'),
    "responses, a tool": (
        "/v1/responses",
        b'{"model":"%b","input":"hi","tools":[{"type":"function","name":"f","parameters":{"a":@}}]}',
    ),
    "gemini, a tool": (
        "/v1beta/models/%b:generateContent",
        b'{"contents":' + PARTS + b',"tools":[{"functionDeclarations":[{"name":"f","parameters":{"items":@}}]}]}',
    ),
    "gemini, a part": ("/v1beta/models/%b:generateContent", b'{"contents":[{"role":"user","parts":[@]}]}'),
    "typed, unknown": (
        "/v1/chat",
        b'{"model":"%b","messages":[{"role":"user","parts":[{"text":{"text":"hi"}}]}],"x":@}',
    ),
    "embeddings": ("/v1/embeddings", b'{"model":"%b","input":@}'),
    "completions": ("/v1/completions", b'{"model":"%b","prompt":@}'),
    "the whole of it": ("/v1/chat/completions", b"@"),
}


def nested(shape: str, levels: int) -> bytes:
    opening, closing = SHAPES[shape]
    return opening * levels + b"1" + closing * levels


@pytest.mark.parametrize("redact", [False, True])
@pytest.mark.parametrize("body", BODIES)
async def test_a_deep_request_is_passed_on_or_refused_and_never_an_error_of_ours(
    serving: Serving, fake_provider: FakeProvider, body: str, redact: bool, tmp_path
):
    target, template = BODIES[body]
    logging = f"logging: {{redact_upstream: {str(redact).lower()}, calls: '{tmp_path / 'calls.log'}'}}"
    gateway = await serving(
        f"providers: {{own: {{type: openai-compatible, base_url: '{fake_provider.url}/v1', api_key: x}}, "
        f"other: {{type: anthropic, base_url: '{fake_provider.url}', api_key: x}}}}\n{logging}"
    )
    for shape in SHAPES:
        for levels in LEVELS:
            deep = nested(shape, levels)
            for model in ("own/m", "other/m"):
                sent = template.replace(b"%b", model.encode()).replace(b"@", deep)
                sent = sent.replace(b"~", json.dumps(deep.decode())[1:-1].encode())
                answer = await gateway.ask(target.replace("%b", model), sent)
                assert answer.status in (
                    {400} if levels > 100_000 and b"~" not in template else {200, 400, 404, 501}
                ), (
                    shape,
                    levels,
                    model,
                    answer.body,
                )
                if answer.status == 400:
                    assert b"went wrong inside" not in answer.body


ANSWERS = {
    "an error in lists": (400, "application/json", b"@"),
    "an error": (400, "application/json", b'{"error":@}'),
    "an error with half a character": (400, "application/json", b'{"error":{"message":"\\ud83d!"},"x":@}'),
    "an answer": (200, "application/json", b"@"),
    "half a character beside it": (200, "application/json", b'{"id":"\\ud83d","choices":[],"x":@}'),
    "a field of an answer": (
        200,
        "application/json",
        (
            b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
            b'"message":{"role":"assistant","content":"hi","annotations":@}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
        ),
    ),
    "an event": (200, "text/event-stream", b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\ndata: @\n\n'),
    "an error among events": (200, "text/event-stream", b'data: {"error":@}\n\n'),
    "an error in place of events": (200, "text/event-stream", b'{"error":@}'),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_deep_answer_is_passed_on_or_the_providers_fault(serving: Serving, answer: str):
    status, media_type, template = ANSWERS[answer]
    said = [template.replace(b"@", nested(shape, levels)) for shape in SHAPES for levels in LEVELS]
    asked = 0

    async def provider(visit: Visit) -> None:
        nonlocal asked
        while True:
            await visit.request()
            body = said[asked // 3]
            asked += 1
            await visit.send(b"HTTP/1.1 %d X\r\ncontent-type: %b\r\n" % (status, media_type.encode()))
            await visit.send(b"content-length: %d\r\n\r\n" % len(body), body)

    streamed = media_type == "text/event-stream"
    question = {"model": "lab/m", "stream": streamed, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    async with Peer(provider) as peer:
        gateway = await serving(
            f"providers: {{lab: {{type: openai-compatible, base_url: '{peer.url}/v1', api_key: x}}}}\nretry: {{max_attempts: 1}}"
        )
        for _ in said:
            for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
                asks = {**question, "input": "hi"} if path == "/v1/responses" else question
                heard = await gateway.ask(path, asks)
                assert heard.status in {200, 400, 502}
                assert b"went wrong inside" not in heard.body
    assert asked == 3 * len(said)
