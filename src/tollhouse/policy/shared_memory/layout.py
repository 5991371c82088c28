"""Where everything stands in the file `counters`.

All numbers are 64-bit words in the machine's own byte order; a file from another kind of machine fails the check of its first
word.  The file is a page of header, one byte for each bucket that was ever used, the table of meters, the table of purses.

The first three words of a slot are the digest of what it counts (two words) and its *identity*: a serial number that no other
slot ever had or will have, and the slot's kind in the lowest two bits.  Zero is a free slot.  Whoever remembers where a slot
is, remembers its identity too, and so notices when the slot has become another's.
"""

import sys
from dataclasses import dataclass
from typing import Final

PAGE_BYTES: Final = 4096
WORD_BYTES: Final = 8

MAGIC: Final = int.from_bytes(b"TOLLCTR\x01", sys.byteorder, signed=True)
VERSION: Final = 3
"""Count it up with every change to this module or to `berths`."""

# Words of the header.
AT_MAGIC: Final = 0
AT_VERSION: Final = 1
AT_METERS: Final = 2
AT_PURSES: Final = 3
AT_DIRTY: Final = 4
"""Not zero while somebody is changing counters.  Whoever finds it so, with the lock in hand, knows that the last one died."""
AT_SEEN_NS: Final = 5
"""The latest monotonic time that a rate was reckoned with."""
AT_SERIAL: Final = 6
"""The serial of the newest slot.  Begins at the wall clock's microseconds, so that a file made anew repeats none."""
AT_MOVED: Final = 7
"""How often slots were taken from what they counted.  Whoever finds it unchanged knows that every slot is whose it was."""

KIND_MASK: Final = 3
REQUESTS: Final = 1
TOKENS: Final = 2
SEATS: Final = 3
PURSE: Final = 0
"""Purses have a table of their own, where every slot is one."""

METER_BYTES: Final = 32
PURSE_BYTES: Final = 512

# Words of a slot, from its identity on.
DIGEST: Final = -2
VALUE: Final = 1
"""Of a rate: when it is full again, monotonic nanoseconds.  Of seats: how many are taken."""
MAX_DEBT_NS: Final = 86_400_000_000_000
"""However many tokens a provider says it used, a rate is out of debt after a day."""

FLAGS: Final = 1
SEEDED: Final = 2
"""What the ledger said."""
EARLY: Final = 3
"""What claims added that began before the purse's moment.  The sum that confirms it will have that too, so until then it counts
here; what is added after the confirmation is in no sum and stays.
"""
SPENT: Final = 4
"""All that is spent: the two above, and what claims added that no sum of the ledger will have.  `UNSEEDED` as long as the
ledger has said nothing.
"""
HELD: Final = 5
MOMENT: Final = 6
"""From when on it counts by itself; of an unseeded purse, since when it is that.  Both microseconds since the epoch."""
ENDS_AT: Final = 7
"""Microseconds since the epoch; 0 is never."""
EARLY_AT: Final = 8
"""When `EARLY` last grew, monotonic nanoseconds."""
NAME_BYTES: Final = 9
NAME: Final = 10
MAX_NAME_BYTES: Final = PURSE_BYTES - (NAME - DIGEST) * WORD_BYTES

CEILING: Final = (1 << 62) - 1
"""No sum of a purse passes it; it is also the limit of a purse without one."""
UNSEEDED: Final = 1 << 62
"""More than any limit, so that one look tells a purse that cannot be spent from."""

IS_SEEDED: Final = 1
IS_CONFIRMED: Final = 2


@dataclass(frozen=True, slots=True)
class Layout:
    """How many slots of each kind there are.  Both numbers fill whole pages."""

    meters: int
    purses: int

    def __post_init__(self) -> None:
        if (
            self.meters < 1
            or self.purses < 1
            or self.meters * METER_BYTES % PAGE_BYTES
            or self.purses * PURSE_BYTES % PAGE_BYTES
        ):
            raise ValueError(f"meters come in {PAGE_BYTES // METER_BYTES}s and purses in {PAGE_BYTES // PURSE_BYTES}s")

    @property
    def meter_marks_at(self) -> int:
        """Offset in bytes, as the three below."""
        return PAGE_BYTES

    @property
    def purse_marks_at(self) -> int:
        return self.meter_marks_at + self.meters * METER_BYTES // PAGE_BYTES

    @property
    def meters_at(self) -> int:
        marks = (self.meters * METER_BYTES + self.purses * PURSE_BYTES) // PAGE_BYTES
        return PAGE_BYTES + -(-marks // PAGE_BYTES) * PAGE_BYTES

    @property
    def purses_at(self) -> int:
        return self.meters_at + self.meters * METER_BYTES

    @property
    def total_bytes(self) -> int:
        return self.purses_at + self.purses * PURSE_BYTES
