"""A table of slots in shared memory: found by name, made when missing, taken back when idle.

A name's digest points to two pages, its *buckets*, and the slot is in one of them.  A bucket is searched by `mmap.find`, at the
speed of C.  No slot ever moves, there are no chains to repair after a crash, and the work of any operation is bounded by two
pages: when both buckets are full, their idle slots are freed, and if there are none, the table says so instead of counting
wrongly.

Every change is made with the lock held, in an order that a death between any two stores leaves the table sound: a slot's
digest, by which it is found, is written last and wiped first.
"""

import mmap
from collections.abc import Callable, Collection, Iterator
from hashlib import blake2b
from typing import Final

from tollhouse.errors import StoreUnavailable
from tollhouse.policy.shared_memory.layout import AT_MOVED, DIGEST, PAGE_BYTES, VALUE, WORD_BYTES

Slot = tuple[int, int]
"""Where a slot's identity is, and that identity."""

_FREE_DIGEST: Final = bytes(16)
_PAGE_WORDS: Final = PAGE_BYTES // WORD_BYTES


def digest_of(kind: int, name: str) -> bytes:
    """16 bytes.  Names are unique within a kind."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16, person=b"%d" % kind).digest()


class SlotTable:
    """Slots of one size.  They are spoken of by the index of their identity word, `at`."""

    def __init__(
        self, file: mmap.mmap, words: "memoryview[int]", *, start: int, marks: int, slots: int, slot_bytes: int
    ) -> None:
        """`start` and `marks` are offsets in bytes: of the first bucket, and of a byte for each: was it ever used?"""
        self._file = file
        self._words = words
        self._start = start
        self._marks = marks
        self._slots = slots
        self._slot_bytes = slot_bytes
        self._slot_words = slot_bytes // WORD_BYTES
        self._buckets = slots * slot_bytes // PAGE_BYTES

    def find(self, digest: bytes) -> int | None:
        """The slot of that digest."""
        for bucket in self._buckets_of(digest):
            start = self._start + bucket * PAGE_BYTES
            found = self._file.find(digest, start, start + PAGE_BYTES)
            while found >= 0:
                if (found - start) % self._slot_bytes == 0:
                    return found // WORD_BYTES - DIGEST
                found = self._file.find(digest, found + 1, start + PAGE_BYTES)
        return None

    def add(self, digest: bytes, identity: int, is_idle: Callable[[int], bool], pinned: Collection[int] = ()) -> int:
        """Makes a slot with all values zero.  The digest must not have one.

        Frees idle slots when there is no other room, except those in `pinned`.  Raises `StoreUnavailable` when none is idle.
        """
        buckets = self._buckets_of(digest)
        at = self._free_slot(buckets)
        if at is None:
            for candidate in self._in_buckets(buckets):
                if candidate not in pinned and is_idle(candidate):
                    self._free(candidate)
            at = self._free_slot(buckets)
        if at is None:
            raise StoreUnavailable(
                f"The shared counters have no room for another name: their table of {self._slots:,} is full.",
                hint="Too many callers, addresses or budgets are active at once for its size.",
            )
        words = self._words
        for word in range(at + VALUE, at + DIGEST + self._slot_words):
            words[word] = 0
        self._file[self._marks + self._bucket_at(at)] = 1
        words[at] = identity
        self._file[(at + DIGEST) * WORD_BYTES : at * WORD_BYTES] = digest
        return at

    def used(self) -> Iterator[int]:
        """Every slot that counts something."""
        marks = self._file[self._marks : self._marks + self._buckets]
        return self._in_buckets([bucket for bucket, is_used in enumerate(marks) if is_used])

    def _free(self, at: int) -> None:
        self._words[AT_MOVED] += 1
        self._file[(at + DIGEST) * WORD_BYTES : at * WORD_BYTES] = _FREE_DIGEST
        self._words[at] = 0

    def _buckets_of(self, digest: bytes) -> tuple[int, int]:
        return (
            int.from_bytes(digest[:4], "little") % self._buckets,
            int.from_bytes(digest[4:8], "little") % self._buckets,
        )

    def _bucket_at(self, at: int) -> int:
        return (at * WORD_BYTES - self._start) // PAGE_BYTES

    def _identities(self, bucket: int) -> tuple[int, list[int]]:
        """Where the bucket's first identity is, and all of them."""
        first = (self._start + bucket * PAGE_BYTES) // WORD_BYTES - DIGEST
        return first, self._words[first : first + DIGEST + _PAGE_WORDS : self._slot_words].tolist()

    def _free_slot(self, buckets: Collection[int]) -> int | None:
        """In the bucket with more room, so that both fill evenly."""
        best, most = None, 0
        for bucket in buckets:
            first, identities = self._identities(bucket)
            free = identities.count(0)
            if free > most:
                best, most = first + identities.index(0) * self._slot_words, free
        return best

    def _in_buckets(self, buckets: Collection[int]) -> Iterator[int]:
        for bucket in buckets:
            first, identities = self._identities(bucket)
            for number, identity in enumerate(identities):
                if identity:
                    yield first + number * self._slot_words
