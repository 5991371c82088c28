"""Why an answer ended: the words on the wire and ours."""

from typing import Final

from tollhouse.chat.model import FinishReason

_READ: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "error": "error",
    # DeepSeek (api-docs.deepseek.com): the inference system ran short; GLM (docs.z.ai): its filter, its own failure.
    "insufficient_system_resource": "error",
    "sensitive": "content_filter",
    "network_error": "error",
    # Mistral (docs.mistral.ai) and GLM: the context window is full.
    "model_length": "length",
    "model_context_window_exceeded": "context_exceeded",
    # Together and older servers.
    "eos": "stop",
    "max_tokens": "length",
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "refusal": "refusal",
}

_WRITTEN: Final[dict[FinishReason, str]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "stop_sequence": "stop",
    "content_filter": "content_filter",
    # OpenAI itself finishes a refusal with `stop` (`openai-chat-stream-refusal-e8ad18`), but there the words are apart.
    "refusal": "content_filter",
    # `pause`: the turn is not over, but nothing that this dialect can say makes a client go on.
    "pause": "stop",
    "context_exceeded": "length",
    "error": "content_filter",
    "other": "stop",
}


def finish_reason(word: str) -> FinishReason:
    """Our reason for a provider's word; `other` for one that nobody documented."""
    return _READ.get(word, "other")


def finish_word(reason: FinishReason | None) -> str:
    """OpenAI's word.  The SDKs know five: what is not among them is said by the nearest."""
    return "stop" if reason is None else _WRITTEN[reason]
