"""In SQLite the hours are counted some hundred rows at a time, and read as if each row had been.

A trigger that adds every row to its hour costs as much as the row.  So `counted_hours` has the sums of the rows up to number
`hours_state.counted_seq`, and the view `spend_hours` adds the few rows after it: what it shows is what the rows say at every
moment, whoever writes them.  To count is to raise `counted_seq`; its trigger adds what was stepped over.  Rows get their
numbers in the order in which they are committed, for SQLite has one writer at a time.

- A row that is deleted before it was counted is counted first: its share of the totals stays.
- The highest number is used again when its row is deleted, so `counted_seq` goes down with it.
- A cost that changes after its row was counted changes the hour; before, the view sees it.

PostgreSQL gives out numbers in another order than it commits, and its trigger runs once a statement: it stays as it was.
"""

# ruff: noqa: S608 - every name in these statements is our own

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

HOUR_US: Final = 3_600_000_000
MAX_TOKENS: Final = 10**10
"""A call counts for at most this many tokens of a class, and a sum of them stays within 64 bits."""
MAX_COST_NANO: Final = 10**15

TOKENS: Final = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
)
NUMBERS: Final = ("calls", "errors", *TOKENS, "cost_nano", "unknown_cost_calls")
KEY: Final = ("hour_us", "tenant", "project", '"key"', "alias", "provider", "model")

_COUNTED: Final = "(SELECT counted_seq FROM hours_state)"


def upgrade() -> None:
    """Puts the view in the place of the table, which keeps what it has under another name."""
    if op.get_context().dialect.name != "sqlite":
        return
    op.execute("DROP TRIGGER calls_counted")
    op.execute("DROP TRIGGER calls_repriced")
    op.rename_table("spend_hours", "counted_hours")
    op.create_table(
        "hours_state",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("counted_seq", sa.BigInteger, nullable=False),
        sa.CheckConstraint("id = 1", name="hours_state_is_one_row"),
    )
    op.execute("INSERT INTO hours_state (id, counted_seq) SELECT 1, coalesce(max(seq), 0) FROM calls")
    # On one line each: the snapshot is cut into statements at the ends of lines.
    names = ", ".join((*KEY, *NUMBERS))
    op.execute(
        f"CREATE VIEW spend_hours AS SELECT {names} FROM counted_hours UNION ALL "
        f"SELECT {', '.join(_columns())} FROM calls WHERE seq > {_COUNTED}"
    )
    op.execute(
        "CREATE TRIGGER hours_counted AFTER UPDATE OF counted_seq ON hours_state WHEN new.counted_seq > old.counted_seq "
        f"BEGIN {_count_rows('old.counted_seq', 'new.counted_seq')}; END"
    )
    op.execute(
        f"CREATE TRIGGER calls_counted BEFORE DELETE ON calls WHEN old.seq > {_COUNTED} "
        "BEGIN UPDATE hours_state SET counted_seq = (SELECT max(seq) FROM calls); END"
    )
    op.execute(
        f"CREATE TRIGGER calls_renumbered AFTER DELETE ON calls WHEN old.seq = {_COUNTED} "
        "BEGIN UPDATE hours_state SET counted_seq = (SELECT coalesce(max(seq), 0) FROM calls); END"
    )
    op.execute(
        "CREATE TRIGGER calls_repriced AFTER UPDATE OF cost_nano ON calls "
        f"WHEN old.cost_nano IS NOT new.cost_nano AND new.seq <= {_COUNTED} BEGIN {_reprice()}; END"
    )


def downgrade() -> None:
    """Not offered: going back would drop the books."""
    raise NotImplementedError("the ledger is never migrated backwards; restore a copy instead")


def _columns() -> list[str]:
    """A row as it stands in the view."""
    # Cast, for SQLite reads a view in the order of an index only where both of its parts have the same types.
    types = ["BIGINT", *("TEXT" for _ in KEY[1:]), *("BIGINT" for _ in NUMBERS)]
    values = zip((*_keys(), *_numbers()), types, (*KEY, *NUMBERS), strict=True)
    return [f"CAST({value} AS {kind}) AS {name}" for value, kind, name in values]


def _count_rows(after: str, upto: str) -> str:
    sums = ", ".join((*_keys(), *(f"sum({number})" for number in _numbers())))
    # To sort by one text takes a third less than by eight values.  Calls that have these alike have the hour and its names
    # alike; where others have those alike too, a second row is added to the same hour.
    alike = (
        f'json_array(started_at_us / {HOUR_US}, tenant, project, "key", requested_model, provider, model, outcome, '
        "input_tokens IS NULL)"
    )
    # NULL is no number: what was never said stays unsaid.
    added = (
        f"{name} = coalesce({name} + excluded.{name}, {name}, excluded.{name})"
        if name in TOKENS
        else f"{name} = {name} + excluded.{name}"
        for name in NUMBERS
    )
    return (
        f"INSERT INTO counted_hours ({', '.join((*KEY, *NUMBERS))}) SELECT {sums} FROM calls "
        f"WHERE seq > {after} AND seq <= {upto} GROUP BY {alike} "
        f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {', '.join(added)}"
    )


def _reprice() -> str:
    *_, before, was_unknown = _numbers("old.")
    *_, after, is_unknown = _numbers("new.")
    found = " AND ".join(f"{name} = {value}" for name, value in zip(KEY, _keys("new."), strict=True))
    return (
        f"UPDATE counted_hours SET cost_nano = cost_nano - {before} + {after}, "
        f"unknown_cost_calls = unknown_cost_calls - {was_unknown} + {is_unknown} WHERE {found}"
    )


def _keys(row: str = "") -> list[str]:
    """The hour and the names that a call is counted under, as in revision 0002."""
    is_direct = f"{row}requested_model = {row}provider || '/' || {row}model"
    is_refused = f"{row}outcome = 'provider_refused' AND {row}input_tokens IS NULL"
    return [
        f"{row}started_at_us / {HOUR_US} * {HOUR_US}",
        f"{row}tenant",
        f"{row}project",
        f'{row}"key"',
        f"CASE WHEN {is_direct} THEN '' ELSE {row}requested_model END",
        f"{row}provider",
        f"CASE WHEN {is_refused} AND {is_direct} THEN '' ELSE {row}model END",
    ]


def _numbers(row: str = "") -> list[str]:
    return [
        "1",
        f"CASE WHEN {row}outcome = 'ok' THEN 0 ELSE 1 END",
        *(_at_most(f"{row}{name}", MAX_TOKENS) for name in TOKENS),
        _at_most(f"coalesce({row}cost_nano, 0)", MAX_COST_NANO),
        f"CASE WHEN {row}cost_nano IS NULL THEN 1 ELSE 0 END",
    ]


def _at_most(number: str, bound: int) -> str:
    return f"CASE WHEN {number} > {bound} THEN {bound} ELSE {number} END"
