"""The dialect as the gateway sees it."""

from collections.abc import Sequence
from typing import Final

from tollhouse.chat.model import Request, Response
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.client_side import ClientSide
from tollhouse.dialects.delimited import delimit
from tollhouse.dialects.dialect import ModelCard, Peek
from tollhouse.dialects.head_lines import NO_LINES, HeadLines
from tollhouse.dialects.vibectl import answers, requests
from tollhouse.dialects.vibectl.failure import described
from tollhouse.errors import Quota, TollhouseError
from tollhouse.proto.vibectl_pb2 import GetServerInfoResponse, ModelInfo, StreamChunk


class Vibectl(ClientSide):
    """See `tollhouse.dialects.dialect.Dialect`.  A stream is `StreamChunk` messages behind their lengths."""

    name = "vibectl"

    def peek(self, body: bytes) -> Peek:
        """Reads an `ExecuteRequest`; whether a stream is asked for is said by the method that is called."""
        return Peek(
            fields={},
            model=requests.read(body).model_name,
            stream=False,
            max_output_tokens=None,
            include_usage=True,
            choices=1,
        )

    def decode_request(self, body: bytes) -> Request:
        """A client's request in full."""
        return requests.decode(body)

    def encode_response(self, response: Response, request: Request, receipt: Receipt) -> bytes:
        """An `ExecuteResponse` without request id, metrics and name of the model."""
        del request
        return answers.encode_response(response, receipt)

    def stream_encoder(self, request: Request, receipt: Receipt) -> answers.ChunkEncoder:
        """An encoder for one answer."""
        del request
        return answers.ChunkEncoder(receipt)

    def encode_error(self, error: TollhouseError, request_id: str) -> bytes:
        """An `ExecuteError`; the method that was called says in which message it goes."""
        return described(error, request_id).SerializeToString()

    def encode_stream_error(self, error: TollhouseError, request_id: str) -> bytes:
        """The `StreamChunk` that ends a broken stream."""
        return delimit(StreamChunk(error=described(error, request_id)).SerializeToString())

    def encode_quotas(self, quotas: Sequence[Quota], now_seconds: float) -> HeadLines:
        """None: the protocol has no place for them."""
        del quotas, now_seconds
        return NO_LINES

    def encode_models(self, models: Sequence[ModelCard]) -> bytes:
        """A `GetServerInfoResponse` with nothing but its models."""
        return GetServerInfoResponse(available_models=[_info(model) for model in models]).SerializeToString()

    def encode_model(self, model: ModelCard) -> bytes:
        """A `ModelInfo`."""
        return _info(model).SerializeToString()


def _info(model: ModelCard) -> ModelInfo:
    return ModelInfo(
        model_id=model.id,
        display_name=model.display_name or model.id,
        provider=model.owner,
        supports_streaming=True,
        max_context_length=model.context_tokens,
    )


DIALECT: Final = Vibectl()
"""The one instance: it has no state."""
