"""Writing small files that must not be half written, and reading secrets that others must not read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tollhouse.config.folders import PRIVATE_FILE, make_private_folder, write_file

MAX_SECRET_BYTES: Final = 64 * 1024


class UnsafeFile(Exception):
    """A file that is not used as it is; the sentence says why and what to do."""


def write_private(path: Path, data: bytes) -> None:
    """Replaces a file by one that only its owner can read, whole or not at all.  Folders are made as needed.

    Raises `OSError`; the file is then as it was.
    """
    make_private_folder(path.parent)
    write_file(path, data, replace=True)


def read_token(path: Path, *, must_be_private: bool = False) -> str:
    """The one line that a token file holds.  Raises `UnsafeFile` and `OSError`.

    `must_be_private` is for files of our own making; a file that the user names (a mounted secret, say) is their own business.
    """
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        data = file.read(MAX_SECRET_BYTES + 1)
    if must_be_private and os.name == "posix" and mode & 0o077:
        raise UnsafeFile(f"others can read {path}; `chmod 600 {path}`, and have the token renewed if they did.")
    if len(data) > MAX_SECRET_BYTES:
        raise UnsafeFile(f"{path} is too large to be a token.")
    try:
        token = data.decode("ascii").strip()
    except UnicodeDecodeError:
        raise UnsafeFile(f"{path} holds something that is not a token.") from None
    if not token:
        raise UnsafeFile(f"{path} is empty.")
    if any(character <= " " or character == "\x7f" for character in token):
        raise UnsafeFile(f"{path} holds more than one token: it has blanks or several lines.")
    return token


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes of ours out while a file is read, changed and written; a system without locks has none."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    make_private_folder(path.parent)
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
