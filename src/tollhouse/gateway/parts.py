"""The parts that a gateway is wired of, as calls of every kind use them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tollhouse.gateway.call import Tracing
from tollhouse.gateway.ownership import Ownership
from tollhouse.gateway.plan import RetryPolicy
from tollhouse.gateway.routing import Router
from tollhouse.gateway.weight import Scales
from tollhouse.ledger.prices import PriceBook
from tollhouse.ledger.record import CallRecord
from tollhouse.policy.admission import Admission
from tollhouse.policy.redaction import Redactor
from tollhouse.upstream.health import HealthBook


class Books(Protocol):
    """Where finished calls are written down."""

    def write(self, record: CallRecord) -> "asyncio.Future[None]":
        """Takes the record at once; the future is done when the row is safe, and need not be awaited for that."""
        ...


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The wired parts.  Immutable: a reload wires others and swaps them in; calls under way keep theirs."""

    router: Router
    books: Books
    prices: PriceBook
    admission: Admission
    scales: Scales
    """Weighs calls for their holds, and learns what they turned out to be."""
    health: HealthBook
    retry: RetryPolicy
    shows_receipts: bool
    """Whether answers carry the receipt header; the ledger row has it in any case."""
    masks: Redactor | None
    """What prompts may not show to a provider (`logging.redact_upstream`)."""
    shown: Callable[[str], str]
    """A caller's or a provider's words as rows and logs may have them: without credentials and what else is redacted."""
    finished: Callable[[CallRecord], None]
    """Telemetry: called once for each call, when its record is complete.  Must not raise or block."""
    unexpected: Callable[[str, BaseException], None]
    """Called with the request id and an error that is nobody's but ours."""
    monotonic: Callable[[], float]
    wall: Callable[[], float]
    random: Callable[[], float]
    masked: Callable[[], None] = _nothing
    """Telemetry: called for each call in which something was masked."""
    tracing: Tracing | None = None
    """Gives calls their place in a trace; `None` where nothing is traced."""
    ownership: Ownership | None = None
    """Whose what is stored at providers is; `None` where nobody asks."""

    def write(self, record: CallRecord) -> "asyncio.Future[None]":
        """Hands a finished record to the books and to telemetry."""
        waiting = self.books.write(record)
        self.finished(record)
        return waiting
