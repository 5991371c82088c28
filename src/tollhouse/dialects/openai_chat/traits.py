"""How one provider's spelling of Chat Completions differs from OpenAI's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from tollhouse.chat.call_ids import Form


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIChatTraits:
    """What a provider can say and how.  The defaults are OpenAI itself.

    The ids in the field notes are recordings (`tests/recorded`) that show the peculiarity.
    """

    home: str = "openai"
    """The provider's type: whose opaque reasoning it knows as its own."""
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    """The name of the output limit in a translated request.  GLM, DeepSeek, Qwen and most local servers know only
    `max_tokens`; OpenAI's reasoning models refuse it."""
    asks_usage: bool = True
    """Whether a stream has to be asked for its usage (`stream_options.include_usage`).  Off for a provider that refuses
    the option; it then either reports unasked or not at all."""
    reasoning_outside_output: bool = False
    """`completion_tokens` leaves hidden tokens out, `total_tokens` has them: xAI (`xai-chat-stream-reasoning-41781f`) and
    Google's compatible endpoint (`gemini-chat-json-tool-result-d755c3`: 66 + 6, total 100)."""
    reasoning_field: Literal["reasoning_content", "reasoning"] | None = None
    """Where an assistant turn carries its earlier reasoning back.  `None`: nowhere, it is dropped.
    DeepSeek wants `reasoning_content` inside a tool loop (`deepseek-chat-json-reasoning-071850`); Ollama and OpenRouter
    read `reasoning` (`ollama-chat-json-reasoning-50ed92`)."""
    reasoning_details: bool = False
    """Signed and encrypted reasoning can be carried back as `reasoning_details` (OpenRouter, Vercel:
    `vercel-gateway-chat-stream-tool-call-09ea07`)."""
    reasoning_style: Literal["reasoning_effort", "thinking", "enable_thinking", "openrouter", "none"] = (
        "reasoning_effort"
    )
    """How a request says how much to think: OpenAI's `reasoning_effort`; `{"thinking": {"type": …}}` of GLM and DeepSeek
    (`deepseek-chat-json-error-400-498311`); Qwen's `enable_thinking` and `thinking_budget`; OpenRouter's
    `{"reasoning": {…}}`; or not at all (`xai-chat-json-error-400-bd6f29` refuses the parameter)."""
    thinking_effort: bool = False
    """Beside `thinking`, `reasoning_effort` is read too (DeepSeek, `deepseek-chat-stream-reasoning-6e96d6`)."""
    developer_role: bool = True
    """`developer` messages are understood; else they are sent as `system`."""
    images: bool = True
    """`image_url` parts are understood; DeepSeek refuses the whole call (`deepseek-chat-json-error-400-d8e2c7`)."""
    documents: bool = True
    """`file` parts are understood (`deepseek-chat-json-error-400-498311` refuses them)."""
    audio: bool = True
    """`input_audio` parts are understood."""
    strict_tools: bool = True
    """`strict` in a function tool is understood."""
    custom_tools: bool = True
    """Free-form `custom` tools are understood; else they become functions with one string argument."""
    json_schema: bool = True
    """`response_format: json_schema` is understood; else `json_object` is asked for."""
    json_object: bool = True
    """`response_format: json_object` is understood."""
    call_ids: Form = "up_to_40"
    """Which ids of tool calls the provider takes; others are sent as a digest, in the same-dialect lane too."""
    parallel_tool_calls: bool = True
    logprobs: bool = True
    many_choices: bool = True
    """`n` over 1 is understood."""
    top_k: bool = False
    """`top_k` is understood (Qwen, OpenRouter, vLLM, llama.cpp; not OpenAI)."""
    seed: bool = True
    penalties: bool = True
    """`presence_penalty` and `frequency_penalty` are understood."""
    stop: bool = True
    """`stop` is understood."""
    tool_choice_forced: bool = True
    """`tool_choice` may be `required` or name a tool; else `auto` is all there is."""
    tool_choice_free: bool = True
    """The model can choose whether to call a tool; else tools reach it only where `tool_choice` demands a call, in the
    same-dialect lane too (embedded models whose chat template knows no tools)."""
    text_array_content: bool = True
    """Text may come as an array of parts; else text parts are joined into one string."""
    user: bool = True
    """`user` is understood."""
    service_tier: bool = True
    prompt_cache_key: bool = True
    cache_control: bool = False
    """Anthropic's cache markers are passed on (OpenRouter: `openrouter-chat-stream-cache-control-b5c3b0`)."""
    max_cache_markers: int | None = None
    """How many of them the provider takes, in all of a request; `None` where that is not its own business."""
    cache_breakpoints: bool = False
    """`prompt_cache_breakpoint` in a part is understood (OpenAI from GPT-5.6 on)."""
    drop_fields: frozenset[str] = frozenset()
    """Top-level fields that the provider refuses, taken out in the same-dialect lane too."""
    rename_fields: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Top-level fields under another name (`max_completion_tokens` → `max_tokens`), in the same-dialect lane too.  A field
    whose new name the client also sent is left out."""


OPENAI = OpenAIChatTraits()
"""OpenAI itself."""
