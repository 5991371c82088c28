"""`tollhouse models`: what can be reached under a configuration, and what it costs."""

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tollhouse.cli.printing import fits, widen
from tollhouse.errors import ConfigError, TollhouseError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tollhouse.config.schema import Config, ProviderSettings
    from tollhouse.ledger.prices import ModelPrice, PriceBook, Rate, Rates
    from tollhouse.providers.provider import Provider
    from tollhouse.upstream.transport import Incoming

NOT_KNOWN: Final = "-"
MAX_LIST_BYTES: Final = 16 * 1024 * 1024
MAX_ERROR_BYTES: Final = 64 * 1024
CONNECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 8.0
"""How long a provider may take to begin its list, and as long again to send it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One line: a provider's model.  `None` is "not known"."""

    id: str
    """As a client would name it: `provider/model`."""
    aliases: tuple[str, ...]
    context_tokens: int | None
    max_output_tokens: int | None
    capabilities: tuple[str, ...] | None
    price: "ModelPrice | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """One configured provider."""

    name: str
    type: str
    models: tuple[Model, ...]
    live: bool
    """Whether its own list was asked for and came."""
    problem: str | None = None
    """Why it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that the command prints."""

    default: str | None
    aliases: tuple[tuple[str, tuple[str, ...], bool], ...]
    """Name, route, whether strict."""
    shops: tuple[Shop, ...]
    now_us: int
    """Microseconds since the epoch: prices may depend on the time."""


@click.command("models", help="List the models that can be reached, with prices and capabilities.")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="The configuration file.")
@click.option("--provider", "only", metavar="NAME", help="Only this provider.")
@click.option("--live", is_flag=True, help="Ask the providers themselves which models they have.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; prices in nano-USD per million tokens.")
def command(config_file: str | None, only: str | None, live: bool, as_json: bool) -> None:
    """Exit status 1 if providers were asked and none of them answered."""
    from tollhouse.config.load import find, load
    from tollhouse.ledger.prices import PriceBook, overrides_from
    from tollhouse.providers.registry import defaults_by_type

    path = find(config_file, os.environ, Path.cwd(), Path.home())
    if path is None:
        raise ConfigError(
            ["There is no configuration. `tollhouse config init` writes one; `tollhouse demo` needs none."]
        )
    config = load(path, os.environ, defaults_by_type())
    if only is not None and only not in config.providers:
        known = ", ".join(config.providers) or "none"
        raise click.BadParameter(
            f"There is no provider {only!r}; the configuration has {known}.", param_hint="--provider"
        )
    report = gather(config, PriceBook.load(overrides_from(config.prices.overrides)), only=only, live=live)
    if as_json:
        sys.stdout.write(to_json(report))
    else:
        from rich.console import Console

        render(report, Console())
    if live and report.shops and not any(shop.live for shop in report.shops):
        sys.exit(1)


def gather(config: "Config", prices: "PriceBook", *, only: str | None, live: bool) -> Report:
    """Puts together what the configuration says, the price book knows and, if `live`, the providers answer."""
    chosen = [settings for name, settings in config.providers.items() if only is None or name == only]
    answers = _ask(chosen) if live else {}
    return Report(
        default=config.default_model,
        aliases=tuple(
            (alias.name, tuple(str(target) for target in alias.targets), alias.strict)
            for alias in config.aliases.values()
            if only is None or any(target.provider == only for target in alias.targets)
        ),
        shops=tuple(_shop(config, settings, prices, answers.get(settings.name)) for settings in chosen),
        now_us=time.time_ns() // 1000,
    )


def _shop(
    config: "Config", settings: "ProviderSettings", prices: "PriceBook", answer: "tuple[str, ...] | str | None"
) -> Shop:
    from tollhouse.providers.registry import PROVIDER_TYPES

    kind = PROVIDER_TYPES[settings.type]
    configured = {model.name: model for model in settings.models}
    aliases: dict[str, list[str]] = {}
    for alias in config.aliases.values():
        for target in alias.targets:
            if target.provider == settings.name:
                aliases.setdefault(target.model, []).append(alias.name)
    listed = answer if isinstance(answer, tuple) else ()
    models = []
    for name in dict.fromkeys([*configured, *aliases, *listed]):
        facts, price = kind.facts_for(name), prices.find(kind.type, name, provider=settings.name)
        said = configured.get(name)
        window = price.context_window if price else None
        models.append(
            Model(
                id=f"{settings.name}/{name}",
                aliases=tuple(aliases.get(name, ())),
                context_tokens=(said.context_tokens if said else None) or window or facts.context_tokens,
                max_output_tokens=(said.max_output_tokens if said else None) or facts.max_output_tokens,
                capabilities=None if facts.capabilities is None else tuple(sorted(facts.capabilities)),
                price=price,
            )
        )
    return Shop(
        name=settings.name,
        type=settings.type,
        models=tuple(models),
        live=isinstance(answer, tuple),
        problem=answer if isinstance(answer, str) else None,
    )


# ------------------------------------------------------------------------------------------------ asking the providers


def _ask(chosen: Iterable["ProviderSettings"]) -> "dict[str, tuple[str, ...] | str]":
    """Each provider's own list, or the reason why there is none, by its configured name."""
    import asyncio

    async def ask_all() -> "dict[str, tuple[str, ...] | str]":
        async with asyncio.TaskGroup() as group:
            tasks = {settings.name: group.create_task(_ask_one(settings)) for settings in chosen}
        return {name: task.result() for name, task in tasks.items()}

    return asyncio.run(ask_all())


async def _ask_one(settings: "ProviderSettings") -> "tuple[str, ...] | str":
    from tollhouse.providers.registry import build
    from tollhouse.upstream.address import BadAddress, parse_address, target
    from tollhouse.upstream.proxy import NO_PROXIES, Proxies, parse_proxy
    from tollhouse.upstream.transport import Deadlines, Outgoing
    from tollhouse.upstream.wire import WireSettings, WireTransport

    if settings.type == "local" and settings.base_url is None:
        return "the embedded model runs only with the gateway; `tollhouse local list` shows what is there."
    try:
        provider = build(settings)
        address = parse_address(provider.base_url)
        request = Outgoing(
            address=address,
            method=b"GET",
            target=target(address, provider.models_path),
            headers=provider.headers(time.time()),
            body=b"",
        )
        server = parse_proxy(settings.proxy) if settings.proxy else None
        transport = WireTransport(WireSettings(proxies=Proxies(http=server, https=server) if server else NO_PROXIES))
        try:
            deadlines = Deadlines(
                connect=CONNECT_SECONDS,
                first_byte=ANSWER_SECONDS,
                between_chunks=ANSWER_SECONDS,
                total=CONNECT_SECONDS + 2 * ANSWER_SECONDS,
            )
            return await _read(await transport.send(request, deadlines), provider)
        finally:
            await transport.aclose()
    except (TollhouseError, BadAddress) as error:
        return " ".join(str(error).split())


async def _read(incoming: "Incoming", provider: "Provider") -> tuple[str, ...]:
    """The names in a list.  Raises `ProviderError`."""
    if incoming.status >= 300:
        body = await incoming.read_all(MAX_ERROR_BYTES)
        refused = provider.dialect.decode_error(incoming.status, body)
        refused.message = f"It answered {incoming.status}: {refused.message}"
        raise refused
    return provider.dialect.decode_models(await incoming.read_all(MAX_LIST_BYTES))


# ------------------------------------------------------------------------------------------------------------ printing


def render(report: Report, console: "Console") -> None:
    """Prints tables as wide as they need to be, on a narrow terminal with fewer columns; then a line for each trouble."""
    from rich.markup import escape

    widen(console)
    if report.aliases:
        console.print(_routes(report))
        console.print()
    if any(shop.models for shop in report.shops):
        wide = _table(report, COLUMNS)
        console.print(wide if fits(console, wide) else _table(report, COLUMNS_NARROW))
        console.print("Dollars per million tokens; + rises with the prompt's length.", highlight=False)
    for shop in report.shops:
        if shop.problem is not None:
            console.print(f"[red]{escape(shop.name)}[/red]: {escape(shop.problem)}", highlight=False)
        elif not shop.models:
            console.print(escape(f"{shop.name}: {_nothing_named(shop)}"), highlight=False)
    if not report.shops:
        console.print("No providers are configured.")


def _nothing_named(shop: Shop) -> str:
    if shop.live:
        return "its list is empty."
    return f"no models named; any of its own can be called as {shop.name}/<model>, and --live lists them."


COLUMNS: Final = ("Model", "Alias", "Input", "Cached", "Output", "Context", "Answer", "Can do")
COLUMNS_NARROW: Final = ("Model", "Input", "Output", "Context", "Can do")
_NUMBERS: Final = frozenset({"Input", "Cached", "Output", "Context", "Answer"})


def _routes(report: Report) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table("Alias", "Tried in this order", box=None, pad_edge=False, header_style="bold")
    for name, targets, strict in report.aliases:
        marks = [mark for mark, is_so in (("default", name == report.default), ("strict", strict)) if is_so]
        shown = f"{name} ({', '.join(marks)})" if marks else name
        table.add_row(escape(shown), escape(", ".join(targets)))
    return table


def _table(report: Report, columns: tuple[str, ...]) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        is_number = column in _NUMBERS
        table.add_column(column, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for shop in report.shops:
        for model in shop.models:
            cells = _cells(model, report.now_us)
            table.add_row(*(escape(cells[column]) for column in columns))
    return table


def _cells(model: Model, now_us: int) -> dict[str, str]:
    rates = model.price.rates_at(now_us) if model.price else None
    free = model.price is not None and model.price.is_free
    return {
        "Model": model.id,
        "Alias": ", ".join(model.aliases),
        "Input": "free" if free else _price(rates.input if rates else None),
        "Cached": "" if free else _price(rates.cache_read if rates else None),
        "Output": "free" if free else _price(rates.output if rates else None),
        "Context": _tokens(model.context_tokens),
        "Answer": _tokens(model.max_output_tokens),
        "Can do": NOT_KNOWN if model.capabilities is None else " ".join(model.capabilities),
    }


def _price(rate: "Rate | None") -> str:
    if rate is None:
        return NOT_KNOWN
    base, rises = (rate[0][1], "+") if isinstance(rate, tuple) else (rate, "")
    dollars, fraction = divmod(base, 10**9)
    digits = f"{fraction:09d}".rstrip("0").ljust(2, "0")
    return f"{dollars}.{digits}{rises}"


def _tokens(count: int | None) -> str:
    if count is None:
        return NOT_KNOWN
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f}".rstrip("0").rstrip(".") + unit
    return str(count)


def to_json(report: Report) -> str:
    """The report for programs."""
    import msgspec

    value = {
        "default": report.default,
        "aliases": [
            {"name": name, "targets": list(targets), "strict": strict} for name, targets, strict in report.aliases
        ],
        "providers": [
            {
                "name": shop.name,
                "type": shop.type,
                "live": shop.live,
                "problem": shop.problem,
                "models": [_model_json(model, report.now_us) for model in shop.models],
            }
            for shop in report.shops
        ],
    }
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def _model_json(model: Model, now_us: int) -> dict[str, object]:
    return {
        "id": model.id,
        "aliases": model.aliases,
        "context_tokens": model.context_tokens,
        "max_output_tokens": model.max_output_tokens,
        "capabilities": model.capabilities,
        "free": model.price.is_free if model.price else None,
        "price": _rates_json(model.price.rates_at(now_us)) if model.price else None,
    }


def _rates_json(rates: "Rates") -> "dict[str, Rate | int]":
    """Only the rates that there are."""
    named = {field: getattr(rates, field) for field in rates.__struct_fields__}
    return {field: rate for field, rate in named.items() if rate is not None}
