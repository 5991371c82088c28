"""Qwen by Alibaba Cloud: Model Studio's compatible mode.

Keys belong to a region.  The default is the international one; write another as `base_url`:
`https://dashscope.aliyuncs.com/compatible-mode/v1` (China), `https://dashscope-us.aliyuncs.com/compatible-mode/v1`
(Virginia), or a workspace's own domain (alibabacloud.com/help/model-studio/base-url, read November 2026).
"""

import re
from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.embeddings import EMBEDDINGS
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.providers.catalogue import by_prefix, facts
from tollhouse.providers.provider import OtherPaths, ProviderKind

_TRAITS: Final = OpenAIChatTraits(
    home="qwen",
    max_tokens_field="max_tokens",
    reasoning_style="enable_thinking",
    developer_role=False,
    documents=False,
    custom_tools=False,
    top_k=True,
    user=False,
    service_tier=False,
    prompt_cache_key=False,
)


def traits_for(model: str) -> OpenAIChatTraits:
    """The same for every model."""
    del model
    return _TRAITS


facts_for: Final = by_prefix(
    {
        "qwen3-vl": facts("text", "images", "tools", "reasoning"),
        "qwen-vl": facts("text", "images"),
        "qwq": facts("text", "tools", "reasoning"),
    }
)

# The native API, DashScope, is on the same hosts: alibabacloud.com/help/model-studio/dashscope-api-reference, read November
# 2026; `qwen/qwen-native-stream-misc-3440c8`.
_DASHSCOPE: Final = OtherPaths(
    address_end=re.compile(r"/compatible-mode/v1$"),
    at_root=re.compile(r"/api/"),
    request_headers=frozenset({b"x-dashscope-async", b"x-dashscope-ossresourceresolve", b"x-dashscope-sse"}),
)

KIND: Final = ProviderKind(
    type="qwen",
    dialect=DIALECT,
    embeddings=EMBEDDINGS,
    embeddings_path="/embeddings",
    traits_for=traits_for,
    facts_for=facts_for,
    base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
    key_variable="DASHSCOPE_API_KEY",
    other_paths=_DASHSCOPE,
)
