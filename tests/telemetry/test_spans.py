"""What is said of a call in its spans, and what is not."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings

from support import planted
from tollhouse.chat.usage import Usage
from tollhouse.ledger.record import Attempt, CallRecord, Trace
from tollhouse.policy.redaction import Redactor
from tollhouse.policy.redaction.rules import KINDS
from tollhouse.providers.registry import PROVIDER_TYPES
from tollhouse.telemetry.spans import Span, operation_of, spans_of

TRACE = Trace(trace_id="0af7651916cd43dd8448eb211c80319c", span_id="b7ad6b7169203331", is_sampled=True)
ALL = Redactor(KINDS)


def spans(record: CallRecord, types: Mapping[str, str] | None = None) -> list[Span]:
    known = types or {}
    return list(spans_of(record, TRACE, type_of=lambda name: known.get(name, name), shown=ALL.redact))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(planted.prose(), planted.secrets())
def test_what_a_caller_hides_in_its_words_does_not_reach_a_trace(words: str, secret: str):
    """The same that is held of the calls log."""
    said = f"{words} {secret} x"
    made = spans(
        CallRecord(
            id="r",
            started_at_us=0,
            door="openai_chat",
            requested_model=said,
            route=said,
            provider="p",
            model=said,
            status=500,
            outcome="internal_error",
            receipt=f"dropped {said}: unknown",
            message=f"Model {said} does not exist here",
            client=said,
            tags={said: said},
            attempts=(Attempt(provider="p", model=said, outcome="x", detail=said),),
        )
    )
    assert len(made) == 2
    assert secret not in repr(made)


def test_addresses_details_and_notes_are_not_in_a_trace():
    made = spans(
        CallRecord(
            id="r",
            started_at_us=0,
            door="openai_chat",
            client="203.0.113.77",
            tags={"team": "n0te"},
            attempts=(Attempt(provider="p", model="m", outcome="x", detail="http://10.9.8.7/v1 is away"),),
        )
    )
    assert not any(word in repr(made) for word in ("203.0.113.77", "n0te", "10.9.8.7"))


@pytest.mark.parametrize(
    ("door", "operation"),
    [
        ("openai_chat", "chat"),
        ("anthropic", "chat"),
        ("openai_responses", "chat"),
        ("tollhouse", "chat"),
        ("vibectl", "chat"),
        ("openai_completions", "text_completion"),
        ("gemini", "generate_content"),
        ("openai_embeddings", "embeddings"),
        ("gemini_embeddings", "embeddings"),
        ("anthropic_count_tokens", "count_tokens"),
        ("passthrough", "passthrough"),
    ],
)
def test_an_operation_has_the_conventions_name_where_they_have_one(door: str, operation: str):
    assert operation_of(door) == operation


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("openai", "openai"),
        ("anthropic", "anthropic"),
        ("deepseek", "deepseek"),
        ("groq", "groq"),
        ("google", "gcp.gemini"),
        ("google-openai", "gcp.gemini"),
        ("mistral", "mistral_ai"),
        ("xai", "x_ai"),
        ("openrouter", "openrouter"),
    ],
)
def test_a_provider_has_the_conventions_name_whatever_it_is_called_here(kind: str, name: str):
    assert kind in PROVIDER_TYPES
    record = CallRecord(
        id="r",
        started_at_us=0,
        door="openai_chat",
        provider="ours",
        attempts=(Attempt(provider="ours", model="m", outcome="ok"),),
    )
    for span in spans(record, {"ours": kind}):
        assert (span.attributes["gen_ai.provider.name"], span.attributes["tollhouse.provider"]) == (name, "ours")


@pytest.mark.parametrize(
    ("outcome", "status", "is_error"),
    [
        ("ok", 200, False),
        ("provider_timeout", 504, True),
        ("stream_failed", 200, True),
        ("rate_limited", 429, False),
        ("client_left", 499, False),
    ],
)
def test_a_call_failed_if_that_was_not_its_callers_doing(outcome: str, status: int, is_error: bool):
    (call,) = spans(CallRecord(id="r", started_at_us=0, door="openai_chat", status=status, outcome=outcome))
    assert (call.error is not None) == is_error
    assert call.attributes.get("error.type") == (None if outcome == "ok" else outcome)


def test_times_are_the_records_in_nanoseconds():
    call, first, second = spans(
        CallRecord(
            id="r",
            started_at_us=1_795_262_400_000_007,
            door="openai_chat",
            duration_us=900,
            attempts=(
                Attempt(provider="p", model="m", outcome="x", began_us=10, duration_us=100, was_sent=False),
                Attempt(provider="p", model="m", outcome="client_left", began_us=300, duration_us=500),
            ),
        )
    )
    began = 1_795_262_400_000_007_000
    assert (call.start_ns, call.end_ns) == (began, began + 900_000)
    assert (first.start_ns, first.end_ns) == (began + 10_000, began + 110_000)
    assert (second.start_ns, second.end_ns) == (began + 300_000, began + 800_000)
    assert first.attributes["tollhouse.was_sent"] is False
    assert (first.error, second.error) == ("", None), "a provider is not to blame for a client that left"


def test_every_attribute_stands_on_the_page_of_traces():
    record = CallRecord(
        id="r",
        started_at_us=0,
        door="openai_chat",
        tenant="x",
        project="x",
        key="x",
        requested_model="x",
        provider="x",
        model="x",
        streamed=True,
        lane="x",
        status=200,
        finish="stop",
        usage=Usage(
            input_tokens=1,
            cache_read_tokens=1,
            cache_write_tokens=1,
            output_tokens=1,
            reasoning_tokens=1,
            input_audio_tokens=1,
            output_audio_tokens=1,
            source="reported",
        ),
        cost_nano=1,
        price_version="1",
        receipt="x",
        first_byte_us=1,
        attempts=(Attempt(provider="p", model="m", outcome="x", status=500, was_sent=False),),
        route="x",
        wait_us=1,
        cache="x",
    )
    names = {name for span in spans(record) for name in span.attributes}
    assert len(names) == 33
    page = (Path(__file__).parents[2] / "docs/tracing.md").read_text()
    assert not [name for name in names if name not in page]
