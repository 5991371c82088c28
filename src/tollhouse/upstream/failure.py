"""What to do after a failed attempt: a verdict from tables, and how long to wait.

All of this is only about calls of which the client has seen nothing yet; once it has a byte of an answer, nothing may
be tried again, and the pipeline ends the answer with an error.
"""

import enum
import math
import random as random_module
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from tollhouse.errors import (
    ConnectFailed,
    ConnectionLost,
    ProviderError,
    ProviderRefused,
    StreamFailed,
    TollhouseError,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTruncated,
)
from tollhouse.upstream.transport import Headers

MAX_RETRY_AFTER_SECONDS: Final = 3600.0
"""Longer waits are cut to this; what it means for one call is decided by that call's deadline."""
BACKOFF_BASE_SECONDS: Final = 0.25
BACKOFF_CAP_SECONDS: Final = 8.0


class Verdict(enum.Enum):
    """What a failed attempt allows."""

    RETRY_SAME_OR_NEXT = "retry_same_or_next"
    """A passing trouble: the next candidate, or this one again after a wait."""
    NEXT_CANDIDATE = "next_candidate"
    """This candidate cannot do it, another may: our credential, its quota, an answer that it would give again."""
    FINAL = "final"
    """The request itself is at fault, or time is up: nobody else is asked."""


_BY_STATUS: Final[dict[int, Verdict]] = {
    # About the gateway's own credential or account at this provider, never about the caller's.
    401: Verdict.NEXT_CANDIDATE,
    402: Verdict.NEXT_CANDIDATE,
    403: Verdict.NEXT_CANDIDATE,
    408: Verdict.RETRY_SAME_OR_NEXT,
    409: Verdict.RETRY_SAME_OR_NEXT,
    425: Verdict.RETRY_SAME_OR_NEXT,
    429: Verdict.RETRY_SAME_OR_NEXT,
    501: Verdict.NEXT_CANDIDATE,
    505: Verdict.NEXT_CANDIDATE,
}
"""Statuses with a rule of their own; other 5xx (529 is Anthropic's overload) pass, all else is final."""

_BY_PHASE: Final[dict[str, Verdict]] = {
    "connect": Verdict.RETRY_SAME_OR_NEXT,
    # The wait was long already; the same provider would most likely take it again.
    "first_byte": Verdict.NEXT_CANDIDATE,
    # Heard something, then silence: nothing went to the client yet, so another provider may still answer.
    "between_chunks": Verdict.NEXT_CANDIDATE,
    "total": Verdict.FINAL,
}

_BY_ERROR: Final[tuple[tuple[type[ProviderError], Verdict], ...]] = (
    (ConnectFailed, Verdict.RETRY_SAME_OR_NEXT),
    (ConnectionLost, Verdict.RETRY_SAME_OR_NEXT),
    (UpstreamTruncated, Verdict.RETRY_SAME_OR_NEXT),
    (UpstreamMalformed, Verdict.NEXT_CANDIDATE),
    (StreamFailed, Verdict.NEXT_CANDIDATE),
    (UpstreamTooLarge, Verdict.FINAL),
)

_OUT_OF_QUOTA: Final = "insufficient_quota"
"""Under this name a 429 is no rate but an empty account (openai/openai-responses-stream-error-in-stream-501de1)."""


def verdict(error: TollhouseError) -> Verdict:
    """Whether another try may follow this error.  Errors of the caller and of the gateway itself are final."""
    if not isinstance(error, ProviderError):
        return Verdict.FINAL
    if isinstance(error, UpstreamTimeout):
        return _BY_PHASE.get(error.phase, Verdict.FINAL)
    if error.status is not None:
        if isinstance(error, ProviderRefused | StreamFailed) and _OUT_OF_QUOTA in {error.kind, error.provider_code}:
            return Verdict.NEXT_CANDIDATE
        allowed = verdict_of_status(error.status)
        if isinstance(error, ProviderRefused) and error.is_relayed and allowed is Verdict.RETRY_SAME_OR_NEXT:
            return Verdict.NEXT_CANDIDATE  # retries over retries would multiply, and the waits between them
        return allowed
    return next((verdict for kind, verdict in _BY_ERROR if isinstance(error, kind)), Verdict.FINAL)


def verdict_of_status(status: int) -> Verdict:
    """Whether another try may follow an answer with this HTTP status."""
    by_class = Verdict.RETRY_SAME_OR_NEXT if 500 <= status <= 599 else Verdict.FINAL
    return _BY_STATUS.get(status, by_class)


def parse_retry_after(headers: Headers, *, now_seconds: float, body: bytes = b"") -> float | None:
    """The wait that a provider asks for, in seconds from `now_seconds` (since the epoch), within its bound.

    `retry-after-ms` wins, because it is the finer one: OpenAI and Azure send it beside `retry-after`, which has seconds
    or an HTTP date (RFC 9110, section 10.2.3).  Exception: Azure rounds a short wait down to `retry-after-ms: 0` beside
    `retry-after: 1` (azure-openai/azure-openai-chat-json-error-429-4fc55f), so a zero does not win.  Without a header,
    `body` (of the error) is looked at for Google's `retryDelay` (gemini/gemini-generate-json-error-429-0d4b01).  `None`
    when there is nothing of the kind or it makes no sense.  A header alone does not mean that the answer is an error.
    """
    milliseconds = _number(_first(headers, b"retry-after-ms"))
    if milliseconds:
        return min(milliseconds / 1000, MAX_RETRY_AFTER_SECONDS)
    value = _first(headers, b"retry-after")
    seconds = _number(value)
    if seconds is None and value:
        seconds = _seconds_until(value, now_seconds)
    if seconds is None:
        seconds = milliseconds
    if seconds is None and b"retryDelay" in body:
        seconds = _google_delay(body)
    return None if seconds is None else min(seconds, MAX_RETRY_AFTER_SECONDS)


def backoff_seconds(attempt: int, random: Callable[[], float] = random_module.random) -> float:
    """How long to wait before try number `attempt` + 1; `attempt` counts from 1.

    Capped exponential with full jitter: evenly spread between nothing and the cap of that attempt, so that callers who
    failed together do not come back together.  `random` gives floats in [0, 1).
    """
    ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * (1 << min(max(attempt, 1) - 1, 16)))
    return ceiling * random()


class _Detail(msgspec.Struct):
    retry_delay: str = msgspec.field(default="", name="retryDelay")


class _GoogleError(msgspec.Struct):
    details: list[_Detail] = []


class _GoogleBody(msgspec.Struct):
    error: _GoogleError


def _google_delay(body: bytes) -> float | None:
    """`google.rpc.RetryInfo`: a duration in proto3's JSON form, `48s` or `48.5s`."""
    try:
        answer = msgspec.json.decode(body, type=_GoogleBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    delays = (_number(detail.retry_delay.removesuffix("s")) for detail in answer.error.details)
    return next((delay for delay in delays if delay is not None), None)


def _first(headers: Headers, name: bytes) -> str:
    return next((value.decode("latin-1").strip() for field, value in headers if field.lower() == name), "")


def _number(text: str) -> float | None:
    if not text or not text.isascii() or not text.replace(".", "", 1).isdigit():
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def _seconds_until(date: str, now_seconds: float) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now_seconds)
    except (ValueError, OverflowError):
        return None
