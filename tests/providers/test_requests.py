"""Recorded requests, read and written again with the traits of the provider that accepted them: they must ask for the same."""

import json
from typing import Any

import pytest

from support.recordings import Recording, by_id, recordings
from tollhouse.chat.receipt import Receipt
from tollhouse.providers.registry import PROVIDER_TYPES

TYPE_OF = {
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
    "llamacpp": "openai-compatible",
    "vllm": "openai-compatible",
    "anthropic": "anthropic",
}

ACCEPTED = [
    recording
    for provider in TYPE_OF
    for recording in recordings("anthropic-messages" if provider == "anthropic" else "openai-chat", provider=provider)
    if isinstance(recording.request_json, dict) and not recording.is_error
]

# Ollama reads no such field (docs.ollama.com/api/openai-compatibility); the recorded client sent it in vain.
IN_VAIN = {("ollama", "enable_thinking")}


def asks_for(recording: Recording, body: dict[str, Any]) -> dict[str, Any]:
    """A request's top-level fields in one spelling for each meaning; `messages` are the dialects' own tests' business."""
    meaning = {name: value for name, value in body.items() if (recording.provider, name) not in IN_VAIN}
    del meaning["messages"]
    # The gateway always asks for usage; how is tested below.
    meaning.pop("stream_options", None)
    if meaning.get("stream") is False:
        del meaning["stream"]
    if meaning.get("n") == 1:
        del meaning["n"]
    if "max_tokens" in meaning:
        meaning["max_completion_tokens"] = meaning.pop("max_tokens")
    if meaning.get("tool_choice") == "any":
        meaning["tool_choice"] = "required"
    if "functions" in meaning:
        meaning["tools"] = [{"type": "function", "function": function} for function in meaning.pop("functions")]
    if "tools" not in meaning:
        meaning.pop("parallel_tool_calls", None)
    system = meaning.get("system")
    if isinstance(system, list) and len(system) == 1 and system[0].keys() == {"type", "text"}:
        meaning["system"] = system[0]["text"]
    if "output_format" in meaning:
        meaning["output_config"] = {"format": meaning.pop("output_format")}
    if TYPE_OF[recording.provider] in {"deepseek", "glm"} and "reasoning_effort" in meaning:
        meaning.setdefault("thinking", {"type": "enabled"})  # an effort means to think
    return meaning


def written_again(recording: Recording) -> tuple[dict[str, Any], dict[str, Any], Receipt]:
    kind = PROVIDER_TYPES[TYPE_OF[recording.provider]]
    # Vertex names the model in the address.
    body = {"model": "claude-sonnet-4-5", **recording.request_json}
    receipt = Receipt()
    request = kind.dialect.decode_request(json.dumps(body).encode())
    written = kind.dialect.encode_request(request, kind.traits_for(body["model"]), receipt)
    return body, json.loads(written), receipt


@pytest.mark.parametrize("recording", ACCEPTED, ids=by_id)
def test_what_a_provider_accepted_is_asked_for_again(recording: Recording):
    body, written, receipt = written_again(recording)
    before, after = asks_for(recording, body), asks_for(recording, written)
    noted = " ".join(receipt.entries)

    assert {name: value for name, value in before.items() if name not in noted} == {
        name: value for name, value in after.items() if name not in noted
    }


# The one temperature that gpt-5-nano takes is its default, and earlier reasoning goes back only where a provider reads it.
# Ollama takes `enable_thinking` without a complaint and thinks all the same (`ollama-chat-json-reasoning-50ed92`).
LOSSES = {
    "ollama-chat-json-parallel-tool-calls-261fd4": ("dropped reasoning",),
    "ollama-chat-json-reasoning-50ed92": ("dropped reasoning",),
    "openai-chat-stream-finish-length-1b7350": ("dropped temperature",),
    "xai-chat-stream-reasoning-41781f": ("dropped messages[1]",),
    "llamacpp-chat-stream-tool-result-d14d7b": ("dropped messages[1]",),
}


@pytest.mark.parametrize("recording", ACCEPTED, ids=by_id)
def test_nothing_that_a_provider_accepted_is_dropped_on_the_way_to_it(recording: Recording):
    _, _, receipt = written_again(recording)
    expected = LOSSES.get(recording.id, ())

    assert len(receipt.entries) == len(expected)
    assert all(entry.startswith(start) for entry, start in zip(receipt.entries, expected, strict=True))


@pytest.mark.parametrize("recording", [r for r in ACCEPTED if r.provider != "anthropic"], ids=by_id)
def test_a_stream_asks_for_usage_exactly_where_the_provider_takes_the_question(recording: Recording):
    body, written, _ = written_again(recording)
    traits = PROVIDER_TYPES[TYPE_OF[recording.provider]].traits_for(body["model"])

    expected = {"include_usage": True} if body.get("stream") and traits.asks_usage else None
    assert written.get("stream_options") == expected


def test_there_are_requests_of_every_provider_that_was_recorded():
    assert {recording.provider for recording in ACCEPTED} == TYPE_OF.keys()
