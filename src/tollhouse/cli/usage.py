"""`tollhouse usage`: what was used and what it cost."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from tollhouse.cli.ledger_address import ledger_url
from tollhouse.cli.printing import NOT_SAID, aligned_dollars, dollars, fits, plural, shown, widen
from tollhouse.ledger.moments import moment_at

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tollhouse.ledger.reports import Totals, Usage

UNITS: Final = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class Since(click.ParamType[datetime | None]):
    """`30m`, `24h`, `7d`, `2w`, a day, a moment, or `all`."""

    name = "since"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime | None:
        """The moment in UTC; `None` for `all`."""
        if value is None or isinstance(value, datetime):
            return value
        text = str(value).strip()
        if text == "all":
            return None
        if found := re.fullmatch(r"(\d{1,5})([mhdw])", text):
            return datetime.now(UTC) - int(found[1]) * UNITS[found[2]]
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is not a time. Write 30m, 24h, 7d, 2w, 2026-11-01, or all.", param, ctx)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


@click.command("usage", help="Print what was used and what it cost, by model, key, day, provider or tenant.")
@click.option(
    "--by",
    type=click.Choice(["model", "key", "day", "provider", "tenant"]),
    default="model",
    show_default=True,
    help="What to group by; days are those of UTC.",
)
@click.option("--since", type=Since(), default="7d", show_default=True, help="30m, 24h, 7d, 2w, a date, or all.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; money in integers of nano-USD.")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="The configuration file.")
@click.option("--ledger", "--url", "url", help="The ledger's address, in place of ledger.url.")
def command(by: str, since: datetime | None, as_json: bool, config_file: str | None, url: str | None) -> None:
    """Reads only."""
    address = ledger_url(config_file, url)

    from tollhouse.ledger import reports

    report = reports.usage(address, by=reports.By(by), since=since)
    if as_json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return

    from rich.console import Console

    render(report, Console())


def render(report: "Usage", console: "Console") -> None:
    """Prints the table as wide as it needs to be; on a narrow terminal with fewer columns, on a very narrow one as a list."""
    when = "since the ledger began" if report.since_us is None else f"since {_moment(report.since_us)}"
    if not report.groups:
        console.print(f"No calls {when}.", highlight=False)
        return
    widen(console)
    for columns in (COLUMNS, COLUMNS_NARROW):
        table = _table(report, columns)
        if fits(console, table):
            console.print(table)
            break
    else:
        _list(report, console)
    console.print(f"Calls {when}. Input holds cached tokens, output holds reasoning.", highlight=False)
    if report.total.unknown_cost_calls:
        console.print(
            f"In all {dollars(report.total.cost_nano)} + "
            f"{plural(report.total.unknown_cost_calls, 'call')} of unknown price.",
            highlight=False,
        )


def cost_of(totals: "Totals") -> str:
    """The known cost, and how many calls it leaves out: `$0.0123 + 2 unknown`."""
    return "".join(_cost(totals, dollars(totals.cost_nano)))


def _cost(totals: "Totals", amount: str) -> tuple[str, str]:
    if not totals.unknown_cost_calls:
        return amount, ""
    if totals.unknown_cost_calls == totals.calls:
        return "unknown", ""
    return amount, f" + {totals.unknown_cost_calls:,} unknown"


def _count(number: int | None) -> str:
    return NOT_SAID if number is None else f"{number:,}"


def _moment(at_us: int) -> str:
    return f"{moment_at(at_us):%Y-%m-%d %H:%M} UTC"


Column = tuple[str, "Callable[[Totals], str]"]

COLUMNS: Final[tuple[Column, ...]] = (
    ("calls", lambda totals: _count(totals.calls)),
    ("errors", lambda totals: _count(totals.errors)),
    ("input", lambda totals: _count(totals.input_tokens)),
    ("cache read", lambda totals: _count(totals.cache_read_tokens)),
    ("cache write", lambda totals: _count(totals.cache_write_tokens)),
    ("output", lambda totals: _count(totals.output_tokens)),
    ("reasoning", lambda totals: _count(totals.reasoning_tokens)),
)
COLUMNS_NARROW: Final[tuple[Column, ...]] = (
    ("calls", lambda totals: _count(totals.calls)),
    ("tokens in / out", lambda totals: f"{_count(totals.input_tokens)} / {_count(totals.output_tokens)}"),
)


def _table(report: "Usage", columns: tuple[Column, ...]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_footer=len(report.groups) > 1)
    table.add_column(str(report.by), footer="total")
    heading, *costs, whole_cost = _costs([*(group.totals for group in report.groups), report.total])
    for title, value in columns:
        table.add_column(title, footer=value(report.total), justify="right")
    table.add_column(heading, footer=whole_cost)
    for group, cost in zip(report.groups, costs, strict=True):
        table.add_row(Text(shown(group.name) or NOT_SAID), *(value(group.totals) for _, value in columns), cost)
    return table


def _costs(column: "Sequence[Totals]") -> list[str]:
    """A heading, and what `cost_of` says of each: in line by their decimal points, whatever stands behind an amount."""
    amounts = aligned_dollars(totals.cost_nano for totals in column)
    costs = [_cost(totals, amount) for totals, amount in zip(column, amounts, strict=True)]
    width = max(len(known) for known, _ in costs)
    return [f"{known:>{width}}{rest}" for known, rest in [("cost", ""), *costs]]


def _list(report: "Usage", console: "Console") -> None:
    for group in report.groups:
        totals = group.totals
        console.print(shown(group.name) or NOT_SAID, markup=False, highlight=False, overflow="fold")
        console.print(
            f"  {plural(totals.calls, 'call')}, {_count(totals.input_tokens)} in, {_count(totals.output_tokens)} out, "
            f"{cost_of(totals)}",
            highlight=False,
        )
