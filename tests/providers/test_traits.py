"""What each provider's models can be told, by documented rule and by what providers were seen to accept."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from support.recordings import Recording, by_id, recordings
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.providers import anthropic, claude, deepseek, groq, mistral, openai, xai
from tollhouse.providers.registry import PROVIDER_TYPES

TYPE_OF: Mapping[str, str] = {
    "openai": "openai",
    "gemini": "google-openai",
    "deepseek": "deepseek",
    "qwen": "qwen",
    "glm": "glm",
    "groq": "groq",
    "xai": "xai",
    "openrouter": "openrouter",
    "mistral": "mistral",
    "ollama": "ollama",
    "together": "openai-compatible",
    "vllm": "openai-compatible",
    "venice": "openai-compatible",
    "llamacpp": "openai-compatible",
}
"""The recordings' providers and the types that stand for them."""

ACCEPTED = [
    recording
    for provider in TYPE_OF
    for recording in recordings("openai-chat", provider=provider, error=False)
    if isinstance(recording.request_json, dict)
]

SAYS: Mapping[str, Callable[[dict[str, Any]], bool]] = {
    "tool_choice_forced": lambda body: (
        body.get("tool_choice") not in {None, "auto", "none"} if not isinstance(body.get("tool_choice"), dict) else True
    ),
    "many_choices": lambda body: body.get("n", 1) > 1,
    "logprobs": lambda body: "logprobs" in body,
    "seed": lambda body: "seed" in body,
    "stop": lambda body: "stop" in body,
    "penalties": lambda body: "presence_penalty" in body or "frequency_penalty" in body,
    "parallel_tool_calls": lambda body: "parallel_tool_calls" in body,
    "service_tier": lambda body: "service_tier" in body,
    "prompt_cache_key": lambda body: "prompt_cache_key" in body,
    "json_schema": lambda body: _format_of(body) == "json_schema",
    "json_object": lambda body: _format_of(body) == "json_object",
    "developer_role": lambda body: any(message["role"] == "developer" for message in body["messages"]),
    "images": lambda body: "image_url" in _part_types(body),
    "documents": lambda body: "file" in _part_types(body),
    "audio": lambda body: "input_audio" in _part_types(body),
    "strict_tools": lambda body: any("strict" in tool.get("function", {}) for tool in body.get("tools", [])),
    "custom_tools": lambda body: any(tool["type"] == "custom" for tool in body.get("tools", [])),
}
"""By trait: whether a request makes use of it."""


def _format_of(body: dict[str, Any]) -> str | None:
    return (body.get("response_format") or {}).get("type")


def _part_types(body: dict[str, Any]) -> set[str]:
    contents = [message.get("content") for message in body["messages"]]
    return {part.get("type") for content in contents if isinstance(content, list) for part in content}


@pytest.mark.parametrize("recording", ACCEPTED, ids=by_id)
def test_no_trait_denies_what_the_provider_was_seen_to_accept(recording: Recording):
    body = recording.request_json
    traits = PROVIDER_TYPES[TYPE_OF[recording.provider]].traits_for(body.get("model") or "")

    denied = [trait for trait, says in SAYS.items() if says(body) and not getattr(traits, trait)]

    assert denied == []


# `gpt-5-nano` was told the one temperature that it takes, 1 (openai/openai-chat-stream-finish-length-1b7350).
ONLY_THE_DEFAULT = {"openai-chat-stream-finish-length-1b7350": {"temperature"}}


@pytest.mark.parametrize("recording", ACCEPTED, ids=by_id)
def test_no_field_is_dropped_that_the_provider_was_seen_to_accept(recording: Recording):
    body = recording.request_json
    traits = PROVIDER_TYPES[TYPE_OF[recording.provider]].traits_for(body.get("model") or "")

    assert set(body) & traits.drop_fields == ONLY_THE_DEFAULT.get(recording.id, set())


def openai_traits(model: str) -> OpenAIChatTraits:
    return openai.traits_for(model)


@pytest.mark.parametrize(
    "model", ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5-nano", "GPT-5-codex", "ft:o3"]
)
def test_reasoning_models_take_neither_temperature_nor_max_tokens(model):
    traits = openai_traits(model)

    assert {"temperature", "top_p"} <= traits.drop_fields
    assert (traits.penalties, traits.logprobs, traits.stop) == (False, False, False)
    assert traits.max_tokens_field == "max_completion_tokens"
    assert traits.rename_fields["max_tokens"] == "max_completion_tokens"


@pytest.mark.parametrize("model", ["gpt-5.1", "gpt-5.4-nano", "gpt-5.6-sol"])
def test_models_whose_reasoning_can_be_off_keep_their_temperature(model):
    traits = openai_traits(model)

    assert not traits.drop_fields
    assert traits.reasoning_style == "reasoning_effort"


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-4.1", "gpt-3.5-turbo", "gpt-5-chat-latest", "ft:gpt-4o:acme::1"])
def test_models_that_do_not_reason_are_not_told_how_hard_to_think(model):
    traits = openai_traits(model)

    assert traits.reasoning_style == "none"
    assert not traits.drop_fields


def test_only_models_with_ears_are_sent_audio():
    assert openai_traits("gpt-4o-audio-preview").audio
    assert openai_traits("gpt-4o-mini-audio-preview").audio
    assert not openai_traits("gpt-4o").audio


@pytest.mark.parametrize(
    ("model", "penalties", "stop", "style"),
    [
        ("grok-2", True, True, "none"),
        ("grok-3", True, True, "none"),
        ("grok-3-mini", False, False, "reasoning_effort"),
        ("grok-4", False, False, "none"),
        ("grok-4-0709", False, False, "none"),
        ("grok-4-fast-reasoning", False, False, "none"),
        ("grok-4-fast-non-reasoning", False, True, "none"),
        ("grok-4.20-0309-reasoning", False, False, "none"),
        ("grok-4.3", False, False, "reasoning_effort"),
        ("grok-4.5", False, False, "reasoning_effort"),
        ("grok-code-fast-1", False, False, "none"),
    ],
)
def test_what_grok_takes_depends_on_the_model(model, penalties, stop, style):
    traits = xai.traits_for(model)

    assert (traits.penalties, traits.stop, traits.reasoning_style) == (penalties, stop, style)
    assert traits.reasoning_outside_output


def test_deepseek_cannot_be_forced_to_call_a_tool_while_it_may_think():
    assert deepseek.traits_for("deepseek-chat").tool_choice_forced
    assert not deepseek.traits_for("deepseek-reasoner").tool_choice_forced
    assert not deepseek.traits_for("deepseek-v4-flash").tool_choice_forced
    assert not deepseek.traits_for("deepseek-reasoner").logprobs


def test_groq_tells_only_thinking_models_how_hard_to_think():
    assert groq.traits_for("openai/gpt-oss-120b").reasoning_style == "reasoning_effort"
    assert groq.traits_for("qwen/qwen3-32b").reasoning_style == "reasoning_effort"
    assert groq.traits_for("llama-3.3-70b-versatile").reasoning_style == "none"


def test_mistral_is_not_sent_what_it_calls_extra_inputs():
    traits = mistral.traits_for("ministral-3b-latest")

    assert not traits.asks_usage
    assert "stream_options" in traits.drop_fields
    assert traits.rename_fields == {"max_completion_tokens": "max_tokens", "seed": "random_seed"}


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-sonnet-4-5-20250929", (4, 5)),
        ("claude-sonnet-4-20250514", (4, 0)),
        ("claude-3-7-sonnet-20250219", (3, 7)),
        ("claude-3-haiku-20240307", (3, 0)),
        ("claude-opus-4.8", (4, 8)),
        ("claude-sonnet-5", (5, 0)),
        ("claude-fable-5-1", (5, 1)),
        ("claude-haiku-4-5@20251001", (4, 5)),
        ("claude-next", None),
    ],
)
def test_a_claude_name_tells_its_version(model, version):
    assert claude.version_of(model) == version


@pytest.mark.parametrize(
    ("model", "thinking", "samples", "efforts"),
    [
        ("claude-opus-5", "adaptive", False, {"low", "medium", "high", "xhigh", "max"}),
        ("claude-sonnet-5", "adaptive", False, {"low", "medium", "high", "xhigh", "max"}),
        ("claude-opus-4-7", "adaptive", False, {"low", "medium", "high", "xhigh", "max"}),
        ("claude-sonnet-4-6", "any", True, {"low", "medium", "high", "max"}),
        ("claude-opus-4-5-20251101", "budget", True, {"low", "medium", "high"}),
        ("claude-sonnet-4-5-20250929", "budget", True, set()),
        ("claude-haiku-4-5-20251001", "budget", True, set()),
        ("claude-opus-4-1-20250805", "budget", True, set()),
        ("claude-3-5-haiku-20241022", "none", True, set()),
        ("claude-next", "adaptive", False, {"low", "medium", "high", "xhigh", "max"}),
    ],
)
def test_what_claude_takes_depends_on_its_version(model, thinking, samples, efforts):
    traits = claude.traits_for(model)

    assert traits.thinking == thinking
    assert ("temperature" not in traits.drop_fields) == samples
    assert set(traits.efforts.values()) == efforts


def test_claude_traits_say_what_anthropic_says_of_its_own_models():
    (listing,) = recordings("models-list", provider="anthropic")
    for model in listing.json["data"]:
        capabilities = model["capabilities"]
        traits: AnthropicTraits = claude.traits_for(model["id"])
        known = claude.facts_for(model["id"])
        types = capabilities["thinking"]["types"]
        ways = (types["adaptive"]["supported"], types["enabled"]["supported"])
        efforts = {
            word for word, effort in capabilities["effort"].items() if word != "supported" and effort["supported"]
        }

        assert traits.thinking == {(True, True): "any", (True, False): "adaptive", (False, True): "budget"}[ways], (
            model["id"]
        )
        assert set(traits.efforts.values()) == efforts, model["id"]
        assert capabilities["structured_outputs"]["supported"] == (traits.structured_output != "none"), model["id"]
        assert capabilities["image_input"]["supported"] == ("images" in (known.capabilities or ())), model["id"]
        assert capabilities["pdf_input"]["supported"] == ("documents" in (known.capabilities or ())), model["id"]
        assert known.max_output_tokens == model["max_tokens"], model["id"]


@pytest.mark.parametrize(
    "model", ["claude-3-haiku-20240307", "claude-3-5-haiku-20241022", "claude-opus-5", "claude-next"]
)
def test_the_default_output_limit_never_passes_the_model_s_own(model):
    limit = claude.facts_for(model).max_output_tokens

    assert limit is None or claude.traits_for(model).default_max_tokens <= limit


def test_a_compatible_server_is_told_claude_s_ways_only_for_claude():
    told = anthropic.COMPATIBLE.traits_for("claude-opus-5")
    assert told == replace(claude.traits_for("claude-opus-5"), home="anthropic-compatible")
    assert anthropic.COMPATIBLE.traits_for("glm-4.7").thinking == "budget"
    assert not anthropic.COMPATIBLE.traits_for("glm-4.7").efforts


def test_groq_facts_say_what_groq_says_of_its_own_models():
    (listing,) = recordings("models-list", provider="groq")
    listed = {model["id"]: model for model in listing.json["data"]}
    for name, model in listed.items():
        known = groq.facts_for(name)
        if known.capabilities is None:
            continue
        features = set(model.get("supported_features") or ())

        assert known.max_output_tokens == model["max_completion_tokens"], name
        assert known.context_tokens == model["context_window"], name
        assert ("tools" in known.capabilities) == ("tools" in features), name
        assert ("reasoning" in known.capabilities) == ("reasoning" in features), name
        assert ("json_schema" in known.capabilities) == ("structured_outputs" in features), name
        assert ("images" in known.capabilities) == ("image" in model["input_modalities"]), name


@pytest.mark.parametrize("kind", sorted(PROVIDER_TYPES))
def test_what_a_provider_signed_is_nobody_elses(kind: str):
    """Servers of which nothing is known share a home, as do all ways to one company."""
    shared = {"grok": "xai", "google-openai": "google", "cursor": "openai-compatible"}
    shared |= dict.fromkeys(["ollama", "local"], "openai-compatible")
    known = PROVIDER_TYPES[kind]
    traits = [known.traits_for("some-model")]
    if known.other is not None:
        traits.append(known.other.traits_for("some-model"))
    homes = {each.home for each in traits if hasattr(each, "home")}
    assert homes <= {shared.get(kind, kind)}
