"""What is said about a call that failed: to its caller, to the operator, and to the provider's health.

A provider's words are passed on as far as they are fit to be: without the credential that it was sent and without its address.
"""

import asyncio
from typing import Final

from tollhouse.errors import (
    BudgetExceeded,
    ClientLeft,
    ConnectFailed,
    Draining,
    KeyRevoked,
    ProviderError,
    ProviderRefused,
    RateLimited,
    StreamFailed,
    TokenRevoked,
    TollhouseError,
    UpstreamMalformed,
    UpstreamTimeout,
    retry_after,
)
from tollhouse.gateway.routing import Candidate
from tollhouse.policy.rules import is_upstream, scope_of
from tollhouse.providers.provider import Headers
from tollhouse.upstream.failure import parse_retry_after
from tollhouse.upstream.transport import Incoming

MAX_ERROR_BYTES: Final = 256 * 1024
MIN_SECRET_CHARACTERS: Final = 4
"""Shorter keys are placeholders (`x`) of servers that want none; masking those would only spoil words."""
CODE: Final = b"x-tollhouse-code"
"""The header with an error's stable code, which some dialects have no place for; over gRPC it is the entry of this name."""
OF_PROVIDERS: Final = b"provider_"
"""How the codes of errors begin that a gateway tells of a provider's failure, `tollhouse.errors.ProviderError`."""
JSON_HEAD: Final = (b"content-type", b"application/json")

Ending = type[ClientLeft | Draining | KeyRevoked | TokenRevoked]
_ENDINGS: "Final[dict[str, Ending]]" = {
    Draining.code: Draining,
    KeyRevoked.code: KeyRevoked,
    TokenRevoked.code: TokenRevoked,
}


def ending_of(cancelled: asyncio.CancelledError) -> Ending:
    """Why a call was cancelled, as its message says; without a word it is the client that left."""
    return next((_ENDINGS[why] for why in cancelled.args if why in _ENDINGS), ClientLeft)


def is_about_the_candidate(error: TollhouseError) -> bool:
    """Whether what refused a call is about who would answer it, not about who asks: another may be tried then."""
    match error:
        case RateLimited(limit=limit):
            return limit is not None and is_upstream(scope_of(limit))
        case BudgetExceeded(budget=budget):
            return is_upstream(budget)
        case _:
            return True


def heard(written: "asyncio.Future[None]") -> None:
    """Looks at the error of a row that nobody awaits any more, so that asyncio does not complain that nobody did.

    A row that neither store takes is still in the calls log.
    """
    if not written.cancelled():
        written.exception()


async def refusal(incoming: Incoming, candidate: Candidate, now_seconds: float) -> ProviderRefused:
    """The error in an answer with an error status."""
    provider = candidate.provider
    try:
        body = await incoming.read_all(MAX_ERROR_BYTES)
    except ProviderError:
        body = b""  # the status says enough; what should explain it is cut, silent or endless
    if incoming.status == 401:
        # Providers quote the key, whole or in part, and only the operator can do something about it.
        error = ProviderRefused(f"Provider {provider.name!r} does not accept the gateway's own key for it.", status=401)
        error.hint = "Whoever runs this gateway has to set a right one."
    else:
        error = provider.dialect.decode_error(incoming.status, body)
        error.message = without_key(error.message, provider.authenticate(now_seconds))
    error.provider = provider.name
    error.retry_after_seconds = parse_retry_after(incoming.headers, now_seconds=now_seconds, body=body)
    error.is_relayed = (incoming.header(CODE) or b"").startswith(OF_PROVIDERS)
    return error


def without_key(message: str, credentials: Headers) -> str:
    """A provider's words without the credential that it was sent, whatever its form."""
    for _, value in credentials:
        secret = value.rpartition(b" ")[2].decode("latin-1")
        if len(secret) >= MIN_SECRET_CHARACTERS:
            message = message.replace(secret, "***")
    return message


def error_headers(error: TollhouseError) -> list[tuple[bytes, bytes]]:
    """The response head's fields for an error."""
    headers = [JSON_HEAD, (CODE, error.code.encode())]
    wait = retry_after(error)
    if wait is not None:
        headers.append((b"retry-after", b"%d" % max(1, -(-int(wait * 1000) // 1000))))
    return headers


def blame(error: ProviderError, candidate: Candidate, *, is_clients_time: bool) -> None:
    """Makes a candidate's failure fit to be told: who it was, without where, and which deadline it was if one passed.

    `is_clients_time` says that the time which the client gave is over.
    """
    error.provider = error.provider or candidate.provider.name
    error.message = _without_address(error, candidate)
    if isinstance(error, UpstreamTimeout):
        error.hint = error.hint or _which_deadline(error.phase, candidate, is_clients_time=is_clients_time)


def _without_address(error: ProviderError, candidate: Candidate) -> str:
    """An error's words for the caller, who has no business with a provider's address; the operator's log has it."""
    name = f"provider {candidate.provider.name!r}"
    if isinstance(error, ConnectFailed):
        return f"The gateway could not connect to {name}."
    return error.message.replace(candidate.where, name)


def _which_deadline(phase: str, candidate: Candidate, *, is_clients_time: bool) -> str:
    """What an operator would change; for `total` the attempt may have had less, if others went before it."""
    if phase == "total" and is_clients_time:
        return "The client gave it no more time; ask with a longer deadline."
    deadlines = candidate.deadlines
    seconds = {
        "connect": deadlines.connect,
        "first_byte": deadlines.first_byte,
        "between_chunks": deadlines.between_chunks,
        "total": deadlines.total,
    }[phase]
    return f"`deadlines.{phase}` is {seconds:g} s."


def is_unsent(error: TollhouseError) -> bool:
    """Whether an attempt failed before anything went to the provider."""
    return isinstance(error, ConnectFailed) or (isinstance(error, UpstreamTimeout) and error.phase == "connect")


def for_the_operator(error: TollhouseError) -> str:
    """What the log may say of a failed attempt: our own words, or the names of a provider's error.

    A provider's own sentence can quote the prompt, and no prompt is ever logged.
    """
    if isinstance(error, ProviderRefused | StreamFailed):
        return " ".join(name for name in (error.kind, error.provider_code) if name)
    return "" if isinstance(error, UpstreamMalformed) else error.message
