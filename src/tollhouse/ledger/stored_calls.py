"""Calls as they stand in the ledger, read page by page in the order in which they began, and how their cost came about."""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import msgspec

from tollhouse.chat.usage import Usage, UsageSource
from tollhouse.errors import CallLost
from tollhouse.ledger.price_books import KeptBook
from tollhouse.ledger.prices import Cost
from tollhouse.ledger.transaction import Transaction

PAGE_ROWS: Final = 5000
"""Rows in memory at a time."""
LAST_US: Final = 2**62
"""A moment after all others."""


class StoredCall(msgspec.Struct, frozen=True, array_like=True):
    """What of a row a bill needs.  The fields are columns of `calls`, in their order."""

    seq: int
    id: str
    started_at_us: int
    provider: str
    model: str
    outcome: str
    attempts: int
    usage_source: UsageSource
    cost_nano: int | None
    price_version: str
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cache_write_1h_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    input_audio_tokens: int | None
    output_audio_tokens: int | None
    door: str

    @property
    def usage(self) -> Usage:
        """Its counts."""
        return Usage(
            input_tokens=self.input_tokens,
            cache_read_tokens=self.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens,
            output_tokens=self.output_tokens,
            reasoning_tokens=self.reasoning_tokens,
            input_audio_tokens=self.input_audio_tokens,
            output_audio_tokens=self.output_audio_tokens,
            source=self.usage_source,
        )

    @property
    def basis(self) -> "Basis":
        """What its cost comes from."""
        if self.outcome == CallLost.code:
            return "hold"
        if self.attempts == 0:
            return "copy"
        if self.may_be_flat and self.input_tokens is None and self.output_tokens is None:
            return "flat"
        return "nothing" if self.input_tokens is None and self.output_tokens is None else "tokens"

    @property
    def may_be_flat(self) -> bool:
        """Whether it may cost what the configuration takes such calls to cost, where no price says it."""
        return self.door == "passthrough" and bool(self.cost_nano)

    def costs(self, book: KeptBook) -> list[Cost | None]:
        """What it costs by a book; several answers where its provider's name stood for several types."""
        return book.costs(self.provider, self.model, self.usage, self.started_at_us)


Basis = Literal["tokens", "hold", "flat", "copy", "nothing"]
"""`tokens` times prices; the `hold` of a call whose process died; a `flat` amount that was held for a call of which no price
tells the cost; a `copy` of another call's answer, which is free; `nothing`: no tokens were counted, so it is free or nobody
knows."""

FIELDS: Final = ", ".join(StoredCall.__struct_fields__)


class Wanted(NamedTuple):
    """Which calls.  Empty names are all names."""

    from_us: int = 0
    """Calls that began at this moment or later …"""
    before_us: int = LAST_US
    """… and before this one."""
    provider: str = ""
    model: str = ""
    """`model` or `provider/model`, as the provider calls it."""


class Place(NamedTuple):
    """After which call a page begins."""

    started_at_us: int
    seq: int


def page(transaction: Transaction, wanted: Wanted, after: Place | None, *, rows: int = PAGE_ROWS) -> list[StoredCall]:
    """The next calls, oldest first."""
    place = after or Place(wanted.from_us, -1)
    tests = ["(started_at_us, seq) > ($1, $2)", "started_at_us >= $1", "started_at_us < $3"]
    values: list[int | str] = [*place, min(wanted.before_us, LAST_US), rows]
    if wanted.provider:
        values.append(wanted.provider)
        tests.append(f"provider = ${len(values)}")
    if wanted.model:
        values.append(wanted.model)
        tests.append(f"(model = ${len(values)} OR provider || '/' || model = ${len(values)})")
    statement = (
        f"SELECT {FIELDS} FROM calls WHERE {' AND '.join(tests)} "  # noqa: S608 - our own names
        "ORDER BY started_at_us, seq LIMIT $4"
    )
    return [StoredCall(*row) for row in transaction.rows(statement, *values)]


def pages(transaction: Transaction, wanted: Wanted) -> Iterator[list[StoredCall]]:
    """All pages, within one transaction."""
    after: Place | None = None
    while found := page(transaction, wanted, after):
        yield found
        after = Place(found[-1].started_at_us, found[-1].seq)


def one(transaction: Transaction, call_id: str) -> StoredCall | None:
    """The call of a request id."""
    rows = transaction.rows(f"SELECT {FIELDS} FROM calls WHERE id = $1", call_id)  # noqa: S608 - our own names
    return StoredCall(*rows[0]) if rows else None
