"""Reads what calls may do and cost: rates, budgets, and the scopes that both are for.

They may name providers and models, and stand at keys, all of which are read before the providers are; so names and amounts are
noted while reading, and `check` judges them when the whole file is known.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Final, Literal, get_args

from tollhouse.config import values
from tollhouse.config.routes import DEFAULT, Reference
from tollhouse.config.schema import (
    BudgetSettings,
    LimitSettings,
    Period,
    RateSettings,
    Scope,
    ScopedRates,
)
from tollhouse.config.section import Section, Spot
from tollhouse.config.tree import Items
from tollhouse.config.values import Given, Reader, Refused, did_you_mean

MAX_RATE: Final = 1_000_000_000
MAX_WAIT_SECONDS: Final = 600.0
MAX_WAITING: Final = 100_000
MAX_SHARED_NANO: Final = 9_000_000_000_000_000
"""The largest amount that counts exactly in the store that several machines share: `policy.counters.MAX_LIMIT_NANO`."""

PERIODS: Final[Mapping[str, Period]] = {
    "hourly": "hour",
    "daily": "day",
    "weekly": "week",
    "monthly": "month",
    "total": "total",
}
"""The keys that give a budget's amount, each with its window."""

RATES: Final = tuple(each.name for each in fields(RateSettings))
GLOBAL: Final = Scope("global")
NEEDS_AMOUNT: Final = f"There is no amount here; give at least one of {', '.join(PERIODS)}, in dollars."
NEEDS_RATE: Final = f"There is no limit here; give at least one of {', '.join(RATES)}."

_Kind = Literal["global", "tenant", "project", "key", "provider", "model"]
_FORMS: Final[Mapping[_Kind, str]] = {
    "global": "global",
    "tenant": "tenant:NAME",
    "project": "project:TENANT/NAME",
    "key": "key:NAME",
    "provider": "provider:NAME",
    "model": "model:NAME",
}
_SCOPES: Final = ", ".join(_FORMS.values())


@dataclass(slots=True)
class Mentions:
    """What was read and can be judged only when the whole file is known."""

    providers: list[Reference] = field(default_factory=list)
    """Names that a configured provider must have."""
    models: list[Reference] = field(default_factory=list)
    """Aliases and `provider/model`, which may end in `*`."""
    amounts: list[tuple[Spot, int]] = field(default_factory=list)
    """Amounts of budgets, in nano-USD."""
    rated: dict[Scope, str] = field(default_factory=dict)
    """Scopes that have limits, and where the file has them."""
    budgeted: dict[tuple[Scope, Period], str] = field(default_factory=dict)
    """The same of budgets."""

    def check(
        self, providers: Collection[str], aliases: Collection[str], default: str | None, *, is_shared: bool
    ) -> None:
        """Reports names that nothing has, and amounts that a shared store cannot count.

        `default` is what the model `default` stands for.  `is_shared`: several machines count together.
        """
        for each in self.providers:
            if each.name not in providers:
                each.spot.flaw(
                    f"There is no provider {each.spot.speak_of(each.name)}.{_suggestion(each, providers)}"
                    f" Those of this file are {', '.join(providers) or 'none'}."
                )
        for each in self.models:
            self._check_model(each, providers, aliases, default)
        for spot, nano in self.amounts if is_shared else ():
            if nano > MAX_SHARED_NANO:
                spot.flaw(
                    f"Must be at most {MAX_SHARED_NANO // 10**9:,} dollars while `state.url` is set:"
                    " the shared store counts no more than that exactly."
                )

    def _check_model(
        self,
        mention: Reference,
        providers: Collection[str],
        aliases: Collection[str],
        default: str | None,
    ) -> None:
        name, spot = mention.name, mention.spot
        if name.endswith("*"):
            start = name.removesuffix("*")
            known = (*aliases, *(f"{provider}/" for provider in providers))
            if not any(each.startswith(start) or (each.endswith("/") and start.startswith(each)) for each in known):
                spot.flaw(f"No alias and no provider begins like {spot.speak_of(name)}.")
            return
        owner, slash, model = name.partition("/")
        if name in aliases or (slash and model and owner in providers):
            return
        if name == DEFAULT and default is not None:
            spot.flaw(f"'default' stands for {default!r} here; name that.")
        elif slash and owner not in providers:
            spot.flaw(
                f"There is no alias and no provider for {spot.speak_of(name)}."
                f"{_suggestion(Reference(owner, spot), providers)}"
            )
        else:
            spot.flaw(
                f"There is no alias {spot.speak_of(name)}.{_suggestion(mention, aliases)}"
                " A provider's model is written provider/model."
            )


def read_rates(section: Section) -> RateSettings:
    """Limits of one scope.  The caller closes the section, which may have other keys too."""
    rate = values.integer(1, MAX_RATE)
    return RateSettings(
        requests_per_minute=section.read_optional("requests_per_minute", rate),
        tokens_per_minute=section.read_optional("tokens_per_minute", rate),
        concurrent=section.read_optional("concurrent", rate),
    )


def read_rates_at(section: Section, key: str) -> RateSettings:
    """The section below a key that has limits and nothing else."""
    if not section.has(key):
        return RateSettings()
    inner = section.section(key)
    rates = read_rates(inner)
    inner.require_any(RATES, NEEDS_RATE)
    inner.close()
    return rates


def read_limits(section: Section, mentions: Mentions) -> LimitSettings:
    """The section `limits`."""
    defaults = LimitSettings()
    overall = read_rates(section)
    settings = LimitSettings(
        overall=overall,
        max_wait_seconds=section.read("max_wait", values.duration(0.0, MAX_WAIT_SECONDS), defaults.max_wait_seconds),
        max_waiting=section.read("max_waiting", values.integer(1, MAX_WAITING), defaults.max_waiting),
        per_key=read_rates_at(section, "per_key"),
        per_tenant=read_rates_at(section, "per_tenant"),
        per_ip=read_rates_at(section, "per_ip"),
        scopes=tuple(
            scoped for spot in section.items("scopes") if (scoped := _scoped_rates(spot, mentions)) is not None
        ),
    )
    section.close()
    return settings


def _scoped_rates(spot: Spot, mentions: Mentions) -> ScopedRates | None:
    section = spot.section()
    scope = _scope(section, mentions)
    rates = read_rates(section)
    section.require_any(RATES, NEEDS_RATE)
    section.close()
    if scope is None:
        return None
    if scope == GLOBAL:
        spot.flaw("The limits of all calls stand at `limits` itself.")
    _mention_rates(scope, spot, mentions)
    return ScopedRates(scope=scope, rates=rates)


def _mention_rates(scope: Scope, spot: Spot, mentions: Mentions) -> None:
    """Notes that a scope has limits here, and reports it if it has some elsewhere."""
    earlier = mentions.rated.setdefault(scope, spot.written)
    if earlier != spot.written:
        spot.flaw(f"{spot.speak_of(str(scope))} has limits at {earlier} already; put them together.")


def read_means(
    section: Section, scope: Scope | None, mentions: Mentions
) -> tuple[RateSettings, tuple[BudgetSettings, ...]]:
    """The `limits` and the `budget` of one caller.  `scope` is `None` where its name was refused: it has no budgets then."""
    limits = read_rates_at(section, "limits")
    if scope is not None and (spot := section.get("limits")) is not None:
        _mention_rates(scope, spot, mentions)
    budgets: tuple[BudgetSettings, ...] = ()
    if section.has("budget"):
        inner = section.section("budget")
        budgets = read_budget(inner, scope, mentions)
        inner.close()
    return limits, budgets


def read_access(section: Section, mentions: Mentions) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The `models` and `providers` that one caller may use, and the `ip_ranges` that it may call from."""
    return (
        read_names(section, "models", values.model_name, mentions.models),
        read_names(section, "providers", values.name, mentions.providers),
        read_names(section, "ip_ranges", values.network),
    )


def read_names(
    section: Section, key: str, reader: Reader[str], mentioned: list[Reference] | None = None
) -> tuple[str, ...]:
    """A list of what is allowed.  It may be missing, which allows all; an empty one could be read as allowing none."""
    names: dict[str, None] = {}
    for spot in section.items(key):
        name = spot.read(reader)
        if name is None:
            continue
        if name in names:
            spot.flaw(f"{spot.speak_of(name)} is in this list already.")
        elif mentioned is not None:
            mentioned.append(Reference(name, spot))
        names[name] = None
    if (listed := section.get(key)) is not None and listed.is_empty:
        listed.flaw("The list is empty; name what is allowed, or remove it to allow all.")
    return tuple(names)


def read_budgets(file: Section, mentions: Mentions) -> tuple[BudgetSettings, ...]:
    """`budgets`: a list of entries with a scope each, or one mapping of amounts for all calls."""
    spot = file.get("budgets")
    if spot is None or spot.is_empty:
        return ()
    if not isinstance(spot.node, Items):
        section = spot.section()
        budgets = read_budget(section, GLOBAL, mentions)
        section.close()
        return budgets
    found: list[BudgetSettings] = []
    for item in spot.items():
        section = item.section()
        scope = _scope(section, mentions)
        # A scope that was refused is none; the rest of the entry is checked all the same.
        budgets = read_budget(section, scope, mentions)
        section.close()
        found += budgets
    return tuple(found)


def read_budget(section: Section, scope: Scope | None, mentions: Mentions) -> tuple[BudgetSettings, ...]:
    """The budgets of one scope: one for each amount.  The caller closes the section.  Without a scope there are none."""
    modes: Reader[Literal["hard", "soft"]] = values.choice("hard", "soft")
    amounts: list[tuple[Period, int]] = []
    for key, period in PERIODS.items():
        spot = section.get(key)
        nano = None if spot is None else spot.read(values.dollars)
        if spot is None or nano is None:
            continue
        amounts.append((period, nano))
        mentions.amounts.append((spot, nano))
        if scope is not None:
            earlier = mentions.budgeted.setdefault((scope, period), spot.written)
            if earlier != spot.written:
                spot.flaw(f"{str(scope)!r} has this budget at {earlier} already; `alert_at` tells of it earlier.")
    section.require_any(PERIODS, NEEDS_AMOUNT)
    is_hard = section.read("mode", modes, "hard") == "hard"
    webhook = section.read_optional("webhook", values.webhook)
    alert_at = _alert_at(section, is_told=not is_hard or section.has("webhook"))
    clamp_output = section.read("clamp_output", values.boolean, default=False)
    if clamp_output and not is_hard and (spot := section.get("clamp_output")) is not None:
        spot.flaw("A soft budget refuses nothing, so it has nothing to clamp; write `mode: hard`, or remove this.")
    if scope is None:
        return ()
    return tuple(
        BudgetSettings(
            scope=scope,
            period=period,
            limit_nano=nano,
            is_hard=is_hard,
            alert_at=alert_at,
            webhook=webhook,
            clamp_output=clamp_output,
        )
        for period, nano in amounts
    )


def _alert_at(section: Section, *, is_told: bool) -> tuple[float, ...]:
    """Fractions in ascending order.  A budget that `is_told` of, but says not when, is told of when it is used up."""
    spot = section.get("alert_at")
    if spot is None:
        default = (1.0,) if is_told else ()
        section.note_default("alert_at", default)
        return default
    read: list[float] = []
    for item in spot.items():
        fraction = item.read(values.fraction)
        if fraction is None:
            continue
        if read and fraction <= read[-1]:
            item.flaw(f"Must be more than the one before it, which is {read[-1]:g}.")
        read.append(fraction)
    return tuple(read)


def _scope(section: Section, mentions: Mentions) -> Scope | None:
    section.require("scope", f"The entry has no `scope`, which says whose calls it is about: {_SCOPES}.")
    spot = section.get("scope")
    scope = None if spot is None else spot.read(scope_of)
    if spot is not None and scope is not None:
        if scope.kind == "provider":
            mentions.providers.append(Reference(scope.name, spot))
        elif scope.kind == "model":
            mentions.models.append(Reference(scope.name, spot))
    return scope


def scope_of(given: Given) -> Scope:
    """A scope as it is written: `global`, `tenant:research`, `project:research/search` and so on.

    Whether somebody has the name is not looked at: tenants and keys may come from the database.
    """
    value = values.text(given)
    kind, colon, name = value.partition(":")
    if kind == "global" and not colon:
        return GLOBAL
    if kind not in get_args(_Kind) or kind == "global":
        suggestion = "" if given.references else did_you_mean(kind, get_args(_Kind))
        raise Refused(f"Must be a scope, one of {_SCOPES}, not {given}.{suggestion}")
    form = next(form for known, form in _FORMS.items() if known == kind)
    wrong = Refused(f"A scope of this kind is written {form}, and {given} is not.")
    match kind:
        case "tenant" | "key" | "provider":
            parts = [name]
        case "project":
            parts = name.split("/")
            if len(parts) != 2:
                raise wrong
        case _:
            if name.endswith("*") or not name:
                raise wrong
            values.model_name(Given(name, references=given.references))
            return Scope("model", name)
    try:
        for part in parts:
            values.name(Given(part, references=given.references))
    except Refused as refused:
        raise wrong from refused
    return Scope(kind, name)


def _suggestion(mention: Reference, known: Collection[str]) -> str:
    # Behind the bound on problems nobody reads the sentence, and finding the nearest name takes its time.
    is_read = not (mention.spot.has_references or mention.spot.collector.is_full)
    return did_you_mean(mention.name, known) if is_read else ""
