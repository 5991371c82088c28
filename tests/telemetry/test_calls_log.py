"""One JSON line for each call."""

from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given, settings

from support import planted
from tollhouse.chat.usage import Usage
from tollhouse.ledger.record import Attempt, CallRecord
from tollhouse.policy.redaction import Redactor
from tollhouse.policy.redaction.rules import KINDS
from tollhouse.telemetry.calls_log import FLUSH_BYTES, CallsLog, network_of

ALL = Redactor(KINDS)


def lines_of(*records: CallRecord, hides_client: bool = False):
    written: list[bytes] = []
    log = CallsLog(written.append, ALL, hides_client=hides_client)
    for record in records:
        log.finished(record)
    log.flush()
    return [msgspec.json.decode(line) for line in b"".join(written).splitlines()]


def test_a_line_says_who_what_where_and_how_much():
    (line,) = lines_of(
        CallRecord(
            id="req_1",
            started_at_us=1_795_262_797_123_456,
            door="anthropic",
            key="dev",
            requested_model="smart",
            provider="openai",
            model="gpt-4o",
            status=200,
            usage=Usage(input_tokens=7, output_tokens=0, source="reported"),
            cost_nano=0,
            duration_us=1500,
            attempts=(Attempt(provider="openai", model="gpt-4o", outcome="ok"),),
            route="smart",
            wait_us=20,
            held_nano=900,
            settled_nano=0,
            tags=MappingProxyType({"team": "a"}),
        )
    )
    assert line["at"] == "2026-11-21T12:06:37.123Z"
    assert line["duration_us"] == 1500
    assert line["usage"] == {"input_tokens": 7, "output_tokens": 0, "source": "reported"}, "not said is not zero"
    assert line["cost_nano"] == 0
    assert "tenant" not in line
    assert line["attempts"] == [{"provider": "openai", "model": "gpt-4o", "outcome": "ok"}]
    assert (line["route"], line["wait_us"], line["held_nano"], line["settled_nano"]) == ("smart", 20, 900, 0)
    assert line["tags"] == {"team": "a"}


def test_failed_attempts_are_listed_with_their_status():
    attempts = (Attempt(provider="a", model="m", outcome="provider_refused", status=503),)
    (line,) = lines_of(
        CallRecord(id="r", started_at_us=0, door="anthropic", outcome="provider_refused", attempts=attempts)
    )
    assert line["attempts"][0]["status"] == 503


def test_lines_are_handed_over_in_batches():
    written: list[bytes] = []
    log = CallsLog(written.append, ALL)
    record = CallRecord(id="r" * 1000, started_at_us=0, door="anthropic")
    full = [log.finished(record) for _ in range(FLUSH_BYTES // 1000 + 1)]
    assert written == []
    assert full[-1]
    assert not full[0]
    log.flush()
    log.flush()
    assert len(written) == 1
    assert written[0].count(b"\n") == len(full)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(planted.prose(), planted.secrets())
def test_what_a_caller_hides_in_its_words_does_not_reach_the_log(words, secret):
    """A model's name can be anything, and errors quote it."""
    said = f"{words} {secret} x"
    (line,) = lines_of(
        CallRecord(
            id="r",
            started_at_us=0,
            door="openai_chat",
            requested_model=said,
            route=said,
            model=said,
            receipt=f"dropped {said}: unknown",
            message=f"Model {said} does not exist here",
            attempts=(Attempt(provider="p", model=said, outcome="x", detail=said),),
        )
    )
    everything = [*line.values(), *line["attempts"][0].values()]
    assert not any(secret in text for text in everything if isinstance(text, str))


def test_names_of_models_are_none_of_that():
    names = ["gpt-4o-2024-08-06", "claude-3-5-sonnet-20241022", "gemini-2.5-flash-preview-05-20", "deepseek-r1-0528"]
    lines = lines_of(*(CallRecord(id="r", started_at_us=0, door="d", requested_model=name) for name in names))
    assert [line["requested_model"] for line in lines] == names


def test_a_client_is_shown_as_its_network_where_addresses_are_hidden():
    record = CallRecord(id="r", started_at_us=0, door="d", client="203.0.113.77")
    assert lines_of(record)[0]["client"] == "203.0.113.77"
    assert lines_of(record, hides_client=True)[0]["client"] == "203.0.113.0/24"


@pytest.mark.parametrize(
    ("address", "network"), [("2001:db8:1:2::3", "2001:db8:1::/48"), ("10.1.2.3", "10.1.2.0/24"), ("unix:", "")]
)
def test_a_network_is_wider_than_a_person(address, network):
    assert network_of(address) == network


def test_words_that_are_no_text_break_no_line():
    (line,) = lines_of(CallRecord(id="r", started_at_us=0, door="d", requested_model="a\ud83d"))
    assert line["requested_model"] == "a?"
