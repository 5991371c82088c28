"""Google's own API as a provider: addresses, credentials, and what its models can be told."""

import msgspec
import pytest

from support.recordings import recordings
from tollhouse.chat.model import JsonObject, Message, Reasoning, Request, Text, Tool, ToolCall
from tollhouse.chat.receipt import Receipt
from tollhouse.config.schema import ProviderSettings
from tollhouse.config.secret import Secret
from tollhouse.dialects.gemini import DIALECT
from tollhouse.providers.google import traits_for
from tollhouse.providers.provider import Provider
from tollhouse.providers.registry import build

HI = (Message("user", (Text("hi"),)),)


def google(base_url: str | None = None) -> Provider:
    return build(ProviderSettings(name="lab", type="google", base_url=base_url, api_key=Secret("AIza-test")))


def test_the_addresses_are_those_that_recorded_clients_called():
    provider = google()
    called = {recording.request.url for recording in recordings("gemini")}
    whole = provider.base_url + provider.path(provider.chat_path, "gemini-2.5-flash")
    streamed = provider.base_url + provider.path(provider.stream_path or "", "gemini-3-flash-preview")
    assert {whole, streamed} <= called
    listed = {recording.request.url for recording in recordings("models-list", provider="gemini")}
    assert provider.base_url + provider.models_path in listed


def test_the_key_goes_into_a_header_and_never_into_the_address():
    provider = google()
    sent = dict(provider.headers(0.0))
    assert sent[b"x-goog-api-key"] == b"AIza-test"
    assert b"authorization" not in sent
    paths = (provider.chat_path, provider.stream_path, provider.embeddings_path, provider.count_tokens_path)
    assert not any("AIza" in (path or "") or "key=" in (path or "") for path in (provider.base_url, *paths))


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-flash", "/models/gemini-2.5-flash:generateContent"),
        ("models/gemini-2.5-flash", "/models/gemini-2.5-flash:generateContent"),
        ("tunedModels/mine-1", "/tunedModels/mine-1:generateContent"),
        ("a b/../c?d#e", "/models/a%20b%2F..%2Fc%3Fd%23e:generateContent"),
    ],
)
def test_a_model_stands_in_the_path_with_its_collection(model: str, path: str):
    provider = google()
    assert provider.path(provider.chat_path, model) == path


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://generativelanguage.googleapis.com", "https://generativelanguage.googleapis.com/v1beta"),
        ("https://generativelanguage.googleapis.com/v1/", "https://generativelanguage.googleapis.com/v1"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai/",
            "https://generativelanguage.googleapis.com/v1beta",
        ),
        (
            "https://aiplatform.googleapis.com/v1/publishers/google",
            "https://aiplatform.googleapis.com/v1/publishers/google",
        ),
    ],
)
def test_addresses_are_put_right(written: str, meant: str):
    assert google(written).base_url == meant


def told(model: str, **fields: object) -> tuple[dict[str, object], tuple[str, ...]]:
    receipt = Receipt()
    request = Request(model=model, messages=HI, **fields)  # type: ignore[arg-type]  # fields of a request, each test's own
    body: dict[str, object] = msgspec.json.decode(DIALECT.encode_request(request, traits_for(model), receipt))
    return body, receipt.entries


@pytest.mark.parametrize(
    ("model", "effort", "config", "noted"),
    [
        ("gemini-3-flash-preview", "minimal", {"thinkingLevel": "MINIMAL", "includeThoughts": True}, False),
        ("gemini-3-flash-preview", "max", {"thinkingLevel": "HIGH", "includeThoughts": True}, True),
        ("gemini-3-flash-preview", "none", {"thinkingLevel": "MINIMAL"}, True),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "HIGH", "includeThoughts": True}, True),
        ("gemini-3.1-pro-preview", "medium", {"thinkingLevel": "MEDIUM", "includeThoughts": True}, False),
        ("gemini-2.5-flash", "low", {"thinkingBudget": 1024, "includeThoughts": True}, False),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}, False),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}, True),
        ("gemini-2.5-flash-lite", "high", {"thinkingBudget": 24576, "includeThoughts": True}, False),
        ("gemini-2.5-flash", "max", {"thinkingBudget": 24576, "includeThoughts": True}, True),
        ("gemini-2.0-flash", "high", None, True),
    ],
)
def test_effort_is_told_in_each_models_terms(model: str, effort: str, config: object, noted: bool):
    body, receipt = told(model, reasoning=Reasoning(effort=effort))
    thinking = body.get("generationConfig", {}).get("thinkingConfig")  # type: ignore[attr-defined]  # JSON
    assert thinking == config
    assert bool(receipt) == noted


def test_a_budget_stays_within_the_models_bounds():
    for model, asked, sent in (("gemini-2.5-pro", 50_000, 32_768), ("gemini-2.5-flash-lite", 100, 512)):
        body, receipt = told(model, reasoning=Reasoning(mode="enabled", budget_tokens=asked))
        assert body["generationConfig"] == {"thinkingConfig": {"thinkingBudget": sent, "includeThoughts": True}}
        assert receipt == (f"changed thinking.budget_tokens: {asked} is out of range and sent as {sent}",)


def test_before_gemini_3_json_and_tools_do_not_go_together():
    tools = (Tool(name="f"),)
    body, receipt = told("gemini-2.5-flash", tools=tools, response_format=JsonObject())
    assert "generationConfig" not in body
    assert receipt == ("dropped response_format: the model takes none together with tools",)
    body, receipt = told("gemini-3-flash-preview", tools=tools, response_format=JsonObject())
    assert body["generationConfig"] == {"responseMimeType": "application/json"}
    assert receipt == ()


def test_a_model_without_system_prompt_gets_it_as_the_users():
    messages = (Message("system", (Text("be kind"),)), *HI)
    receipt = Receipt()
    request = Request(model="gemma-3-27b-it", messages=messages, tools=(Tool(name="f"),))
    body = msgspec.json.decode(DIALECT.encode_request(request, traits_for(request.model), receipt))
    assert body == {"contents": [{"role": "user", "parts": [{"text": "be kind"}, {"text": "hi"}]}]}
    assert len(receipt.entries) == 2


def test_only_new_models_want_signatures():
    calls = Message("assistant", (ToolCall("c1", "f", "{}"),))
    for model, signed in (("gemini-3-flash-preview", True), ("gemini-flash-latest", True), ("gemini-2.5-flash", False)):
        request = Request(model=model, messages=(*HI, calls))
        body = DIALECT.encode_request(request, traits_for(model), Receipt())
        assert (b'"thoughtSignature":"skip_thought_signature_validator"' in body) == signed
