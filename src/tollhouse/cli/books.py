"""`tollhouse ledger explain | rerate | verify | export`: the books, and how they come about."""

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import click

from tollhouse.cli.ledger_address import configuration, ledger_url
from tollhouse.cli.printing import aligned_dollars, dollars, plural, shown, widen
from tollhouse.cli.usage import UNITS, Since
from tollhouse.errors import ConfigError, NotFound, StoreUnavailable
from tollhouse.ledger.moments import moment_at, us_of

if TYPE_CHECKING:
    from tollhouse.config.schema import Config
    from tollhouse.ledger.explain import Explanation
    from tollhouse.ledger.prices import PriceBook, Rates
    from tollhouse.ledger.rerate import Outcome, Tally
    from tollhouse.ledger.verify import Purse, Verdict

Command = TypeVar("Command", bound=Callable[..., object])

LAST_US: Final = 2**62
PROGRESS_SECONDS: Final = 2.0
MAX_PRICE_FILE_BYTES: Final = 16 * 1024 * 1024
FORMATS: Final = ("csv", "json", "parquet")
GROUPS: Final = ("hour", "day", "tenant", "project", "key", "alias", "provider", "model")


class Age(click.ParamType[timedelta]):
    """`400d`."""

    name = "age"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """A length of time."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,5})([hdw])", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not an age. Write 36h, 400d or 52w.", param, ctx)
        return int(found[1]) * UNITS[found[2]]


def _of_a_ledger(run: Command) -> Command:
    """The options that say which ledger."""
    run = click.option("--ledger", "--url", "url", help="The ledger's address, in place of ledger.url.")(run)
    return click.option("--config", "config_file", type=click.Path(dir_okay=False), help="The configuration file.")(run)


# ------------------------------------------------------------------------------------------------------------- explain


@click.command("explain", help="Print the bill of one call: tokens, prices, amounts, and what it cost before.")
@click.argument("request_id")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; money in integers of nano-USD.")
@_of_a_ledger
def explain(request_id: str, as_json: bool, config_file: str | None, url: str | None) -> None:
    """Reads only.  Exit status 1 when the bill does not give the cost that stands in the ledger."""
    address, config = _ledger(config_file, url)

    from tollhouse.ledger.explain import explain as explained
    from tollhouse.ledger.price_books import Shelf
    from tollhouse.ledger.prices import PriceBook
    from tollhouse.ledger.transaction import transact

    shelf = Shelf(packaged=PriceBook.load(_overrides_of(config)), kinds=_kinds_of(config))
    found = transact(address, lambda transaction: explained(transaction, shelf, request_id), writes=False)
    if as_json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        _print_bill(found)
    if found.adds_up is False:
        sys.exit(1)


def _print_bill(found: "Explanation") -> None:
    from rich.text import Text

    who = "/".join(part for part in (found.tenant, found.project, found.key) if part)
    target = f"{found.provider}/{found.model}"
    asked = f" (asked for {found.requested_model})" if found.requested_model not in {found.model, target, ""} else ""
    facts = [
        ("call", found.id),
        ("time", f"{moment_at(found.started_at_us):%Y-%m-%d %H:%M:%S} UTC"),
        ("key", who or "-"),
        ("model", f"{target}{asked}"),
        ("outcome", f"{found.outcome} ({found.status})"),
        ("counts", found.usage_source),
        ("prices", f"{found.price_version or '-'}{f', {found.priced_as}' if found.priced_as else ''}"),
    ]
    for name, text in facts:
        print(f"{name:<9} {shown(text)}")
    if found.lines:
        table = _table(("", False), ("tokens", True), ("$ per million", True), ("amount", True))
        amounts = aligned_dollars([*(line.nano for line in found.lines), found.lines_nano or 0])
        for line, amount in zip(found.lines, amounts, strict=False):
            per = dollars(line.rate_nano) if line.kind != "request" else f"{dollars(line.rate_nano)} a call"
            table.add_row(line.kind.replace("_", " "), f"{line.tokens:,}", per, amount)
        if len(found.lines) > 1:
            table.add_section()
            table.add_row(Text("sum"), "", "", amounts[-1])
        print()
        _show(table)
    print()
    cost = "not known" if found.cost_nano is None else dollars(found.cost_nano)
    verdict = {True: ", as the bill says" if found.lines else "", False: ", which is NOT what the bill says", None: ""}
    print(f"cost      {cost}{verdict[found.adds_up]}")
    if found.remark:
        print(f"          {found.remark}")
    for each in found.earlier:
        was = "not known" if each.was_nano is None else dollars(each.was_nano)
        print(
            f"before    {was} by {shown(each.was_version)}\n"
            f"          rated again {moment_at(each.at_us):%Y-%m-%d %H:%M} UTC by {shown(each.actor)} (rerating {each.rerate})"
        )


# -------------------------------------------------------------------------------------------------------------- rerate


@click.command("rerate", help="Compute costs again with other prices; what calls cost before is kept.")
@click.option("--from", "since", type=Since(), required=True, help="7d, a date, a moment, or all.")
@click.option("--to", "until", type=Since(), help="Only calls that began before this.")
@click.option("--model", default="", help="Only this model, as the provider calls it: gpt-5.2, openai/gpt-5.2.")
@click.option("--provider", default="", help="Only this provider.")
@click.option(
    "--prices",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    required=True,
    help="A file with `prices:` as in the configuration, a compiled price book, or one of each.",
)
@click.option("--dry-run", is_flag=True, help="Change nothing; only say what would change.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; money in integers of nano-USD.")
@_of_a_ledger
def rerate(
    *,
    since: datetime | None,
    until: datetime | None,
    model: str,
    provider: str,
    files: Sequence[Path],
    dry_run: bool,
    as_json: bool,
    config_file: str | None,
    url: str | None,
) -> None:
    """May be interrupted at any time, and run again."""
    address, config = _ledger(config_file, url)

    from tollhouse.cli.register import actor
    from tollhouse.ledger.price_books import KeptBook, kinds_of
    from tollhouse.ledger.rerate import Order
    from tollhouse.ledger.rerate import rerate as rate_again
    from tollhouse.ledger.stored_calls import Wanted
    from tollhouse.ledger.transaction import Transaction, transact

    def names(transaction: Transaction) -> tuple[dict[str, tuple[str, ...]], set[str]]:
        return kinds_of(transaction, ""), {
            name for (name,) in transaction.rows("SELECT DISTINCT provider FROM spend_hours")
        }

    kept, providers = transact(address, names, writes=False)
    today = _kinds_of(config)
    kinds = {name: ((today[name],) if name in today else kept.get(name, (name,))) for name in providers | kept.keys()}
    prices, is_list = _prices_in(files, {*kinds, *today})
    order = Order(
        wanted=Wanted(_us(since, 0), _us(until, LAST_US), provider, model),
        book=KeptBook(prices, kinds),
        only_overrides=not is_list,
        actor=actor(),
    )
    with _Progress("calls rated") as progress:
        outcome = rate_again(
            address, order, now_us=lambda: time.time_ns() // 1000, is_dry=dry_run, progress=progress.add
        )
    if as_json:
        import msgspec

        fields = {**msgspec.structs.asdict(outcome), "total": outcome.total, "dry_run": dry_run}
        print(msgspec.json.format(msgspec.json.encode(fields), indent=2).decode())
        return
    _print_outcome(outcome, is_dry=dry_run)


def _prices_in(files: Sequence[Path], owners: set[str]) -> "tuple[PriceBook, bool]":
    """The price book of the files, and whether there is a whole list among them rather than only overrides."""
    import msgspec

    from tollhouse.config.prices import parse_price_file
    from tollhouse.ledger.prices import PriceBook, overrides_from
    from tollhouse.providers.registry import PROVIDER_TYPES

    lists: list[tuple[Path, bytes]] = []
    overrides: dict[str, Rates] = {}
    for path in files:
        data = path.read_bytes() if path.stat().st_size <= MAX_PRICE_FILE_BYTES else b""
        if not data:
            raise ConfigError([f"{path}: The file is empty, or longer than {MAX_PRICE_FILE_BYTES:,} bytes."])
        if data.lstrip()[:1] == b"{":
            lists.append((path, data))
        else:
            settings = parse_price_file(path, data, owners | PROVIDER_TYPES.keys())
            overrides |= overrides_from(settings.overrides)
    if len(lists) > 1:
        raise ConfigError([f"{lists[1][0]}: There is a compiled price book already, {lists[0][0]}."])
    if not lists:
        return PriceBook.load(overrides), False
    ((path, data),) = lists
    try:
        prices = PriceBook(data, overrides)
        prices.read_all()
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigError([f"{path}: This is not a compiled price book: {error}."]) from error
    if re.fullmatch(r"[0-9A-Za-z.+_-]{1,60}", prices.list_version) is None:
        raise ConfigError([f"{path}: A version has at most 60 letters, digits and .+_-, not {prices.list_version!r}."])
    return prices, True


def _print_outcome(outcome: "Outcome", *, is_dry: bool) -> None:
    total = outcome.total
    table = _table(
        ("model", False), ("calls", True), ("changed", True), ("was", True), ("now", True), ("difference", True),
        footers=[f"{total.calls:,}", f"{total.changed:,}", *_amounts(total)],
    )  # fmt: skip
    for name, tally in sorted(
        outcome.models.items(), key=lambda each: (-abs(each[1].now_nano - each[1].was_nano), each[0])
    ):
        table.add_row(shown(name), f"{tally.calls:,}", f"{tally.changed:,}", *_amounts(tally))
    if outcome.models:
        _show(table)
        print()
    changed = f"{plural(total.changed, 'call')} {'would change' if is_dry else 'changed'}"
    print(f"{changed}; prices {outcome.version}")
    if total.was_unknown:
        print(f"{plural(total.was_unknown, 'of them had a', 'of them had an')} unknown cost before.")
    if total.left_alone:
        print(
            f"{plural(total.left_alone, 'call')} left alone: these prices, or the call's counts, say nothing about them."
        )
    if outcome.overtaken:
        print(f"{plural(outcome.overtaken, 'call')} changed meanwhile; run this again.")
    if outcome.rerate is not None:
        went_on = ", which was interrupted before" if outcome.continued else ""
        print(
            f"What they cost before is kept as rerating {outcome.rerate}{went_on}; `tollhouse ledger explain` shows it."
        )


def _amounts(tally: "Tally") -> tuple[str, str, str]:
    difference = tally.now_nano - tally.was_nano
    return dollars(tally.was_nano), dollars(tally.now_nano), f"{'+' if difference > 0 else ''}{dollars(difference)}"


# -------------------------------------------------------------------------------------------------------------- verify


@click.command("verify", help="Check that the books add up: totals, bills, journals, holds, a provider's own report.")
@click.option("--since", type=Since(), default="all", show_default=True, help="7d, a date, a moment, or all.")
@click.option("--retention", type=Age(), help="How long rows are kept, in place of ledger.retention: 400d.")
@click.option("--at-rest", is_flag=True, help="No gateway is at work: nothing may be held, and budgets must be exact.")
@click.option(
    "--provider-report",
    "report_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A provider's own numbers: CSV with date, model, and input_tokens, output_tokens or cost.",
)
@click.option(
    "--provider", default="", help="Whose report that is, as the configuration calls it; all together otherwise."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; money in integers of nano-USD.")
@_of_a_ledger
def verify(
    *,
    since: datetime | None,
    retention: timedelta | None,
    at_rest: bool,
    report_file: Path | None,
    provider: str,
    as_json: bool,
    config_file: str | None,
    url: str | None,
) -> None:
    """Reads only.  Exit status 1 when something does not add up."""
    address, config = _ledger(config_file, url)

    from tollhouse.ledger import store
    from tollhouse.ledger.price_books import Shelf
    from tollhouse.ledger.prices import PriceBook
    from tollhouse.ledger.provider_report import read_report
    from tollhouse.ledger.verify import Question
    from tollhouse.ledger.verify import verify as verified

    folder = store.state_folder(address, None if config is None else config.ledger.state_folder, os.environ)
    question = Question(
        since_us=_us(since, 0),
        pruned_before_us=_pruned_before_us(retention, config),
        journals=folder,
        purses=_purses(address, config, folder) if at_rest else None,
        report=None if report_file is None else read_report(report_file, provider),
    )
    shelf = Shelf(packaged=PriceBook.load(_overrides_of(config)), kinds=_kinds_of(config))
    with _Progress("calls checked") as progress:
        verdict = verified(address, shelf, question, progress=progress.add)
    if as_json:
        import msgspec

        fields = {**msgspec.structs.asdict(verdict), "adds_up": verdict.adds_up}
        print(msgspec.json.format(msgspec.json.encode(fields), indent=2).decode())
    else:
        _print_verdict(verdict)
    if not verdict.adds_up:
        sys.exit(1)


def _pruned_before_us(retention: timedelta | None, config: "Config | None") -> int | None:
    seconds = None if config is None else config.ledger.retention_seconds
    if retention is not None:
        seconds = retention.total_seconds()
    return None if seconds is None else time.time_ns() // 1000 - int(seconds * 1_000_000)


def _purses(address: str, config: "Config | None", folder: Path) -> "list[Purse]":
    import asyncio

    from tollhouse.cli.budgets import all_budgets
    from tollhouse.cli.register import Register
    from tollhouse.ledger.address import counters_folder
    from tollhouse.ledger.spending import SpendReader
    from tollhouse.policy import purses_at_rest

    async def compared() -> "list[Purse]":
        if config is not None and config.state.url is not None:
            from tollhouse.policy.valkey import ValkeySettings, open_counters

            names = purses_at_rest.names_of(all_budgets(Register(address, config)), time.time_ns() // 1000)
            counters = await open_counters(ValkeySettings(url=config.state.url))
            try:
                states = list(await counters.purses(names))
            finally:
                await counters.aclose()
        else:
            states = purses_at_rest.read_purses(counters_folder(address, folder))
        ledger = SpendReader(address, folder)
        try:
            return await purses_at_rest.compared(states, ledger)
        finally:
            await ledger.aclose()

    return asyncio.run(compared())


def _print_verdict(verdict: "Verdict") -> None:
    since = f" since {moment_at(verdict.since_us):%Y-%m-%d %H:00} UTC" if verdict.since_us else ""
    print(f"calls     {verdict.calls:,}{since}, {dollars(verdict.cost_nano)}")
    pruned = f", {verdict.pruned_hours:,} more pruned" if verdict.pruned_hours else ""
    print(f"totals    {plural(verdict.hours, 'hour')} compared with their rows{pruned}")
    print(f"bills     {verdict.checked_bills:,} made again")
    for version, count in sorted(verdict.unchecked_bills.items()):
        print(f"          {count:,} not checked: nobody kept the prices {shown(version) or '(no version)'}")
    if verdict.unknown_cost_calls:
        print(f"          {plural(verdict.unknown_cost_calls, 'call')} of unknown cost")
    if verdict.lost_calls:
        print(f"          {plural(verdict.lost_calls, 'call')} charged with what was held, for a process died")
    if verdict.flat_calls:
        print(
            f"          {plural(verdict.flat_calls, 'call')} charged with what was held, for no price tells their cost"
        )
    for source, share in sorted(verdict.by_source.items(), key=lambda each: -each[1].calls):
        part = 100 * share.calls / verdict.calls
        print(f"counts    {share.calls:,} {source} ({part:.1f} %), {dollars(share.cost_nano)}")
    if verdict.purses is not None:
        print(f"budgets   {verdict.purses:,} compared with the ledger")
    if verdict.provider_days is not None:
        print(f"provider  {plural(verdict.provider_days, 'line')} compared, each a model on a day")
    print()
    for finding in verdict.findings:
        print(f"WRONG  {finding.check}: {shown(finding.message)}")
    for check, count in verdict.found.items():
        told = sum(finding.check == check for finding in verdict.findings)
        if count > told:
            print(f"WRONG  {check}: and {count - told:,} more.")
    if verdict.adds_up:
        print("Everything adds up.")


# -------------------------------------------------------------------------------------------------------------- export


@click.command("export", help="Write the rows, or totals over them, for other programs.")
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="json is one object a line.")
@click.option("--since", type=Since(), default="all", show_default=True, help="7d, a date, a moment, or all.")
@click.option("--until", type=Since(), help="Only calls that began before this.")
@click.option(
    "--by",
    "groups",
    type=click.Choice(GROUPS),
    multiple=True,
    help="Totals by this, in place of rows; may be repeated.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="The file; standard output otherwise.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@_of_a_ledger
def export(
    *,
    form: str,
    since: datetime | None,
    until: datetime | None,
    groups: Sequence[str],
    output: Path | None,
    force: bool,
    config_file: str | None,
    url: str | None,
) -> None:
    """Reads only.  Money is in integers of nano-USD, and again in decimal dollars."""
    if output is None and form == "parquet" and sys.stdout.isatty():
        raise click.UsageError("Parquet is not for a terminal: give --output FILE.")
    address, _ = _ledger(config_file, url)

    from tollhouse.ledger import export as exports

    encoder = exports.encoder_of(form)
    since_us, until_us = _us(since, 0), _us(until, LAST_US)
    by = [exports.By(group) for group in dict.fromkeys(groups)]
    table = exports.totals(since_us, until_us, by) if by else exports.calls(since_us, until_us)
    if output is None:
        exports.export(address, table, encoder, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    with exports.new_file(output, may_replace=force) as file:
        count = exports.export(address, table, encoder, file)
    print(f"{plural(count, 'record')} in {output}", file=sys.stderr)


# ------------------------------------------------------------------------------------------------------- for all of them


def _ledger(config_file: str | None, url: str | None) -> "tuple[str, Config | None]":
    """The address of a ledger of this version's schema, and the configuration where it was asked for."""
    from tollhouse.ledger import store

    config = None if url is not None and config_file is None else configuration(config_file)
    address = url if url is not None else ledger_url(config_file, None) if config is None else config.ledger.url
    revision = store.revision_of(address)
    if revision is None:
        raise NotFound(
            f"There is no ledger at {store.shown(address)} yet.", hint="The first start of the gateway makes it."
        )
    if revision != store.HEAD:
        raise StoreUnavailable(
            f"The ledger {store.shown(address)} has schema {revision}, and this needs {store.HEAD}.",
            hint="Run `tollhouse ledger migrate`, or start the gateway once.",
        )
    return address, config


def _overrides_of(config: "Config | None") -> "dict[str, Rates]":
    from tollhouse.ledger.prices import overrides_from

    return {} if config is None else overrides_from(config.prices.overrides)


def _kinds_of(config: "Config | None") -> dict[str, str]:
    if config is None:
        return {}
    from tollhouse.providers.registry import PROVIDER_TYPES

    # Not built: where an embedded model answers is known only while a gateway runs.
    return {name: PROVIDER_TYPES[settings.type].type for name, settings in config.providers.items()}


class _Progress:
    """A line on a terminal that says how far it is; nothing elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = 0
        self._told_at = time.monotonic()
        self._has_told = False

    def __enter__(self) -> Self:
        return self

    def add(self, count: int) -> None:
        """So many more."""
        self._count += count
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_SECONDS and sys.stderr.isatty():
            self._told_at, self._has_told = now, True
            print(f"\r{self._count:,} {self._what} …", end="", file=sys.stderr, flush=True)

    def __exit__(self, *error: object) -> None:
        if self._has_told:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _us(moment: datetime | None, otherwise: int) -> int:
    return otherwise if moment is None else us_of(moment)


def _table(*columns: tuple[str, bool], footers: Sequence[str] = ()) -> Any:  # a table of rich, which is imported late
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_footer=bool(footers))
    for (title, is_number), footer in zip(
        columns, ("total", *footers) if footers else [""] * len(columns), strict=True
    ):
        table.add_column(title, footer=footer, justify="right" if is_number else "left")
    return table


def _show(table: Any) -> None:  # as above
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    widen(console)
    console.print(table)
