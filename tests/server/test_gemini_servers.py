"""The Gemini door on every server that the gateway runs on: what each makes of its paths, queries and framings."""

import json

from support.fake_provider import FakeProvider
from support.fake_replies import Answer, words
from support.grammar_gemini import check_stream
from support.serving import KEY, Serving

HI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
GOOG = [(b"x-goog-api-key", KEY.encode()), (b"content-type", b"application/json")]


async def test_paths_queries_and_framings_are_the_same_everywhere(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = Answer(text=words(6))
    gateway = await serving(
        f"providers: {{google: {{base_url: '{fake_provider.base_url('google')}', api_key: x}}}}\n"
        "models: {'team/fast:2': google/gemini-3-flash-preview}"
    )
    path = "/v1beta/models/team%2Ffast%3A2:streamGenerateContent"
    events = await gateway.ask(f"{path}?alt=sse", HI, headers=GOOG)
    array = await gateway.ask(f"{path}?key={KEY}&$alt=json", HI, headers=[])
    for chunks in (check_stream(events.body), array.json()):
        said = [part["text"] for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
        assert "".join(said) == words(6)
    assert array.headers["content-type"] == "application/json"
    listed = await gateway.get(f"/v1/models?key={KEY}", headers=[])
    assert "models/team/fast:2" in [model["name"] for model in listed.json()["models"]]
    assert [row["outcome"] for row in gateway.rows()] == ["ok", "ok"]


async def test_a_kept_answer_is_said_again_in_the_framing_of_whoever_asks(
    serving: Serving, fake_provider: FakeProvider
):
    fake_provider.default = Answer(text=words(6))
    gateway = await serving(
        f"providers: {{openai: {{base_url: '{fake_provider.base_url('openai')}', api_key: x}}}}\n"
        "models: {gpt: openai/gpt}\ncache: {responses: {ttl: 1h}}"
    )
    asked = {**HI, "generationConfig": {"temperature": 0}}
    path = "/v1beta/models/gpt:streamGenerateContent"
    first = await gateway.ask(path, asked, headers=GOOG)
    again = await gateway.ask(path, asked, headers=GOOG)
    events = await gateway.ask(f"{path}?alt=sse", asked, headers=GOOG)
    assert len(fake_provider.calls) == 1
    assert [answer.headers["x-tollhouse-cache"] for answer in (first, again, events)] == ["miss", "hit", "hit"]
    for chunks in (first.json(), again.json(), check_stream(events.body)):
        said = [part["text"] for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
        assert "".join(said) == words(6)
        assert json.dumps(chunks[-1]["usageMetadata"]) == json.dumps(first.json()[-1]["usageMetadata"])
