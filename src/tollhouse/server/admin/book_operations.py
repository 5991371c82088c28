"""What was used, what it cost and what is left, over the network.  Prompts and answers are not in the ledger, nor here."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal

import msgspec

from tollhouse.config.schema import BudgetSettings, Period, Scope
from tollhouse.ledger.moments import moment_at
from tollhouse.ledger.reports import By, Usage, usage
from tollhouse.ledger.transaction import Transaction
from tollhouse.policy import register
from tollhouse.policy.counters import PurseState
from tollhouse.policy.identity import wall_us
from tollhouse.policy.subjects import subjects
from tollhouse.policy.terms import budgets as budgets_of
from tollhouse.policy.tokens.issuing import tokens
from tollhouse.policy.windows import Window, window
from tollhouse.server.admin.operation import (
    MAX_PAGE,
    Asked,
    Limit,
    Moment,
    Nothing,
    Operation,
    Page,
    RowNumber,
    page_of,
)

SCAN_ROWS: Final = 200_000
"""Rows of the ledger that one request looks through; `next` goes on from there."""


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which calls are added up, and how."""

    by: By = By.MODEL
    since_us: Moment | None = None


class ManyCalls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which calls are wanted."""

    since_us: Moment | None = None
    before: RowNumber | None = None
    """Only calls older than that row."""
    tenant: str = ""
    project: str = ""
    key: str = ""
    provider: str = ""
    model: str = ""
    outcome: str = ""
    id: str = ""
    """One call's request id."""
    limit: Limit = 100


class CallRow(msgspec.Struct, frozen=True, kw_only=True):
    """A call as the ledger has it.  `null` was not said, which is not 0."""

    seq: int
    id: str
    started_at_us: int
    door: str
    tenant: str
    project: str
    key: str
    requested_model: str
    provider: str
    model: str
    streamed: bool
    lane: str
    status: int
    outcome: str
    finish: str
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    usage_source: str
    cost_nano: int | None
    price_version: str
    receipt: str
    first_byte_us: int | None
    duration_us: int
    attempts: int


class ManyBudgets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which budgets are wanted."""

    after: str = ""
    """Those of the keys whose names come behind this one.  Without it, those of the configuration, of tenants and of projects
    come first."""
    limit: Limit = 100
    """At most so many keys are looked at."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A budget in its present window."""

    scope: str
    """`tenant:research`."""
    period: Period
    is_hard: bool
    limit_nano: int
    spent_nano: int
    held_nano: int
    """Reserved for calls in flight."""
    left_nano: int
    """Of the limit, after what is spent and held; never below nothing."""
    from_us: int
    resets_at_us: int | None
    """`null` for one that never does."""
    source: Literal["counters", "ledger"]
    """`ledger` when nothing was counted in this window yet: then nothing is held either."""


def _usage(asked: Asked[UsageQuery, Nothing]) -> Usage:
    since_us = asked.query.since_us
    since = None if since_us is None else moment_at(since_us)
    return usage(asked.office.ledger_url, by=asked.query.by, since=since)


# ---------------------------------------------------------------------------------------------------------------------- calls

_CALL_NAMES: Final = ", ".join(f'"{name}"' for name in CallRow.__struct_fields__)


def _list_calls(asked: Asked[ManyCalls, Nothing]) -> Page[CallRow]:
    return register.read(asked.office.ledger_url, lambda open_: find_calls(open_, asked.query))


def find_calls(open_: Transaction, query: ManyCalls, *, scan_rows: int = SCAN_ROWS) -> Page[CallRow]:
    """Looks through at most so many rows, newest first: what is rare in a long ledger takes several requests."""
    if query.before is None:
        newest = open_.rows("SELECT max(seq) FROM calls")[0][0]
        before = 1 if newest is None else int(newest) + 1
    else:
        before = query.before
    first = max(1, before - scan_rows)
    tests, values = ["seq < $1", "seq >= $2"], [before, first]
    wanted: dict[str, object] = {
        name: value
        for name in ("tenant", "project", "key", "provider", "model", "outcome", "id")
        if (value := getattr(query, name))
    }
    for name, value in wanted.items():
        values.append(value)  # type: ignore[arg-type]  # text, all of them
        tests.append(f'"{name}" = ${len(values)}')
    if query.since_us is not None:
        values.append(query.since_us)
        tests.append(f"started_at_us >= ${len(values)}")
    values.append(query.limit + 1)
    rows = open_.rows(
        f"SELECT {_CALL_NAMES} FROM calls WHERE {' AND '.join(tests)} ORDER BY seq DESC LIMIT ${len(values)}",  # noqa: S608 - our own names
        *values,
    )
    found = [
        msgspec.convert(dict(zip(CallRow.__struct_fields__, row, strict=True)), CallRow, strict=False) for row in rows
    ]
    page = page_of(found, query.limit, lambda call: str(call.seq))
    return page if page.next or first == 1 else msgspec.structs.replace(page, next=str(first))


# -------------------------------------------------------------------------------------------------------------------- budgets


def _list_budgets(asked: Asked[ManyBudgets, Nothing]) -> Page[Standing]:
    office, query = asked.office, asked.query
    own, after = register.read(office.ledger_url, lambda open_: budgets_of_register(open_, query))
    settings = own if query.after else [*office.config().budgets, *own]
    now_us = wall_us()
    items = office.wait_for(lambda: standings(settings, now_us, purses=office.purses, spent=office.spent))
    return Page(items=items, next=after)


async def standings(
    settings: Sequence[BudgetSettings],
    now_us: int,
    *,
    purses: Callable[[Sequence[str]], Awaitable[Sequence[PurseState]]],
    spent: Callable[[Scope, int, int], Awaitable[int]],
) -> list[Standing]:
    """How these budgets stand, in their order.  `purses` and `spent` are as in `Office`, and raise what they raise."""
    asked = [(each, now, purse_name(each, now)) for each in settings for now in [window(each.period, now_us)]]
    known = {state.name: state for state in await purses([name for _, _, name in asked])}
    items = []
    for each, now, name in asked:
        state = known.get(name)
        if state is None:
            spent_nano = await spent(each.scope, now.from_us, now_us + 1)
            items.append(_standing(each, now, spent_nano=spent_nano, held_nano=0, source="ledger"))
        else:
            items.append(
                _standing(each, now, spent_nano=state.spent_nano, held_nano=state.held_nano, source="counters")
            )
    return items


def purse_name(settings: BudgetSettings, now: Window) -> str:
    """The purse that a budget is in its present window, as `policy.rules` names it."""
    return f"{settings.scope}/{settings.period}/{now.label}" + ("" if settings.is_hard else "/soft")


def budgets_of_register(open_: Transaction, query: ManyBudgets) -> tuple[list[BudgetSettings], str | None]:
    """The budgets of the database that belong to a piece of the list, and where the next piece begins."""
    found: list[BudgetSettings] = []
    if not query.after:
        for tenant in register.tenants(open_, at_most=MAX_PAGE):
            found += budgets_of(tenant.terms, Scope("tenant", tenant.name), tenant.balance_nano)
        for project in register.projects(open_):
            scope = Scope("project", f"{project.tenant}/{project.name}")
            found += budgets_of(project.terms, scope, project.balance_nano)
        found += _budgets_of_subjects(open_)
    keys = register.keys(open_, after=query.after, at_most=query.limit + 1)
    for key in keys[: query.limit]:
        found += budgets_of(key.terms, Scope("key", key.name), key.balance_nano)
    return found, keys[query.limit - 1].name if len(keys) > query.limit else None


def _budgets_of_subjects(open_: Transaction) -> list[BudgetSettings]:
    """Those of subjects in the database, and of tokens that are good; of several alike the smallest, which is met first."""
    known = subjects(open_, at_most=MAX_PAGE)
    stored = {each.name for each in known}
    carried = [each for each in tokens(open_, at_most=MAX_PAGE, good_at_us=wall_us()) if each.subject not in stored]
    smallest: dict[tuple[Scope, Period, bool], BudgetSettings] = {}
    for name, terms in (
        *((each.name, each.terms) for each in known),
        *((each.subject, each.terms) for each in carried),
    ):
        for budget in budgets_of(terms, Scope("key", f"subject:{name}"), None):
            place = (budget.scope, budget.period, budget.is_hard)
            if place not in smallest or budget.limit_nano < smallest[place].limit_nano:
                smallest[place] = budget
    return list(smallest.values())


def _standing(
    settings: BudgetSettings, now: Window, *, spent_nano: int, held_nano: int, source: Literal["counters", "ledger"]
) -> Standing:
    return Standing(
        scope=str(settings.scope),
        period=settings.period,
        is_hard=settings.is_hard,
        limit_nano=settings.limit_nano,
        spent_nano=spent_nano,
        held_nano=held_nano,
        left_nano=max(0, settings.limit_nano - spent_nano - held_nano),
        from_us=now.from_us,
        resets_at_us=now.ends_at_us,
        source=source,
    )


BOOK_OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="showUsage",
        method="GET",
        path="/admin/v1/usage",
        role="viewer",
        summary="What was used and what it cost",
        tag="books",
        query=UsageQuery,
        body=Nothing,
        answer=Usage,
        work=_usage,
    ),
    Operation(
        id="listCalls",
        method="GET",
        path="/admin/v1/calls",
        role="viewer",
        summary="The ledger's rows, newest first; a piece may be short, or empty, and still have a `next`",
        tag="books",
        query=ManyCalls,
        body=Nothing,
        answer=Page[CallRow],
        work=_list_calls,
    ),
    Operation(
        id="listBudgets",
        method="GET",
        path="/admin/v1/budgets",
        role="viewer",
        summary="Budgets in their present windows: limit, spent, held, when they reset",
        tag="books",
        query=ManyBudgets,
        body=Nothing,
        answer=Page[Standing],
        work=_list_budgets,
    ),
)
