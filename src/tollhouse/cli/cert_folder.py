"""The folder of a private authority: which files are in it, and how they are written.

    ca.crt, ca.key              the authority; `ca.crt` is what clients must trust
    server.crt, server.key      the gateway's own: the certificate with its chain, and its key
    clients/NAME.crt, .key      one pair for each client

Keys are for their owner alone (0600).  A renewed certificate keeps its key unless another is asked for, so that renewing
is one step: at no moment do two files lie there that do not fit each other.
"""

import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from tollhouse.config.folders import PUBLIC_FILE, make_private_folder, server_folder, write_file
from tollhouse.errors import ConfigError, Conflict
from tollhouse.policy.authority import Authority, BadAuthority, Issued, Request, host_name, make_authority, request_like

FOLDER: Final = "certs"
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
NEW_AUTHORITY: Final = "`tollhouse cert init --force` makes a new one, which clients have to be given again."
CLIENT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")

State = Literal["good", "ends soon", "ended", "not yet good", "missing", "broken"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key in files."""

    what: str
    """`authority`, `server`, `client NAME`."""
    cert: Path
    key: Path

    @property
    def is_there(self) -> bool:
        """Whether either file exists."""
        return self.cert.exists() or self.key.exists()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a pair is."""

    pair: Pair
    state: State
    names: tuple[str, ...] = ()
    not_after: datetime | None = None
    why: str = ""
    """What is broken, as a sentence."""


def default_folder(home: Path) -> Path:
    """`tollhouse/server/certs` in the XDG configuration folder."""
    return server_folder(os.environ, home) / FOLDER


def read_hosts(hosts: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The alternative names of a gateway at these hosts: them, `names` as they are, and this machine as it calls itself.

    Without `hosts` the machine's own name is one.  Raises `ConfigError` for what is no host.
    """
    from tollhouse.config.certificate_names import alternative_name

    found: dict[str, None] = {}
    wanted = [*(hosts or [socket.gethostname()]), *LOOPBACK]
    for read, texts in ((host_name, wanted), (alternative_name, names)):
        for text in texts:
            try:
                found[read(text)] = None
            except (ValueError, UnicodeError) as error:
                raise ConfigError([f"{text!r} cannot stand in a certificate: {error}"]) from error
    return tuple(found)


class CertFolder:
    """One folder.  Its methods raise `ConfigError` with what to do, and `Conflict`."""

    def __init__(self, folder: Path, *, now: datetime) -> None:
        self.folder = folder
        self.now = now
        self.authority = Pair("authority", folder / "ca.crt", folder / "ca.key")
        self.server = Pair("server", folder / "server.crt", folder / "server.key")

    def client(self, name: str) -> Pair:
        """The pair of a client; it need not exist."""
        if not CLIENT_NAME.fullmatch(name):
            raise ConfigError([f"{name!r} is not a client's name; use 1 to 64 letters, digits, `_`, `.`, `@` and `-`."])
        return Pair(f"client {name}", self.folder / "clients" / f"{name}.crt", self.folder / "clients" / f"{name}.key")

    def pairs(self) -> Iterator[Pair]:
        """The authority, the server, and every client in the order of their names."""
        yield self.authority
        yield self.server
        for cert in sorted((self.folder / "clients").glob("*.crt")):
            if CLIENT_NAME.fullmatch(cert.stem):
                yield self.client(cert.stem)

    def make_authority(self, common_name: str, *, days: int, replace: bool) -> Authority:
        """A new authority."""
        self._check_absent([self.authority], replace=replace)
        issued = make_authority(common_name, now=self.now, days=days)
        self._write(self.authority, issued, replace=replace)
        return Authority(issued.chain, issued.key)

    def open_authority(self) -> Authority:
        """The authority that is there."""
        pair = self.authority
        try:
            return Authority(pair.cert.read_bytes(), pair.key.read_bytes())
        except FileNotFoundError as error:
            raise ConfigError([f"There is no authority in {self.folder}: `tollhouse cert init` makes one."]) from error
        except OSError as error:
            raise ConfigError([f"{error.filename}: {error.strerror}."]) from error
        except BadAuthority as error:
            raise ConfigError([f"{pair.cert} and {pair.key}: {error}"]) from error

    def issue(self, authority: Authority, pair: Pair, request: Request, *, replace: bool) -> None:
        """Makes a certificate and its key."""
        self._check_absent([pair], replace=replace)
        self._check_age(authority)
        try:
            issued = authority.issue(request, self.now)
        except ValueError as error:
            raise ConfigError([str(error)]) from error
        self._write(pair, issued, replace=replace)

    def renew(self, authority: Authority, pair: Pair, *, new_key: bool) -> None:
        """Makes a certificate again, for as many days as it was good for."""
        self._check_age(authority)
        try:
            request = request_like(pair.cert.read_bytes())
            issued = authority.issue(request, self.now, key=None if new_key else pair.key.read_bytes())
        except OSError as error:
            raise ConfigError([f"{error.filename}: {error.strerror}."]) from error
        except (ValueError, TypeError) as error:
            raise ConfigError([f"{pair.cert} cannot be renewed: {error}"]) from error
        if new_key:
            self._write(pair, issued, replace=True)
        else:
            _write_file(pair.cert, issued.chain, mode=PUBLIC_FILE, replace=True)

    def standing(self, pair: Pair, *, soon: timedelta) -> Standing:
        """How a pair is; `soon` before its end counts as ending soon."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        from tollhouse.config.certificate_names import names_in, unreadable

        missing = [file for file in (pair.cert, pair.key) if not file.exists()]
        if missing:
            return Standing(pair, "missing", why=f"{missing[0]} does not exist.")
        try:
            certificate = x509.load_pem_x509_certificate(pair.cert.read_bytes())
            private = load_pem_private_key(pair.key.read_bytes(), None)
            names = (certificate.subject.rfc4514_string(), *names_in(certificate))
        except OSError as error:
            return Standing(pair, "broken", why=f"{error.filename}: {error.strerror}.")
        except TypeError:
            return Standing(pair, "broken", why="The key has a password.")
        except unreadable():
            return Standing(pair, "broken", why="One of the files is not a certificate, or not a key.")
        ends = certificate.not_valid_after_utc
        why = ""
        state: State = "good"
        if private.public_key() != certificate.public_key():
            state, why = "broken", "The key does not belong to the certificate."
        elif pair.key.stat().st_mode & 0o077:
            state, why = "broken", f"The key can be read by others: chmod 600 {pair.key}"
        elif self.now >= ends:
            state = "ended"
        elif self.now < certificate.not_valid_before_utc:
            state = "not yet good"
        elif self.now >= ends - soon:
            state = "ends soon"
        if state == "good" and pair is not self.authority and not self._is_signed(certificate):
            state, why = "broken", "It was signed by another authority than the one that is here now."
        return Standing(pair, state, names, ends, why)

    def _is_signed(self, certificate: object) -> bool:
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature

        if not isinstance(certificate, x509.Certificate) or not self.authority.cert.exists():
            return True
        try:
            certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(self.authority.cert.read_bytes()))
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True

    def _check_absent(self, pairs: Sequence[Pair], *, replace: bool) -> None:
        there = [str(file) for pair in pairs for file in (pair.cert, pair.key) if file.exists()]
        if there and not replace:
            raise Conflict(
                f"{there[0]} is there already.",
                hint="`--force` replaces it; `tollhouse cert renew` keeps it and its key.",
            )

    def _check_age(self, authority: Authority) -> None:
        if self.now >= authority.not_after:
            ended = f"The authority in {self.folder} ended on {authority.not_after:%Y-%m-%d}"
            raise ConfigError([f"{ended}: {NEW_AUTHORITY}"])

    def _write(self, pair: Pair, issued: Issued, *, replace: bool) -> None:
        try:
            make_private_folder(pair.key.parent)
            make_private_folder(pair.cert.parent)
        except OSError as error:
            raise ConfigError([f"{pair.cert.parent} cannot be made: {error.strerror}."]) from error
        _write_file(pair.key, issued.key, replace=replace)
        _write_file(pair.cert, issued.chain, mode=PUBLIC_FILE, replace=replace)


def _write_file(file: Path, data: bytes, *, mode: int = 0o600, replace: bool) -> None:
    try:
        write_file(file, data, mode=mode, replace=replace)
    except FileExistsError as error:
        raise Conflict(f"{file} is there already.", hint="`--force` replaces it.") from error
    except OSError as error:
        raise ConfigError([f"{file} cannot be written: {error.strerror}."]) from error
