"""The secrets that sign tokens, in a file of this machine: `tollhouse/server/client-secrets/signing-keys.json` in the XDG
configuration folder.

The file and its folder are their owner's alone; a file that others can read is not used.  It is replaced as a whole, under a
lock, for several gateways of one user may share it: which of its keys a gateway accepts is said by its database, not by the
file.
"""

import fcntl
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from tollhouse.config.folders import make_private_folder, server_folder, write_file
from tollhouse.errors import StoreUnavailable

FILE_NAME: Final = "signing-keys.json"
MAX_FILE_BYTES: Final = 1024 * 1024
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

log = logging.getLogger("tollhouse.policy")


def secrets_path(environ: Mapping[str, str], home: Path) -> Path:
    """Where the file is."""
    return server_folder(environ, home) / "client-secrets" / FILE_NAME


class _Key(msgspec.Struct, frozen=True):
    kid: str
    algorithm: Literal["HS256", "EdDSA"]
    secret: bytes
    """32 bytes: of an HMAC secret, or of an Ed25519 private key."""

    def __repr__(self) -> str:
        return f"_Key({self.kid!r})"


class _File(msgspec.Struct, frozen=True):
    keys: list[_Key] = []


class SecretsFile:
    """The file, read when something is asked for that was not there the last time."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet."""
        self.path = path
        self._keys: Mapping[str, _Key] = {}
        self._seen: tuple[int, int, int] | None = None
        self._problem = ""

    def secret(self, kid: str) -> bytes | None:
        """The secret of a key, if this machine has it.  Costs a look at the file's date where it has not."""
        if kid not in self._keys:
            self._look()
        found = self._keys.get(kid)
        return None if found is None else found.secret

    def add(self, kid: str, algorithm: Literal["HS256", "EdDSA"], secret: bytes, *, drop: frozenset[str]) -> None:
        """Keeps one more, and forgets those of `drop`.  Raises `StoreUnavailable` when the file cannot be written."""
        try:
            with self._locked():
                kept = [key for key in self._read().keys if key.kid not in drop]
                self._write(_File([*kept, _Key(kid, algorithm, secret)]))
        except OSError as error:
            raise StoreUnavailable(
                f"The file of signing keys {self.path} cannot be written: {error.strerror or error}.",
                hint="Make its folder writable, set XDG_CONFIG_HOME, or give `auth.jwt.secret` in the configuration.",
            ) from error
        self._look()

    def _look(self) -> None:
        try:
            status = self.path.stat()
        except OSError:
            self._keys, self._seen = {}, None
            return
        seen = (status.st_mtime_ns, status.st_ino, status.st_size)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._keys = {key.kid: key for key in self._read().keys}
            self._problem = ""
        except (StoreUnavailable, OSError) as error:
            self._keys = {}
            if self._problem != str(error):
                self._problem = str(error)
                log.error("the signing keys of this machine are not used", extra={"why": self._problem})  # noqa: TRY400

    def _read(self) -> _File:
        """Raises `OSError`, and `StoreUnavailable` for a file that cannot be trusted or understood."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return _File()
        if status.st_mode & OTHERS or status.st_uid not in {0, os.geteuid()}:
            raise StoreUnavailable(
                f"Others than you can read or own {self.path}.", hint=f"chmod 600 {self.path}, then rotate the secret."
            )
        try:
            return msgspec.json.decode(data, type=_File)
        except msgspec.DecodeError as error:
            # What is wrong with it could show a piece of a secret.
            raise StoreUnavailable(f"The file of signing keys {self.path} is damaged.") from error

    def _write(self, content: _File) -> None:
        write_file(self.path, msgspec.json.format(msgspec.json.encode(content)) + b"\n", replace=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        folder = self.path.parent
        make_private_folder(folder)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # and with it the lock
