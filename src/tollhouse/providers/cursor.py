"""Cursor.

Cursor has no endpoint that completes chats: its public API starts agents (cursor.com/docs/cloud-agent/api, read November
2026).  What people call a Cursor endpoint is a bridge of their own that speaks Chat Completions, so the address has to be
written in the configuration, and nothing is taken for granted about the models behind it.
"""

from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.providers.compatible import traits_for
from tollhouse.providers.provider import ProviderKind

KIND: Final = ProviderKind(
    type="cursor",
    dialect=DIALECT,
    traits_for=traits_for,
    base_url=None,
    needs_base_url=True,
    key_variable="CURSOR_API_KEY",
)
