"""Each process's own file, which says what it has claimed.

A process holds the `flock` of its berth for as long as it lives, and the kernel drops it however that life ends: a berth whose
lock can be taken belongs to nobody alive, and nobody has to believe a process number.  Only the holder writes the file.  What
is held and seated anywhere can at any time be added up from the berths of all.

The file is a page of header, an index with one word for each claim that could stand, and two pages for each of those.  A word
of the index is zero, or says when the claim began (one more than that, twice) and, by its lowest bit, on which of its two pages
the claim is.  It is written after the page and wiped when the claim has ended, and an extended claim is written on the other
page: no death leaves a claim half written.  The loss of power may still tear one; its checksum shows that.
"""

import fcntl
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self
from zlib import crc32

import msgspec

from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import MAX_CLAIM_PARTS, MAX_NOTE_BYTES, Claim
from tollhouse.policy.shared_memory.layout import KIND_MASK, MAGIC, PAGE_BYTES, PURSE, VERSION, WORD_BYTES

MAX_CLAIMS: Final = 8192
"""Claims of one process that can stand at once."""
MAX_BERTHS: Final = 256
"""Of living processes, and of dead ones whose claims nobody has settled yet."""
MAX_ID_BYTES: Final = 64

Part = tuple[int, int, int, int]
"""Where a slot's identity is, that identity, and two numbers: amount and limit of a rate, hold of a purse.

In a berth a negative number leaves it to the claim's head how many these are: as many as the claim has tokens, but at most so
many as the number is without its sign; and of a purse what the claim holds.
"""


_TOP: Final = 2
"""The word that says how much of the index was ever used."""
_INDEX: Final = PAGE_BYTES // WORD_BYTES
_CLAIMS_AT: Final = PAGE_BYTES + MAX_CLAIMS * WORD_BYTES
_CLAIM_BYTES: Final = 2 * PAGE_BYTES
_GROW_CLAIMS: Final = 64

_HEAD: Final = struct.Struct(f"=IHHIIqq{MAX_ID_BYTES}s")
"""Checksum of id and note, their sizes, the number of parts, nothing, hold and tokens, the id.  Then parts, then the note."""
_PARTS_COUNT: Final = struct.Struct("=8xI4xqq")
_PARTS_AT: Final = _HEAD.size
_PART: Final = struct.Struct("=4q")
MAX_PARTS: Final = (PAGE_BYTES - _PARTS_AT - MAX_NOTE_BYTES) // _PART.size
"""Of a claim with all its extensions."""
assert MAX_PARTS >= 2 * MAX_CLAIM_PARTS


class Written(msgspec.Struct, frozen=True):
    """A claim as its berth has it."""

    id: str
    began_at_us: int
    hold_nano: int
    note: bytes
    parts: tuple[Part, ...]


class BerthPages:
    """A berth as anybody may read it."""

    def __init__(self, file: int, *, access: int = mmap.ACCESS_READ) -> None:
        """Maps the file; the descriptor stays the caller's.  Raises `ValueError` when it is not a berth of this version."""
        size = os.fstat(file).st_size
        if size < _CLAIMS_AT:
            raise ValueError("too small for a berth")
        self.map = mmap.mmap(file, size, access=access)
        self._words = memoryview(self.map).cast("q")
        self._places = (size - _CLAIMS_AT) // _CLAIM_BYTES
        if (self._words[0], self._words[1]) != (MAGIC, VERSION):
            self.unmap()
            raise ValueError("not a berth of this version")

    def oldest(self) -> int | None:
        """When the oldest standing claim began, microseconds since the epoch."""
        began = [word for word in self._index() if word]
        return (min(began) >> 1) - 1 if began else None

    def standing(self) -> list[int]:
        """The places of the claims that stand."""
        # A neighbour's file may have grown since we mapped it.  Whoever reads claims holds the lock, so it grew for one without
        # parts, and such a claim matters to nobody else.
        return [place for place, word in enumerate(self._index()[: self._places]) if word]

    def parts(self, place: int) -> Iterator[Part]:
        """What a standing claim holds."""
        start = self._page(place)
        count, hold_nano, tokens = _PARTS_COUNT.unpack_from(self.map, start)
        for index in range(min(count, MAX_PARTS)):
            at, identity, number, limit = _PART.unpack_from(self.map, start + _PARTS_AT + index * _PART.size)
            if number < 0:
                number = hold_nano if identity & KIND_MASK == PURSE else min(tokens, -number)
            yield at, identity, number, limit

    def read(self, place: int) -> Written:
        """A standing claim.

        One that fails its checksum comes back under a name of its own and without a note: what it holds must be given back.
        """
        start = self._page(place)
        checksum, id_bytes, note_bytes, count, _, hold, _, padded = _HEAD.unpack_from(self.map, start)
        note_at = start + _PARTS_AT + min(count, MAX_PARTS) * _PART.size
        name, note = padded[:id_bytes], self.map[note_at : note_at + min(note_bytes, MAX_NOTE_BYTES)]
        began = (self._words[_INDEX + place] >> 1) - 1
        is_whole = name and crc32(note, crc32(name)) == checksum
        return Written(
            id=name.decode(errors="replace") if is_whole else f"damaged-{began}-{place}",
            began_at_us=began,
            hold_nano=hold,
            note=note if is_whole else b"",
            parts=tuple(self.parts(place)),
        )

    def unmap(self) -> None:
        """Lets go of the memory."""
        self._words.release()
        self.map.close()

    def _page(self, place: int) -> int:
        return _page_of(place, self._words[_INDEX + place] & 1)

    def _index(self) -> list[int]:
        return self._words[_INDEX : _INDEX + min(self._words[_TOP], MAX_CLAIMS)].tolist()


class Berth(BerthPages):
    """A berth that this process holds: its own, or one that it adopted."""

    def __init__(self, number: int, file: int) -> None:
        """Takes over the descriptor, whose lock is held.  Raises `ValueError` as `BerthPages`."""
        super().__init__(file, access=mmap.ACCESS_WRITE)
        self.number = number
        """Which of the machine's berths it is."""
        self._file = file
        standing = set(self.standing())
        self.free = [place for place in range(self._places - 1, -1, -1) if place not in standing]
        """Places without a claim; the last is the next to be used."""

    @classmethod
    def take(cls, folder: Path, number: int) -> Self | None:
        """Takes the berth if its holder is dead; `None` if not.  Makes a missing or unreadable one anew.  Raises `OSError`."""
        file = os.open(folder / _name(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _lock(file):
                os.close(file)
                return None
            try:
                return cls(number, file)
            except ValueError:
                _make(file)
                return cls(number, file)
        except BaseException:
            with suppress(OSError):
                os.close(file)
            raise

    @property
    def is_empty(self) -> bool:
        """Whether no claim stands in it."""
        return len(self.free) == self._places

    def reserve(self) -> None:
        """Makes sure that one more claim can be put down.  Raises `StoreUnavailable` when it cannot."""
        if not self.free:
            self._grow()

    def put(self, claim: Claim, name: bytes, parts: bytes) -> int:
        """Writes a claim, its parts as `written` gives them, and returns its place.  There must be room: see `reserve`."""
        place = self.free.pop()
        start = _CLAIMS_AT + place * _CLAIM_BYTES
        page = _page(name, claim.hold_nano, claim.tokens, parts, claim.note)
        self.map[start : start + len(page)] = page
        words = self._words
        if place >= words[_TOP]:
            words[_TOP] = place + 1
        words[_INDEX + place] = (claim.began_at_us + 1) << 1
        return place

    def rewrite(self, place: int, name: bytes, hold_nano: int, parts: bytes, note: bytes) -> None:
        """Writes a standing claim anew; its parts say all numbers themselves.  A death in between leaves it as it was."""
        start = _page_of(place, ~self._words[_INDEX + place] & 1)
        page = _page(name, hold_nano, 0, parts, note)
        self.map[start : start + len(page)] = page
        self._words[_INDEX + place] ^= 1

    def drop(self, place: int) -> None:
        """The claim has ended."""
        self._words[_INDEX + place] = 0
        self.free.append(place)

    def leave(self) -> None:
        """Gives the berth up.  What stands in it is an orphan now."""
        self.unmap()
        os.close(self._file)

    def _grow(self) -> None:
        more = min(_GROW_CLAIMS, MAX_CLAIMS - self._places)
        if more == 0:
            raise StoreUnavailable(
                f"{MAX_CLAIMS:,} calls are under way in this process, which is all that can be remembered."
            )
        old = len(self.map)
        try:
            # Written, not just lengthened: a disk that is full says so here, and not by SIGBUS when the page is touched.
            _write_zeros(self._file, old, more * _CLAIM_BYTES)
            wider = mmap.mmap(self._file, old + more * _CLAIM_BYTES, access=mmap.ACCESS_WRITE)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, old)
            raise StoreUnavailable(f"The shared counters cannot remember another call: {error}.") from error
        self.unmap()
        self.map, self._words = wider, memoryview(wider).cast("q")
        self.free.extend(range(self._places + more - 1, self._places - 1, -1))
        self._places += more


def written(parts: Iterable[Part]) -> bytes:
    """Parts as a berth has them."""
    return b"".join(_PART.pack(*part) for part in parts)


def berth_numbers(folder: Path) -> list[int]:
    """The berths that there are, whoever holds them."""
    found = (path.name.removeprefix("berth-") for path in folder.glob("berth-*"))
    return sorted(int(number) for number in found if number.isdecimal())


@contextmanager
def reading(folder: Path, number: int) -> Iterator[BerthPages | None]:
    """Another's berth, or `None` when it is gone or not a berth."""
    try:
        file = os.open(folder / _name(number), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        pages = BerthPages(file)
    except ValueError:
        pages = None
    finally:
        os.close(file)
    try:
        yield pages
    finally:
        if pages is not None:
            pages.unmap()


def is_held(folder: Path, number: int) -> bool:
    """Whether a living process holds the berth."""
    try:
        file = os.open(folder / _name(number), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _lock(file)
    finally:
        os.close(file)


def _page(name: bytes, hold_nano: int, tokens: int, parts: bytes, note: bytes) -> bytes:
    checksum = crc32(note, crc32(name))
    return (
        _HEAD.pack(checksum, len(name), len(note), len(parts) // _PART.size, 0, hold_nano, tokens, name) + parts + note
    )


def _page_of(place: int, side: int) -> int:
    """The offset of one of a place's two pages."""
    return _CLAIMS_AT + place * _CLAIM_BYTES + side * PAGE_BYTES


def _name(number: int) -> str:
    return f"berth-{number:03}"


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make(file: int) -> None:
    os.ftruncate(file, 0)
    _write_zeros(file, 0, _CLAIMS_AT + _GROW_CLAIMS * _CLAIM_BYTES)
    os.pwrite(file, struct.pack("=2q", MAGIC, VERSION), 0)


def _write_zeros(file: int, start: int, size: int) -> None:
    zeros = bytes(size)
    done = 0
    while done < size:
        done += os.pwrite(file, zeros[done:], start + done)
