"""Errors in words that the tool shows to a person: a stable code, what happened, and what to do.

A provider's own words never get here: they may quote the prompt, an address or a credential, and this protocol's clients print
whatever they are told.
"""

import math
import re
from collections.abc import Mapping
from typing import Final

from tollhouse.errors import (
    BadRequest,
    BudgetExceeded,
    ConnectFailed,
    ConnectionLost,
    ModelMissing,
    ModelNotAllowed,
    ModelNotFound,
    ProviderError,
    ProviderRefused,
    RateLimited,
    StreamFailed,
    TollhouseError,
    Untranslatable,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTruncated,
)
from tollhouse.proto.vibectl_pb2 import ExecuteError

_CODES: Final[Mapping[type[TollhouseError], str]] = {
    BadRequest: "INVALID_REQUEST",
    UpstreamTimeout: "PROVIDER_TIMEOUT",
    ProviderError: "PROVIDER_ERROR",
}
"""Where the code is not the error's own in capitals; of an error's classes the nearest one counts."""

_WHAT_PROVIDERS_DO: Final[Mapping[type[ProviderError], str]] = {
    ConnectFailed: "cannot be reached",
    ConnectionLost: "broke the connection before it answered",
    UpstreamTimeout: "did not answer in time",
    UpstreamTruncated: "broke off before the end of its answer",
    UpstreamMalformed: "answered with something that is not its protocol",
    UpstreamTooLarge: "answered with more than the gateway takes in",
    StreamFailed: "failed in the middle of its answer",
}

_PROVIDER_CODE: Final = re.compile(r"[a-z]+(_[a-z]+){0,7}")
"""A name such as `context_length_exceeded`, and nothing that could be an address or a key."""
MAX_PROVIDER_CODE_CHARACTERS: Final = 48
MAX_MODELS: Final = 40
"""How many names a list of models has before it ends in `and N more`."""


def code_of(error: TollhouseError) -> str:
    """The stable name: MODEL_NOT_FOUND, RATE_LIMITED, PROVIDER_ERROR, …"""
    if isinstance(error, ModelMissing):
        return "NO_MODEL"
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), error.code.upper())


def described(error: TollhouseError, request_id: str) -> ExecuteError:
    """The error for a client."""
    message, details = _told(error)
    parts = [*details, *([f"Request {request_id}."] if request_id else [])]
    return ExecuteError(
        error_code=code_of(error), error_message=message, error_details=" ".join(parts) if parts else None
    )


def listed(names: list[str]) -> str:
    """Names for a sentence, as many as a person reads."""
    more = f" and {len(names) - MAX_MODELS} more" if len(names) > MAX_MODELS else ""
    return ", ".join(names[:MAX_MODELS]) + more


def _told(error: TollhouseError) -> tuple[str, list[str]]:
    """What happened, and what to do about it."""
    match error:
        case ProviderError():
            return _told_of_provider(error)
        case ModelNotFound():
            return error.message, []  # what there is instead depends on who asks: the front door says it
        case ModelNotAllowed():
            return error.message, []
        case RateLimited():
            return error.message, [_try_again(error.retry_after_seconds)]
        case BudgetExceeded():
            return error.message, [error.hint] if error.hint else []
        case Untranslatable():
            return error.message, [f"Lost would be: {listed(list(error.lost))}."] if error.lost else []
        case _:
            return error.message, [error.hint] if error.hint else []


def _told_of_provider(error: ProviderError) -> tuple[str, list[str]]:
    who = f"Provider {error.provider!r}" if error.provider else "The provider"
    if not isinstance(error, ProviderRefused):
        does = next((words for kind, words in _WHAT_PROVIDERS_DO.items() if isinstance(error, kind)), "failed")
        return f"{who} {does}{_named(error)}.", []
    what = f"{who} refused this call with status {error.status}{_named(error)}."
    if error.status in {401, 403}:
        return what, [
            "It does not accept the gateway's own key for it; whoever runs the gateway has to set a right one."
        ]
    if error.retry_after_seconds is not None:
        return what, [_try_again(error.retry_after_seconds)]
    return what, []


def _named(error: ProviderError) -> str:
    code = error.provider_code if isinstance(error, ProviderRefused | StreamFailed) else None
    if code and len(code) <= MAX_PROVIDER_CODE_CHARACTERS and _PROVIDER_CODE.fullmatch(code):
        return f" ({code})"
    return ""


def _try_again(seconds: float) -> str:
    return f"Try again in {max(1, math.ceil(seconds))} s."
