"""The roll on disk: what a gateway that starts without its database knows of its keys.

A file of JSON lines beside the ledger's journals: pages of the register's rows, the last of which says that it is the last.
It holds digests and no secrets, is readable by its owner only, and is replaced as a whole.  Any worker may write it.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Final

import msgspec

from tollhouse.errors import StoreUnavailable
from tollhouse.policy.roll import Delta, HolderRow, KeyRow, Mark, SigningKeyRow, SubjectRow, TokenRow

FORMAT: Final = 1
PAGE_ROWS: Final = 500
"""Rows of a line.  Between two lines other threads get their turn."""
MAX_LINE_BYTES: Final = 64 * 1024 * 1024


class _Page(msgspec.Struct, frozen=True, omit_defaults=True):
    format: int = 0
    epoch: str = ""
    revision: int = 0
    holders: list[HolderRow] = []
    subjects: list[SubjectRow] = []
    tokens: list[TokenRow] = []
    signing_keys: list[SigningKeyRow] = []
    keys: list[KeyRow] = []
    is_last: bool = False


_PAGE: Final = msgspec.json.Decoder(_Page)


def write_roll(path: Path, whole: Delta) -> None:
    """Replaces the file by one with all rows of a whole delta.  Raises `OSError`; then the file is as it was."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        fresh.unlink()  # of a process with this number that died over it
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.writelines(msgspec.json.encode(page) + b"\n" for page in _pages(whole))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            fresh.unlink()
        raise


def mark_on_disk(path: Path) -> Mark | None:
    """How far the register was when the file was written; `None` if there is none that can be used."""
    try:
        with path.open("rb") as file:
            head = _PAGE.decode(file.readline(MAX_LINE_BYTES))
    except (OSError, msgspec.DecodeError):
        return None
    return Mark(head.epoch, head.revision) if head.format == FORMAT else None


def read_roll(path: Path) -> Delta | None:
    """All that the file holds, as a whole delta; `None` if there is no file.

    Raises `StoreUnavailable` for a file that somebody else could have written, and, also while its keys are iterated, for one
    that is cut or is of another version.
    """
    try:
        status = path.stat()
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StoreUnavailable(f"The keys in {path} are not used: others could have written that file.")
        lines = _lines(path)
        head = next(lines)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreUnavailable(f"The keys in {path} cannot be read: {error.strerror}.") from error
    if head.format != FORMAT:
        raise StoreUnavailable(f"The keys in {path} were written by another version.")
    return Delta(
        mark=Mark(head.epoch, head.revision),
        is_whole=True,
        holders=head.holders,
        subjects=head.subjects,
        tokens=head.tokens,
        signing_keys=head.signing_keys,
        keys=chain.from_iterable(page.keys for page in lines),
    )


def _pages(whole: Delta) -> Iterator[_Page]:
    yield _Page(
        format=FORMAT,
        epoch=whole.mark.epoch,
        revision=whole.mark.revision,
        holders=list(whole.holders),
        subjects=list(whole.subjects),
        tokens=list(whole.tokens),
        signing_keys=list(whole.signing_keys),
    )
    keys = iter(whole.keys)
    while page := list(islice(keys, PAGE_ROWS)):
        yield _Page(keys=page)
    yield _Page(is_last=True)


def _lines(path: Path) -> Iterator[_Page]:
    """The file's pages.  Raises `StoreUnavailable` if the last is not there."""
    with path.open("rb") as file:
        try:
            for line in file:
                page = _PAGE.decode(line)
                yield page
                if page.is_last:
                    return
        except msgspec.DecodeError as error:
            raise StoreUnavailable(f"The keys in {path} are damaged: {error}.") from error
    raise StoreUnavailable(f"The keys in {path} are damaged: their end is missing.")
