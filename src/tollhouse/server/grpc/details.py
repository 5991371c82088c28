"""Errors as gRPC's status and its details: `google.rpc.Status` with our own `tollhouse.v1.Error` in it.

gRPC's libraries look for it in the trailing metadata (https://grpc.io/docs/guides/error/, "Richer error model"; read in
November 2026).
"""

from collections.abc import Mapping
from typing import Final

import grpc

from tollhouse.dialects.delimited import delimit
from tollhouse.dialects.protobuf import wire
from tollhouse.dialects.protobuf.messages import TROUBLE
from tollhouse.dialects.protobuf.reports import Trouble
from tollhouse.errors import GatewayError, ProviderRefused, StreamFailed, TollhouseError

MAX_WORDS_CHARACTERS: Final = 1_000
DETAILS: Final = "grpc-status-details-bin"
CODE: Final = "x-tollhouse-code"


def words_of(trouble: Trouble) -> str:
    """The status message."""
    return f"{trouble.message} {trouble.hint}".strip()[:MAX_WORDS_CHARACTERS]


def metadata_of(trouble: Trouble) -> tuple[tuple[str, str | bytes], ...]:
    """The entries of the trailing metadata that say what is wrong."""
    return ((CODE, trouble.code), (DETAILS, status_details(trouble)))


def status_of(trouble: Trouble) -> grpc.StatusCode:
    """The gRPC status of an error.

    What a provider refused keeps the sense of its own status: a client tries UNAVAILABLE again by itself, and a request that
    was refused for what it says would be refused again.
    """
    if trouble.code in {ProviderRefused.code, StreamFailed.code}:
        match trouble.status:
            case 429:
                return grpc.StatusCode.RESOURCE_EXHAUSTED
            case 408 | 504:
                return grpc.StatusCode.DEADLINE_EXCEEDED
            case status if 400 <= status < 500:
                return grpc.StatusCode.INVALID_ARGUMENT
            case _:
                return grpc.StatusCode.UNAVAILABLE
    return _STATUSES.get(trouble.code, grpc.StatusCode.INTERNAL)


def _statuses(kind: type[TollhouseError]) -> dict[str, grpc.StatusCode]:
    """The status of each error's code, throughout the tree."""
    found = {kind.code: grpc.StatusCode[kind.grpc_status]}
    for narrower in kind.__subclasses__():
        # Of a code that several share, the widest class counts.
        found = {**_statuses(narrower), **found}
    return found


_STATUSES: Final[Mapping[str, grpc.StatusCode]] = {
    **_statuses(TollhouseError),
    GatewayError.code: grpc.StatusCode.INTERNAL,
}

_STATUS_CODE, _STATUS_MESSAGE, _STATUS_DETAILS = b"\x08", b"\x12", b"\x1a"
_ANY_TYPE, _ANY_VALUE = b"\x0a", b"\x12"
_ERROR_TYPE: Final = b"type.googleapis.com/tollhouse.v1.Error"


def status_details(trouble: Trouble) -> bytes:
    """`google.rpc.Status` with the error as its one detail.

    Written by hand, for the message class belongs to a package that others in this process may have in another version:
    `message Status { int32 code = 1; string message = 2; repeated google.protobuf.Any details = 3; }`.
    """
    error = wire("protobuf").pack(TROUBLE, trouble)
    detail = _ANY_TYPE + delimit(_ERROR_TYPE) + _ANY_VALUE + delimit(error)
    number = status_of(trouble).value[0]
    return (
        _STATUS_CODE
        + bytes((number,))
        + _STATUS_MESSAGE
        + delimit(words_of(trouble).encode())
        + _STATUS_DETAILS
        + delimit(detail)
    )
