"""What a tenant, a project or a key in the database carries: limits, budgets, and for a key what it may use.

Terms are kept as one JSON text, without what is at its default.  They are checked when somebody writes them; when they are read
again, a field or a form that this version does not know is an error, and what carries it is closed.  Amounts are nano-USD.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from tollhouse.config.schema import BudgetSettings, Period, RateSettings, Scope
from tollhouse.errors import BadRequest, StoreUnavailable

MAX_RATE: Final = 1_000_000_000
MAX_BUDGET_NANO: Final = 9_000_000_000_000_000
"""9 million dollars: what every store of counters counts exactly."""
MAX_LIST: Final = 100
"""Models, providers, ranges or tags of one key."""
MAX_TAG_CHARACTERS: Final = 200

AnyTerms = TypeVar("AnyTerms", bound="Terms")

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_MODEL: Final = re.compile(r"[^\s\x00-\x1f\x7f*]{0,200}\*?")
_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Terms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What tenants, projects and keys can carry.  `None` is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    hourly_nano: int | None = None
    daily_nano: int | None = None
    weekly_nano: int | None = None
    monthly_nano: int | None = None
    total_nano: int | None = None
    is_soft: bool = False
    """Whether its budgets only alert."""
    alert_at: tuple[float, ...] = ()
    """Fractions of its budgets whose crossing is told."""
    clamp_output: bool = False
    """Whether a call's output limit is lowered to what is left, instead of refusing the call."""
    tags: dict[str, str] = {}


class KeyTerms(Terms, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a key can carry; empty lists allow all."""

    models: tuple[str, ...] = ()
    """Aliases and `provider/model` names, `*` at the end of one standing for anything."""
    providers: tuple[str, ...] = ()
    ip_ranges: tuple[str, ...] = ()


_PERIODS: Final[tuple[tuple[str, Period], ...]] = (
    ("hourly_nano", "hour"),
    ("daily_nano", "day"),
    ("weekly_nano", "week"),
    ("monthly_nano", "month"),
    ("total_nano", "total"),
)


def check_name(name: str, what: str) -> str:
    """A name that stands in the ledger and in metrics.  Raises `BadRequest`."""
    if not is_name(name):
        raise BadRequest(
            f"{name[:80]!r} is not a name for a {what}; use 1 to 64 letters, digits, `_`, `.`, `@` and `-`.",
            param="name",
        )
    return name


def is_name(text: str) -> bool:
    """Whether it can be the name of a tenant, a project or a key."""
    return _NAME.fullmatch(text) is not None


def checked(terms: AnyTerms) -> AnyTerms:
    """The terms with their lists in order and each entry once.  Raises `BadRequest` naming the field."""
    for field in ("requests_per_minute", "tokens_per_minute", "concurrent"):
        _check_number(field, getattr(terms, field), 1, MAX_RATE)
    for field, _ in _PERIODS:
        _check_number(field, getattr(terms, field), 0, MAX_BUDGET_NANO)
    if len(terms.alert_at) > MAX_LIST or not all(0 < fraction <= 1 for fraction in terms.alert_at):
        raise BadRequest("Alerts are told at fractions above 0 and up to 1, such as 0.5 and 0.9.", param="alert_at")
    _check_tags(terms.tags)
    terms = msgspec.structs.replace(
        terms, alert_at=tuple(sorted(set(terms.alert_at))), tags=dict(sorted(terms.tags.items()))
    )
    if isinstance(terms, KeyTerms):
        return msgspec.structs.replace(
            terms,
            models=_list("models", terms.models, _MODEL, "an alias or provider/model, with at most a `*` at its end"),
            providers=_list("providers", terms.providers, _NAME, "the configured name of a provider"),
            ip_ranges=tuple(sorted({_range(text) for text in _bounded("ip_ranges", terms.ip_ranges)})),
        )
    return terms


def encode(terms: Terms) -> str:
    """As the database keeps it.  Equal terms have equal texts."""
    return msgspec.json.encode(terms).decode()


def decode(text: str, kind: type[AnyTerms]) -> AnyTerms:
    """Terms as the database has them.  Raises `StoreUnavailable` for what this version does not know."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise StoreUnavailable(f"The register has terms that this version does not know: {error}.") from error


def rates(terms: Terms) -> RateSettings:
    """Its limits."""
    return RateSettings(
        requests_per_minute=terms.requests_per_minute,
        tokens_per_minute=terms.tokens_per_minute,
        concurrent=terms.concurrent,
    )


def budgets(terms: Terms, scope: Scope, balance_nano: int | None) -> tuple[BudgetSettings, ...]:
    """Its budgets.  A prepaid balance is a total that its top-ups raise; it is hard even where the others are soft."""
    amounts = [(period, amount) for field, period in _PERIODS if (amount := getattr(terms, field)) is not None]
    made = tuple(
        BudgetSettings(
            scope=scope,
            period=period,
            limit_nano=amount,
            is_hard=not terms.is_soft,
            alert_at=terms.alert_at,
            clamp_output=terms.clamp_output,
        )
        for period, amount in amounts
    )
    if balance_nano is None:
        return made
    prepaid = BudgetSettings(
        scope=scope,
        period="total",
        limit_nano=balance_nano,
        alert_at=terms.alert_at,
        clamp_output=terms.clamp_output,
    )
    return (*made, prepaid)


def _check_number(field: str, value: int | None, low: int, high: int) -> None:
    if value is not None and not low <= value <= high:
        raise BadRequest(f"{field} must be from {low:,} to {high:,}, not {value:,}.", param=field)


def _check_tags(tags: dict[str, str]) -> None:
    if len(tags) > MAX_LIST:
        raise BadRequest(f"There may be {MAX_LIST} tags, not {len(tags)}.", param="tags")
    for name, value in tags.items():
        if not _TAG.fullmatch(name) or len(value) > MAX_TAG_CHARACTERS or not value.isprintable():
            raise BadRequest(
                f"{name[:80]!r} is not a tag: a name of letters, digits, `_`, `.` and `-`, and one line of at most "
                f"{MAX_TAG_CHARACTERS} characters.",
                param="tags",
            )


def _bounded(field: str, values: Sequence[str]) -> Sequence[str]:
    if len(values) > MAX_LIST:
        raise BadRequest(f"There may be {MAX_LIST} {field}, not {len(values)}.", param=field)
    return values


def _list(field: str, values: Sequence[str], form: re.Pattern[str], what: str) -> tuple[str, ...]:
    for value in _bounded(field, values):
        if not value or not form.fullmatch(value):
            raise BadRequest(f"{value[:80]!r} in {field} is not {what}.", param=field)
    return tuple(sorted(set(values)))


def _range(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadRequest(
            f"{text[:80]!r} in ip_ranges is not a network such as 10.0.0.0/8 or 2001:db8::/32.", param="ip_ranges"
        ) from None
    raise BadRequest(f"{text!r} in ip_ranges is an address within a network; write {meant}.", param="ip_ranges")
