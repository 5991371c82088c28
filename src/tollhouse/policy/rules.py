"""Which rates, seats and purses a call must pass: from settings and a principal to the parts of a claim.

The answer for one key, alias and target is worked out once and kept until one of its budgets' windows ends; what differs from
call to call (amounts, the caller's address) is put in by `Bound.claim`.
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from tollhouse.config.schema import BudgetSettings, LimitSettings, RateSettings, Scope
from tollhouse.errors import GatewayError
from tollhouse.policy.admission import Ask, Weight
from tollhouse.policy.counters import MAX_CLAIM_PARTS, MAX_LIMIT_NANO, MAX_TOKENS, Claim, Parts, Purse, Rate, Seats
from tollhouse.policy.identity import Principal
from tollhouse.policy.windows import window

MAX_REMEMBERED: Final = 20_000
"""Combinations of key, alias and target that are kept."""
MAX_CALLERS: Final = 4096
"""Addresses that are kept with one of them."""
IP_PARTS: Final = 3
"""What an address may add to a claim."""
FAR_US: Final = 2**62


class Budget(msgspec.Struct, frozen=True):
    """A budget in its present window."""

    settings: BudgetSettings
    purse: Purse
    from_us: int
    """When the window began, microseconds since the epoch."""
    alert_at: tuple[float, ...]
    """Fractions of the limit whose crossing is told; a soft budget tells at least when it is used up."""

    @property
    def name(self) -> str:
        """As errors and alerts call it: `tenant:research/month`."""
        return f"{self.settings.scope}/{self.settings.period}"


class Bound(msgspec.Struct, frozen=True):
    """What one kind of call must pass."""

    principal: Principal
    parts: Parts
    """What they all pass; of a rate of tokens a call may take all."""
    budgets: dict[str, Budget]
    """By the name of the purse."""
    per_ip: RateSettings | None
    from_us: int
    """When the last of the windows began."""
    until_us: int
    """When the first of the windows ends."""
    hard: str | None
    """The name of a hard budget among them, if there is one."""
    clamps: bool
    """Whether a budget among them lowers a call's output rather than refuse it."""
    alerts: bool
    """Whether somebody wants to hear of one of them."""
    needs_weight: bool
    """Whether it matters how heavy a call is."""
    by_caller: dict[str, Parts]
    """What calls from an address pass, where addresses have limits: filled as they come."""

    def claim(self, ask: Ask, weight: Weight) -> Claim:
        """The claim of one call."""
        tokens, hold_nano = weight.likely_tokens, weight.worst_nano or 0
        if tokens > MAX_TOKENS or hold_nano > MAX_LIMIT_NANO:
            tokens, hold_nano = min(tokens, MAX_TOKENS), min(hold_nano, MAX_LIMIT_NANO)
        return Claim(
            id=ask.id,
            began_at_us=ask.began_at_us,
            parts=self.parts if self.per_ip is None or not ask.address else self._parts_from(ask.address),
            tokens=tokens,
            hold_nano=hold_nano,
            note=ask.note,
        )

    def _parts_from(self, address: str) -> Parts:
        """With those of the caller's address."""
        caller = neighbourhood(address)
        parts = self.by_caller.get(caller)
        if parts is None:
            if len(self.by_caller) >= MAX_CALLERS:
                self.by_caller.clear()
            rates, seats = _parts([(f"ip:{caller}", self.per_ip or RateSettings())])
            parts = self.by_caller[caller] = Parts(
                self.parts.rates + rates, self.parts.seats + seats, self.parts.purses
            )
        return parts


class Rules:
    """The limits and budgets of a configuration.  Immutable but for its memory; a reload makes new ones."""

    def __init__(self, limits: LimitSettings, budgets: Iterable[BudgetSettings] = ()) -> None:
        """`budgets` are those of the configuration; keys and tenants of the database bring theirs with the principal."""
        self._limits = limits
        self._budgets = tuple(budgets)
        self._per_ip = None if limits.per_ip.is_empty else limits.per_ip
        self._bound: dict[tuple[int, str, str], Bound] = {}
        self._made: Callable[[Bound], None] = _nothing

    def bound(self, principal: Principal, alias: str, target: str, now_us: int) -> Bound:
        """What a call must pass that asked for `alias` and is sent to `target` (`provider/model`).

        `now_us` is when it began: its row counts in the windows of that moment, however long it takes.
        """
        key = (id(principal), alias, target)
        found = self._bound.get(key)
        if found is not None and found.principal is principal and found.from_us <= now_us < found.until_us:
            return found
        if len(self._bound) >= MAX_REMEMBERED:
            self._bound.clear()
        made = self._bound[key] = self._bind(principal, alias, target, now_us)
        self._made(made)
        return made

    def rates_of(self, principal: Principal) -> RateSettings:
        """The strictest rates that every call of the principal's must pass, whatever it asks for; for telling its client."""
        passed = [rates for _, rates in self._rates(principal, _scopes(principal, "", ""))]
        if self._per_ip is not None:
            passed.append(self._per_ip)

        def strictest(rates: Iterable[int | None]) -> int | None:
            return min((rate for rate in rates if rate is not None), default=None)

        return RateSettings(
            requests_per_minute=strictest(rates.requests_per_minute for rates in passed),
            tokens_per_minute=strictest(rates.tokens_per_minute for rates in passed),
            concurrent=strictest(rates.concurrent for rates in passed),
        )

    def purses(self) -> set[str]:
        """The names of the purses that are in use."""
        return {name for bound in self._bound.values() for name in bound.budgets}

    def when_made(self, callback: Callable[[Bound], None]) -> None:
        """Whom to tell of each `Bound` that is worked out anew: once for a kind of call and window."""
        self._made = callback

    def _bind(self, principal: Principal, alias: str, target: str, now_us: int) -> Bound:
        scopes = _scopes(principal, alias, target)
        rates, seats = _parts(self._rates(principal, scopes))
        budgets = in_windows(
            (
                each
                for each in (*self._budgets, *principal.budgets, *principal.shared.budgets)
                if str(each.scope) in scopes
            ),
            now_us,
        )
        if len(rates) + len(seats) + len(budgets) > MAX_CLAIM_PARTS - IP_PARTS:
            raise GatewayError(
                f"More than {MAX_CLAIM_PARTS - IP_PARTS} limits and budgets are meant for one call of key {principal.key!r}.",
                hint="Whoever runs this gateway has to remove some; nothing is let through unchecked.",
            )
        return Bound(
            principal=principal,
            parts=Parts(rates, seats, tuple(budget.purse for budget in budgets)),
            budgets={budget.purse.name: budget for budget in budgets},
            per_ip=self._per_ip,
            from_us=max((budget.from_us for budget in budgets), default=0),
            until_us=min((b.purse.ends_at_us for b in budgets if b.purse.ends_at_us is not None), default=FAR_US),
            hard=next((budget.name for budget in budgets if budget.settings.is_hard), None),
            clamps=any(budget.settings.clamp_output for budget in budgets),
            alerts=any(budget.alert_at for budget in budgets),
            needs_weight=bool(
                budgets
                or any(rate.counts == "tokens" for rate in rates)
                or (self._per_ip is not None and self._per_ip.tokens_per_minute)
            ),
            by_caller={},
        )

    def _rates(self, principal: Principal, scopes: frozenset[str]) -> list[tuple[str, RateSettings]]:
        limits = self._limits
        own = [(f"key:{principal.key}", principal.limits)]
        own += [(str(each.scope), each.rates) for each in (*limits.scopes, *principal.shared.limits)]
        named = {scope for scope, rates in own if not rates.is_empty}
        for scope, rates in (
            (f"key:{principal.key}", limits.per_key),
            (f"tenant:{principal.tenant}", limits.per_tenant),
        ):
            # A limit of its own stands in the place of the one that all have.
            if scope not in named:
                own.append((scope, rates))
        return [("global", limits.overall), *((scope, rates) for scope, rates in own if scope in scopes)]


def _nothing(_made: Bound) -> None:
    pass


def _scopes(principal: Principal, alias: str, target: str) -> frozenset[str]:
    """Every scope that a call belongs to, as it is written."""
    scopes = {"global", f"provider:{target.partition('/')[0]}", f"model:{target}", f"model:{alias}"}
    if principal.key:
        scopes.add(f"key:{principal.key}")
    if principal.tenant:
        scopes.add(f"tenant:{principal.tenant}")
        if principal.project:
            scopes.add(f"project:{principal.tenant}/{principal.project}")
    return frozenset(scopes)


def _parts(limits: Iterable[tuple[str, RateSettings]]) -> tuple[tuple[Rate, ...], tuple[Seats, ...]]:
    """Rates and seats by name; where two settings limit the same, the stricter one counts."""
    rates: dict[str, Rate] = {}
    seats: dict[str, Seats] = {}
    for scope, settings in limits:
        for rate in _rates_of(scope, settings):
            if rate.name not in rates or rate.per_minute < rates[rate.name].per_minute:
                rates[rate.name] = rate
        name = f"concurrent/{scope}"
        if settings.concurrent is not None and (name not in seats or settings.concurrent < seats[name].limit):
            seats[name] = Seats(name, settings.concurrent)
    return tuple(rates.values()), tuple(seats.values())


def _rates_of(scope: str, settings: RateSettings) -> Iterator[Rate]:
    if settings.requests_per_minute is not None:
        yield Rate(f"requests/{scope}", settings.requests_per_minute, 1)
    if settings.tokens_per_minute is not None:
        yield Rate(f"tokens/{scope}", settings.tokens_per_minute, settings.tokens_per_minute, "tokens")


def in_windows(settings: Iterable[BudgetSettings], now_us: int) -> Sequence[Budget]:
    """Budgets in their present windows; of two alike the stricter one counts."""
    budgets: dict[str, Budget] = {}
    for each in settings:
        now = window(each.period, now_us)
        # A soft budget beside a hard one of the same scope and period is a purse of its own.
        name = f"{each.scope}/{each.period}/{now.label}" + ("" if each.is_hard else "/soft")
        if name in budgets and budgets[name].settings.limit_nano <= each.limit_nano:
            continue
        purse = Purse(name, each.limit_nano if each.is_hard else None, now.ends_at_us)
        alert_at = each.alert_at or (() if each.is_hard else (1.0,))
        budgets[name] = Budget(each, purse, now.from_us, alert_at)
    return tuple(budgets.values())


@lru_cache(maxsize=4096)
def neighbourhood(address: str) -> str:
    """Who counts as one caller: an IPv4 address, or the /64 that an IPv6 host has to itself (RFC 6177).

    What is no address stands for itself.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def scope_of(name: str) -> str:
    """The scope in the name of a rate or of seats: `requests/key:dev` → `key:dev`."""
    return name.partition("/")[2]


def is_upstream(scope: str | Scope) -> bool:
    """Whether a scope is about who answers rather than who asks; then another candidate may pass where one did not."""
    return str(scope).startswith(("provider:", "model:"))
