"""Errors of the parts below, and of the other side, as the client's own.

One table by HTTP status and stable code serves every protocol: over gRPC the statuses are those that the codes have
(`tollhouse.errors`).  Nothing here repeats a token, a key, a prompt or an answer; the other side's sentences are bounded and
masked by the dialect that reads them.
"""

import re
import ssl
from dataclasses import dataclass
from typing import Final

from tollhouse.client.failures import (
    AnswerBroken,
    BadCall,
    CallFailed,
    ConnectionRefused,
    NoSuchModel,
    NotAllowed,
    NotAuthenticated,
    NotSpoken,
    OverBudget,
    OverLimit,
    ProviderFailed,
    ServerBusy,
    ServerFailed,
    TimedOut,
    TlsFailed,
    Unreachable,
)
from tollhouse.client.settings import Mode
from tollhouse.errors import (
    BadRequest,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    ModelNotFound,
    NotFound,
    ProviderRefused,
    StreamFailed,
    TlsExpected,
    TollhouseError,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTruncated,
)
from tollhouse.upstream.dialler import NotReached
from tollhouse.upstream.names import Unresolved


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What an error is about."""

    mode: Mode
    where: str
    """The gateway's `host:port`, or the provider's name."""
    model: str = ""
    address: str = ""
    """The gateway's address as a person writes it, without its token."""
    key_variable: str = ""
    """Where a provider's key comes from, in direct mode."""
    has_token: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether the gateway's address says that it speaks plain text."""
        scheme = self.address.partition("://")[0]
        return scheme == "http" or scheme.endswith("insecure")


def failure(error: TollhouseError, scene: Scene, *, request_id: str = "", begun: bool = False) -> CallFailed:
    """The client's error.  `begun` says whether anything of the answer was delivered."""
    match error:
        case CallFailed():
            found: CallFailed = error
        case ConnectFailed():
            found = _unconnected(error, scene)
        case UpstreamTimeout():
            found = _late(error, scene)
        case ProviderRefused():
            found = of_status(
                error.status or error.http_status,
                said_by_the_provider(error.message) if scene.mode == "direct" else error.message,
                scene,
                code=error.provider_code or error.kind or "",
                param=error.param,
                retry_after_seconds=error.retry_after_seconds,
            )
        case StreamFailed() if not begun and error.status is not None:
            found = of_status(error.status, error.message, scene, code=error.provider_code or error.kind or "")
        case StreamFailed():
            kind = AnswerBroken if begun else ProviderFailed
            code = error.provider_code or error.kind
            found = kind(error.message, where=scene.where, status=error.status, server_code=code)
        case UpstreamTruncated() | ConnectionLost():
            found = _broken(scene, begun=begun, is_mute=isinstance(error, ConnectionLost))
        case UpstreamMalformed() | UpstreamTooLarge():
            found = _not_understood(error, scene)
        case ModelNotFound():
            found = NoSuchModel(error.message, model=error.model, nearest=error.nearest, where=scene.where)
        case BadRequest():
            found = BadCall(error.message, hint=error.hint, param=error.param, where=scene.where)
        case ConfigError():
            found = TlsFailed(error.message, where=scene.where)
        case _:
            found = ServerFailed(error.message, hint=error.hint, where=scene.where)
    found.request_id = found.request_id or request_id
    return found


def of_refusal(error: ProviderRefused, stable_code: str, scene: Scene) -> CallFailed:
    """The error in a gateway's answer, with the stable code that the head of the answer gives."""
    is_relayed = stable_code in RELAYED
    found = of_status(
        error.status or error.http_status,
        said_by_the_provider(error.message) if is_relayed else error.message,
        scene,
        code=(error.provider_code or error.kind or stable_code) if is_relayed else stable_code,
        param=error.param,
        retry_after_seconds=error.retry_after_seconds,
    )
    found.is_relayed = is_relayed
    return found


# ---------------------------------------------------------------------------------------------- no answer, or no whole one


def _unconnected(error: ConnectFailed, scene: Scene) -> CallFailed:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLError | ssl.CertificateError):
        return tls_failure(cause, scene)
    message = error.message.rstrip()
    if is_refused(cause):
        return ConnectionRefused(
            f"Nothing listens at {_shown(scene)}: the connection was refused.",
            hint=_is_it_running(scene),
            where=scene.where,
        )
    if isinstance(cause, Unresolved):
        return Unreachable(
            f"The name of {_shown(scene)} is not known.",
            hint="Is it spelled right, and is this machine on the network?",
            where=scene.where,
        )
    return Unreachable(message, hint="Is this machine on the network, and is the address right?", where=scene.where)


def is_refused(cause: BaseException | None) -> bool:
    """Whether all that was tried was refused; a name with several addresses gives one error for all of them."""
    return cause.is_refused if isinstance(cause, NotReached) else isinstance(cause, ConnectionRefusedError)


def tls_failure(cause: ssl.SSLError | ssl.CertificateError, scene: Scene) -> TlsFailed:
    """Why there is no trust, and what to do about it."""
    place = _shown(scene)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return certificate_refused(cause.verify_message or str(cause), scene)
    reason = (cause.reason or "").upper()
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason:
        return TlsFailed(
            f"{place} does not speak TLS at that port.",
            hint="Is it a plain one? Then write http:// (or tollhouse+insecure://), on this machine or in your own network.",
            where=scene.where,
        )
    if "CERTIFICATE_REQUIRED" in reason or "ALERT_BAD_CERTIFICATE" in reason or "HANDSHAKE_FAILURE" in reason:
        return TlsFailed(
            f"{place} wants to see a client certificate, or refuses ours.",
            hint="Give `client_cert` and `client_key` (TOLLHOUSE_CLIENT_CERT, TOLLHOUSE_CLIENT_KEY).",
            where=scene.where,
        )
    return TlsFailed(
        f"The TLS handshake with {place} failed: {reason.lower() or 'no reason given'}.", where=scene.where
    )


def certificate_refused(why: str, scene: Scene) -> TlsFailed:
    """A server's certificate that we do not accept."""
    why = why.rstrip(".")
    lowered = why.lower()
    if "expired" in lowered:
        hint = "It ran out; whoever runs that server has to renew it. Is this machine's clock right?"
    elif "hostname" in lowered or "ip address" in lowered or "doesn't match" in lowered:
        hint = "It was made for another name; use the name that stands in it, or have this one added to it."
    elif (
        "self-signed" in lowered or "self signed" in lowered or "local issuer" in lowered or "unable to get" in lowered
    ):
        hint = (
            "If it comes from a private authority, give that one's certificates: `ca_bundle=…`, TOLLHOUSE_CA_BUNDLE, "
            "or `tollhouse setup-proxy configure … --ca-bundle FILE`."
        )
    else:
        hint = "For a private authority, give its certificates with `ca_bundle` (TOLLHOUSE_CA_BUNDLE)."
    return TlsFailed(f"The certificate of {_shown(scene)} was not accepted: {why}.", hint=hint, where=scene.where)


def _late(error: UpstreamTimeout, scene: Scene) -> TimedOut:
    place = _shown(scene)
    match error.phase:
        case "connect":
            message, hint = f"There was no connection to {place} in time.", _is_it_running(scene)
        case "first_byte":
            message, hint = f"{place} took the call and did not answer in time.", "A longer `timeout` may help."
        case "between_chunks":
            message, hint = f"{place} went silent in the middle of its answer.", "Ask again; it may be overloaded."
        case _:
            message, hint = f"The answer of {place} was not complete in time.", "A longer `timeout` may help."
    return TimedOut(message, phase=error.phase, hint=hint, where=scene.where)


def out_of_time(scene: Scene, seconds: float) -> TimedOut:
    """The call's own limit passed."""
    return TimedOut(
        f"The answer of {_shown(scene)} was not complete within {seconds:g} s.",
        phase="total",
        hint="A longer `timeout` (TOLLHOUSE_TIMEOUT) may help.",
        where=scene.where,
    )


def _broken(scene: Scene, *, begun: bool, is_mute: bool) -> AnswerBroken:
    """`is_mute` says that not even the head of an answer came."""
    what = "The answer broke off" if begun else "The connection broke before there was an answer"
    hint = (
        "What came before it stands."
        if begun
        else "It may have been begun, and billed; so it is not sent again unasked."
    )
    if is_mute and not begun and scene.mode == "proxy":
        # What a listener for TLS does with plain text, and one that wants a certificate with a client that shows none.
        asks = (
            "Does it speak TLS? Then the address begins with https://."
            if scene.is_plain
            else "Does it want a client certificate? Give `client_cert` and `client_key`."
        )
        hint = f"{asks} {hint}"
    return AnswerBroken(f"{what} ({_shown(scene)}).", hint=hint, where=scene.where)


def _not_understood(error: TollhouseError, scene: Scene) -> CallFailed:
    if scene.mode == "direct":
        return ProviderFailed(error.message, where=scene.where)
    return ServerFailed(
        f"{_shown(scene)} answered something that is no answer of a Tollhouse: {error.message}",
        hint="Is it the right address, and does nothing stand between that changes answers?",
        where=scene.where,
    )


# ------------------------------------------------------------------------------------------------------- an error's answer

_NEAREST: Final = re.compile(r"Did you mean (.+?)\?")
_QUOTED: Final = re.compile(r"'([^']{1,512})'")
_BUSY: Final = frozenset({"draining", "overloaded", "store_unavailable"})
RELAYED: Final = frozenset({ProviderRefused.code, StreamFailed.code})
"""The codes of errors that a gateway passes on."""
_NO_MONEY: Final = frozenset({"insufficient_quota", "budget_exceeded", "no_price"})


def of_status(
    status: int,
    message: str,
    scene: Scene,
    *,
    code: str = "",
    param: str | None = None,
    hint: str | None = None,
    retry_after_seconds: float | None = None,
    request_id: str = "",
    nearest: tuple[str, ...] = (),
) -> CallFailed:
    """The error in an answer with an error status; `code` is the stable one of the other side, or the provider's name."""
    kind: type[CallFailed]
    match status:
        case 400 if code == TlsExpected.code:
            return TlsFailed(
                f"{_shown(scene)} speaks TLS, and was spoken to in plain text.",
                hint="Its address begins with https:// (or tollhouse://).",
                where=scene.where,
            )
        case 401:
            kind, hint = NotAuthenticated, _how_to_authenticate(scene) or hint
        case 402:
            kind = OverBudget
        case 403 if scene.mode == "direct":
            kind, hint = NotAuthenticated, hint or _how_to_authenticate(scene)
        case 403:
            kind = NotAllowed
        case 404 if scene.mode == "direct" or code not in {"", NotFound.code}:
            nearest = nearest or _nearest_in(message)
            return NoSuchModel(
                message,
                model=scene.model,
                nearest=nearest,
                hint=hint,
                where=scene.where,
                status=status,
                server_code=code or None,
                request_id=request_id,
            )
        case 404 | 405:
            return _no_tollhouse(status, message, scene)
        case 429 if code in _NO_MONEY:
            kind = OverBudget
        case 429:
            kind = OverLimit
        case 408 | 504:
            kind = ProviderFailed
        case 503 if scene.mode == "proxy" and (not code or code in _BUSY):
            kind = ServerBusy
        case 415 | 406:
            kind = NotSpoken
        case _ if 400 <= status < 500:
            kind = BadCall
        case 500 if scene.mode == "proxy" and code in {"", TollhouseError.code}:
            kind = ServerFailed
        case _:
            kind = ProviderFailed
    return kind(
        message,
        hint=hint,
        param=param,
        where=scene.where,
        status=status,
        server_code=code or None,
        request_id=request_id,
        retry_after_seconds=retry_after_seconds,
    )


def said_by_the_provider(message: str) -> str:
    """Words that are not ours, as what they are."""
    return f"The provider said: {message}"


def _nearest_in(message: str) -> tuple[str, ...]:
    """The names that a Tollhouse suggests in its sentence."""
    found = _NEAREST.search(message)
    return tuple(_QUOTED.findall(found[1])) if found else ()


def _no_tollhouse(status: int, message: str, scene: Scene) -> ServerFailed:
    return ServerFailed(
        f"{_shown(scene)} answered {status}: {message}",
        hint="Is it a Tollhouse, and is nothing missing in the path of its address?",
        where=scene.where,
        status=status,
    )


def _how_to_authenticate(scene: Scene) -> str | None:
    if scene.mode == "direct":
        return f"Set a good key in {scene.key_variable}." if scene.key_variable else "Set a good key for this provider."
    if not scene.has_token:
        return (
            "No token was sent: give one as `token=…`, in TOLLHOUSE_TOKEN, in the address, or with "
            "`tollhouse setup-proxy configure … --token-file FILE`."
        )
    return None  # a gateway says itself what is wrong with a token, and what to do


def _is_it_running(scene: Scene) -> str:
    if scene.mode == "direct":
        return "Is this machine on the network?"
    return f"Is `tollhouse serve` running at {scene.address or scene.where}?"


def _shown(scene: Scene) -> str:
    return f"provider {scene.where!r}" if scene.mode == "direct" else scene.address or scene.where
