"""The certificate of a listener, while the gateway runs.

The files are looked at every second, by `stat`, so that a renewed certificate is served without a restart; a link that is
swapped, as Kubernetes does with its secrets, is a change too.  A change is taken over when two looks in a row saw the same, for
certificate and key are seldom written in one step.  Connections keep what they began with.  Files that do not fit leave
the old pair serving, and the log says why.

How the swap works: event loops ask a context for one thing only, `wrap_bio`, once a connection.  The context that they are
given hands that on to the newest one, so what it verifies can change as well as what it shows.
"""

import asyncio
import functools
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

from tollhouse.config.certificates import SOON, Material, examine
from tollhouse.config.schema import TlsSettings
from tollhouse.errors import ConfigError, TlsExpected
from tollhouse.policy.peer_certificate import PeerCertificate, read_peer
from tollhouse.telemetry import logs

HTTP_1_1: Final = "http/1.1"
"""Its name in ALPN, as `h2` is that of HTTP/2."""
LOOK_SECONDS: Final = 1.0
HANDSHAKE_SECONDS: Final = 15.0
"""How long a client may take to agree on encryption."""
GOODBYE_SECONDS: Final = 5.0
"""How long a connection that was closed waits for its client to say goodbye too."""
REMIND_SECONDS: Final = 86_400.0
"""How often the log says that a certificate is about to end."""
SILENT_SECONDS: Final = 1.0
"""Failed handshakes are logged at most this often: anybody who can connect can make them."""

MAX_IGNORED_BYTES: Final = 1_048_576
"""How much a client that spoke plain HTTP may send after that, until it has read why it is refused."""

Stamp = tuple[tuple[int, int, int, int], ...]
"""Of each file: device, inode, time of change in nanoseconds, size."""

log = logs.get("server")


class LiveTls:
    """One for each process that listens.  `look` or `watch` keeps it current."""

    def __init__(
        self,
        settings: TlsSettings,
        where: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the files, which blocks.  Raises `ConfigError`.  `where` names the setting in messages: `server.tls`."""
        self.settings = settings
        self._where = where
        self._now = now
        self._monotonic = monotonic
        self._failures = Failures(monotonic)
        self._taken = self._seen = self._stamp()
        self._reminded_at: float | None = None
        self._contexts = {HTTP_1_1: _LiveContext(ssl.PROTOCOL_TLS_SERVER)}
        """By the protocol that each offers."""
        self._swap(*self._first())
        self._heirs: list[Callable[[], None]] = []

    @property
    def context(self) -> ssl.SSLContext:
        """For HTTP/1.1."""
        return self._contexts[HTTP_1_1]

    def context_for(self, protocol: str) -> ssl.SSLContext:
        """A context that follows the files as `context` does, but offers another protocol, by its name in ALPN.

        Reads the files, which blocks.  Raises `ConfigError`.
        """
        if protocol not in self._contexts:
            self._contexts[protocol] = _LiveContext(ssl.PROTOCOL_TLS_SERVER)
            self._swap(*self._first())
        return self._contexts[protocol]

    def when_changed(self, tell: Callable[[], None]) -> None:
        """Calls back after each change, in whatever thread `look` runs: hand it on with `call_soon_threadsafe`."""
        self._heirs.append(tell)

    async def watch(self) -> None:
        """Looks every `LOOK_SECONDS` until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await asyncio.to_thread(self.look)
            except Exception:
                # A defect here must not end the watching, nor what serves.
                log.exception("the certificate's files were not looked at", extra={"where": self._where})

    def look(self) -> bool:
        """One look at the files; true if a new certificate serves from now on.  Blocks.  Not for two threads at once."""
        self._remind()
        stamp = self._stamp()
        if stamp == self._taken:
            self._seen = stamp
            return False
        if stamp != self._seen:
            self._seen = stamp  # somebody may still be writing
            return False
        self._taken = stamp
        found, problems = self._loaded()
        if self._stamp() != stamp:
            self._taken = ()  # they changed while they were read, and what was read may be half of each
            return False
        if found is None:
            log.error(
                "the new certificate cannot be used, the old one goes on serving",
                extra={"where": self._where, "problems": list(problems)},
            )
            return False
        self._swap(*found)
        log.info(
            "a new certificate is served",
            extra={"where": self._where, "subject": self.material.subject, "until": _day(self.material.not_after)},
        )
        self._reminded_at = None
        for tell in self._heirs:
            tell()
        return True

    def _first(self) -> "tuple[Mapping[str, _Context], Material]":
        found, problems = self._loaded()
        if found is None:
            raise ConfigError([f"{self._where}: {problem}" for problem in problems])
        return found

    def _swap(self, contexts: "Mapping[str, _Context]", material: Material) -> None:
        for protocol, context in contexts.items():
            self._contexts[protocol].current = context
        self.material = material

    def _loaded(self) -> "tuple[tuple[Mapping[str, _Context], Material] | None, tuple[str, ...]]":
        material, flaws = examine(self.settings, self._now())
        if material is None:
            return None, tuple(f"{flaw.which}: {flaw.sentence}" for flaw in flaws if flaw.is_fatal)
        try:
            contexts = {
                protocol: _context(self.settings, material, self._failures, protocol)
                for protocol in tuple(self._contexts)  # `context_for` may add one meanwhile
            }
            return (contexts, material), ()
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or error.strerror or "they cannot be read"
            return None, (f"OpenSSL does not take these files: {reason}.",)

    def _stamp(self) -> Stamp:
        files = (self.settings.cert, self.settings.key, self.settings.client_ca)
        return tuple(_stamp_of(file) for file in files if file is not None)

    def _remind(self) -> None:
        left = self.material.not_after - self._now()
        if left > SOON:
            return
        now = self._monotonic()
        if self._reminded_at is None or now - self._reminded_at >= REMIND_SECONDS:
            self._reminded_at = now
            level, what = (
                (logging.WARNING, "the certificate is about to end")
                if left > timedelta(0)
                else (logging.ERROR, "the certificate has ended, and clients refuse it")
            )
            log.log(level, what, extra={"where": self._where, "until": _day(self.material.not_after)})


@asynccontextmanager
async def watching(tls: LiveTls | None) -> AsyncIterator[None]:
    """Keeps a listener's certificate current within the block."""
    task = None if tls is None else asyncio.get_running_loop().create_task(tls.watch())
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


def live_tls(settings: TlsSettings | None, where: str) -> LiveTls | None:
    """The certificate of a listener that has one.  Raises `ConfigError`."""
    return None if settings is None else LiveTls(settings, where)


def tls_extension(connection: ssl.SSLObject) -> dict[str, object]:
    """What `scope["extensions"]["tls"]` says (https://asgi.readthedocs.io/en/latest/specs/tls.html).

    The chain holds the client's own certificate only: Python knows the rest from 3.13 on.
    """
    der = connection.getpeercert(binary_form=True)
    chain = [] if der is None else [ssl.DER_cert_to_PEM_cert(der)]
    cipher = connection.cipher()
    context = connection.context
    return {
        "server_cert": context.leaf if isinstance(context, _Context) else None,
        "client_cert_chain": chain,
        "client_cert_name": read_peer(chain[0]).subject if chain else None,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(connection.version() or ""),
        "cipher_suite": _suites().get(cipher[0]) if cipher is not None else None,
    }


def peer_of(scope: Mapping[str, Any]) -> PeerCertificate | None:
    """The verified client certificate of an HTTP request, if its server says that there is one."""
    extensions = scope.get("extensions")
    tls = extensions.get("tls") if extensions else None
    chain = tls.get("client_cert_chain") if tls else None
    return read_peer(chain[0]) if chain else None


_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}


class _Context(ssl.SSLContext):
    """A context that knows its own certificate."""

    leaf: str | None = None
    """PEM."""
    failures: "Failures"


class _LiveContext(ssl.SSLContext):
    """Hands every new connection to the newest context."""

    current: "_Context"

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *arguments: Any, **named: Any
    ) -> ssl.SSLObject:
        """As `ssl.SSLContext.wrap_bio`."""
        connection = self.current.wrap_bio(incoming, outgoing, *arguments, **named)
        if isinstance(connection, _Connection):
            connection.wires = incoming, outgoing
        return connection


class _Connection(ssl.SSLObject):
    """Tells why a handshake failed, which event loops keep to themselves: the log, and a client that spoke plain HTTP."""

    wires: tuple[ssl.MemoryBIO, ssl.MemoryBIO] | None = None
    """What came from the client and was not read yet, and what is to go to it."""
    _refused: ssl.SSLError | None = None
    _ignored_bytes = 0

    def do_handshake(self) -> None:
        """As `ssl.SSLObject.do_handshake`.

        A client that spoke plain HTTP is answered as such, which event loops take for a step of the handshake: then it is asked
        for more, until it closes, has sent too much or the handshake's time is over.  (Closed at once, what it still sends
        would reset the connection, and the answer might be lost.)
        """
        if self._refused is not None:
            self._ignore(self._refused)
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            context = self.context
            if isinstance(context, _Context):
                context.failures.tell(_why(error))
            if error.reason == "HTTP_REQUEST" and self.wires is not None:
                self._refused = error
                self.wires[1].write(_PLAIN_HTTP)
                self._ignore(error)
            raise

    def _ignore(self, refused: ssl.SSLError) -> NoReturn:
        if self.wires is not None:
            incoming, _ = self.wires
            self._ignored_bytes += len(incoming.read())
            if not incoming.eof and self._ignored_bytes <= MAX_IGNORED_BYTES:
                raise ssl.SSLWantReadError
        raise refused


class Failures:
    """Logs that clients and the gateway could not agree on encryption, but not all of many."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._told_at: float | None = None
        self._untold = 0

    def tell(self, why: str) -> None:
        """Logs it, unless another one was logged a moment ago."""
        now = self._monotonic()
        if self._told_at is not None and now - self._told_at < SILENT_SECONDS:
            self._untold += 1
            return
        log.info("a client could not agree on encryption", extra={"why": why, "more_like_it": self._untold})
        self._told_at = now
        self._untold = 0


_CODE: Final = TlsExpected.code.encode()
_SENTENCE: Final = b"This port speaks TLS; use https:// in place of http://."
_BODY: Final = b'{"error":{"type":"invalid_request_error","code":"%b","message":"%b"}}' % (_CODE, _SENTENCE)
_PLAIN_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-tollhouse-code: %b\r\n"
    b"connection: close\r\n\r\n%b" % (len(_BODY), _CODE, _BODY)
)


def _why(error: ssl.SSLError) -> str:
    """What went wrong, as a person would say it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    reason = error.reason or ""
    words = {
        "HTTP_REQUEST": "it spoke plain HTTP",
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
        "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the authority of this gateway's certificate",
        "UNSUPPORTED_PROTOCOL": "it speaks no version from TLS 1.2 on",
    }
    return words.get(reason, reason.lower().replace("_", " ") or "it broke off")


def _context(settings: TlsSettings, material: Material, failures: Failures, protocol: str) -> _Context:
    """A context that serves this material.  Raises `ssl.SSLError`, `OSError`."""
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # costs the server more than the client
    context.set_alpn_protocols([protocol])
    context.sslobject_class = _Connection
    context.failures = failures
    context.load_cert_chain(settings.cert, settings.key, password=_no_password)
    context.leaf = material.chain.decode("ascii", "replace").partition(_END)[0] + _END + "\n"
    if material.client_ca is not None:
        context.load_verify_locations(cadata=material.client_ca.decode("ascii", "ignore"))
        # Whoever is listed is trusted, also where a certificate above it exists.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = ssl.CERT_REQUIRED if settings.client_auth == "required" else ssl.CERT_OPTIONAL
    return context


_END: Final = "-----END CERTIFICATE-----"


def _no_password() -> str:
    """Without this, OpenSSL would ask at the terminal."""
    return ""


def _stamp_of(file: str) -> tuple[int, int, int, int]:
    try:
        status = Path(file).stat()
    except OSError:
        return (0, 0, 0, -1)
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


@functools.cache
def _suites() -> Mapping[str, int]:
    """The numbers of the cipher suites (https://www.iana.org/assignments/tls-parameters), by OpenSSL's names."""
    return {each["name"]: each["id"] & 0xFFFF for each in ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).get_ciphers()}
