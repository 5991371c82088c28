"""The Responses API of providers that are not OpenAI: asked only where a configuration says `api: responses` at a model."""

from tollhouse.dialects.openai_responses import ELSEWHERE, ResponsesTraits
from tollhouse.providers.provider import OtherDialect


def on_request(traits: ResponsesTraits) -> OtherDialect:
    """The way to ask a provider whose chat endpoint does as well for nearly all of its models."""
    return OtherDialect(
        api="responses",
        dialect=ELSEWHERE,
        chat_path="/responses",
        counting=None,
        count_tokens_path=None,
        traits_for=lambda _: traits,
        offers=lambda _: False,
        is_only_one=lambda _: False,
    )
