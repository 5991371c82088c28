"""Errors: ours on the way to a client, and those of a Tollhouse behind this one."""

from tollhouse.chat.events import Failed
from tollhouse.dialects.explanations import MAX_NAME_CHARACTERS, fit
from tollhouse.dialects.protobuf.messages import FAILURE
from tollhouse.dialects.protobuf.reports import Trouble
from tollhouse.dialects.protobuf.shapes import Fault
from tollhouse.dialects.protobuf.wire import JSON, Wire
from tollhouse.errors import (
    MethodNotAllowed,
    ModelNotAllowed,
    ModelNotFound,
    NotAcceptable,
    ProviderRefused,
    StreamFailed,
    TollhouseError,
    UnsupportedMediaType,
    retry_after,
)


def trouble_of(error: TollhouseError, request_id: str) -> Trouble:
    """One of our errors, as it travels."""
    kind: str | None = None
    provider_code: str | None = None
    if isinstance(error, ProviderRefused | StreamFailed) and error.status not in {401, 403}:
        # Those two are about the gateway's own credential: under the provider's names, callers would check theirs.
        kind, provider_code = error.kind, error.provider_code
    return Trouble(
        code=error.code,
        message=error.message,
        hint=error.hint or "",
        param=error.param or "",
        status=error.http_status,
        retry_after_seconds=retry_after(error),
        request_id=request_id,
        kind=kind or "",
        provider_code=provider_code or "",
        suggestions=_suggestions(error),
    )


def trouble_of_event(event: Failed) -> Trouble:
    """A provider's error inside its stream, as it travels."""
    return Trouble(
        code=StreamFailed.code,
        message=event.message,
        status=event.status or 0,
        kind=event.kind or "",
        provider_code=event.provider_code or "",
    )


def event_of(trouble: Trouble) -> Failed:
    """The error event of a Tollhouse behind this one."""
    named = trouble.code if trouble.code != StreamFailed.code else ""
    return Failed(
        message=fit(trouble.message),
        kind=_name(trouble.kind or named),
        provider_code=_name(trouble.provider_code),
        status=trouble.status if 400 <= trouble.status <= 599 else None,
    )


def decode_error(wire: Wire, status: int, body: bytes) -> ProviderRefused:
    """Whatever came with an error status: this protocol's, in either form, or somebody else's words."""
    for form in (wire, JSON):
        try:
            trouble = form.unpack(FAILURE, body).error
        except Fault:
            continue
        if trouble.message:
            return refused(trouble, status)
    # A proxy on the way answers in words of its own; the reader of everybody's errors knows most of them.
    from tollhouse.dialects.openai_chat.failure import decode_error as decode_any

    return decode_any(status, body)


def refused(trouble: Trouble, status: int) -> ProviderRefused:
    """The error of a Tollhouse behind this one."""
    return ProviderRefused(
        fit(trouble.message),
        status=status,
        kind=_name(trouble.kind or trouble.code),
        provider_code=_name(trouble.provider_code or trouble.code),
        param=_name(trouble.param),
        retry_after_seconds=trouble.retry_after_seconds,
    )


def _suggestions(error: TollhouseError) -> tuple[str, ...]:
    match error:
        case ModelNotFound():
            return error.nearest
        case ModelNotAllowed() | MethodNotAllowed():
            return error.allowed
        case UnsupportedMediaType() | NotAcceptable():
            return error.spoken
        case _:
            return ()


def _name(word: str) -> str | None:
    return fit(word)[:MAX_NAME_CHARACTERS] or None
