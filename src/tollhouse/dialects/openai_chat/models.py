"""Model lists."""

from collections.abc import Sequence
from typing import Final

import msgspec

from tollhouse.dialects.dialect import ModelCard
from tollhouse.dialects.openai_chat.wire import Json
from tollhouse.errors import UpstreamMalformed

MAX_MODELS: Final = 20_000


def encode_models(models: Sequence[ModelCard]) -> bytes:
    """`{"object": "list", "data": […]}`."""
    return msgspec.json.encode({"object": "list", "data": [_card(model) for model in models]})


def encode_model(model: ModelCard) -> bytes:
    """One model."""
    return msgspec.json.encode(_card(model))


def decode_models(body: bytes) -> tuple[str, ...]:
    """The names in a provider's list, in its order, each once.  Raises `UpstreamMalformed`.

    `data` is OpenAI's; a bare list is Together's; `models` is Google's and Ollama's own.
    """
    try:
        value: Json = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise UpstreamMalformed("The provider's model list is not JSON.") from error
    match value:
        case {"data": list() as entries} | {"models": list() as entries} | (list() as entries):
            pass
        case _:
            raise UpstreamMalformed("The provider's model list has no `data`.")
    names: dict[str, None] = {}
    for entry in entries[:MAX_MODELS]:
        if isinstance(entry, dict):
            name = entry.get("id") or entry.get("name")
            if isinstance(name, str) and name:
                # Google's compatible endpoint lists `models/gemini-…` and takes `gemini-…`.
                names[name.removeprefix("models/")] = None
    return tuple(names)


def _card(model: ModelCard) -> dict[str, Json]:
    card: dict[str, Json] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owner,
    }
    # Groq's names for what OpenAI does not say (`groq-models-cb4d7d`).
    if model.display_name is not None:
        card["name"] = model.display_name
    if model.context_tokens is not None:
        card["context_window"] = model.context_tokens
    if model.max_output_tokens is not None:
        card["max_completion_tokens"] = model.max_output_tokens
    return card
