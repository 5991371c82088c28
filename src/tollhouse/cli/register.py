"""What the commands about keys, tenants and projects share: their options, the register that they open, and how they print."""

import getpass
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeVar

import click
import msgspec

from tollhouse.cli.ledger_address import configuration
from tollhouse.cli.printing import NOT_SAID, dollars, fits, widen
from tollhouse.errors import NotFound
from tollhouse.ledger.moments import moment_at, us_of
from tollhouse.policy.terms import MAX_BUDGET_NANO

if TYPE_CHECKING:
    from tollhouse.config.schema import Config
    from tollhouse.ledger.transaction import Transaction
    from tollhouse.policy.register import Kind, Project, Tenant, TopUp
    from tollhouse.policy.registrar import Desk
    from tollhouse.policy.terms import KeyTerms, Terms

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., object])

UNITS: Final = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}
BUDGET_WANTED: Final = f"an amount of dollars from 0 to {MAX_BUDGET_NANO // 10**9:,}"


class Clear:
    """What `none` says in an edit: that a limit, a budget or a list is taken away."""


CLEAR: Final = Clear()

# ------------------------------------------------------------------------------------------------------------ kinds of values


class OrNone(click.ParamType[object]):
    """A value, or `none` where something may be taken away."""

    def __init__(self, name: str, read: Callable[[str], object], wanted: str, *, may_clear: bool) -> None:
        self.name = name
        self._read = read
        self._wanted = f"{wanted}, or none" if may_clear else wanted
        self._may_clear = may_clear

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """What `read` makes of it, or `CLEAR`."""
        if not isinstance(value, str):
            return value
        text = value.strip()
        if self._may_clear and text == "none":
            return CLEAR
        try:
            return self._read(text)
        except (ValueError, OverflowError):  # a date beyond the year 9999
            self.fail(f"{text!r} is not {self._wanted}.", param, ctx)


def read_count(text: str) -> int:
    """A whole number; underscores and a final `k` or `M` help the eye."""
    found = re.fullmatch(r"(\d[\d_]{0,15})([kM]?)", text)
    if found is None:
        raise ValueError(text)
    return int(found[1]) * {"": 1, "k": 1000, "M": 1_000_000}[found[2]]


def read_dollars(text: str) -> int:
    """An amount of dollars in nano-USD; exact, or refused."""
    if re.fullmatch(r"-?\$?\d{1,12}(\.\d{1,9})?", text) is None:
        raise ValueError(text)
    return int(Decimal(text.replace("$", "")) * 10**9)


def read_budget(text: str) -> int:
    """An amount that may be spent, in nano-USD: `read_dollars` within what counters count exactly."""
    amount_nano = read_dollars(text)
    if not 0 <= amount_nano <= MAX_BUDGET_NANO:
        raise ValueError(text)
    return amount_nano


def read_names(text: str) -> tuple[str, ...]:
    """Names, with commas between them."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError(text)
    return names


def read_fractions(text: str) -> tuple[float, ...]:
    """Numbers, with commas between them."""
    return tuple(float(part) for part in text.split(","))


def read_span(text: str) -> timedelta:
    """`45s`, `30m`, `12h`, `30d`, `2w`, `1y`, or `0`."""
    if text == "0":
        return timedelta(0)
    found = re.fullmatch(r"(\d{1,6})([smhdwy])", text)
    if found is None:
        raise ValueError(text)
    return int(found[1]) * UNITS[found[2]]


def read_moment(text: str) -> int:
    """A span from now, or a date: microseconds since the epoch."""
    try:
        moment = datetime.now(UTC) + read_span(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return us_of(moment)


DOLLARS: Final = OrNone("amount", read_dollars, "an amount of dollars", may_clear=False)
SPAN: Final = OrNone("span", read_span, "a span such as 12h or 30d", may_clear=False)

_METAVARS: Final[Mapping[Callable[[str], object], str]] = {
    read_count: "NUMBER",
    read_budget: "DOLLARS",
    read_names: "NAMES",
    read_fractions: "PARTS",
    read_moment: "SPAN|DATE",
}

# -------------------------------------------------------------------------------------------------------------------- options


def place_options(function: Command) -> Command:
    """`--config` and `--ledger`."""
    function = click.option("--ledger", "--url", "url", help="The ledger's address, in place of ledger.url.")(function)
    return click.option("--config", "config_file", type=click.Path(dir_okay=False), help="The configuration file.")(
        function
    )


def terms_options(*, of_key: bool, edits: bool, expires: bool = True) -> Callable[[Command], Command]:
    """The options that become `Terms` or `KeyTerms`, or an edit of them; their names are those of the records' fields.

    A key's include `--expires-in`, unless `expires` says that the command has an option of its own.
    """
    may = " `none` takes it away." if edits else ""
    made: list[Callable[[Command], Command]] = []

    def add(option: str, field: str, read: Callable[[str], object], wanted: str, text: str) -> None:
        kind = OrNone(option.removeprefix("--"), read, wanted, may_clear=edits)
        made.append(click.option(option, field, type=kind, metavar=_METAVARS[read], help=f"{text}{may}"))

    if of_key:
        add(
            "--models",
            "models",
            read_names,
            "a list of names",
            "Aliases and provider/model it may use: 'fast,openai/*'.",
        )
        add("--providers", "providers", read_names, "a list of names", "Providers that may answer it: openai,groq.")
        add("--ip", "ip_ranges", read_names, "a list of ranges", "Networks it may call from: 10.0.0.0/8,2001:db8::/32.")
    if of_key and expires:
        add(
            "--expires-in",
            "expires_at_us",
            read_moment,
            "a span such as 30d or a date",
            "45s, 12h, 30d, 1y, or a date.",
        )
    add("--requests-per-minute", "requests_per_minute", read_count, "a whole number", "Calls in a minute.")
    add(
        "--tokens-per-minute", "tokens_per_minute", read_count, "a whole number", "Input and output tokens in a minute."
    )
    add("--concurrent", "concurrent", read_count, "a whole number", "Calls at once.")
    for word, period in (("hourly", "hour"), ("daily", "day"), ("weekly", "week"), ("monthly", "month")):
        article = "an" if period == "hour" else "a"
        add(f"--{word}", f"{word}_nano", read_budget, BUDGET_WANTED, f"Budget of {article} {period} (UTC).")
    add("--total", "total_nano", read_budget, BUDGET_WANTED, "Budget for all time.")
    made.append(
        click.option("--soft/--hard", "is_soft", default=None, help="Budgets only alert, or refuse (the default).")
    )
    add(
        "--alert-at", "alert_at", read_fractions, "a list of fractions", "Parts of a budget whose use is told: 0.5,0.9."
    )
    made.append(
        click.option(
            "--clamp-output/--no-clamp-output",
            "clamp_output",
            default=None,
            help="Shorten an answer to what a budget has left, rather than refuse the call.",
        )
    )
    removes = "; NAME= removes one" if edits else ""
    made.append(click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", help=f"A note on it{removes}."))

    def decorate(function: Command) -> Command:
        for option in reversed(made):
            function = option(function)
        return function

    return decorate


def given(options: Mapping[str, object], kind: type[T]) -> T:
    """The options that were given, as a record whose fields they are named for; all others stay as they are by default."""
    fields: dict[str, object] = {}
    for name, value in options.items():
        if name == "tags":
            tags = _tags(value) if isinstance(value, tuple) else {}
            if tags:
                fields[name] = tags
        elif value is CLEAR:
            fields[name] = None
        elif value is not None:
            fields[name] = value
    return msgspec.convert(fields, kind)


def edit_given(options: Mapping[str, object], kind: type[T]) -> T:
    """As `given`, for an edit.  Raises `click.UsageError` if nothing was given."""
    changes = given(options, kind)
    if changes == kind():
        raise click.UsageError("Nothing to change was named.")
    return changes


def _tags(values: tuple[object, ...]) -> dict[str, str | None]:
    tags: dict[str, str | None] = {}
    for value in values:
        name, separator, text = str(value).partition("=")
        if not separator:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE.", param_hint="--tag")
        tags[name] = text or None
    return tags


# ------------------------------------------------------------------------------------------------------------------- register


@dataclass(frozen=True, slots=True)
class Register:
    """The register that a command works on."""

    url: str
    config: "Config | None"
    """The configuration, unless it was left aside or there is none."""

    def write(self, work: "Callable[[Desk], T]") -> T:
        """Runs `work` in one transaction, as the operating system's user, and audits it."""
        from tollhouse.policy.registrar import write
        from tollhouse.telemetry.audit import RegisterAudit

        return write(self.url, work, actor=actor(), audit=RegisterAudit(), reserved=self.config_keys())

    def read(self, work: "Callable[[Transaction], T]") -> T:
        """Runs `work` on the register as it is."""
        from tollhouse.policy.register import read

        return read(self.url, work)

    def config_keys(self) -> Collection[str]:
        """Names of the configuration's keys."""
        return frozenset() if self.config is None else frozenset(key.name for key in self.config.auth.keys)

    def warn_of_unknown(self, models: Sequence[str], providers: Sequence[str]) -> None:
        """Says which of these names nothing in the configuration has."""
        if self.config is None:
            return
        from tollhouse.config.values import did_you_mean

        known = self.config.providers
        for name in {*providers, *(model.partition("/")[0] for model in models if "/" in model)} - known.keys():
            if "*" not in name:
                say(f"warning: the configuration has no provider {name!r}.{did_you_mean(name, known)}")
        for name in models:
            if "/" not in name and "*" not in name and name not in self.config.aliases:
                say(f"warning: the configuration has no alias {name!r}.{did_you_mean(name, self.config.aliases)}")


def opened(config_file: str | None, url: str | None, *, creates: bool = False) -> Register:
    """The register of the ledger that was named, else of the configuration's.

    A ledger that is not there is made with `creates`, else it is `NotFound`; an older one is migrated.
    """
    from tollhouse.ledger import store

    config = None
    if url is None:
        config = configuration(config_file)
        url = store.DEFAULT_URL if config is None else config.ledger.url
    if not creates and store.revision_of(url) is None:
        raise NotFound(
            "There is no ledger there yet.", hint="The first start of the gateway makes it, or `tollhouse key create`."
        )
    store.prepare(url)
    return Register(url, config)


def actor() -> str:
    """Who runs the command, for the audit log."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # OSError since Python 3.13
        return f"cli:{os.getuid()}"


# ------------------------------------------------------------------------------------------------------------------- printing


def say(text: str) -> None:
    """A word to the person at the terminal, beside what the command prints."""
    print(text, file=sys.stderr)


def print_json(record: object) -> None:
    """One JSON object on a line."""
    print(msgspec.json.encode(record).decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as the terminal; in a pipe as wide as it needs."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    widen(console)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        # What other commands are given has to be copied whole, however narrow the terminal is.
        table.add_column(column, no_wrap=column == "id", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell or NOT_SAID) for cell in row))
    if not fits(console, table):
        table.padding = (0, 1, 0, 0)
    console.print(table)


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Names and values below each other; empty ones are left out."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        if value:
            print(f"{name:<{width}}  {value}")


def moment(at_us: int | None) -> str:
    """A time of day in UTC."""
    return "" if at_us is None else f"{moment_at(at_us):%Y-%m-%d %H:%M} UTC"


def state_of(revoked_at_us: int | None, ends_at_us: int | None, now_us: int) -> str:
    """Whether a key, a subject or a token is good, in a few words."""
    if revoked_at_us is not None:
        return f"revoked on {moment(revoked_at_us)}"
    if ends_at_us is None:
        return "good"
    return f"{'expired on' if ends_at_us <= now_us else 'good until'} {moment(ends_at_us)}"


def holder_of(tenant: str, project: str) -> str:
    """Whom a key, a subject or a token belongs to; empty for nobody."""
    return f"{tenant}/{project}" if project else tenant


def uses_of(terms: "KeyTerms") -> str:
    """What it may use, in a few words."""
    return (", ".join(terms.models) or "all") + (f" by {', '.join(terms.providers)}" if terms.providers else "")


def limits_of(terms: "Terms") -> str:
    """Its limits in a few words."""
    named = (
        (terms.requests_per_minute, "requests/min"),
        (terms.tokens_per_minute, "tokens/min"),
        (terms.concurrent, "at once"),
    )
    return ", ".join(f"{number:,} {unit}" for number, unit in named if number is not None)


def budgets_of(terms: "Terms", balance_nano: int | None) -> str:
    """Its budgets in a few words."""
    named = (
        (terms.hourly_nano, "an hour"),
        (terms.daily_nano, "a day"),
        (terms.weekly_nano, "a week"),
        (terms.monthly_nano, "a month"),
        (terms.total_nano, "in all"),
    )
    money = [f"{short(amount)} {unit}" for amount, unit in named if amount is not None]
    soft = [f"{', '.join(money)}{' (soft)' if terms.is_soft else ''}"] if money else []
    return ", ".join([*soft, *([f"{short(balance_nano)} prepaid"] if balance_nano is not None else [])])


def short(nano: int) -> str:
    """Dollars with cents, and more digits only where there are more."""
    text = dollars(nano)
    return text.removesuffix("00")


def access_fields(terms: "KeyTerms") -> list[tuple[str, str]]:
    """What only keys, subjects and tokens can carry."""
    return [
        ("models", ", ".join(terms.models) or "all"),
        ("providers", ", ".join(terms.providers) or "all"),
        ("may call from", ", ".join(terms.ip_ranges) or "anywhere"),
    ]


def means_fields(terms: "Terms", balance_nano: int | None) -> list[tuple[str, str]]:
    """The limits and budgets that tenants, projects and keys can all carry."""
    return [
        ("limits", limits_of(terms) or "none of its own"),
        ("budgets", budgets_of(terms, balance_nano) or "none of its own"),
    ]


def terms_fields(terms: "Terms") -> list[tuple[str, str]]:
    """What tenants, projects and keys can all carry, beside limits and budgets."""
    return [
        ("alerts at", ", ".join(f"{fraction:.0%}" for fraction in terms.alert_at)),
        ("output", "clamped to what a budget has left" if terms.clamp_output else ""),
        ("tags", ", ".join(f"{name}={value}" for name, value in terms.tags.items())),
    ]


def print_holder(register: Register, kind: "Kind", holder: "Tenant | Project", name: str) -> None:
    """All there is to say about a tenant or a project."""
    print_fields(
        [
            (kind, name),
            *means_fields(holder.terms, holder.balance_nano),
            *terms_fields(holder.terms),
            ("created", moment(holder.created_at_us)),
            ("removed", moment(holder.removed_at_us)),
        ]
    )
    print_top_ups(register, kind, name)


def print_top_ups(register: Register, kind: "Kind", name: str) -> None:
    """What was paid in, if anything was."""
    from tollhouse.policy.register import top_ups

    paid = register.read(lambda transaction: top_ups(transaction, kind, name))
    if paid:
        print()
        print_table(
            ("paid in", "on", "by", "note"),
            [(short(one.amount_nano), moment(one.at_us), one.actor, one.note) for one in paid],
        )


def say_topped_up(paid: "TopUp", balance_nano: int | None) -> None:
    """What a top-up did."""
    did = "Paid" if paid.amount_nano > 0 else "Took"
    where = f"{'into' if paid.amount_nano > 0 else 'back from'} the {paid.kind} {paid.name}"
    print(f"{did} {short(abs(paid.amount_nano))} {where}; {short(balance_nano or 0)} was paid in altogether.")
