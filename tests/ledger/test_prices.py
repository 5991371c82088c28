"""Money: exact integers, one rounding a line, unknown is not free; and the same amounts as the source of the prices finds."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from genai_prices import Usage as OracleUsage
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from support.call_records import NOON_US
from tollhouse.chat.usage import Usage
from tollhouse.errors import ConfigError
from tollhouse.ledger.prices import (
    FREE,
    MAX_CACHED_NAMES,
    Line,
    ModelPrice,
    Period,
    PriceBook,
    Rates,
    cost,
    overrides_from,
    total_nano,
)

BOOK = PriceBook.load()
NANO = 10**9


def total(price: ModelPrice | None, usage: Usage, at_us: int = NOON_US) -> int:
    bill = cost(price, usage, at_us)
    assert bill is not None
    assert total_nano(price, usage, at_us) == bill.total_nano
    return bill.total_nano


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


@st.composite
def usages(draw: st.DrawFn, most: int = 2_000_000) -> Usage:
    fresh, read, write, hour, output, reasoning = (draw(st.integers(0, most)) for _ in range(6))
    return Usage(
        input_tokens=fresh + read + write + hour,
        cache_read_tokens=read,
        cache_write_tokens=write + hour,
        cache_write_1h_tokens=hour,
        output_tokens=output + reasoning,
        reasoning_tokens=reasoning,
        source="reported",
    )


CLASSES = [name for name in Usage.__struct_fields__ if name.endswith("_tokens")]


def counted(counts: dict[str, int]) -> Usage:
    return msgspec.convert(counts, Usage)


flat_rates = st.builds(
    Rates,
    input=st.integers(0, 10**11),
    output=st.integers(0, 10**11),
    cache_read=st.none() | st.integers(0, 10**11),
    cache_write=st.none() | st.integers(0, 10**11),
    cache_write_1h=st.none() | st.integers(0, 10**11),
    reasoning=st.none() | st.integers(0, 10**11),
)


def priced(rates: Rates) -> ModelPrice:
    return ModelPrice("some-model", (Period(rates),))


# ------------------------------------------------------------------------------------------------------------------ bills


@given(
    rates=st.builds(
        Rates,
        *[
            st.none() | st.integers(0, 10**9) | st.just(((0, 10), (200, 25)))
            for name in Rates.__struct_fields__
            if name != "request"
        ],
        st.none() | st.integers(0, 10**6),
    ),
    counts=st.dictionaries(st.sampled_from(CLASSES), st.integers(0, 1_000)),
    is_priced=st.booleans(),
)
def test_the_total_of_a_bill_is_the_same_without_its_lines(
    rates: Rates, counts: dict[str, int], is_priced: bool
) -> None:
    price = priced(rates) if is_priced else None
    usage = counted(counts)
    try:
        bill = cost(price, usage, NOON_US)
    except TypeError:  # output audio that has a rate, without a rate of output
        return
    assert total_nano(price, usage, NOON_US) == (None if bill is None else bill.total_nano)


def test_cached_tokens_cost_what_cached_tokens_cost() -> None:
    """A long conversation with claude-3-7-sonnet, nearly all of it read from the cache: $0.18.

    Billing the cached prompt at the full input price makes $0.76 of it.  These are the amounts of BerriAI/litellm#14849.
    """
    usage = Usage(input_tokens=235_000, cache_read_tokens=215_000, output_tokens=3_700, source="reported")
    price = BOOK.find("anthropic", "claude-3-7-sonnet-20250219")

    assert total(price, usage) == 180_000_000
    uncached = Usage(input_tokens=235_000, output_tokens=3_700, source="reported")
    assert total(price, uncached) == 760_500_000


def test_a_bill_has_a_line_for_each_class_of_tokens_and_they_add_up() -> None:
    usage = Usage(
        input_tokens=1000,
        cache_read_tokens=500,
        cache_write_tokens=300,
        cache_write_1h_tokens=100,
        output_tokens=50,
        reasoning_tokens=20,
        source="reported",
    )
    bill = cost(BOOK.find("anthropic", "claude-sonnet-4-5"), usage, NOON_US)

    assert bill is not None
    assert bill.lines == (
        Line("cache_read", 500, 300_000_000, 150_000),
        Line("cache_write_1h", 100, 6_000_000_000, 600_000),
        Line("cache_write", 200, 3_750_000_000, 750_000),
        Line("input", 200, 3_000_000_000, 600_000),
        Line("output", 50, 15_000_000_000, 750_000),
    )
    assert bill.total_nano == 2_850_000


@pytest.mark.parametrize(("tokens", "nano"), [(1, 0), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2)])
def test_each_line_is_rounded_half_up_once(tokens: int, nano: int) -> None:
    """A rate of 0.3 nano-USD a token: 0.3, 0.6, 0.9, 1.2, 1.5, 1.8."""
    assert total(priced(Rates(input=300_000, output=0)), Usage(input_tokens=tokens, output_tokens=0)) == nano


def test_a_long_context_reprices_all_tokens_of_the_call() -> None:
    price = BOOK.find("anthropic", "claude-sonnet-4-5")

    assert total(price, Usage(input_tokens=200_000, output_tokens=1000)) == 600_000_000 + 15_000_000
    assert total(price, Usage(input_tokens=200_001, output_tokens=1000)) == 1_200_006_000 + 22_500_000


def test_a_fee_for_each_call_is_a_line_of_its_own() -> None:
    price = priced(Rates(input=1_000_000, output=1_000_000, request=12_000_000))
    bill = cost(price, Usage(input_tokens=1, output_tokens=1), NOON_US)

    assert bill is not None
    assert bill.lines[-1] == Line("request", 1, 12_000_000, 12_000_000)
    assert bill.total_nano == 12_000_002


def test_audio_and_reasoning_have_their_own_rates_where_the_book_has_them() -> None:
    price = priced(Rates(input=10**6, output=2 * 10**6, input_audio=10**7, output_audio=3 * 10**7, reasoning=10**6))
    usage = Usage(
        input_tokens=100, input_audio_tokens=40, output_tokens=90, output_audio_tokens=50, reasoning_tokens=10
    )
    bill = cost(price, usage, NOON_US)

    assert bill is not None
    assert [(line.kind, line.tokens, line.nano) for line in bill.lines] == [
        ("input_audio", 40, 400),
        ("input", 60, 60),
        ("output_audio", 50, 1500),
        ("reasoning", 10, 10),
        ("output", 30, 60),
    ]


# ---------------------------------------------------------------------------------------------------------------- unknown


@pytest.mark.parametrize(
    "usage",
    [Usage(), Usage(input_tokens=10), Usage(output_tokens=10), Usage(cache_read_tokens=5, output_tokens=1)],
    ids=["nothing", "no output", "no input", "a part without its total"],
)
def test_without_the_counts_there_is_no_cost(usage: Usage) -> None:
    assert cost(BOOK.find("openai", "gpt-4o"), usage, NOON_US) is None


def test_without_a_price_there_is_no_cost() -> None:
    assert BOOK.find("openai", "a-model-of-next-year") is None
    assert BOOK.find("openai-compatible", "gpt-4o") is None
    assert cost(None, Usage(input_tokens=1, output_tokens=1), NOON_US) is None


def test_a_model_priced_by_the_hour_of_audio_has_no_price_here() -> None:
    assert BOOK.find("groq", "whisper-large-v3") is None


def test_output_that_the_price_does_not_foresee_is_unknown_not_free() -> None:
    embedding = BOOK.find("openai", "text-embedding-3-small")

    assert total(embedding, Usage(input_tokens=1_000_000)) == 20_000_000
    assert cost(embedding, Usage(input_tokens=10, output_tokens=5), NOON_US) is None


@pytest.mark.parametrize("kind", ["local", "ollama"])
def test_what_runs_here_costs_exactly_nothing(kind: str) -> None:
    price = BOOK.find(kind, "any-model")

    assert price is FREE
    assert total(price, Usage(input_tokens=5_000_000, output_tokens=9)) == 0
    assert total(price, Usage()) == 0


# ------------------------------------------------------------------------------------------------------------- properties


@given(flat_rates, usages(), usages())
def test_cost_is_additive_within_the_rounding_of_its_lines(rates: Rates, one: Usage, other: Usage) -> None:
    both = counted({name: (getattr(one, name) or 0) + (getattr(other, name) or 0) for name in CLASSES})
    price = priced(rates)

    assert abs(total(price, one) + total(price, other) - total(price, both)) <= 9


@given(flat_rates, usages(), st.integers(0, 1000), st.integers(0, 1000))
def test_more_tokens_never_cost_less_and_nothing_is_negative(rates: Rates, usage: Usage, fresh: int, more: int) -> None:
    assert usage.input_tokens is not None
    assert usage.output_tokens is not None
    larger = Usage(
        input_tokens=usage.input_tokens + fresh,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_tokens=usage.output_tokens + more,
        reasoning_tokens=usage.reasoning_tokens,
    )

    assert 0 <= total(priced(rates), usage) <= total(priced(rates), larger)


@given(flat_rates, st.lists(st.integers(0, 10**6), min_size=8, max_size=8))
def test_parts_that_exceed_their_totals_never_bill_more_tokens_than_there_are(rates: Rates, counts: list[int]) -> None:
    usage = counted(dict(zip(CLASSES, counts, strict=True)))
    bill = cost(priced(rates), usage, NOON_US)

    assert bill is not None
    assert sum(line.tokens for line in bill.lines) == (usage.input_tokens or 0) + (usage.output_tokens or 0)
    assert bill.total_nano == sum(line.nano for line in bill.lines)


# ------------------------------------------------------------------------------------------------------------- the oracle

# Kinds of providers and the source's names for them.
SHOPS = {
    "anthropic": "anthropic",
    "openai": "openai",
    "google": "google",
    "deepseek": "deepseek",
    "groq": "groq",
    "xai": "x-ai",
    "mistral": "mistral",
    "cursor": "cursor",
    "openrouter": "openrouter",
    "glm": "zai",
}


# The source bills these in classes that a `Usage` does not tell apart, with the same tokens; they are not comparable.
def _comparable(price: ModelPrice) -> bool:
    return all(period.rates.reasoning is None and period.rates.request is None for period in price.periods)


@pytest.mark.parametrize("kind", sorted(SHOPS))
@pytest.mark.parametrize("moment", ["2025-02-01T03:00", "2026-11-21T02:00", "2026-11-21T12:00", "2027-03-01T20:00"])
def test_every_model_costs_what_the_source_calculates(kind: str, moment: str) -> None:
    """At least 75 models of each large provider by their own names, small and long contexts, in exact decimals."""
    shop = next(provider for provider in get_snapshot().providers if provider.id == SHOPS[kind])
    when = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    compared = 0
    for model in shop.models[:: len(shop.models) // 150 + 1]:
        price = BOOK.find(kind, model.id)
        theirs = shop.find_model(model.id)
        if price is None or theirs is None or not _comparable(price):
            continue
        assert price.model == theirs.id
        for fresh, read, written, output in [(700, 300, 0, 41), (170_000, 80_000, 20_000, 3), (0, 0, 1_500_000, 0)]:
            usage = Usage(
                input_tokens=fresh + read + written,
                cache_read_tokens=read,
                cache_write_tokens=written,
                output_tokens=output,
            )
            bill = cost(price, usage, at(moment))
            if bill is None:
                continue
            said = OracleUsage(
                input_tokens=fresh + read + written,
                cache_read_tokens=read,
                cache_write_tokens=written,
                output_tokens=output,
            )
            wanted = theirs.calc_price(said, shop, genai_request_timestamp=when).total_price * NANO
            # OpenRouter's prices of Google's cache storage are twelfths, and are the only rates that the book rounds.
            allowed = Decimal(len(bill.lines)) / 2 + (Decimal(written) / 2_000_000 if kind == "openrouter" else 0)
            assert abs(Decimal(bill.total_nano) - wanted) <= allowed, (model.id, usage)
            compared += 1
    assert compared >= 10


# ---------------------------------------------------------------------------------------------------------- finding, time


@pytest.mark.parametrize(
    ("kind", "asked", "found"),
    [
        ("anthropic", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("anthropic", "Claude-Sonnet-4-5", "claude-sonnet-4-5"),
        ("openai", "gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("openai", "gpt-5.6-luna-20260811", "gpt-5.6-luna"),
        ("anthropic", "claude-opus-5@20260101", "claude-opus-5"),
        ("cursor", "composer-2.5[fast=true]", "composer-2.5-fast"),
        ("xai", "x-ai/grok-4.5-20260801", "grok-4.5"),
        ("google", "models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("glm", "glm-4.6", "GLM-4.6"),
        ("glm", "glm-4-plus", "GLM-4-Plus"),
    ],
)
def test_models_are_found_under_the_names_that_providers_answer_with(kind: str, asked: str, found: str) -> None:
    price = BOOK.find(kind, asked)

    assert price is not None
    assert price.model == found


@pytest.mark.parametrize("asked", ["claude-opus-5@2026010", "claude-opus-5@2026010x", "gpt-4o-mini\n", "", "x" * 5000])
def test_a_name_that_is_no_models_has_no_price(asked: str) -> None:
    assert BOOK.find("cursor", asked) is None


def test_off_peak_hours_and_start_dates_choose_the_rates() -> None:
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    chat = BOOK.find("deepseek", "deepseek-chat")
    flash = BOOK.find("glm", "glm-5.3-flash")

    assert total(chat, usage, at("2026-11-21T00:29:59")) == 135_000_000
    assert total(chat, usage, at("2026-11-21T00:30:00")) == 270_000_000
    assert total(chat, usage, at("2026-11-21T16:30:00")) == 135_000_000
    assert total(flash, usage, at("2026-09-09T23:59:59")) == 75_000_000
    assert total(flash, usage, at("2026-09-10T00:00:00")) == 150_000_000


def test_hours_may_run_over_midnight() -> None:
    night = Period(Rates(input=1), daily=(23 * 3600, 3600))

    active = [hour for hour in range(24) if night.is_active(at(f"2026-11-21T{hour:02}:30"))]
    assert active == [0, 23]


def test_the_memory_of_names_is_bounded() -> None:
    book = PriceBook.load()
    for number in range(MAX_CACHED_NAMES + 50):
        book.find("cursor", f"nobody-{number}")

    assert len(book._found) == MAX_CACHED_NAMES


# -------------------------------------------------------------------------------------------------------------- overrides


def test_configured_prices_come_first_by_name_of_provider_then_by_kind() -> None:
    book = PriceBook.load(
        overrides_from(
            {
                "lab/*": {"input": 1_000_000, "output": 2_000_000},
                "lab/big": {"input": 5_000_000, "output": 5_000_000},
                "openai/gpt-4o": {"input": 7_000_000, "output": 7_000_000},
                "ollama/*": {"input": 3_000_000, "output": 0},
            }
        )
    )
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)

    assert total(book.find("openai-compatible", "small", provider="lab"), usage) == 3_000_000
    assert total(book.find("openai-compatible", "big", provider="lab"), usage) == 10_000_000
    assert total(book.find("openai", "gpt-4o", provider="work"), usage) == 14_000_000
    assert total(book.find("ollama", "llama3"), usage) == 3_000_000
    found = book.find("openai", "gpt-4o")
    assert found is not None
    assert found.context_window == 128_000


def test_the_version_names_source_day_and_digest_and_changes_with_overrides() -> None:
    some = PriceBook.load({"lab/*": Rates(input=1, output=1)})
    others = PriceBook.load({"lab/*": Rates(input=2, output=1)})

    assert BOOK.version.startswith("0.")
    assert len({BOOK.version, some.version, others.version}) == 3
    assert some.version.startswith(BOOK.version)
    assert max(map(len, (BOOK.version, some.version))) <= 32


def test_wrong_overrides_are_refused_all_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        overrides_from({"lab": {"input": 1}, "lab/x": {"inputs": 1, "output": 0.5, "cache_read": True, "input": -1}})

    assert len(caught.value.problems) == 5
