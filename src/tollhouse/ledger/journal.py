"""Where rows wait while the database cannot take them: append-only files beside it, one a process.

A line is a CRC-32 in hexadecimal, a space, a JSON array, a newline; the first line of a file names the columns, so
that a later version can still read it.  `append` returns after `fdatasync`: what it took survives the loss of power.

A file belongs to the process that holds its `flock`.  The kernel drops the lock when the process ends, however it
ends, so a file that can be locked is an orphan and is adopted by whoever replays next.  A replayed file is deleted
after its rows are committed; dying in between replays it again, which the ledger's unique ids make harmless.
"""

import fcntl
import itertools
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.rows import COLUMNS, Row, Value, storable

Commit: TypeAlias = Callable[[Sequence[Row]], frozenset[str]]
"""Commits rows and returns the ids of those that the database will never take; as `Storage.insert`."""

REPLAY_ROWS: Final = 256
"""Rows handed over at once; bounds the memory that a replay takes, and how long new rows wait for it."""


class Replayed(msgspec.Struct, frozen=True):
    """What one piece of a replay found."""

    rows: int = 0
    torn: int = 0
    """Last lines that a dying process left unfinished.  Nobody was told that these rows were safe."""
    damaged: int = 0
    """Other lines that are not what was written, or rows that the database refuses; their files are kept as
    `….damaged`.
    """


class Journal:
    """The journal of one ledger, as one process sees it.  Its methods may be called from any thread."""

    def __init__(self, directory: Path, name: str, *, max_bytes: int) -> None:
        """Touches nothing yet: a file appears with the first `append`."""
        self._directory = directory
        self._prefix = f"{name}.journal-"
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._file: int | None = None
        self._path: Path | None = None
        self._size = 0

    @property
    def has_rows(self) -> bool:
        """Whether this process has appended rows since the last replay began."""
        return self._file is not None

    def append(self, rows: Sequence[Row]) -> None:
        """Writes the rows and syncs them to disk.  Raises `StoreUnavailable` when it is full or the disk refuses:
        none is kept.
        """
        lines = b"".join(_line(_encoded(row)) for row in rows)
        with self._lock:
            if self._size + len(lines) > self._max_bytes:
                raise StoreUnavailable(f"The ledger's journal has reached its bound of {self._max_bytes:,} bytes.")
            try:
                if self._file is not None and os.fstat(self._file).st_nlink == 0:
                    self._leave()  # somebody deleted it; what we append now must not follow
                if self._file is None:
                    self._open()
                self._write(lines)
            except OSError as error:
                raise StoreUnavailable(
                    f"The ledger's journal in {self._directory} cannot be written: {error}."
                ) from error

    def replay(self, commit: Commit) -> Iterator[Replayed]:
        """Hands the rows of this process's file and of all orphaned ones to `commit`, piece by piece, and deletes the
        files.

        Rows that are appended meanwhile go to a new file.  What `commit` raises ends the replay; what is left stays
        for the next.
        """
        with self._lock:
            self._leave()  # our own file is an orphan now, like the others
        for path in sorted(self._directory.glob(f"{self._prefix}*.jsonl")):
            yield from _adopt(path, commit)

    def close(self) -> None:
        """Lets go of the file; its rows stay for the next process."""
        with self._lock:
            self._leave()

    def _open(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        while True:
            path = self._directory / f"{self._prefix}{os.getpid()}-{os.urandom(4).hex()}.jsonl"
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)  # adopted as an empty orphan between these two lines
                continue
            self._file, self._path, self._size = file, path, 0
            self._write(_line(msgspec.json.encode(COLUMNS)))
            return

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fdatasync(self._file)
        except OSError:
            # Half a line must not stand before the next one.
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            if self._size == 0:
                self._leave()
            raise
        self._size += len(data)

    def _leave(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file, self._path, self._size = None, None, 0


def waiting_rows(directory: Path, name: str) -> Iterator[Row]:
    """The rows in all journals of a ledger, those of other processes too; some may be in the database already.

    Reads only.  Lines that are not whole are left out; a file that was replayed in the meantime is, too, for its rows
    are in the database then.  Raises `OSError`.
    """
    for path in sorted(directory.glob(f"{name}.journal-*.jsonl")):
        with suppress(FileNotFoundError):
            yield from (line for line in _read(path) if isinstance(line, tuple))


def waiting_bytes(directory: Path, name: str) -> int:
    """The size of all journals of a ledger, those of other processes too; 0 when no row waits.  Raises `OSError`."""
    total = 0
    for path in directory.glob(f"{name}.journal-*.jsonl"):
        with suppress(FileNotFoundError):  # it was replayed in the meantime
            total += path.stat().st_size
    return total


def _adopt(path: Path, commit: Commit) -> Iterator[Replayed]:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # another process was quicker
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:
            yield from _replay_file(path, commit)
    except BlockingIOError:
        return  # its owner lives
    finally:
        os.close(file)


def _replay_file(path: Path, commit: Commit) -> Iterator[Replayed]:
    damaged = 0
    for piece, torn, bad in _pieces(_read(path)):
        refused = len(commit(piece)) if piece else 0
        damaged += bad + refused
        yield Replayed(len(piece) - refused, torn, bad + refused)
    if damaged:
        path.rename(path.with_suffix(".damaged"))
    else:
        path.unlink()


def _pieces(lines: "Iterator[Row | _Torn | _Damaged]") -> Iterator[tuple[list[Row], int, int]]:
    """At most `REPLAY_ROWS` rows at a time, with the number of torn and of damaged lines among them."""
    while piece := list(itertools.islice(lines, REPLAY_ROWS)):
        rows = [line for line in piece if isinstance(line, tuple)]
        torn = sum(isinstance(line, _Torn) for line in piece)
        yield rows, torn, len(piece) - len(rows) - torn


class _Torn:
    """A last line without its end."""


class _Damaged:
    """A line whose sum or form is wrong."""


def _read(path: Path) -> Iterator[Row | _Torn | _Damaged]:
    columns: list[str] | None = None
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                yield _Torn()
                return
            try:
                values = _checked(line)
                if columns is None:
                    columns = [str(name) for name in values]
                    continue
                yield _in_our_order(columns, values)
            except ValueError:
                columns = columns or []  # without its head no line of the file can be read
                yield _Damaged()


def _line(payload: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def _checked(line: bytes) -> list[Value]:
    payload = line[9:-1]
    if int(line[:8], 16) != zlib.crc32(payload):
        raise ValueError("checksum")
    return msgspec.json.decode(payload, type=list[str | int | None])


def _in_our_order(columns: list[str], values: list[Value]) -> Row:
    if columns == list(COLUMNS):
        if len(values) != len(columns):
            raise ValueError("length")
        return tuple(values)
    named = dict(zip(columns, values, strict=True))
    return tuple(named.get(name) for name in COLUMNS)


def _encoded(row: Row) -> bytes:
    try:
        return msgspec.json.encode(row)
    except (OverflowError, UnicodeEncodeError, ValueError):
        return msgspec.json.encode(storable(row))
