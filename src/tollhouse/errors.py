"""One tree of errors.

Three branches that never turn into each other by accident: `CallerError` (the person or program that called us must
change something), `ProviderError` (the company behind the call failed or refused) and `GatewayError` (our own fault or
our operator's).  A class exists where somebody would act differently.  Each carries a stable `code` (public: it stands
in logs, metrics, the ledger and docs), an HTTP status, a gRPC status name, and a message that says what happened, to
what, and what to do next.  Messages never hold secrets, prompts or completions.

Rendering an error in a dialect is the business of `dialects`; they map `code` and `http_status` to their own names.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import msgspec


class TollhouseError(Exception):
    """The root.  Catch it only at an outer edge that renders or logs errors."""

    code: ClassVar[str] = "internal_error"
    http_status: int = 500
    grpc_status: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, hint: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        """What the person who meets this can do, when the message alone does not say it."""
        self.param = param
        """The request field at fault, in the caller's spelling (`messages[2].content`), if there is one."""

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


# --------------------------------------------------------------------------------------------------------------- caller


class CallerError(TollhouseError):
    """The caller has to change something; trying again unchanged cannot help."""

    code = "bad_request"
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"


class BadRequest(CallerError):
    """The body is not what the dialect says it is: broken JSON, a missing field, a wrong type."""


class ModelMissing(BadRequest):
    """The request names no model, and the configuration has none for such requests."""

    code = "model_missing"

    def __init__(self) -> None:
        super().__init__(
            "The request does not say which model to use: set `model`.",
            hint="Where `models.default` is configured, it answers such requests.",
            param="model",
        )


class TlsExpected(BadRequest):
    """Plain HTTP came to a port that speaks TLS."""

    code = "tls_expected"


class Untranslatable(CallerError):
    """A `strict` model was asked for something that its provider's dialect cannot express."""

    code = "untranslatable"

    def __init__(self, message: str, *, lost: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.lost = tuple(lost)


class Unauthenticated(CallerError):
    """A credential that nobody here knows."""

    code = "unauthenticated"
    http_status = 401
    grpc_status = "UNAUTHENTICATED"


class KeyDamaged(Unauthenticated):
    """The credential is nearly a key as the gateway issues them: a character is missing, added or changed."""

    code = "key_damaged"


class KeyExpired(Unauthenticated):
    """The key was good until a moment that has passed, or was replaced by a new secret."""

    code = "key_expired"


class KeyRevoked(Unauthenticated):
    """The key was taken back."""

    code = "key_revoked"


class CredentialMissing(Unauthenticated):
    """The call carries no credential at all."""

    code = "credential_missing"


class TokenMalformed(Unauthenticated):
    """The credential looks like a signed token and cannot be read as one: cut, changed, or with claims of a wrong type."""

    code = "token_malformed"


class TokenIncomplete(Unauthenticated):
    """The token lacks claims that every token must have."""

    code = "token_incomplete"


class TokenWrongIssuer(Unauthenticated):
    """The token was issued by somebody whose tokens are not accepted here."""

    code = "token_wrong_issuer"


class TokenWrongAudience(Unauthenticated):
    """The token is good, but meant for another service."""

    code = "token_wrong_audience"


class TokenKeyUnknown(Unauthenticated):
    """The token was signed with a key that is not known here, or no longer accepted."""

    code = "token_key_unknown"


class TokenBadSignature(Unauthenticated):
    """The token's signature is not its key's: it was changed, or is signed in a way that its key does not allow."""

    code = "token_bad_signature"


class TokenNotYetValid(Unauthenticated):
    """The token is good from a moment that has not come yet."""

    code = "token_not_yet_valid"


class TokenExpired(Unauthenticated):
    """The token was good until a moment that has passed, or its subject's time has ended."""

    code = "token_expired"


class TokenRevoked(Unauthenticated):
    """The token, or its subject, was taken back."""

    code = "token_revoked"


class CertificateUnknown(Unauthenticated):
    """The client certificate was verified, but no rule says whose it is."""

    code = "certificate_unknown"


class PermissionDenied(CallerError):
    """A known caller asked for something that its key does not allow."""

    code = "permission_denied"
    http_status = 403
    grpc_status = "PERMISSION_DENIED"


class AddressNotAllowed(PermissionDenied):
    """The key may not be used from the caller's network address."""

    code = "address_not_allowed"


class ModelNotAllowed(PermissionDenied):
    """The key may not use this model, or none of the providers that have it.  `allowed` are the names that it may use."""

    code = "model_not_allowed"

    def __init__(self, message: str, *, allowed: Sequence[str] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint, param="model")
        self.allowed = tuple(allowed)


class Quota(msgspec.Struct, frozen=True, gc=False):
    """How a rate stands, as clients are told in headers and with a refusal."""

    counts: Literal["requests", "tokens"]
    limit: int
    """A minute."""
    remaining: int
    reset_seconds: float
    """Until all of it is there again."""


class BudgetExceeded(CallerError):
    """A hard budget has too little left for the worst cost of this call.  Amounts in nano-USD."""

    code = "budget_exceeded"
    http_status = 402
    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(
        self,
        *,
        budget: str,
        spent_nano: int,
        limit_nano: int,
        resets_in_seconds: float | None,
        resets_at: str | None = None,
        needed_nano: int = 0,
        may_clamp: bool = False,
        is_allowance: bool = False,
    ) -> None:
        left = max(0, limit_nano - spent_nano)
        when = "It never resets." if resets_at is None else f"It resets at {resets_at}."
        more = "to raise the budget" if resets_at is not None else "to top it up or to raise it"
        hint = f"Ask whoever runs this gateway {more}."
        if left:
            hint = f"Ask for fewer output tokens, or ask whoever runs this gateway {more}."
        if is_allowance:
            when = (
                "The store that all machines share is away, and this is all that this one may spend until it is back."
            )
            hint = "Try again in a moment."
        super().__init__(
            f"Budget {budget!r} has ${left / 1e9:.6f} left of ${limit_nano / 1e9:.6f}, and this call can cost "
            f"${needed_nano / 1e9:.6f}. {when}",
            hint=hint,
        )
        self.budget = budget
        self.spent_nano = spent_nano
        """Spent and held."""
        self.limit_nano = limit_nano
        self.left_nano = left
        self.needed_nano = needed_nano
        self.resets_in_seconds = resets_in_seconds
        self.may_clamp = may_clamp
        """Whether the budget would rather have a shorter answer than none."""


class NoPrice(CallerError):
    """A hard budget is meant for this call, and nobody knows what it costs."""

    code = "no_price"
    http_status = 402
    grpc_status = "FAILED_PRECONDITION"


class RateLimited(CallerError):
    """One of our own limits is full; waiting `retry_after_seconds` helps."""

    code = "rate_limited"
    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float,
        limit: str | None = None,
        quotas: Sequence[Quota] = (),
    ) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.limit = limit
        """Which one: `requests/key:dev`, `concurrent/global`."""
        self.quotas = tuple(quotas)


class ModelNotFound(CallerError):
    """No alias, `provider/model` or unique bare model has this name."""

    code = "model_not_found"
    http_status = 404
    grpc_status = "NOT_FOUND"

    def __init__(self, model: str, *, nearest: Sequence[str] = (), reason: str | None = None) -> None:
        suggestion = f" Did you mean {' or '.join(repr(name) for name in nearest)}?" if nearest else ""
        super().__init__(
            f"Model {model[:200]!r} does not exist here{f': {reason}' if reason else ''}.{suggestion}",
            hint="GET /v1/models lists what this key can use.",
            param="model",
        )
        self.model = model
        self.nearest = tuple(nearest)


class NotFound(CallerError):
    """No such path or object."""

    code = "not_found"
    http_status = 404
    grpc_status = "NOT_FOUND"


class ResponseNotFound(NotFound):
    """No kept response has this id, within the caller's tenant: it never had one, it is too old, or it was deleted."""

    code = "response_not_found"


class UpgradeRefused(CallerError):
    """The client wants to go on in another protocol (a WebSocket); the same is done over plain HTTP here."""

    code = "upgrade_refused"
    http_status = 426
    grpc_status = "UNIMPLEMENTED"


class MethodNotAllowed(CallerError):
    """The path exists, the method does not."""

    code = "method_not_allowed"
    http_status = 405
    grpc_status = "UNIMPLEMENTED"

    def __init__(self, method: str, *, allowed: Sequence[str]) -> None:
        super().__init__(f"{method[:20]} is not possible here; use {' or '.join(allowed)}.")
        self.allowed = tuple(allowed)


class Conflict(CallerError):
    """What should be made exists already, or is still in use."""

    code = "conflict"
    http_status = 409
    grpc_status = "FAILED_PRECONDITION"


class BodyTooLarge(CallerError):
    """The request body is over `server.max_body_bytes`."""

    code = "body_too_large"
    http_status = 413
    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(self, *, limit_bytes: int) -> None:
        super().__init__(
            f"The request body is larger than {limit_bytes / 1_048_576:.0f} MiB.",
            hint="Send less, or have `server.max_body_bytes` raised in the gateway's configuration.",
        )
        self.limit_bytes = limit_bytes


class UnsupportedMediaType(CallerError):
    """The content type or encoding is not one that this path reads.  `spoken` are those that it does, if it has a choice."""

    code = "unsupported_media_type"
    http_status = 415
    grpc_status = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, hint: str | None = None, spoken: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.spoken = tuple(spoken)


class NotAcceptable(CallerError):
    """The client wants its answer in a form that this path does not speak.  `spoken` are the media types that it does."""

    code = "not_acceptable"
    http_status = 406
    grpc_status = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, spoken: Sequence[str], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.spoken = tuple(spoken)


class ClientLeft(CallerError):
    """The client closed its connection.  Never rendered; stands in the ledger and the log with nginx's status 499."""

    code = "client_left"
    http_status = 499
    grpc_status = "CANCELLED"


class FellBehind(CallerError):
    """The client read so slowly that its share in the answer of an identical call was given up."""

    code = "fell_behind"
    http_status = 408
    grpc_status = "RESOURCE_EXHAUSTED"


# ------------------------------------------------------------------------------------------------------------- provider


class ProviderError(TollhouseError):
    """The provider failed or refused.  `provider` is its configured name; `status` its HTTP status if it sent one."""

    code = "provider_error"
    http_status = 502
    grpc_status = "UNAVAILABLE"

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        status: int | None = None,
        hint: str | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, param=param)
        self.provider = provider
        self.status = status


class ProviderRefused(ProviderError):
    """The provider answered with an error: its status and words, as far as they are fit to be passed on.

    `http_status` is what our caller gets.  `kind` and `provider_code` are the provider's own names
    (`invalid_request_error`, `context_length_exceeded`).  Whether another candidate may be tried is `gateway`'s
    decision, from `status`.
    """

    code = "provider_refused"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        provider: str = "",
        kind: str | None = None,
        provider_code: str | None = None,
        param: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, provider=provider, status=status, param=param)
        self.http_status = _passed_on(status)
        self.kind = kind
        self.provider_code = provider_code
        self.retry_after_seconds = retry_after_seconds
        self.is_relayed = False
        """Whether the provider is a gateway and this the error of one behind it, which it asked as often as it may."""


class ConnectFailed(ProviderError):
    """No connection: name look-up, refusal, unreachable, TLS.  Nothing was sent."""

    code = "provider_unreachable"


class UpstreamTimeout(ProviderError):
    """A deadline passed.  `phase` is one of `connect`, `first_byte`, `between_chunks`, `total`."""

    code = "provider_timeout"
    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"

    def __init__(self, message: str, *, phase: str, provider: str = "") -> None:
        super().__init__(message, provider=provider)
        self.phase = phase


class ConnectionLost(ProviderError):
    """The connection broke (reset, closed) before a complete response head."""

    code = "provider_connection_lost"


class UpstreamTruncated(ProviderError):
    """The answer began and did not end: a cut body, or a stream without its finish."""

    code = "provider_truncated"


class UpstreamMalformed(ProviderError):
    """The provider sent something that is not its dialect: broken HTTP, HTML, garbage, events out of order."""

    code = "provider_malformed"


class UpstreamTooLarge(ProviderError):
    """An answer, an event or a head is over its bound."""

    code = "provider_answer_too_large"


class StreamFailed(ProviderError):
    """The provider reported an error inside a 200 stream or a 200 body.

    `status` is the one that the error itself names.  Where nothing was sent to the caller yet, it becomes the answer's.
    """

    code = "provider_stream_error"

    def __init__(
        self,
        message: str,
        *,
        provider: str = "",
        status: int | None = None,
        kind: str | None = None,
        provider_code: str | None = None,
    ) -> None:
        super().__init__(message, provider=provider, status=status)
        self.http_status = 502 if status is None else _passed_on(status)
        self.kind = kind
        self.provider_code = provider_code


def _passed_on(status: int) -> int:
    """The status for our caller.

    A provider's 401 or 403 is about the gateway's credential, never about the caller's: that is a bad gateway.
    """
    return status if 400 <= status <= 599 and status not in {401, 403} else 502


# -------------------------------------------------------------------------------------------------------------- gateway


class GatewayError(TollhouseError):
    """Our own fault, or our operator's."""


class ConfigError(GatewayError):
    """The configuration cannot be used.  `problems` are whole sentences, each with file, line and path."""

    code = "bad_config"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class StoreUnavailable(GatewayError):
    """The ledger's database or another store cannot be reached."""

    code = "store_unavailable"
    http_status = 503
    grpc_status = "UNAVAILABLE"


class CallLost(GatewayError):
    """The process that carried a call ended before the call did.  Stands in the ledger, with the most that it can have cost."""

    code = "lost"


class Draining(GatewayError):
    """The gateway is shutting down and takes no new calls."""

    code = "draining"
    http_status = 503
    grpc_status = "UNAVAILABLE"


class Overloaded(GatewayError):
    """More calls are in flight than `server.max_concurrent_calls` allows."""

    code = "overloaded"
    http_status = 503
    grpc_status = "UNAVAILABLE"


class NotInstalled(GatewayError):
    """An optional part is missing; the message names the extra to install."""

    code = "not_installed"
    http_status = 501
    grpc_status = "UNIMPLEMENTED"


class LocalModelUnavailable(GatewayError):
    """The embedded model cannot be fetched, is not a usable file, or does not run."""

    code = "local_model_unavailable"
    http_status = 503
    grpc_status = "UNAVAILABLE"


def retry_after(error: TollhouseError) -> float | None:
    """How many seconds to wait before the same may succeed, where that is known: what `Retry-After` says."""
    match error:
        case RateLimited() | ProviderRefused():
            return error.retry_after_seconds
        case BudgetExceeded():
            return error.resets_in_seconds
        case _:
            return None
