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
    "refusal": "content_filter",
    # Nothing that this dialect can say makes a client go on with a paused turn.
    "pause": "stop",
    "context_exceeded": "length",
    # OpenRouter's word; honest, where any of OpenAI's five would not be.
    "error": "error",
    "other": "stop",
}


def finish_reason(word: str) -> FinishReason:
    """Our reason for a provider's word; `other` for one that nobody documented."""
    return _READ.get(word, "other")


def finish_word(reason: FinishReason | None, detail: str | None, *, is_legacy: bool, has_refusal: bool) -> str:
    """OpenAI's word.  `is_legacy`: the answer holds an old `function_call`; `has_refusal`: it holds a refusal's words.

    After a refusal OpenAI itself says `stop` (`openai-chat-stream-refusal-e8ad18`); without the words apart, only
    `content_filter` tells a client that this is no ordinary answer.
    """
    match reason:
        case None:
            return "stop"
        case "tool_calls" if is_legacy:
            return "function_call"
        case "refusal" if has_refusal:
            return "stop"
        case "other" if detail:
            return detail
        case _:
            return _WRITTEN[reason]
