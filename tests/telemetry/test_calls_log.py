"""One JSON line for each call."""

import msgspec

from tollhouse.chat.usage import Usage
from tollhouse.ledger.record import Attempt, CallRecord
from tollhouse.telemetry.calls_log import FLUSH_BYTES, CallsLog


def test_a_line_says_who_what_where_and_how_much():
    written: list[bytes] = []
    log = CallsLog(written.append)
    log.finished(
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
        )
    )
    log.flush()
    (text,) = written
    assert text.endswith(b"\n")
    line = msgspec.json.decode(text)
    assert line["at"] == "2026-11-21T12:06:37.123Z"
    assert line["duration_us"] == 1500
    assert line["usage"] == {"input_tokens": 7, "output_tokens": 0, "source": "reported"}, "not said is not zero"
    assert line["cost_nano"] == 0
    assert "tenant" not in line
    assert line["attempts"] == [{"provider": "openai", "model": "gpt-4o", "outcome": "ok"}]


def test_failed_attempts_are_listed_with_their_status():
    written: list[bytes] = []
    log = CallsLog(written.append)
    attempts = (Attempt(provider="a", model="m", outcome="provider_refused", status=503),)
    log.finished(CallRecord(id="r", started_at_us=0, door="anthropic", outcome="provider_refused", attempts=attempts))
    log.flush()
    assert msgspec.json.decode(written[0])["attempts"][0]["status"] == 503


def test_lines_are_written_in_batches():
    written: list[bytes] = []
    log = CallsLog(written.append)
    record = CallRecord(id="r" * 1000, started_at_us=0, door="anthropic")
    full = [log.finished(record) for _ in range(FLUSH_BYTES // 1000 + 1)]
    assert written == []
    assert full[-1]
    assert not full[0]
    log.flush()
    log.flush()
    assert len(written) == 1
    assert written[0].count(b"\n") == len(full)
