"""How much to think, in a provider's terms."""

from typing import Final, assert_never

from tollhouse.chat.model import Reasoning
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.dialects.openai_chat.wire import Json

# Thinking budgets, in tokens, from which on they count as more effort.  OpenRouter publishes shares of the output limit
# (openrouter.ai/docs, "Reasoning tokens": high 0.8, medium 0.5, low 0.2); these are such shares of 20,000.
_EFFORT_FROM_TOKENS: Final = ((16_000, "high"), (4_000, "medium"), (0, "low"))
# What OpenAI has no word for (platform.openai.com, `reasoning_effort`).
_OPENAI_EFFORTS: Final = {"max": "xhigh"}


def write_reasoning(wanted: Reasoning, traits: OpenAIChatTraits, receipt: Receipt) -> dict[str, Json]:
    """The request's fields for it; notes what they cannot say."""
    if wanted.display is not None:
        receipt.dropped("thinking.display", "the provider decides how it shows its reasoning")
    match traits.reasoning_style:
        case "none":
            if wanted.mode != "disabled":
                receipt.dropped("reasoning", "this model cannot be told how much to think")
            return {}
        case "reasoning_effort":
            return _effort_only(wanted, receipt)
        case "thinking":
            return _thinking(wanted, traits, receipt)
        case "enable_thinking":
            return _enable_thinking(wanted, receipt)
        case "openrouter":
            return _openrouter(wanted)
        case _:
            assert_never(traits.reasoning_style)


def _effort_only(wanted: Reasoning, receipt: Receipt) -> dict[str, Json]:
    if wanted.effort is not None:
        effort = _OPENAI_EFFORTS.get(wanted.effort, wanted.effort)
        if effort != wanted.effort:
            receipt.changed("reasoning.effort", f"{wanted.effort} said as `{effort}`, the most that there is")
    elif wanted.budget_tokens is not None and wanted.mode != "disabled":
        effort = effort_of(wanted.budget_tokens)
        receipt.changed("thinking.budget_tokens", f"{wanted.budget_tokens} said as `reasoning_effort: {effort}`")
    else:
        # Adaptive is what a model does unasked; an effort that an ordinary model does not know would fail the call.
        if wanted.mode == "disabled":
            receipt.dropped("reasoning", "there is no word for not thinking: the model does what it does unasked")
        return {}
    return {"reasoning_effort": effort}


def _thinking(wanted: Reasoning, traits: OpenAIChatTraits, receipt: Receipt) -> dict[str, Json]:
    fields: dict[str, Json] = {"thinking": {"type": "disabled" if _is_off(wanted) else "enabled"}}
    if wanted.budget_tokens is not None:
        receipt.dropped("thinking.budget_tokens", "the provider only turns thinking on or off")
    if wanted.effort is not None and not _is_off(wanted):
        if traits.thinking_effort:
            fields["reasoning_effort"] = wanted.effort
        else:
            receipt.changed("reasoning.effort", f"{wanted.effort} said as thinking turned on")
    return fields


def _enable_thinking(wanted: Reasoning, receipt: Receipt) -> dict[str, Json]:
    fields: dict[str, Json] = {"enable_thinking": not _is_off(wanted)}
    if wanted.budget_tokens is not None and not _is_off(wanted):
        fields["thinking_budget"] = wanted.budget_tokens
    elif wanted.effort is not None and not _is_off(wanted):
        receipt.changed("reasoning.effort", f"{wanted.effort} said as thinking turned on")
    return fields


def _openrouter(wanted: Reasoning) -> dict[str, Json]:
    if _is_off(wanted):
        return {"reasoning": {"enabled": False}}
    if wanted.effort is not None:
        return {"reasoning": {"effort": wanted.effort}}
    if wanted.budget_tokens is not None:
        return {"reasoning": {"max_tokens": wanted.budget_tokens}}
    return {"reasoning": {"enabled": True}}


def _is_off(wanted: Reasoning) -> bool:
    return wanted.mode == "disabled" or wanted.effort == "none"


def effort_of(tokens: int) -> str:
    """The effort that a thinking budget amounts to."""
    return next(effort for least, effort in _EFFORT_FROM_TOKENS if tokens >= least)
