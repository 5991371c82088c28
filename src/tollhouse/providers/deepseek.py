"""DeepSeek."""

from dataclasses import replace
from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.dialects.openai_responses import ResponsesTraits
from tollhouse.providers.catalogue import by_prefix, facts
from tollhouse.providers.provider import ProviderKind
from tollhouse.providers.responses_api import on_request

# Media are refused (`deepseek/deepseek-chat-json-error-400-d8e2c7`, `…-498311`); `json_object` is the only response format,
# and neither `n`, `seed` nor the role `developer` is documented (api-docs.deepseek.com, 2026).
_TRAITS: Final = OpenAIChatTraits(
    home="deepseek",
    max_tokens_field="max_tokens",
    reasoning_field="reasoning_content",
    reasoning_style="thinking",
    thinking_effort=True,
    developer_role=False,
    images=False,
    documents=False,
    audio=False,
    custom_tools=False,
    json_schema=False,
    many_choices=False,
    seed=False,
    user=False,
    service_tier=False,
    prompt_cache_key=False,
    # Models think unless told otherwise, and then 400: "Thinking mode does not support this tool_choice".
    tool_choice_forced=False,
)
_CHAT: Final = replace(_TRAITS, tool_choice_forced=True)
_REASONER: Final = replace(_TRAITS, logprobs=False)


def traits_for(model: str) -> OpenAIChatTraits:
    """`deepseek-chat` never thinks, `deepseek-reasoner` always does and refuses log-probabilities; the others may."""
    match model.lower():
        case "deepseek-chat":
            return _CHAT
        case "deepseek-reasoner":
            return _REASONER
        case _:
            return _TRAITS


facts_for: Final = by_prefix(
    {
        "deepseek-chat": facts("text", "tools", "logprobs"),
        "deepseek-reasoner": facts("text", "tools", "reasoning"),
        "deepseek-v4": facts("text", "tools", "reasoning", "logprobs"),
    }
)

KIND: Final = ProviderKind(
    type="deepseek",
    dialect=DIALECT,
    traits_for=traits_for,
    facts_for=facts_for,
    base_url="https://api.deepseek.com",
    key_variable="DEEPSEEK_API_KEY",
    other=on_request(
        ResponsesTraits(
            home="deepseek",
            asks_encrypted=False,
            reasoning_text=True,
            developer_role=False,
            images=False,
            documents=False,
            custom_tools=False,
            json_schema=False,
            user=False,
            service_tier=False,
            prompt_cache_key=False,
        )
    ),
)
