"""How calls are counted by the hour: the table `spend_hours`, and the same numbers for single rows of `calls`.

The database keeps it: PostgreSQL by a trigger (revision 0002); in SQLite it is a view (revision 0009), in which the calls of
one hour may stand in several rows, so whoever reads it adds up.  Whoever asks for a time that begins or ends within an hour
takes whole hours from it and the rest from rows.  So the expressions here say for a row what the database makes of it.  SQL
that both databases read alike, with `?` where a value goes.
"""

from typing import Final, NamedTuple

from tollhouse.config.schema import Scope
from tollhouse.ledger.rows import COLUMNS, Row

HOUR_US: Final = 3_600_000_000
MAX_TOKENS: Final = 10**10
"""A call counts for at most this many tokens of a class, so that no sum leaves 64 bits."""
MAX_COST_NANO: Final = 10**15

NAMES: Final = ("tenant", "project", "key", "alias", "provider", "model")
"""What calls are counted under, beside the hour: columns of `spend_hours`."""
TOKENS: Final = tuple(name for name in COLUMNS if name.endswith("_tokens"))
NUMBERS: Final = ("calls", "errors", *TOKENS, "cost_nano", "unknown_cost_calls")
"""What is summed: columns of `spend_hours`."""

_IS_DIRECT: Final = "requested_model = provider || '/' || model"
_COST: Final = "coalesce(cost_nano, 0)"

OF_A_ROW: Final = {
    "hour_us": f"started_at_us / {HOUR_US} * {HOUR_US}",
    "tenant": "tenant",
    "project": "project",
    "key": '"key"',
    "alias": f"CASE WHEN {_IS_DIRECT} THEN '' ELSE requested_model END",
    "provider": "provider",
    "model": (
        f"CASE WHEN outcome = 'provider_refused' AND input_tokens IS NULL AND {_IS_DIRECT} THEN '' ELSE model END"
    ),
    "calls": "1",
    "errors": "CASE WHEN outcome = 'ok' THEN 0 ELSE 1 END",
    **{name: f"CASE WHEN {name} > {MAX_TOKENS} THEN {MAX_TOKENS} ELSE {name} END" for name in TOKENS},
    "cost_nano": f"CASE WHEN {_COST} > {MAX_COST_NANO} THEN {MAX_COST_NANO} ELSE {_COST} END",
    "unknown_cost_calls": "CASE WHEN cost_nano IS NULL THEN 1 ELSE 0 END",
}
"""Column of `spend_hours` → the same of a row of `calls`."""

OF_AN_HOUR: Final = {name: f'"{name}"' for name in OF_A_ROW}
"""Column of `spend_hours` → itself."""

_INDEX: Final = {name: COLUMNS.index(name) for name in COLUMNS}


class Condition(NamedTuple):
    """Which calls belong to a scope."""

    sql: str
    values: tuple[str, ...] = ()


def belongs(scope: Scope, columns: dict[str, str]) -> Condition:
    """The condition of a scope, on `OF_AN_HOUR` or `OF_A_ROW`."""
    match scope.kind:
        case "global":
            return Condition("1 = 1")
        case "tenant" | "key" | "provider":
            return Condition(f"{columns[scope.kind]} = ?", (scope.name,))
        case "project":
            tenant, _, project = scope.name.partition("/")
            return Condition(f"{columns['tenant']} = ? AND {columns['project']} = ?", (tenant, project))
        case "model":
            provider, _, model = scope.name.partition("/")
            return Condition(
                f"({columns['alias']} = ? OR ({columns['provider']} = ? AND {columns['model']} = ?))",
                (scope.name, provider, model),
            )
        case _:
            raise ValueError(f"the ledger does not know what {scope} spends")


def row_belongs(scope: Scope, row: Row) -> bool:
    """The same for a row in hand."""
    names = {name: row[_INDEX[name]] for name in ("tenant", "project", "key", "requested_model", "provider", "model")}
    match scope.kind:
        case "global":
            return True
        case "tenant" | "key" | "provider":
            return names[scope.kind] == scope.name
        case "project":
            return f"{names['tenant']}/{names['project']}" == scope.name
        case "model":
            return scope.name in {names["requested_model"], f"{names['provider']}/{names['model']}"}
        case _:
            raise ValueError(f"the ledger does not know what {scope} spends")


def cost_of(row: Row) -> int:
    """What a row in hand counts for, in nano-USD."""
    cost = row[_INDEX["cost_nano"]]
    return min(cost, MAX_COST_NANO) if isinstance(cost, int) else 0


def started_at_us(row: Row) -> int:
    """When the call of a row in hand began."""
    at = row[_INDEX["started_at_us"]]
    return at if isinstance(at, int) else 0
