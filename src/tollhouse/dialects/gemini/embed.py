"""Embeddings: `:embedContent` for one text and `:batchEmbedContents` for several (ai.google.dev/api/embeddings).

Providers are always asked in the second form, which has the first in it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from tollhouse.chat.embedding import EmbeddingRequest, Embeddings, EmbeddingTask
from tollhouse.chat.model import Extra
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.embedding import EmbeddingDialect, EmbeddingPeek
from tollhouse.dialects.fields import LAX_COUNT, OBJECT, TEXT, UNREADABLE, WireFault, bad_request, describe
from tollhouse.dialects.gemini.lane import resource_name, top_level
from tollhouse.dialects.gemini.wire import NAME, Block, Fields, encoded
from tollhouse.errors import BadRequest, Untranslatable, UpstreamMalformed

MAX_INPUTS: Final = 2_048
"""As many as OpenAI's clients may send; Google's own bound is lower, and its to say."""

_TASKS: Final[Mapping[str, EmbeddingTask]] = {
    "RETRIEVAL_QUERY": "query",
    "RETRIEVAL_DOCUMENT": "document",
    "SEMANTIC_SIMILARITY": "similarity",
    "CLASSIFICATION": "classification",
    "CLUSTERING": "clustering",
    "QUESTION_ANSWERING": "question_answering",
    "FACT_VERIFICATION": "fact_verification",
    "CODE_RETRIEVAL_QUERY": "code_query",
}
_TASK_NAMES: Final = {task: name for name, task in _TASKS.items()}


class _Vector(msgspec.Struct):
    values: list[float] = []


class _Usage(msgspec.Struct):
    promptTokenCount: int | None = None  # noqa: N815  # the wire's name
    totalTokenCount: int | None = None  # noqa: N815


class _Answer(msgspec.Struct):
    embeddings: list[_Vector]
    usageMetadata: _Usage | None = None  # noqa: N815


class _Glance(msgspec.Struct):
    embeddings: msgspec.Raw
    usageMetadata: _Usage | None = None  # noqa: N815


_ANSWERS: Final = msgspec.json.Decoder(_Answer)
_GLANCES: Final = msgspec.json.Decoder(_Glance)


class _Asked(msgspec.Struct, frozen=True):
    """One `EmbedContentRequest`."""

    text: str
    dimensions: int | None
    task: EmbeddingTask | None
    title: str | None
    rest: Extra | None


class GeminiEmbeddings:
    """See `tollhouse.dialects.embedding.EmbeddingDialect`.  The model is the path's to say."""

    def peek(self, body: bytes) -> EmbeddingPeek:
        """The top level of a request."""
        return EmbeddingPeek(top_level(body), "")

    def decode_request(self, body: bytes) -> EmbeddingRequest:
        """The whole request.  All of a batch must want the same: other dialects say it once."""
        top_level(body)
        try:
            asked = self._read(Fields(body, ""))
        except WireFault as fault:
            raise bad_request(fault) from fault
        if not asked:
            raise BadRequest("The request has nothing to embed: give it at least one text.", param="requests")
        if len(asked) > MAX_INPUTS:
            raise BadRequest(f"There are {len(asked)} texts; {MAX_INPUTS} are the most for one call.", param="requests")
        first = asked[0]
        for other in asked[1:]:
            if (other.dimensions, other.task) != (first.dimensions, first.task):
                raise BadRequest("The requests of one batch want different kinds of vectors; send them apart.")
        return EmbeddingRequest(
            model="",
            inputs=tuple(each.text for each in asked),
            dimensions=first.dimensions,
            task=first.task,
            title=first.title if len(asked) == 1 else None,
            extra=first.rest,
        )

    def _read(self, fields: Fields) -> Sequence[_Asked]:
        return [_read_one(Fields(raw, path)) for path, raw in fields.items("requests")]

    def encode_response(self, answer: Embeddings, request: EmbeddingRequest, receipt: Receipt) -> bytes:  # noqa: ARG002
        """The answer, its vectors as numbers."""
        fields: Block = {"embeddings": [{"values": list(vector)} for vector in answer.vectors]}
        return msgspec.json.encode(_with_usage(fields, answer.usage))

    def encode_request(self, request: EmbeddingRequest, receipt: Receipt) -> bytes:
        """The request for a provider.  Raises `Untranslatable` for tokens: only the model's own provider can read those."""
        if request.user is not None:
            receipt.dropped("user", "Gemini's dialect has no such field")
        if request.extra is not None and request.extra.dialect != NAME:
            for name in request.extra.fields:
                receipt.dropped(name, "Gemini's embeddings do not have it")
        wanted: Block = {"model": resource_name(request.model)}
        if request.task is not None:
            wanted["taskType"] = _TASK_NAMES[request.task]
        if request.title is not None:
            wanted["title"] = request.title
        if request.dimensions is not None:
            wanted["outputDimensionality"] = request.dimensions
        if request.extra is not None and request.extra.dialect == NAME:
            wanted.update(request.extra.fields)
        requests: list[Block] = []
        for text in request.inputs:
            if not isinstance(text, str):
                raise Untranslatable("Google embeds texts; it cannot be sent the tokens of another model's tokenizer.")
            requests.append({**wanted, "content": {"parts": [{"text": text}]}})
        return msgspec.json.encode({"requests": requests})

    def patch(self, peek: EmbeddingPeek, model: str) -> bytes:
        """The client's batch for another model, whose name stands in each of its requests."""
        try:
            requests = [
                OBJECT.decode(raw) for raw in msgspec.json.decode(peek.fields["requests"], type=list[msgspec.Raw])
            ]
        except (KeyError, *UNREADABLE) as error:
            raise BadRequest("requests: This must be an array of objects.", param="requests") from error
        name = encoded(resource_name(model))
        return msgspec.json.encode({**peek.fields, "requests": [{**each, "model": name} for each in requests]})

    def decode_response(self, body: bytes) -> Embeddings:
        """The vectors, in the order of their inputs."""
        try:
            answer = _ANSWERS.decode(body)
        except UNREADABLE as error:
            raise UpstreamMalformed(f"The embeddings are not what Google sends: {describe(error)}.") from error
        vectors = tuple(vector.values for vector in answer.embeddings)
        return Embeddings(model="", vectors=vectors, usage=_used(answer.usageMetadata))

    def glance(self, body: bytes) -> Usage:
        """The usage of an answer."""
        try:
            return _used(_GLANCES.decode(body).usageMetadata)
        except UNREADABLE as error:
            raise UpstreamMalformed(f"The embeddings are not what Google sends: {describe(error)}.") from error


class GeminiEmbedding(GeminiEmbeddings):
    """The form for one text, for clients."""

    def _read(self, fields: Fields) -> Sequence[_Asked]:
        return [_read_one(fields)]

    def encode_response(self, answer: Embeddings, request: EmbeddingRequest, receipt: Receipt) -> bytes:  # noqa: ARG002
        """The answer, its vector as numbers."""
        vector = answer.vectors[0] if answer.vectors else ()
        return msgspec.json.encode(_with_usage({"embedding": {"values": list(vector)}}, answer.usage))


EMBEDDINGS: Final[EmbeddingDialect] = GeminiEmbeddings()
"""`:batchEmbedContents`."""
EMBEDDING: Final[EmbeddingDialect] = GeminiEmbedding()
"""`:embedContent`; on the client's side only."""


def _read_one(asked: Fields) -> _Asked:
    asked.raw("model")
    content = asked.object("content")
    if content is None:
        raise WireFault(asked.at("content"), "This must be given: the content to embed.")
    texts: list[str] = []
    for path, raw in content.items("parts"):
        text = Fields(raw, path).take("text", TEXT)
        if text is None:
            raise WireFault(path, "Only text can be embedded.")
        texts.append(text)
    word = asked.take("taskType", TEXT)
    task = None if word is None else _TASKS.get(word.upper())
    if word is not None and task is None and word.upper() != "TASK_TYPE_UNSPECIFIED":
        raise WireFault(asked.at("taskType"), f"This must be one of {', '.join(_TASKS)}.")
    return _Asked(
        text="\n".join(texts),
        dimensions=asked.take("outputDimensionality", LAX_COUNT),
        task=task,
        title=asked.take("title", TEXT),
        rest=asked.rest(),
    )


def _with_usage(fields: Block, usage: Usage) -> Block:
    if usage.input_tokens is not None:
        fields["usageMetadata"] = {"promptTokenCount": usage.input_tokens, "totalTokenCount": usage.input_tokens}
    return fields


def _used(usage: _Usage | None) -> Usage:
    if usage is None:
        return Usage()
    tokens = usage.totalTokenCount if usage.promptTokenCount is None else usage.promptTokenCount
    if tokens is None or tokens < 0:
        return Usage()
    return Usage(input_tokens=tokens, output_tokens=0, source="reported")
