"""What a call can cost at worst is never less than what it does cost, as long as it stays within what it was weighed for."""

import base64

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tollhouse.chat.model import Request
from tollhouse.chat.usage import Usage
from tollhouse.dialects.gemini import DIALECT as GEMINI
from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.gateway.weight import (
    DEFAULT_MAX_OUTPUT_TOKENS,
    LEAST_SAMPLES,
    MAX_MODELS,
    MEDIA_FACTOR,
    Scales,
    worst_cost,
)
from tollhouse.ledger.prices import FREE, ModelPrice, Period, PriceBook, Rates, cost
from tollhouse.policy.admission import Weight

NOON_US = 1_795_262_400_000_000
FLAT = ModelPrice(model="m", periods=(Period(Rates(input=1_000_000_000, output=4_000_000_000)),))
"""1,000 and 4,000 nano-USD a token."""


def never() -> Request:
    raise AssertionError("a call of text alone is not decoded")


def weigh(
    scales: Scales,
    body: bytes,
    *,
    model: str = "lab/m",
    price: ModelPrice | None = FLAT,
    asked: int | None = 100,
    known: int | None = None,
    choices: int = 1,
) -> Weight:
    def decoded() -> Request:
        return DIALECT.decode_request(body)

    return scales.weigh(
        model,
        price,
        body=body,
        may_have_media=DIALECT.may_have_media(body),
        decoded=decoded if body.startswith(b'{"model') else never,
        max_output_tokens=asked,
        model_output_tokens=known,
        choices=choices,
        at_us=NOON_US,
    )


def reported(tokens: int, output: int | None = 50) -> Usage:
    return Usage(input_tokens=tokens, output_tokens=output, source="reported")


# ------------------------------------------------------------------------------------------------------ the worst is so

amounts = st.integers(0, 80_000_000_000)
steps = st.builds(
    lambda base, more: ((0, base), *sorted(dict(more).items())),
    amounts,
    st.lists(st.tuples(st.integers(1, 300_000), amounts), min_size=1, max_size=3),
)
rates = amounts | steps
prices = st.builds(
    Rates,
    input=rates,
    output=rates,
    cache_read=st.none() | st.just(0),
    cache_write=st.none() | rates,
    cache_write_1h=st.none() | rates,
    input_audio=st.none() | rates,
    output_audio=st.none() | rates,
    reasoning=st.none() | rates,
    request=st.none() | st.integers(0, 10_000_000_000),
)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Counts whose parts lie within their totals, as a checked usage's do."""
    total_in, total_out = draw(st.integers(0, 400_000)), draw(st.integers(0, 70_000))
    read = draw(st.integers(0, total_in))
    written = draw(st.integers(0, total_in - read))
    return Usage(
        input_tokens=total_in,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=draw(st.integers(0, written)),
        output_tokens=total_out,
        reasoning_tokens=draw(st.integers(0, total_out)),
        input_audio_tokens=draw(st.integers(0, total_in)),
        output_audio_tokens=draw(st.integers(0, total_out)),
        source="reported",
    )


@given(prices, usages(), st.integers(0, 3), st.integers(0, 3))
@example(
    # Each line of a bill is rounded for itself, and here all of them up.
    Rates(input=500_000, output=500_000, cache_write=500_000, reasoning=500_000),
    Usage(input_tokens=2, cache_write_tokens=1, output_tokens=2, reasoning_tokens=1, source="reported"),
    0,
    0,
)
def test_no_call_within_its_bounds_costs_more_than_its_worst(rates: Rates, usage: Usage, spare_in: int, spare_out: int):
    price = ModelPrice(model="m", periods=(Period(rates),))
    assert usage.input_tokens is not None
    assert usage.output_tokens is not None
    worst = worst_cost(price, usage.input_tokens + spare_in, usage.output_tokens + spare_out, NOON_US)
    bill = cost(price, usage, NOON_US)
    assert bill is not None
    assert worst is not None
    assert bill.total_nano <= worst


@given(prices, st.integers(0, 400_000), st.integers(0, 70_000), st.integers(0, 1_000), st.integers(0, 1_000))
def test_more_tokens_are_never_cheaper_at_worst(rates: Rates, tokens_in: int, tokens_out: int, more_in: int, more: int):
    price = ModelPrice(model="m", periods=(Period(rates),))
    less = worst_cost(price, tokens_in, tokens_out, NOON_US)
    greater = worst_cost(price, tokens_in + more_in, tokens_out + more, NOON_US)
    assert less is not None
    assert greater is not None
    assert less <= greater


@pytest.mark.parametrize(
    ("rates", "tokens", "least"),
    [
        # A step applies to every token once the input is beyond it, and not before.
        (Rates(input=((0, 1_000_000), (200_000, 2_000_000)), output=0), 200_000, 200_000),
        (Rates(input=((0, 1_000_000), (200_000, 2_000_000)), output=0), 200_001, 400_002),
        # Fewer tokens than weighed may lie on a dearer step.
        (Rates(input=((0, 5_000_000), (10, 1_000_000)), output=0), 1_000, 5_000),
        (Rates(input=1_000_000, output=0, cache_write=1_250_000, cache_write_1h=2_000_000), 100, 200),
        (Rates(input=1_000_000, output=0, input_audio=9_000_000), 100, 900),
        (Rates(input=1_000_000, output=0, request=77), 100, 177),
    ],
)
def test_the_dearest_class_at_the_dearest_step_that_can_apply_is_assumed(rates: Rates, tokens: int, least: int):
    worst = worst_cost(ModelPrice(model="m", periods=(Period(rates),)), tokens, 0, NOON_US)
    assert worst is not None
    assert least <= worst <= least + 10, "and not much more"


def test_a_price_of_the_hour_is_that_of_the_moment_the_call_began():
    night = Period(Rates(input=1_000_000, output=0), daily=(0, 3_600))
    price = ModelPrice(model="m", periods=(Period(Rates(input=9_000_000, output=0)), night))
    midnight = NOON_US - 12 * 3_600_000_000
    assert (worst_cost(price, 1000, 0, midnight) or 0) < 2_000
    assert (worst_cost(price, 1000, 0, NOON_US) or 0) >= 9_000


@pytest.mark.parametrize("rates", [Rates(output=1), Rates(input=1), Rates(request=1), Rates()])
def test_half_a_price_is_none(rates: Rates):
    assert worst_cost(ModelPrice(model="m", periods=(Period(rates),)), 1, 1, NOON_US) is None


def test_no_price_is_not_free_and_free_costs_nothing():
    assert worst_cost(None, 1, 1, NOON_US) is None
    assert worst_cost(FREE, 10**9, 10**9, NOON_US) == 0


def test_every_price_of_the_book_has_a_worst_where_a_call_of_text_has_a_cost():
    book = PriceBook.load()
    usage = Usage(input_tokens=300_000, output_tokens=1_000, source="reported")
    for kind, model in [
        ("openai", "gpt-4o"),
        ("openai", "gpt-5"),
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-opus-4-1"),
        ("gemini", "gemini-2.5-pro"),
        ("deepseek", "deepseek-chat"),
        ("mistral", "mistral-large-latest"),
        ("groq", "llama-3.3-70b-versatile"),
    ]:
        price = book.find(kind, model)
        assert price is not None, model
        bill = cost(price, usage, NOON_US)
        assert bill is not None
        assert (worst_cost(price, 300_000, 1_000, NOON_US) or 0) >= bill.total_nano, model


# ------------------------------------------------------------------------------------------------------------- weighing

PROSE = b'{"messages":[{"role":"user","content":"' + b"What stood where roads met? " * 100 + b'"}]}'


def test_a_new_model_is_weighed_by_what_is_usual_and_by_what_is_the_most_that_is_assumed():
    weight = weigh(Scales(), PROSE, asked=1_000)
    assert weight.likely_tokens == len(PROSE) // 4 + 300
    assert weight.most_input_tokens >= len(PROSE) // 2
    assert weight.most_output_tokens == 1_000
    assert weight.worst_nano == worst_cost(FLAT, weight.most_input_tokens, 1_000, NOON_US)


@pytest.mark.parametrize(
    ("asked", "known", "choices", "most"),
    [
        (7, 100, 1, 7),
        (None, 100, 1, 100),
        (None, None, 1, DEFAULT_MAX_OUTPUT_TOKENS),
        (7, 100, 3, 21),
        (10**9, 5, 1, 10**9),
    ],
)
def test_output_is_bounded_by_the_caller_then_by_the_model_then_by_a_guess(
    asked: int | None, known: int | None, choices: int, most: int
):
    weight = weigh(Scales(), PROSE, asked=asked, known=known, choices=choices)
    assert weight.most_output_tokens == most
    assert weight.worst_nano == worst_cost(FLAT, weight.most_input_tokens, most, NOON_US)


def test_a_short_limit_on_output_makes_a_call_light_for_rates_too():
    assert weigh(Scales(), PROSE, asked=5, choices=2).likely_tokens == len(PROSE) // 4 + 10


@given(
    st.sampled_from([0, LEAST_SAMPLES]),
    st.lists(st.tuples(st.integers(60, 200_000), st.floats(0.01, 8.0)), min_size=1, max_size=20),
)
def test_a_call_like_the_last_one_is_never_weighed_lighter_than_that_was(before: int, calls: list[tuple[int, float]]):
    """Whatever was learned before, and also where a hidden prompt makes more tokens than the body has bytes."""
    scales = Scales()
    for _ in range(before):
        scales.learn("lab/m", 1_000, reported(250))
    for size, ratio in calls:
        tokens = max(1, int(size * ratio))
        scales.learn("lab/m", size, reported(tokens))
        assert weigh(scales, b"x" * size).most_input_tokens >= tokens


def test_what_a_models_calls_have_shown_replaces_the_assumption():
    scales = Scales()
    for _ in range(LEAST_SAMPLES):
        scales.learn("lab/m", 10_000, reported(3_000))
    heavy = weigh(scales, b"x" * 10_000)
    assert 3_000 <= heavy.most_input_tokens < 4_000 < weigh(Scales(), b"x" * 10_000).most_input_tokens
    usual = weigh(scales, b"x" * 10_000, asked=1).likely_tokens
    assert 2_500 < usual < 3_002
    assert weigh(scales, b"x" * 10_000, model="lab/other") == weigh(Scales(), b"x" * 10_000)


def test_one_dense_prompt_is_remembered_for_long():
    """Digits make a token of two bytes; the hundred calls of prose that follow do not make the next such prompt cheap."""
    scales = Scales()
    scales.learn("lab/m", 10_000, reported(5_000))
    for _ in range(100):
        scales.learn("lab/m", 10_000, reported(2_500))
    assert weigh(scales, b"1" * 10_000).most_input_tokens >= 5_000


def test_pictures_do_not_teach_that_text_is_light():
    """A picture is a thousand tokens in a hundred thousand bytes; a model that only saw these must not weigh a book as a word."""
    scales = Scales()
    for _ in range(200):
        scales.learn("lab/m", 200_000, reported(1_100))
    assert weigh(scales, b"x" * 40_000).most_input_tokens >= 10_000


def test_a_provider_that_adds_a_prompt_of_its_own_does_not_make_long_calls_absurd():
    """Grok and tools put hundreds of tokens before a word of the caller's; that is once a call, not for each byte."""
    scales = Scales()
    for _ in range(100):
        scales.learn("lab/m", 80, reported(700))
    assert weigh(scales, b"x" * 80).most_input_tokens >= 700
    assert weigh(scales, b"x" * 100_000).most_input_tokens < 110_000


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=9_000, output_tokens=1, source="rebuilt"),
        Usage(input_tokens=9_000, output_tokens=1, source="estimated"),
        Usage(output_tokens=1, source="reported"),
        Usage(input_tokens=0, output_tokens=1, source="reported"),
        Usage(),
    ],
)
def test_only_what_a_provider_reported_is_learned(usage: Usage):
    scales = Scales()
    for _ in range(LEAST_SAMPLES + 1):
        scales.learn("lab/m", 1_000, usage)
    scales.learn("lab/m", 0, reported(9_000))
    assert weigh(scales, PROSE) == weigh(Scales(), PROSE)


def test_an_answer_without_a_count_of_output_teaches_only_its_input():
    scales = Scales()
    scales.learn("lab/m", 100, reported(25, None))
    assert weigh(scales, PROSE, asked=10_000).likely_tokens == weigh(Scales(), PROSE, asked=10_000).likely_tokens


def test_no_more_models_are_remembered_than_there_is_room_for():
    scales = Scales()
    for number in range(MAX_MODELS + 5):
        scales.learn(f"lab/invented-{number}", 100, reported(30))
    assert len(scales._pans) <= MAX_MODELS


# --------------------------------------------------------------------------------------------------------------- media


def asking(*parts: object, **fields: object) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": list(parts)}], **fields})


TEXT = {"type": "text", "text": "What is this? " * 20}
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


def inline(size: int) -> dict[str, object]:
    data = base64.b64encode(bytes(size)).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def test_a_picture_weighs_the_same_whether_it_is_named_or_sent():
    scales = Scales()
    named, sent = weigh(scales, asking(TEXT, PICTURE)), weigh(scales, asking(TEXT, inline(300_000)))
    assert abs(named.most_input_tokens - sent.most_input_tokens) < 50
    assert named.most_input_tokens >= 1_000 * MEDIA_FACTOR
    assert sent.most_input_tokens < 10_000, "its bytes are no text"


def test_a_picture_whose_words_are_escaped_is_no_lighter():
    plain = asking(TEXT, PICTURE)
    hidden = plain.replace(b'"type"', b'"\\u0074ype"').replace(b"image_url", b"im\\u0061ge_url")
    assert hidden != plain
    assert weigh(Scales(), hidden) == weigh(Scales(), plain)


def test_each_picture_adds_its_weight():
    one, three = (weigh(Scales(), asking(TEXT, *[PICTURE] * count)).most_input_tokens for count in (1, 3))
    assert three - one >= 2 * 1_000 * MEDIA_FACTOR


@given(st.integers(0, 3_000), st.integers(0, 20_000))
def test_what_stands_beside_a_picture_weighs_as_much_as_without_one(length: int, described: int):
    """A schema of the answer and the tools are part of the prompt too."""
    text = {"type": "text", "text": "x" * length}
    schema = {
        "type": "json_schema",
        "json_schema": {"name": "s", "schema": {"type": "object", "description": "y" * described}},
    }
    plain = weigh(Scales(), asking(text, response_format=schema))
    pictured = weigh(Scales(), asking(text, PICTURE, response_format=schema))
    assert plain.most_input_tokens >= (length + described) // 2
    assert pictured.most_input_tokens >= (length + described) // 2 + 1_000 * MEDIA_FACTOR


@pytest.mark.parametrize("kind", ["inlineData", "inline_data"])
def test_a_picture_in_gemini_s_form_is_no_text_either(kind: str):
    data = base64.b64encode(bytes(300_000)).decode()
    part = {kind: {"mime_type": "application/pdf", "data": data}}
    body = msgspec.json.encode({"contents": [{"parts": [{"text": "What is this?"}, part]}]})
    weight = Scales().weigh(
        "google/gemini",
        None,
        body=body,
        may_have_media=GEMINI.may_have_media(body),
        decoded=lambda: GEMINI.decode_request(body),
        max_output_tokens=100,
        model_output_tokens=None,
        choices=1,
        at_us=0,
    )
    assert weight.most_input_tokens < len(body) // 10
