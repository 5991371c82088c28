"""What a call through the client can raise: types that a program acts upon, each with a hint for the person who meets it.

The same types come out of both modes.  Through a gateway they are read off its answers; straight to providers they are made
of what the provider said.  Messages name servers, models and settings; never tokens, keys, prompts or answers.
"""

from collections.abc import Sequence
from typing import ClassVar

from tollhouse.errors import TollhouseError


class ClientError(TollhouseError):
    """The root of what the client raises."""

    code: ClassVar[str] = "client_error"


class BadSettings(ClientError):
    """The settings cannot be used.  `problems` are whole sentences, each with where the value came from."""

    code = "bad_client_settings"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class BadServerUrl(ClientError):
    """A server's address that cannot be read.  The message has examples of right ones and never the token."""

    code = "bad_server_url"


class NotForThisLoop(ClientError):
    """An `AsyncClient` was used on another event loop, or in another process, than the one that used it first."""

    code = "client_on_another_loop"


class ClientClosed(ClientError):
    """The client was closed before, or while, this was asked of it."""

    code = "client_closed"


class CallFailed(ClientError):
    """A call did not bring a whole answer.

    Every field that is not known is `None` or empty.
    """

    code = "call_failed"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        where: str = "",
        status: int | None = None,
        server_code: str | None = None,
        request_id: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, param=param)
        self.where = where
        """Who was asked: `host:port` of the server, or the provider's name."""
        self.status = status
        """The HTTP status of the answer."""
        self.server_code = server_code
        """The stable code that the server gave (`key_expired`, `model_not_found`, …)."""
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds
        self.is_relayed = False
        """Whether a gateway passed on what its provider refused, which it had asked as often as it was told to."""
        self.attempts = 1
        """How many times it was tried, this one included."""


class Unreachable(CallFailed):
    """No connection: the name is not known, nobody is there, the network is down.  Nothing was sent."""

    code = "server_unreachable"


class ConnectionRefused(Unreachable):
    """The machine is there, and nothing listens at that port."""

    code = "connection_refused"


class TlsFailed(CallFailed):
    """No trust: the certificate was not accepted, or the other side speaks no TLS.  Nothing was sent."""

    code = "tls_failed"


class TimedOut(CallFailed):
    """A time limit passed.  `phase` is `connect`, `first_byte`, `between_chunks` or `total`."""

    code = "timed_out"

    def __init__(self, message: str, *, phase: str, hint: str | None = None, where: str = "") -> None:
        super().__init__(message, hint=hint, where=where)
        self.phase = phase


class NotAuthenticated(CallFailed):
    """The token, or the provider's key, is missing, unknown, expired or revoked."""

    code = "not_authenticated"


class NotAllowed(CallFailed):
    """The caller is known, and may not do this."""

    code = "not_allowed"


class VersionMismatch(CallFailed):
    """Client and server are too far apart; the message says which side to upgrade."""

    code = "version_mismatch"


class NoSuchModel(CallFailed):
    """Nobody has a model of this name.  `nearest` are names that are alike."""

    code = "no_such_model"

    def __init__(
        self,
        message: str,
        *,
        model: str,
        nearest: Sequence[str] = (),
        hint: str | None = None,
        where: str = "",
        status: int | None = None,
        server_code: str | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(
            message,
            hint=hint,
            param="model",
            where=where,
            status=status,
            server_code=server_code,
            request_id=request_id,
        )
        self.model = model
        self.nearest = tuple(nearest)


class OverLimit(CallFailed):
    """A rate is full, at the gateway or at the provider; waiting `retry_after_seconds` helps."""

    code = "over_limit"


class OverBudget(CallFailed):
    """There is too little money left for this call."""

    code = "over_budget"


class BadCall(CallFailed):
    """The request itself is at fault; sending it again unchanged cannot help."""

    code = "bad_call"


class ProviderFailed(CallFailed):
    """The provider behind the call failed before it gave an answer."""

    code = "provider_failed"


class ServerBusy(CallFailed):
    """The gateway takes no calls at the moment (shutting down, or full), and nothing was begun."""

    code = "server_busy"


class ServerFailed(CallFailed):
    """The gateway failed, or something that is no Tollhouse answered in its place."""

    code = "server_failed"


class AnswerBroken(CallFailed):
    """The answer began and did not end.  What was delivered stands, and nothing was sent again."""

    code = "answer_broken"


class NotSpoken(CallFailed):
    """The server, or this installation, does not speak the protocol that was asked for."""

    code = "protocol_not_spoken"
