"""Hourly totals of the calls, which the database itself keeps in step with them.

Triggers do it, so that a row and its share of the totals are one transaction whoever writes the row, and a row that
is already there (a journal that is replayed twice) is counted once.  Every statement here is one that both databases
understand, or stands under its dialect; nothing is read from the connection, for PostgreSQL gets this as a script.
"""

# ruff: noqa: S608 - every name in these statements is our own

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

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


def upgrade() -> None:
    """Makes the table, fills it from the calls that are there, and sets the triggers."""
    op.create_table(
        "spend_hours",
        sa.Column("hour_us", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("project", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("alias", sa.Text, primary_key=True),
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("errors", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger) for name in TOKENS),
        sa.Column("cost_nano", sa.BigInteger, nullable=False),
        sa.Column("unknown_cost_calls", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(f"{_into_hours()} SELECT {_grouped('calls')} FROM calls GROUP BY {_positions()}")
    if op.get_context().dialect.name == "sqlite":
        _set_triggers_of_sqlite()
    else:
        _set_triggers_of_postgresql()


def downgrade() -> None:
    """Not offered: going back would drop the books."""
    raise NotImplementedError("the ledger is never migrated backwards; restore a copy instead")


def _set_triggers_of_sqlite() -> None:
    # On one line each: the snapshot is cut into statements at the ends of lines.
    op.execute(
        f"CREATE TRIGGER calls_counted AFTER INSERT ON calls BEGIN {_into_hours()} "
        f"VALUES ({', '.join((*_keys('new'), *_numbers('new')))}) {_add_up()}; END"
    )
    op.execute(
        "CREATE TRIGGER calls_repriced AFTER UPDATE OF cost_nano ON calls WHEN old.cost_nano IS NOT new.cost_nano "
        f"BEGIN {_reprice()}; END"
    )


def _set_triggers_of_postgresql() -> None:
    # The rows of this hour change with every batch: room beside them lets a change stay on its page, and no index grows.
    op.execute("ALTER TABLE spend_hours SET (fillfactor = 70)")
    # In the order of the key: two gateways that add to the same hours then wait for each other instead of deadlocking.
    op.execute(
        "CREATE FUNCTION calls_counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"{_into_hours()} SELECT {_grouped('fresh')} FROM fresh GROUP BY {_positions()} ORDER BY {_positions()} {_add_up()}; "
        "RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER calls_counted AFTER INSERT ON calls REFERENCING NEW TABLE AS fresh "
        "FOR EACH STATEMENT EXECUTE FUNCTION calls_counted()"
    )
    op.execute(
        f"CREATE FUNCTION calls_repriced() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {_reprice()}; RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER calls_repriced AFTER UPDATE OF cost_nano ON calls FOR EACH ROW "
        "WHEN (old.cost_nano IS DISTINCT FROM new.cost_nano) EXECUTE FUNCTION calls_repriced()"
    )


def _into_hours() -> str:
    return f"INSERT INTO spend_hours ({', '.join((*KEY, *NUMBERS))})"


def _add_up() -> str:
    """What happens to an hour that is there: numbers are added, and NULL is no number."""
    added = (
        f"{name} = coalesce(spend_hours.{name} + excluded.{name}, spend_hours.{name}, excluded.{name})"
        if name in TOKENS
        else f"{name} = spend_hours.{name} + excluded.{name}"
        for name in NUMBERS
    )
    return f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {', '.join(added)}"


def _reprice() -> str:
    _, _, *_, before, was_unknown = _numbers("old")
    _, _, *_, after, is_unknown = _numbers("new")
    found = " AND ".join(f"{name} = {value}" for name, value in zip(KEY, _keys("new"), strict=True))
    return (
        f"UPDATE spend_hours SET cost_nano = cost_nano - {before} + {after}, "
        f"unknown_cost_calls = unknown_cost_calls - {was_unknown} + {is_unknown} WHERE {found}"
    )


def _positions() -> str:
    return ", ".join(str(number) for number in range(1, len(KEY) + 1))


def _grouped(table: str) -> str:
    return ", ".join((*_keys(table), *(f"sum({number})" for number in _numbers(table))))


def _keys(row: str) -> list[str]:
    """The hour and the names that a call is counted under.

    `alias` is what the client asked for, unless that is `provider/model` itself.  Those names are free text, and
    totals are kept for ever: what a provider refused to serve under such a name is counted without it.  That takes no
    money from a model, for a call without input tokens has no price.
    """
    is_direct = f"{row}.requested_model = {row}.provider || '/' || {row}.model"
    is_refused = f"{row}.outcome = 'provider_refused' AND {row}.input_tokens IS NULL"
    return [
        f"{row}.started_at_us / {HOUR_US} * {HOUR_US}",
        f"{row}.tenant",
        f"{row}.project",
        f'{row}."key"',
        f"CASE WHEN {is_direct} THEN '' ELSE {row}.requested_model END",
        f"{row}.provider",
        f"CASE WHEN {is_refused} AND {is_direct} THEN '' ELSE {row}.model END",
    ]


def _numbers(row: str) -> list[str]:
    return [
        "1",
        f"CASE WHEN {row}.outcome = 'ok' THEN 0 ELSE 1 END",
        *(_at_most(f"{row}.{name}", MAX_TOKENS) for name in TOKENS),
        _at_most(f"coalesce({row}.cost_nano, 0)", MAX_COST_NANO),
        f"CASE WHEN {row}.cost_nano IS NULL THEN 1 ELSE 0 END",
    ]


def _at_most(number: str, bound: int) -> str:
    return f"CASE WHEN {number} > {bound} THEN {bound} ELSE {number} END"
