"""The file `counters`, opened and mapped."""

import mmap
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from tollhouse.policy.shared_memory.layout import (
    AT_MAGIC,
    AT_METERS,
    AT_PURSES,
    AT_SERIAL,
    AT_VERSION,
    KIND_MASK,
    MAGIC,
    METER_BYTES,
    PURSE,
    PURSE_BYTES,
    VERSION,
    WORD_BYTES,
    Layout,
)
from tollhouse.policy.shared_memory.slots import Slot, SlotTable, digest_of

_CHUNK_BYTES: Final = 1 << 20
_PURSE: Final = struct.Struct("=7q")


class CountersFile:
    """The mapped file and its two tables.  Made and opened with the machine's lock in hand."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """Maps what is there.  Raises `ValueError` when that is of another layout, and `OSError`."""
        self.layout = layout
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(file).st_size != layout.total_bytes:
                raise ValueError("a file of another size")
            self.map = mmap.mmap(file, layout.total_bytes, access=mmap.ACCESS_WRITE)
        finally:
            os.close(file)
        self.words = words = memoryview(self.map).cast("q")
        found = words[AT_MAGIC], words[AT_VERSION], words[AT_METERS], words[AT_PURSES]
        if found != (MAGIC, VERSION, layout.meters, layout.purses):
            self.close()
            raise ValueError("a file of another layout")
        self.meters = SlotTable(
            self.map,
            words,
            start=layout.meters_at,
            marks=layout.meter_marks_at,
            slots=layout.meters,
            slot_bytes=METER_BYTES,
        )
        self.purses = SlotTable(
            self.map,
            words,
            start=layout.purses_at,
            marks=layout.purse_marks_at,
            slots=layout.purses,
            slot_bytes=PURSE_BYTES,
        )

    @classmethod
    def make(cls, path: Path, layout: Layout, *, first_serial: int) -> Self:
        """Puts an empty file there, whole or not at all, and maps it.  Raises `OSError`."""
        draft = path.with_suffix(".new")
        with suppress(FileNotFoundError):
            draft.unlink()  # of one who died here
        # Written in full, not just lengthened: a disk that is full says so here, and not by SIGBUS when a page is touched.
        with os.fdopen(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b") as file:
            for start in range(0, layout.total_bytes, _CHUNK_BYTES):
                file.write(bytes(min(_CHUNK_BYTES, layout.total_bytes - start)))
            file.flush()
            with (
                mmap.mmap(file.fileno(), layout.total_bytes) as fresh,
                memoryview(fresh) as raw,
                raw.cast("q") as words,
            ):
                words[AT_METERS], words[AT_PURSES], words[AT_SERIAL] = layout.meters, layout.purses, first_serial
                words[AT_MAGIC], words[AT_VERSION] = MAGIC, VERSION
        draft.rename(path)
        return cls(path, layout)

    def find_purse(self, name: str) -> Slot | None:
        """Where the purse of that name is."""
        at = self.purses.find(digest_of(PURSE, name))
        return None if at is None else (at, self.words[at])

    def read_purse(self, at: int) -> tuple[int, int, int, int, int, int, int]:
        """A purse's words from its identity to `MOMENT`: quicker than one by one."""
        return _PURSE.unpack_from(self.map, at * WORD_BYTES)

    def next_identity(self, kind: int) -> int:
        """An identity that no slot ever had."""
        self.words[AT_SERIAL] = serial = self.words[AT_SERIAL] + 1
        return serial * (KIND_MASK + 1) + kind

    def text(self, start: int, size: int) -> str:
        """Text that was written by `write_text`; `start` is the index of a word."""
        return self.map[start * WORD_BYTES : start * WORD_BYTES + size].decode("utf-8", "surrogatepass")

    def write_text(self, start: int, text: bytes) -> None:
        """Writes text from a word on."""
        self.map[start * WORD_BYTES : start * WORD_BYTES + len(text)] = text

    def close(self) -> None:
        """Lets go of the memory."""
        self.words.release()
        self.map.close()
