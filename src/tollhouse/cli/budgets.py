"""`tollhouse budgets`: what is left of each."""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from tollhouse.cli.register import (
    Register,
    moment,
    opened,
    place_options,
    print_json,
    print_table,
    short,
)

if TYPE_CHECKING:
    from tollhouse.config.schema import BudgetSettings, Scope
    from tollhouse.ledger.transaction import Transaction
    from tollhouse.server.admin.book_operations import Standing

COLUMNS: Final = ("budget", "limit", "spent", "held", "left", "resets (UTC)")


@click.command(
    "budgets", help="Say what is left of budgets: those of the configuration, of tenants, projects, keys and subjects."
)
@click.option("--key", default="", metavar="NAME", help="Only this key's own; subject:NAME is a key too.")
@click.option("--tenant", default="", metavar="NAME", help="Only this tenant's own, and those of its projects.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line; money in nano-USD.")
@place_options
def command(*, key: str, tenant: str, as_json: bool, config_file: str | None, url: str | None) -> None:
    """Reads only; a gateway need not run."""
    register = opened(config_file, url)
    wanted = [each for each in all_budgets(register) if _is_asked_for(each.scope, key, tenant)]
    found = asyncio.run(_standings(register, wanted))
    if as_json:
        for standing in found:
            print_json(standing)
    elif found:
        print_table(COLUMNS, [_row(standing) for standing in found])
    else:
        print("No budgets." if not (key or tenant) else "No budgets of its own.")


def all_budgets(register: Register) -> "list[BudgetSettings]":
    """All budgets: the configuration's, then the database's."""
    from tollhouse.server.admin.book_operations import ManyBudgets, budgets_of_register
    from tollhouse.server.admin.operation import MAX_PAGE

    def of_the_database(open_: "Transaction") -> "list[BudgetSettings]":
        found, after = budgets_of_register(open_, ManyBudgets(limit=MAX_PAGE))
        while after is not None:
            page, after = budgets_of_register(open_, ManyBudgets(after=after, limit=MAX_PAGE))
            found += page
        return found

    return [*(() if register.config is None else register.config.budgets), *register.read(of_the_database)]


def _is_asked_for(scope: "Scope", key: str, tenant: str) -> bool:
    if not key and not tenant:
        return True
    if scope.kind == "key":
        return scope.name == key
    return bool(tenant) and (
        (scope.kind == "tenant" and scope.name == tenant)
        or (scope.kind == "project" and scope.name.partition("/")[0] == tenant)
    )


async def _standings(register: Register, settings: "Sequence[BudgetSettings]") -> "list[Standing]":
    from tollhouse.ledger.address import state_folder
    from tollhouse.server.admin.book_operations import standings
    from tollhouse.server.admin.study import Glance

    config = register.config
    folder = state_folder(register.url, None if config is None else config.ledger.state_folder, os.environ)
    glance = Glance(register.url, folder, None if config is None else config.state.url)
    try:
        return await standings(settings, time.time_ns() // 1000, purses=glance.purses, spent=glance.spent)
    finally:
        await glance.aclose()


def _row(standing: "Standing") -> tuple[str, ...]:
    name = f"{standing.scope}/{standing.period}"
    return (
        name if standing.is_hard else f"{name} (soft)",
        short(standing.limit_nano),
        short(standing.spent_nano),
        short(standing.held_nano) if standing.held_nano else "",
        short(standing.left_nano),
        "never" if standing.resets_at_us is None else moment(standing.resets_at_us).removesuffix(" UTC"),
    )
