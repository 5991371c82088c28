"""OpenAI's embeddings (platform.openai.com/docs/api-reference/embeddings), which most other providers speak too."""

import base64
import struct
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from tollhouse.chat.embedding import EmbeddingRequest, Embeddings
from tollhouse.chat.model import Extra
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.embedding import EmbeddingDialect, EmbeddingPeek
from tollhouse.dialects.openai_chat.peek import is_null, model_of, read_fields, whole_number_of
from tollhouse.dialects.openai_chat.wire import NAME
from tollhouse.errors import BadRequest, UpstreamMalformed

MAX_INPUTS: Final = 2_048
"""OpenAI's own bound."""
_NEEDS: Final = "`model` and `input`"
_KNOWN: Final = frozenset({"model", "input", "dimensions", "encoding_format", "user"})
_FLOAT_BYTES: Final = 4

Encoding = Literal["float", "base64"]

_input: Final = msgspec.json.Decoder(str | list[str | int | list[int]])
_encoding: Final[msgspec.json.Decoder[Encoding]] = msgspec.json.Decoder(Encoding)
_text: Final[msgspec.json.Decoder[str | None]] = msgspec.json.Decoder(str | None)


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Vector(msgspec.Struct):
    embedding: list[float] | str
    index: int = 0


class _Answer(msgspec.Struct):
    data: list[_Vector]
    model: str = ""
    usage: _Usage | None = None


class _Glance(msgspec.Struct):
    data: msgspec.Raw
    usage: _Usage | None = None


_answers: Final = msgspec.json.Decoder(_Answer)
_glances: Final = msgspec.json.Decoder(_Glance)


class OpenAIEmbeddings:
    """See `tollhouse.dialects.embedding.EmbeddingDialect`."""

    def peek(self, body: bytes) -> EmbeddingPeek:
        """The top level of a request."""
        fields = read_fields(body, _NEEDS)
        if is_null(fields.get("input")):
            raise BadRequest("The request has nothing to embed: set `input` to a text or to several.", param="input")
        return EmbeddingPeek(fields, model_of(fields))

    def decode_request(self, body: bytes) -> EmbeddingRequest:
        """The whole request."""
        peek = self.peek(body)
        fields = peek.fields
        rest = {name: raw for name, raw in fields.items() if name not in _KNOWN and not is_null(raw)}
        return EmbeddingRequest(
            model=peek.model,
            inputs=_inputs(fields["input"]),
            dimensions=whole_number_of(fields, "dimensions"),
            encoding=_encoding_of(fields.get("encoding_format")),
            user=_user(fields.get("user")),
            extra=Extra(NAME, rest) if rest else None,
        )

    def encode_response(self, answer: Embeddings, request: EmbeddingRequest, receipt: Receipt) -> bytes:  # noqa: ARG002
        """The answer, with vectors as the client wants them."""
        write = _packed if request.encoding == "base64" else list[float]
        body: dict[str, object] = {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": write(vector)}
                for index, vector in enumerate(answer.vectors)
            ],
            "model": answer.model,
        }
        tokens = answer.usage.input_tokens
        # The SDKs' types have no room for an answer without usage.
        body["usage"] = {"prompt_tokens": tokens or 0, "total_tokens": tokens or 0}
        return msgspec.json.encode(body)

    def encode_request(self, request: EmbeddingRequest, receipt: Receipt) -> bytes:
        """The request for a provider."""
        fields: dict[str, object] = {
            "model": request.model,
            "input": request.inputs[0] if len(request.inputs) == 1 else request.inputs,
            "encoding_format": "float",
        }
        if request.dimensions is not None:
            fields["dimensions"] = request.dimensions
        if request.user is not None:
            fields["user"] = request.user
        if request.task is not None:
            receipt.dropped("taskType", "OpenAI's models make the same vectors for every purpose")
        if request.title is not None:
            receipt.dropped("title", "OpenAI's embeddings know texts without titles")
        if request.extra is not None and request.extra.dialect == NAME:
            fields.update(request.extra.fields)
        elif request.extra is not None:
            for name in request.extra.fields:
                receipt.dropped(name, "OpenAI's embeddings do not have it")
        return msgspec.json.encode(fields)

    def patch(self, peek: EmbeddingPeek, model: str) -> bytes:
        """The client's fields under the provider's name of the model."""
        return msgspec.json.encode({**peek.fields, "model": model})

    def decode_response(self, body: bytes) -> Embeddings:
        """The vectors, in the order of their inputs."""
        try:
            answer = _answers.decode(body)
            vectors = [_unpacked(entry.embedding) for entry in sorted(answer.data, key=lambda entry: entry.index)]
        except (msgspec.DecodeError, ValueError, struct.error) as error:
            raise UpstreamMalformed(f"The provider's embeddings cannot be read: {error}.") from error
        return Embeddings(model=answer.model, vectors=tuple(vectors), usage=_used(answer.usage))

    def glance(self, body: bytes) -> Usage:
        """The usage of an answer."""
        try:
            return _used(_glances.decode(body).usage)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UpstreamMalformed(f"The provider's embeddings cannot be read: {error}.") from error


EMBEDDINGS: Final[EmbeddingDialect] = OpenAIEmbeddings()


def _inputs(raw: msgspec.Raw) -> tuple[str | tuple[int, ...], ...]:
    """One text, one text's tokens, or several of either."""
    try:
        given = _input.decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequest("`input` must be a text, an array of texts, or tokens.", param="input") from error
    if isinstance(given, str):
        return (given,)
    if not given:
        raise BadRequest("`input` is empty: give it at least one text.", param="input")
    if all(isinstance(entry, int) for entry in given):
        return (tuple(entry for entry in given if isinstance(entry, int)),)
    if len(given) > MAX_INPUTS:
        raise BadRequest(f"`input` has {len(given)} texts; {MAX_INPUTS} are the most for one call.", param="input")
    inputs: list[str | tuple[int, ...]] = []
    for index, entry in enumerate(given):
        if isinstance(entry, int):
            raise BadRequest("`input` mixes texts with tokens.", param=f"input[{index}]")
        inputs.append(entry if isinstance(entry, str) else tuple(entry))
    return tuple(inputs)


def _encoding_of(raw: msgspec.Raw | None) -> Encoding:
    if raw is None or is_null(raw):
        return "float"
    try:
        return _encoding.decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequest("`encoding_format` must be `float` or `base64`.", param="encoding_format") from error


def _user(raw: msgspec.Raw | None) -> str | None:
    if raw is None:
        return None
    try:
        return _text.decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequest("`user` must be a string.", param="user") from error


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _unpacked(embedding: list[float] | str) -> tuple[float, ...]:
    if not isinstance(embedding, str):
        return tuple(embedding)
    packed = base64.b64decode(embedding, validate=True)
    return struct.unpack(f"<{len(packed) // _FLOAT_BYTES}f", packed)


def _used(usage: _Usage | None) -> Usage:
    if usage is None:
        return Usage()
    tokens = usage.total_tokens if usage.prompt_tokens is None else usage.prompt_tokens
    if tokens is None or tokens < 0:
        return Usage()
    return Usage(input_tokens=tokens, output_tokens=0, source="reported")
