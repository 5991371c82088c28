"""The price book: what a call costs, in integers.

Rates are nano-USD per million tokens, so that a published price such as $0.075 per million is the exact integer
75,000,000.  The book is compiled from the data of the `genai-prices` project by `tools/build_prices.py` into
`prices.json`, beside this module; that library itself is never imported here (it costs 0.5 s to import and 0.3 ms a
call).  A provider's part of the book is decoded when one of its models is first asked for.

Rounding: each line of a bill (one class of tokens) is rounded once, half up, to a whole nano-USD; the total is the sum of its
lines.  A line is therefore off by at most half a billionth of a dollar, and a bill never differs from its lines.

Unknown is not free: without a price, or without the counts that the price needs, there is no cost.  What runs on the
operator's own machine has a price, and the price is 0.

What the book leaves out, because a `Usage` does not say it: charges for searches, images, pages and seconds, and the
dearer or cheaper service classes (batch, flex, priority).  A model that is priced in such units alone has no price
here.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from tollhouse.chat.usage import Usage
from tollhouse.errors import ConfigError

LineKind = Literal[
    "input",
    "input_audio",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "output",
    "output_audio",
    "reasoning",
    "request",
]

Rate: TypeAlias = int | tuple[tuple[int, int], ...]
"""Nano-USD per million tokens; or steps `(tokens, rate)` from `(0, base)` upwards.

The last step whose `tokens` the call's total input exceeds applies to *all* tokens of the call, as Anthropic, Google
and OpenAI bill their long-context prices.
"""


class Rates(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, dict=True):
    """What each class of tokens costs.  `None` is "no rate of its own".

    Without its own rate, cached or audio input costs what `input` does, one-hour writes what `cache_write` does,
    reasoning and audio output what `output` does.
    """

    input: Rate | None = None
    """Prompt tokens that no other class takes."""
    output: Rate | None = None
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    cache_write_1h: Rate | None = None
    input_audio: Rate | None = None
    """Audio prompt tokens, uncached; cached audio is billed as `cache_read`, for a `Usage` does not say it apart."""
    output_audio: Rate | None = None
    reasoning: Rate | None = None
    request: int | None = None
    """A fee for each call, in nano-USD."""

    @property
    def sides(self) -> tuple[tuple[Rate, ...], tuple[Rate, ...]]:
        """What a token of input may cost, and one of output."""
        return (
            _given(self.input, self.cache_write, self.cache_write_1h, self.input_audio),
            _given(self.output, self.reasoning, self.output_audio),
        )

    @cached_property
    def flat(self) -> tuple[int | None, int | None] | None:
        """The dearest of input and of output, where they are the same for any amount of tokens; else `None`."""
        of_input, of_output = self.sides
        if not all(isinstance(rate, int) for rate in of_input + of_output):
            return None
        return _highest(of_input), _highest(of_output)

    @cached_property
    def plain(self) -> tuple[int, int] | None:
        """What a token of input and one of output cost, without steps; `None` where there is no such price."""
        if isinstance(self.input, int) and isinstance(self.output, int):
            return self.input, self.output
        return None


class Period(msgspec.Struct, array_like=True, frozen=True):
    """Rates and when they hold: from a moment on, or during the same hours of every day."""

    rates: Rates
    from_us: int = 0
    """Microseconds since the epoch, UTC."""
    daily: tuple[int, int] | None = None
    """Start and end in seconds of the UTC day; an end before the start runs over midnight."""

    def is_active(self, at_us: int) -> bool:
        """Whether these rates hold at a moment (microseconds since the epoch)."""
        if at_us < self.from_us:
            return False
        if self.daily is None:
            return True
        start, end = self.daily
        second = at_us // 1_000_000 % 86_400
        return start <= second < end if start <= end else second >= start or second < end


class ModelPrice(msgspec.Struct, frozen=True):
    """The price of one model.  `periods` is never empty; a later active period takes precedence over an earlier one."""

    model: str
    """The book's own name of the model; for an override, the override's key."""
    periods: tuple[Period, ...]
    context_window: int | None = None
    """Input tokens that the model takes at most, where the book knows it."""
    is_free: bool = False

    def rates_at(self, at_us: int) -> Rates:
        """The rates at a moment, in microseconds since the epoch."""
        periods = self.periods
        if len(periods) > 1:
            for period in reversed(periods):
                if period.is_active(at_us):
                    return period.rates
        return periods[0].rates


class Line(msgspec.Struct, frozen=True):
    """One line of a bill."""

    kind: LineKind
    tokens: int
    """How many tokens; for `request`, 1."""
    rate_nano: int
    """Nano-USD per million tokens; for `request`, per call."""
    nano: int


class Cost(msgspec.Struct, frozen=True):
    """A bill: the sum of its lines.  Lines of no tokens are left out."""

    total_nano: int
    lines: tuple[Line, ...] = ()


FREE: Final = ModelPrice(model="free", periods=(Period(Rates(input=0, output=0)),), is_free=True)
"""The price of what runs on the operator's own machine."""

NOTHING: Final = Cost(0)

# Provider kind → where the book has its prices, in order of preference.  A kind that is not named here is looked up
# under its own name.  GLM has two shops with prices of their own: z.ai (dollars) and bigmodel.cn (yuan); the first is
# the default.
BOOKS: Final[Mapping[str, tuple[str, ...]]] = {
    "glm": ("zai", "zhipuai"),
    "xai": ("x-ai",),
    "grok": ("x-ai",),
    "gemini": ("google",),
    "google-openai": ("google",),
}

FREE_KINDS: Final = frozenset({"local", "ollama"})

MAX_CACHED_NAMES: Final = 4096
MAX_MODEL_NAME: Final = 200
"""Longer names are no model's; they are not searched for and not remembered."""

PRICES_FILE: Final = Path(__file__).with_name("prices.json")


def cost(price: ModelPrice | None, usage: Usage, at_us: int) -> Cost | None:
    """Bills a call that started at `at_us` (microseconds since the epoch); `None` when that cannot be known."""
    if price is None:
        return None
    if price.is_free:
        return NOTHING
    rates = price.rates_at(at_us)
    total_input = usage.input_tokens
    output = usage.output_tokens
    if output is None and rates.output is None:
        output = 0  # an embedding has no output, and its price says so
    if total_input is None or output is None:
        return None
    base = rates.input
    if (base is None and total_input) or (rates.output is None and output):
        return None

    lines: list[Line] = []
    fresh = total_input
    if read := min(usage.cache_read_tokens or 0, fresh):
        fresh -= read
        lines.append(_line("cache_read", read, _first(rates.cache_read, base), total_input))
    if written := min(usage.cache_write_tokens or 0, fresh):
        fresh -= written
        if hour := min(usage.cache_write_1h_tokens or 0, written):
            rate = _first(rates.cache_write_1h, _first(rates.cache_write, base))
            lines.append(_line("cache_write_1h", hour, rate, total_input))
        if written > hour:
            lines.append(_line("cache_write", written - hour, _first(rates.cache_write, base), total_input))
    if rates.input_audio is not None and (audio := min(usage.input_audio_tokens or 0, fresh)):
        fresh -= audio
        lines.append(_line("input_audio", audio, rates.input_audio, total_input))
    if fresh:
        lines.append(_line("input", fresh, base, total_input))
    if rates.output_audio is not None and (audio := min(usage.output_audio_tokens or 0, output)):
        output -= audio
        lines.append(_line("output_audio", audio, rates.output_audio, total_input))
    if rates.reasoning is not None and (hidden := min(usage.reasoning_tokens or 0, output)):
        output -= hidden
        lines.append(_line("reasoning", hidden, rates.reasoning, total_input))
    if output:
        lines.append(_line("output", output, rates.output, total_input))
    if rates.request:
        lines.append(Line("request", 1, rates.request, rates.request))
    total = 0
    for line in lines:
        total += line.nano
    return Cost(total, tuple(lines))


def total_nano(price: ModelPrice | None, usage: Usage, at_us: int) -> int | None:
    """What a call costs in all: the sum of `cost`, without its lines where most calls need none."""
    tokens_in, tokens_out = usage.input_tokens, usage.output_tokens
    if (
        price is not None
        and tokens_in is not None
        and tokens_out is not None
        and not (
            usage.cache_read_tokens
            or usage.cache_write_tokens
            or usage.reasoning_tokens
            or usage.input_audio_tokens
            or usage.output_audio_tokens
        )
    ):
        rates = price.rates_at(at_us)
        plain = rates.plain
        if plain is not None:
            per_input, per_output = plain
            return (
                (tokens_in * per_input + 500_000) // 1_000_000
                + (tokens_out * per_output + 500_000) // 1_000_000
                + (rates.request or 0)
            )
    bill = cost(price, usage, at_us)
    return None if bill is None else bill.total_nano


class PriceBook:
    """Finds prices by provider and model.  Build it once, share it; `find` costs one dictionary look-up when warm."""

    def __init__(self, data: bytes, overrides: Mapping[str, Rates] | None = None) -> None:
        """Reads a compiled book; use `load` for the one in the package.  `overrides` as there."""
        book = msgspec.json.decode(data, type=_Book)
        self._raw = book.providers
        self._shelves: dict[str, _Shelf] = {}
        self._found: dict[tuple[str, str, str], ModelPrice | None] = {}
        self.data: Final = data
        """The compiled book as it was read."""
        self.overrides: Final[Mapping[str, Rates]] = dict(overrides or {})
        self.list_version: Final = book.version
        """Source version, snapshot date and digest of the compiled book."""
        self.version: Final = book.version + _override_mark(self.overrides)
        """The same; with overrides, their digest too.  Stands on each ledger row."""
        self.source: Final = book.source

    @classmethod
    def load(cls, overrides: Mapping[str, Rates] | None = None) -> "PriceBook":
        """Reads the book that comes with the package.

        `overrides` maps `provider/model` or `provider/*` to rates, where `provider` is a configured name or a
        provider's kind.  They come before everything else.
        """
        return cls(PRICES_FILE.read_bytes(), overrides)

    def read_all(self) -> None:
        """Decodes every provider's part now.  Raises `msgspec.ValidationError` for a book that is not well made."""
        for name in self._raw:
            self._shelf(name)

    def find(self, kind: str, model: str, *, provider: str = "") -> ModelPrice | None:
        """The price of a provider's model, or `None` if it is not known.

        `kind` is the provider's type (`openai`, `openai-compatible`); `provider` its configured name where that
        differs.
        """
        key = (kind, model, provider)
        try:
            return self._found[key]
        except KeyError:
            price = self._search(kind, model, provider)
        if len(model) <= MAX_MODEL_NAME:
            if len(self._found) >= MAX_CACHED_NAMES:
                del self._found[next(iter(self._found))]
            self._found[key] = price
        return price

    def _search(self, kind: str, model: str, provider: str) -> ModelPrice | None:
        if len(model) > MAX_MODEL_NAME:
            return None
        for wanted in (f"{provider}/{model}", f"{kind}/{model}", f"{provider}/*", f"{kind}/*"):
            if (rates := self.overrides.get(wanted)) is not None:
                listed = self._listed(kind, model)
                window = listed.context_window if listed else None
                return ModelPrice(wanted, (Period(rates),), window)
        return FREE if kind in FREE_KINDS else self._listed(kind, model)

    def _listed(self, kind: str, model: str) -> ModelPrice | None:
        name = model.lower().removeprefix("models/")  # Google lists its models as `models/gemini-…` and takes both
        books = BOOKS.get(kind, (kind,))
        for candidate in (name, _with_dashed_date(name)):
            for book in books:
                shelf = self._shelf(book)
                if shelf is None:
                    continue
                for entry in self._entries(shelf):
                    if _matches(entry.match, candidate):
                        return ModelPrice(entry.id, entry.periods, entry.context_window) if entry.periods else None
        return None

    def _entries(self, shelf: "_Shelf") -> "list[_Entry]":
        """A provider's own models, then those of the providers whose models it resells."""
        entries = list(shelf.models)
        for other in shelf.resells:
            if (more := self._shelf(other)) is not None:
                entries += more.models
        return entries

    def _shelf(self, book: str) -> "_Shelf | None":
        shelf = self._shelves.get(book)
        if shelf is None and (raw := self._raw.get(book)) is not None:
            shelf = self._shelves[book] = msgspec.json.decode(raw, type=_Shelf)
        return shelf


def overrides_from(settings: Mapping[str, Mapping[str, object]]) -> dict[str, Rates]:
    """Checks configured prices: `{"lab/*": {"input": 75_000_000, …}}`, integers of nano-USD per million tokens.

    The keys are those of `Rates`.  Raises `ConfigError` with all that is wrong.
    """
    problems: list[str] = []
    overrides: dict[str, Rates] = {}
    for name, rates in settings.items():
        if "/" not in name:
            problems.append(f"prices: {name!r} has no provider; write 'provider/model' or 'provider/*'.")
        for field, amount in rates.items():
            if field not in Rates.__struct_fields__:
                known = ", ".join(Rates.__struct_fields__)
                problems.append(f"prices.{name}: there is no rate {field!r}; the rates are {known}.")
            elif not isinstance(amount, int) or isinstance(amount, bool) or amount < 0:
                problems.append(f"prices.{name}.{field}: {amount!r} is not an integer of nano-USD, 0 or more.")
        if not problems:
            overrides[name] = Rates(*(msgspec.convert(rates.get(f), int | None) for f in Rates.__struct_fields__))
    if problems:
        raise ConfigError(problems)
    return overrides


def _given(*rates: Rate | None) -> tuple[Rate, ...]:
    return tuple(rate for rate in rates if rate is not None)


def _highest(rates: Iterable[Rate]) -> int | None:
    return max((rate for rate in rates if isinstance(rate, int)), default=None)


def _first(rate: Rate | None, otherwise: Rate | None) -> Rate | None:
    return otherwise if rate is None else rate


def _line(kind: LineKind, tokens: int, rate: Rate | None, total_input: int) -> Line:
    if rate.__class__ is not int:
        rate = _step(rate, total_input)
    assert isinstance(rate, int)
    return Line(kind, tokens, rate, (tokens * rate + 500_000) // 1_000_000)


def _step(rate: Rate | None, total_input: int) -> int:
    if not isinstance(rate, tuple):
        raise TypeError(f"a rate was needed and there is {rate!r}")
    applying = rate[0][1]
    for above, amount in rate:
        if total_input > above:
            applying = amount
    return applying


# ------------------------------------------------------------------------------------------------------- the file's
# form


class _Entry(msgspec.Struct, array_like=True, frozen=True):
    id: str
    match: tuple[str | tuple[str, ...], ...]
    """Any of these; a tuple inside means all of its parts."""
    periods: tuple[Period, ...]
    """Empty for a model that is known to exist but is priced in units that we do not count."""
    context_window: int | None = None


class _Shelf(msgspec.Struct, frozen=True):
    models: tuple[_Entry, ...]
    resells: tuple[str, ...] = ()


class _Book(msgspec.Struct, frozen=True):
    version: str
    source: str
    providers: dict[str, msgspec.Raw]


def _matches(rules: tuple[str | tuple[str, ...], ...], name: str) -> bool:
    for rule in rules:
        if isinstance(rule, str):
            if _holds(rule, name):
                return True
        elif all(_holds(part, name) for part in rule):
            return True
    return False


def _holds(rule: str, name: str) -> bool:
    """One rule, in time linear in the name.  The first character says which: `=` equals, `^` begins, `$` ends, `*`
    contains, `#` equals with `#` for any digit, `%` begins so; `!` before one of these turns it round.
    """
    kind, text = rule[0], rule[1:]
    if kind == "=":
        return name == text
    if kind == "!":
        return not _holds(text, name)
    if kind == "^":
        return name.startswith(text)
    if kind == "$":
        return name.endswith(text)
    if kind == "*":
        return text in name
    if kind == "#":
        return len(name) == len(text) and _fits(text, name)
    if kind == "%":
        return len(name) >= len(text) and _fits(text, name)
    raise ValueError(f"the price book has a rule of an unknown kind: {rule!r}")


def _fits(template: str, name: str) -> bool:
    pairs = zip(template, name, strict=False)
    return all("0" <= found <= "9" if wanted == "#" else found == wanted for wanted, found in pairs)


_COMPACT_DATE: Final = re.compile(r"-(20\d\d)(\d\d)(\d\d)(?=[-:]|$)")


def _with_dashed_date(name: str) -> str:
    """`gpt-5.2-20251211` as `gpt-5.2-2025-12-11`: routers write the first, price lists the second."""

    def dashed(found: re.Match[str]) -> str:
        try:
            return f"-{date(*map(int, found.groups())).isoformat()}"
        except ValueError:
            return found.group()

    return _COMPACT_DATE.sub(dashed, name)


def _override_mark(overrides: Mapping[str, Rates]) -> str:
    if not overrides:
        return ""
    return "~" + hashlib.sha256(msgspec.json.encode(sorted(overrides.items()))).hexdigest()[:8]
