"""Errors in the trailing metadata, of which libraries take no more than 8 KiB."""

from base64 import b64encode
from urllib.parse import quote

import pytest

from tollhouse.dialects.protobuf import wire
from tollhouse.dialects.protobuf.messages import TROUBLE
from tollhouse.dialects.protobuf.reports import Trouble
from tollhouse.proto.v1 import gateway_pb2
from tollhouse.server.grpc.details import DETAILS, metadata_of, words_of

TAKEN_BYTES = 8 * 1024
"""What gRPC's core reads in all (`grpc.max_metadata_size`); more fails a call with words of its own."""


def detail_in(details: bytes) -> gateway_pb2.Error:
    """The error in `google.rpc.Status`."""
    name = b"type.googleapis.com/tollhouse.v1.Error"
    at = details.index(name) + len(name) + 1
    size = shift = 0
    while True:
        byte = details[at]
        size |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return gateway_pb2.Error.FromString(details[at : at + size])


@pytest.mark.parametrize("letter", ["a", "\n", "ü", "錯", "😀"])
def test_the_longest_error_fits_into_what_libraries_take(letter: str):
    trouble = Trouble(
        code="provider_refused",
        message=letter * 2_000,
        hint=letter * 2_000,
        param=letter * 2_000,
        status=400,
        request_id="req_000000000000000000000000",
        kind=letter * 100,
        provider_code=letter * 100,
        suggestions=tuple(f"{number}{letter * 500}" for number in range(20)),
    )
    metadata = metadata_of(trouble)
    sizes = [len(name) + len(b64encode(value) if isinstance(value, bytes) else value) + 32 for name, value in metadata]
    assert len(quote(words_of(trouble), safe="")) + sum(sizes) < TAKEN_BYTES - 1_500, "the answer's own entries fit too"
    detail = detail_in(dict(metadata)[DETAILS])  # type: ignore[arg-type]  # the one that is bytes
    assert detail.code == "provider_refused"
    assert detail.message.startswith(letter * 100)


def test_a_short_error_is_said_whole():
    trouble = Trouble(
        code="model_not_found",
        message="There is no “gpt”.",
        hint="Look again.",
        param="model",
        suggestions=("gpt-5", "gpt-4"),
    )
    assert words_of(trouble) == "There is no “gpt”. Look again."
    detail = detail_in(dict(metadata_of(trouble))[DETAILS])  # type: ignore[arg-type]  # the one that is bytes
    assert wire("protobuf").unpack(TROUBLE, detail.SerializeToString()) == trouble
