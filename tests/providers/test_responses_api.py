"""Which of a provider's two APIs a model is asked by."""

import pytest

from tollhouse.config.schema import ModelSettings, ProviderSettings
from tollhouse.config.secret import Secret
from tollhouse.dialects import openai_responses
from tollhouse.errors import ConfigError
from tollhouse.providers.openai import responses_traits_for
from tollhouse.providers.provider import Provider
from tollhouse.providers.registry import build


def provider(kind: str = "openai", *models: ModelSettings) -> Provider:
    return build(
        ProviderSettings(name="p", type=kind, api_key=Secret("x"), base_url="https://p.example/v1", models=models)
    )


def ways(model: str, kind: str = "openai", *models: ModelSettings) -> list[str]:
    return [way.chat_path for way in provider(kind, *models).ways(model)]


CHAT, RESPONSES = "/chat/completions", "/responses"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-5.2", [CHAT, RESPONSES]),
        ("gpt-4o", [CHAT, RESPONSES]),
        ("ft:gpt-4o:org::1", [CHAT, RESPONSES]),
        ("o3", [CHAT, RESPONSES]),
        ("some-new-model", [CHAT, RESPONSES]),
        ("o3-pro", [RESPONSES]),
        ("o1-pro-2025-03-19", [RESPONSES]),
        ("gpt-5-pro", [RESPONSES]),
        ("gpt-5.2-pro", [RESPONSES]),
        ("gpt-5-codex", [RESPONSES]),
        ("gpt-5.1-codex-max", [RESPONSES]),
        ("codex-mini-latest", [RESPONSES]),
        ("o4-mini-deep-research", [RESPONSES]),
        ("computer-use-preview", [RESPONSES]),
        ("gpt-audio", [CHAT]),
        ("gpt-4o-mini-audio-preview", [CHAT]),
        ("gpt-4o-search-preview", [CHAT]),
        ("gpt-3.5-turbo-instruct", [CHAT]),
    ],
)
def test_openai_s_models_are_asked_by_what_they_have(model: str, expected: list[str]):
    assert ways(model) == expected


def test_the_configuration_comes_first():
    assert ways("gpt-5-codex", "openai", ModelSettings(name="gpt-5-codex", api="chat")) == [CHAT]
    assert ways("mine", "openai", ModelSettings(name="mine", api="responses")) == [RESPONSES]


@pytest.mark.parametrize("kind", ["xai", "deepseek", "openrouter", "openai-compatible"])
def test_other_providers_are_asked_by_it_on_request(kind: str):
    assert ways("m", kind) == [CHAT]
    (way,) = provider(kind, ModelSettings(name="m", api="responses")).ways("m")
    assert way.chat_path == RESPONSES
    assert way.traits_for("m").home == kind
    assert way.dialect.name == "openai_responses"
    assert way.dialect is not openai_responses.DIALECT, "so that nothing of it passes untranslated"
    assert way.base_url == provider(kind).base_url


def test_a_provider_without_it_says_so():
    with pytest.raises(ConfigError, match=r"cannot be asked for 'claude' by `api: responses`"):
        provider("anthropic", ModelSettings(name="claude", api="responses"))
    assert [way.name for way in provider("anthropic", ModelSettings(name="claude", api="chat")).ways("claude")] == ["p"]


def test_each_way_counts_where_it_can():
    chat, responses = provider().ways("gpt-5.2")
    assert chat.count_tokens_path is None
    assert responses.count_tokens_path == "/responses/input_tokens"
    assert responses.counting is openai_responses.COUNTING


def test_openai_s_models_are_told_what_they_take():
    assert responses_traits_for("gpt-5").drop_fields == {"temperature", "top_p"}
    assert not responses_traits_for("gpt-5").logprobs
    assert responses_traits_for("gpt-4.1").logprobs
    assert not responses_traits_for("gpt-4.1").reasoning
    assert responses_traits_for("gpt-5.6-sol").cache_breakpoints
    assert not responses_traits_for("gpt-5.2").cache_breakpoints
