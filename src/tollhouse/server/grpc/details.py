"""Errors as gRPC's status and its details: `google.rpc.Status` with our own `tollhouse.v1.Error` in it.

gRPC's libraries look for it in the trailing metadata (https://grpc.io/docs/guides/error/, "Richer error model"; read in
November 2026), of which they read 8 KiB in all (`grpc.max_metadata_size`): a call with more fails with words of the library's
own.  So each part of an error has its bound here, in bytes.
"""

from collections.abc import Mapping
from typing import Final

import grpc
import msgspec

from tollhouse.dialects.delimited import delimit
from tollhouse.dialects.protobuf import wire
from tollhouse.dialects.protobuf.messages import TROUBLE
from tollhouse.dialects.protobuf.reports import Trouble
from tollhouse.errors import GatewayError, ProviderRefused, StreamFailed, TollhouseError

MAX_WORDS_BYTES: Final = 600
"""On the wire a byte can take three."""
MAX_MESSAGE_BYTES: Final = 1_200
MAX_HINT_BYTES: Final = 400
MAX_NAME_BYTES: Final = 100
MAX_SUGGESTIONS_BYTES: Final = 500
"""Of all suggestions together; the last ones are left out."""
DETAILS: Final = "grpc-status-details-bin"
CODE: Final = "x-tollhouse-code"


def words_of(trouble: Trouble) -> str:
    """The status message."""
    return _cut(f"{trouble.message} {trouble.hint}".strip(), MAX_WORDS_BYTES)


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
    error = wire("protobuf").pack(TROUBLE, _fitting(trouble))
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


def _fitting(trouble: Trouble) -> Trouble:
    suggestions, room = [], MAX_SUGGESTIONS_BYTES
    for name in trouble.suggestions:
        room -= len(name.encode()) + 2
        if room < 0:
            break
        suggestions.append(name)
    return msgspec.structs.replace(
        trouble,
        message=_cut(trouble.message, MAX_MESSAGE_BYTES),
        hint=_cut(trouble.hint, MAX_HINT_BYTES),
        param=_cut(trouble.param, MAX_NAME_BYTES),
        kind=_cut(trouble.kind, MAX_NAME_BYTES),
        provider_code=_cut(trouble.provider_code, MAX_NAME_BYTES),
        suggestions=tuple(suggestions),
    )


def _cut(text: str, most_bytes: int) -> str:
    data = text.encode("utf-8", "replace")
    return text if len(data) <= most_bytes else data[: most_bytes - len("…".encode())].decode("utf-8", "ignore") + "…"
