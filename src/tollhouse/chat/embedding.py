"""Embeddings: texts in, vectors out."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from tollhouse.chat.model import Extra
from tollhouse.chat.usage import Usage

EmbeddingTask = Literal[
    "query",  # a question, to find documents by
    "document",  # something to be found
    "similarity",
    "classification",
    "clustering",
    "question_answering",
    "fact_verification",
    "code_query",
]
"""What the vectors are for, where a provider makes different ones (Gemini's `taskType`, Cohere's and Voyage's `input_type`)."""


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call for vectors, one for each input, in order."""

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    """Texts, or texts as tokens of the model's own tokenizer; at least one."""
    dimensions: int | None = None
    """How long the vectors shall be; `None` is as long as the model makes them."""
    encoding: Literal["float", "base64"] = "float"
    """How OpenAI's clients want the vectors: numbers, or base64 of little-endian 32-bit floats."""
    task: EmbeddingTask | None = None
    title: str | None = None
    """Of a document."""
    user: str | None = None
    """The client's own id of its end user."""
    extra: Extra | None = None


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors in the order of the inputs."""

    model: str
    vectors: tuple[Sequence[float], ...]
    usage: Usage = Usage()
