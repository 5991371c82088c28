"""Another Tollhouse: a gateway behind a gateway, and what the client library speaks with one.

It is asked in the typed protocol, in which nothing of a conversation is lost; a client that speaks Chat Completions has its own
bytes forwarded in them.  There, what the gateway behind cannot open stays sealed: a value that comes from it belongs to it,
whatever provider stands behind it, and goes back to it as it came.
"""

from dataclasses import replace
from typing import Final

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.embeddings import EMBEDDINGS
from tollhouse.dialects.openai_chat.traits import OPENAI, OpenAIChatTraits
from tollhouse.dialects.protobuf import TypedTraits, typed
from tollhouse.providers.provider import OtherDialect, ProviderKind

TYPE: Final = "tollhouse"
HEALTH_PATH: Final = "/health"
LIVE_PATH: Final = "/health/live"
"""Both answer without a credential."""
COUNT_PATH: Final = "/v1/messages/count_tokens"
"""Takes Anthropic's request, whatever the model."""

_TRAITS: Final = replace(
    OPENAI,
    home=TYPE,
    call_ids="any",
    # It forwards the bytes of providers that leave reasoning out of the output; where they do not, their totals say so.
    reasoning_outside_output=True,
    reasoning_field="reasoning_content",
    reasoning_details=True,
    reasoning_style="openrouter",
    top_k=True,
    cache_control=True,
)


def traits_for(model: str) -> OpenAIChatTraits:
    """The same for every model: the gateway there leaves out by itself what a model does not know, and says so."""
    del model
    return _TRAITS


def without_version(base_url: str) -> str:
    """The gateway's own address; what OpenAI's tools are given has `/v1` at its end."""
    return base_url.removesuffix("/v1")


COMPLETIONS: Final = ProviderKind(
    type=TYPE,
    dialect=DIALECT,
    traits_for=traits_for,
    base_url=None,
    needs_key=False,
    needs_base_url=True,
    continues_traces=True,
    complete_base_url=without_version,
    chat_path="/v1/chat/completions",
    models_path="/v1/models",
    embeddings=EMBEDDINGS,
    embeddings_path="/v1/embeddings",
)
"""One that is asked in Chat Completions and nothing else, as any server of that API is."""


def _typed_traits_for(model: str) -> TypedTraits:
    del model
    return TypedTraits()


# What it counts may be its estimate, and an estimate must not pass for a count: so it is not asked for one.
KIND: Final = replace(
    COMPLETIONS,
    dialect=typed("json"),
    traits_for=_typed_traits_for,
    chat_path="/v1/chat",
    models_path="/v1/server",  # whose description of the server has the typed list; `/v1/models` is OpenAI's
    other=OtherDialect(
        api="chat",
        dialect=DIALECT,
        chat_path=COMPLETIONS.chat_path,
        counting=None,
        count_tokens_path=None,
        traits_for=traits_for,
        offers=lambda _: True,
        is_only_one=lambda _: False,
    ),
)
