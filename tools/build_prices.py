"""Compiles the data of `genai-prices` (MIT) into the price book that the package carries.

    python tools/build_prices.py [--date YYYY-MM-DD] [--check]

Rates become integers of nano-USD per million tokens.  Whatever has no exact form, no linear match rule or no known
meaning stops the build: a price that we do not understand is not guessed.  `--check` writes nothing and fails if the
checked-in file is stale.
"""

import argparse
import hashlib
import itertools
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, time
from decimal import ROUND_HALF_UP, Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

OUTPUT: Final = Path(__file__).parents[1] / "src/tollhouse/ledger/prices.json"

# Resold models under other names and other currencies, and shops that no provider of ours speaks to.
LEFT_OUT: Final = re.compile(
    r"huggingface_|openai-decisions|quicksilverpro|doubleword|elevenlabs|github-copilot|voyageai"
)

# Our rate → the source's price key.
RATES: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "input_audio": "input_audio_mtok",
    "output_audio": "output_audio_mtok",
    "reasoning": "output_reasoning_mtok",
}

# OpenRouter lists the hourly price of Google's cache storage as a twelfth, in binary floating point:
# 0.0833333333333333 or 0.08333333333333334.  There is no exact form; these, and only these, are rounded to the
# nearest nano-USD.
ROUNDED: Final = frozenset({("openrouter", "cache_write_mtok")})

Jsonable: TypeAlias = Any  # lists, strings, integers, nested: what `msgspec.json.encode` takes
Rule: TypeAlias = tuple[str, ...]  # all of these hold


def main() -> int:
    """Builds, compares, writes."""
    parser = argparse.ArgumentParser(description="Compile the price book.")
    parser.add_argument("--date", help="the snapshot's day; by default today, or the old one if nothing has changed")
    parser.add_argument("--check", action="store_true", help="fail if the checked-in book differs")
    options = parser.parse_args()

    providers = compile_providers()
    source = f"genai-prices {version('genai-prices')}"
    digest = hashlib.sha256(msgspec.json.encode(providers)).hexdigest()[:8]
    old = OUTPUT.read_bytes() if OUTPUT.exists() else b"{}"
    old_version = msgspec.json.decode(old).get("version", "")
    unchanged = old_version.startswith(f"{version('genai-prices')}+") and old_version.endswith(digest)
    if options.check:
        print(f"{OUTPUT.name}: {'up to date' if unchanged else f'stale, {old_version} is not of digest {digest}'}")
        return 0 if unchanged else 1
    day = options.date or (old_version.split("+")[1][:8] if unchanged else f"{datetime.now(UTC):%Y%m%d}")
    book_version = f"{version('genai-prices')}+{day.replace('-', '')}.{digest}"
    OUTPUT.write_bytes(render(book_version, source, providers))
    models = sum(len(shelf["models"]) for shelf in providers.values())
    print(
        f"{OUTPUT.name}: {book_version}, {len(providers)} providers, {models} models, {OUTPUT.stat().st_size:,} bytes"
    )
    return 0


def compile_providers() -> dict[str, Jsonable]:
    """The book's `providers`, from the data of the installed `genai-prices`."""
    from genai_prices.data_snapshot import get_snapshot

    providers: dict[str, Jsonable] = {}
    for provider in get_snapshot().providers:
        if LEFT_OUT.match(provider.id):
            continue
        shelf: dict[str, Jsonable] = {"models": [compile_model(provider.id, model) for model in provider.models]}
        if provider.fallback_model_providers:
            shelf["resells"] = list(provider.fallback_model_providers)
        providers[provider.id] = shelf
    return providers


def render(book_version: str, source: str, providers: dict[str, Jsonable]) -> bytes:
    """One line a model, so that a new snapshot can be read as a diff."""
    shelves = []
    for name, shelf in providers.items():
        models = ",\n".join(msgspec.json.encode(model).decode() for model in shelf["models"])
        resells = f'"resells":{msgspec.json.encode(shelf["resells"]).decode()},' if "resells" in shelf else ""
        shelves.append(f'"{name}":{{{resells}"models":[\n{models}]}}')
    body = ",\n".join(shelves)
    return f'{{"version":"{book_version}","source":"{source}","providers":{{\n{body}}}}}\n'.encode()


def compile_model(provider_id: str, model: Any) -> Jsonable:
    """One model as `[id, match, periods, context window]`."""
    rules = [list(rule) if len(rule) > 1 else rule[0] for rule in compile_match(model.match)]
    periods = compile_periods(provider_id, model)
    entry: list[Jsonable] = [model.id, rules, periods]
    if model.context_window:
        entry.append(model.context_window)
    return entry


def compile_periods(provider_id: str, model: Any) -> list[Jsonable]:
    """The model's prices with the times that they hold; empty when it is priced in units that we do not count."""
    listed = model.prices if isinstance(model.prices, list) else None
    conditions = [(p.constraint, p.prices) for p in listed] if listed else [(None, model.prices)]
    if conditions[0][0] is not None:
        raise SystemExit(f"{provider_id}/{model.id}: the first price is conditional; what holds otherwise?")
    periods: list[Jsonable] = []
    for constraint, prices in conditions:
        rates = compile_rates(provider_id, model.id, prices)
        if rates is None:
            return []
        periods.append([rates, *compile_time(constraint)])
    return periods


def compile_rates(provider_id: str, model_id: str, prices: Any) -> list[Jsonable] | None:
    """One set of prices as the positions of `Rates`, without trailing nulls."""
    known = {key: value for key, value in prices.__dict__.items() if value is not None}
    if "input_mtok" not in known and "output_mtok" not in known:
        return None
    rates: dict[str, Jsonable] = {
        name: compile_rate(provider_id, model_id, key, known[key]) for name, key in RATES.items() if key in known
    }
    base, write = rates.get("input"), rates.get("cache_write")
    if "claude" in model_id and write is not None and "cache_write_1h" not in rates and base is not None:
        rates["cache_write_1h"] = twice(base)
    fee = known.get("requests_kcount")
    if fee is not None:
        rates["request"] = exact(provider_id, model_id, "requests_kcount", fee) // 1000
    row = [rates.get(name) for name in (*RATES, "request")]
    while row and row[-1] is None:
        row.pop()
    return row


def twice(rate: Jsonable) -> Jsonable:
    """Anthropic: a one-hour cache write costs 2 times the base input price.

    Source: platform.claude.com/docs/en/build-with-claude/prompt-caching, "Pricing".
    """
    return [[above, 2 * amount] for above, amount in rate] if isinstance(rate, list) else 2 * rate


def compile_rate(provider_id: str, model_id: str, key: str, value: Any) -> Jsonable:
    """A rate, or steps of `[tokens, rate]`."""
    if isinstance(value, Decimal):
        return exact(provider_id, model_id, key, value)
    steps = [[0, exact(provider_id, model_id, key, value.base)]]
    for tier in value.tiers:
        if tier.start <= steps[-1][0]:
            raise SystemExit(f"{provider_id}/{model_id}.{key}: tiers do not ascend")
        steps.append([tier.start, exact(provider_id, model_id, key, tier.price)])
    return steps


def exact(provider_id: str, model_id: str, key: str, dollars: Decimal) -> int:
    """Dollars as nano-USD; refuses what is not a whole number of them."""
    nano = dollars * 10**9
    if (provider_id, key) in ROUNDED:
        nano = nano.quantize(Decimal(1), ROUND_HALF_UP)
    if nano != int(nano) or nano < 0:
        raise SystemExit(f"{provider_id}/{model_id}.{key}: {dollars} has no exact form in nano-USD")
    return int(nano)


def compile_time(constraint: Any) -> list[Jsonable]:
    """When a price holds, as the trailing positions of `Period`."""
    if constraint is None:
        return []
    if hasattr(constraint, "start_date"):
        start = datetime.combine(constraint.start_date, time(), UTC)
        return [int(start.timestamp()) * 1_000_000]
    seconds = []
    for moment in (constraint.start_time, constraint.end_time):
        if moment.tzinfo not in {UTC, None} or moment.microsecond:
            raise SystemExit(f"a time of day that is not whole seconds of UTC: {moment!r}")
        seconds.append(moment.hour * 3600 + moment.minute * 60 + moment.second)
    return [0, seconds]


def compile_match(clause: Any) -> list[Rule]:
    """A match rule as "any of (all of …)", in the little language of `prices._holds`."""
    for attribute, mark in (("equals", "="), ("starts_with", "^"), ("ends_with", "$"), ("contains", "*")):
        text = getattr(clause, attribute, None)
        if text is not None:
            return [(mark + text.lower(),)]
    if (parts := getattr(clause, "or_", None)) is not None:
        return [rule for part in parts for rule in compile_match(part)]
    if (parts := getattr(clause, "and_", None)) is not None:
        choices = itertools.product(*(compile_match(part) for part in parts))
        return [tuple(itertools.chain.from_iterable(choice)) for choice in choices]
    return compile_regex(clause.regex)


def compile_regex(pattern: str) -> list[Rule]:
    """The few regular expressions that the source uses, without regular expressions.

    They are one of: "is not a text-to-speech model", spelled out below; or `^…` with literals, `\\d`, `\\d{n}`,
    `[ab]` sets and `(…)?`, closed by `$` or not, which become templates.
    """
    if pattern == "^(?!.*-[tT][tT][sS](?:$|-))":
        return [("!*-tts-", "!$-tts")]
    if not pattern.startswith("^"):
        raise SystemExit(f"a match rule that is not understood: {pattern!r}")
    is_closed = pattern.endswith("$")
    templates = ["".join(choice) for choice in itertools.product(*_template_parts(pattern[1:].removesuffix("$")))]
    return [(f"{'#' if is_closed else '%'}{template.lower()}",) for template in templates]


def _template_parts(body: str) -> Iterator[list[str]]:
    token = re.compile(r"\(([^()]+)\)\?|\\d(?:\{(\d)\})?|\\([.\[\]/-])|\[([^\]\\^]+)\]|([A-Za-z0-9/=@:_-])")
    at = 0
    while at < len(body):
        found = token.match(body, at)
        if found is None:
            raise SystemExit(f"a match rule that is not understood: {body!r} at {body[at:]!r}")
        optional, times, escaped, one_of, plain = found.groups()
        if optional:
            yield ["", *("".join(choice) for choice in itertools.product(*_template_parts(optional)))]
        elif found.group().startswith("\\d"):
            yield ["#" * int(times or 1)]
        elif one_of:
            # A dash at an end is itself; between two characters it would be a range.
            if "-" in one_of[1:-1]:
                raise SystemExit(f"a match rule that is not understood: {body!r}")
            yield list(one_of)
        else:
            yield [escaped or plain]
        at = found.end()


if __name__ == "__main__":
    sys.exit(main())
