"""A call's bill, line by line, made again from its counts and from the price book that its row names."""

from typing import Final

import msgspec

from tollhouse.chat.usage import UsageSource
from tollhouse.errors import NotFound
from tollhouse.ledger.price_books import Shelf
from tollhouse.ledger.prices import Cost, Line
from tollhouse.ledger.stored_calls import Basis, StoredCall, one
from tollhouse.ledger.transaction import Transaction

_DETAILS: Final = "tenant, project, key, requested_model, status"


class Earlier(msgspec.Struct, frozen=True):
    """What the call cost before it was rated again."""

    rerate: int
    at_us: int
    """When it was rated again."""
    actor: str
    was_nano: int | None
    was_version: str
    now_nano: int


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Where a call's cost comes from.  Money in nano-USD."""

    id: str
    started_at_us: int
    tenant: str
    project: str
    key: str
    requested_model: str
    status: int
    provider: str
    model: str
    outcome: str
    usage_source: UsageSource
    basis: Basis
    cost_nano: int | None
    """As the row has it."""
    price_version: str
    priced_as: str = ""
    """The book's own name of the model, or the override that set the price; empty when no price was found."""
    lines: tuple[Line, ...] = ()
    lines_nano: int | None = None
    """The sum of the lines; `None` where there is no bill."""
    adds_up: bool | None = None
    """Whether the row's cost is that sum; `None` where that cannot be said."""
    remark: str = ""
    """A sentence where the lines do not speak for themselves."""
    earlier: tuple[Earlier, ...] = ()
    """Oldest first; empty for a call that was never rated again."""


def explain(transaction: Transaction, shelf: Shelf, call_id: str) -> Explanation:
    """Raises `NotFound` for an id that no row has."""
    call = one(transaction, call_id)
    if call is None:
        raise NotFound(
            f"The ledger has no call {call_id!r}.",
            hint="Calls that never reached a provider have no row, old ones may have been pruned, and those of the last "
            "minutes may wait in a journal.",
        )
    ((tenant, project, key, requested_model, status),) = transaction.rows(
        f"SELECT {_DETAILS} FROM calls WHERE seq = $1",  # noqa: S608 - our own names
        call.seq,
    )
    bill = _bill(transaction, shelf, call)
    return Explanation(
        id=call.id,
        started_at_us=call.started_at_us,
        tenant=tenant,
        project=project,
        key=key,
        requested_model=requested_model,
        status=status,
        provider=call.provider,
        model=call.model,
        outcome=call.outcome,
        usage_source=call.usage_source,
        basis=call.basis,
        cost_nano=call.cost_nano,
        price_version=call.price_version,
        priced_as=bill.priced_as,
        lines=bill.cost.lines if bill.cost else (),
        lines_nano=bill.cost.total_nano if bill.cost else None,
        adds_up=bill.adds_up,
        remark=bill.remark,
        earlier=tuple(_earlier(transaction, call.seq)),
    )


_FLAT: Final = (
    "No price tells what this call of another path cost: it is charged with what its budget held for it, "
    "providers.NAME.passthrough_hold."
)


class _Bill(msgspec.Struct, frozen=True):
    remark: str = ""
    adds_up: bool | None = None
    cost: Cost | None = None
    priced_as: str = ""


def _bill(transaction: Transaction, shelf: Shelf, call: StoredCall) -> _Bill:
    match call.basis:
        case "hold":
            return _Bill(
                "The gateway's process died during this call: it is charged with all that was held for it, because nobody "
                "heard what it used."
            )
        case "flat":
            return _Bill(_FLAT)
        case "copy":
            return _Bill(
                "No provider was asked: it got the answer of another call, for nothing.", call.cost_nano in {0, None}
            )
        case "nothing":
            return _Bill(
                "No tokens were counted, so nobody knows what it cost."
                if call.cost_nano is None
                else "The provider did no work that it bills for.",
                call.cost_nano in {0, None},
            )
        case "tokens":
            pass
    book = shelf.book(transaction, call.price_version)
    if book is None:
        return _Bill(
            f"Nobody kept the price book {call.price_version or 'of this call'}, so the bill cannot be made again."
        )
    priced = [
        (kind, cost)
        for kind, cost in zip(book.kinds.get(call.provider, (call.provider,)), call.costs(book), strict=True)
    ]
    kind, cost = next(
        (each for each in priced if (each[1].total_nano if each[1] else None) == call.cost_nano), priced[0]
    )
    price = book.prices.find(kind, call.model, provider=call.provider)
    if cost is None and call.may_be_flat:
        return _Bill(_FLAT)
    if price is None:
        return _Bill("The price book has no price for this model: what it cost is not known.", call.cost_nano is None)
    name = price.model if price.model in book.prices.overrides else f"{kind}/{price.model}"
    if cost is None:
        return _Bill(
            "The counts that the price needs are missing: what it cost is not known.",
            call.cost_nano is None,
            None,
            name,
        )
    if price.is_free:
        return _Bill("It ran on the operator's own machine, which is free.", call.cost_nano == 0, cost, name)
    return _Bill("", call.cost_nano == cost.total_nano, cost, name)


def _earlier(transaction: Transaction, seq: int) -> list[Earlier]:
    rows = transaction.rows(
        "SELECT r.id, r.began_at_us, r.actor, c.was_nano, c.was_version, c.now_nano FROM rerated_calls AS c "
        "JOIN rerates AS r ON r.id = c.rerate WHERE c.seq = $1 ORDER BY r.id",
        seq,
    )
    return [Earlier(*row) for row in rows]
