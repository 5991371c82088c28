"""What was asked and answered as JSON, for whoever keeps prompts and answers: the wire form cannot be read or redacted."""

from typing import Final

import msgspec
from google.protobuf import json_format
from google.protobuf.message import Message

from tollhouse.dialects.delimited import Splitter
from tollhouse.proto.vibectl_pb2 import ExecuteError, ExecuteRequest, ExecuteResponse, StreamChunk


class Readable:
    """See `telemetry.bodies.Readable`.  Raises protobuf's `DecodeError` for what is no message."""

    def request(self, body: bytes) -> bytes:
        """An `ExecuteRequest`."""
        return _json(ExecuteRequest.FromString(body))

    def answer(self, body: bytes, *, is_stream: bool, is_error: bool) -> bytes:
        """Whatever the dialect wrote.  A stream is the text that its messages make, also where it was cut."""
        if is_error:
            return _json(ExecuteError.FromString(body))
        if not is_stream:
            return _json(ExecuteResponse.FromString(body))
        chunks = [StreamChunk.FromString(message) for message in Splitter().feed(body)]
        said: dict[str, object] = {
            "complete": any(chunk.HasField("complete") for chunk in chunks),
            "answer": {"response_text": "".join(chunk.text_chunk for chunk in chunks)},
        }
        for chunk in chunks:
            if chunk.HasField("error"):
                said["error"] = chunk.error.error_message
        return msgspec.json.encode(said)


def _json(message: Message) -> bytes:
    return msgspec.json.encode(json_format.MessageToDict(message, preserving_proto_field_name=True))


READABLE: Final = Readable()
"""The one instance: it has no state."""
