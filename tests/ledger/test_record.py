"""What is kept of a call while it is under way, in case nobody lives to write its row."""

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.call_records import make_call
from tollhouse.chat.usage import Usage
from tollhouse.ledger.record import CallRecord, lost_record, opening_of
from tollhouse.policy.counters import MAX_NOTE_BYTES

KEPT = (
    "id",
    "started_at_us",
    "door",
    "tenant",
    "project",
    "key",
    "requested_model",
    "provider",
    "model",
    "streamed",
    "lane",
    "price_version",
)


def opened(record: CallRecord, input_tokens: int = 123, cost_nano: int = 456) -> CallRecord:
    found = lost_record(opening_of(record, input_tokens), cost_nano)
    assert found is not None
    return found


def test_a_lost_call_has_all_that_was_known_before_it_was_sent_and_the_most_it_can_have_cost():
    call = make_call("req_1")
    call.lane = "translated"
    lost = opened(call)
    assert {name: getattr(lost, name) for name in KEPT} == {name: getattr(call, name) for name in KEPT}
    assert (lost.outcome, lost.cost_nano) == ("lost", 456)
    assert lost.usage == Usage(input_tokens=123, source="estimated")
    assert lost.status == 500
    assert [attempt.was_sent for attempt in lost.attempts] == [True], "it may have, and only such calls have a row"
    assert (lost.finish, lost.first_byte_us) == ("", None)


@pytest.mark.parametrize("note", [b"", b"x", b"\x90", b"\x93\x01\x02\x03", b'{"id":"a"}', bytes(100)])
def test_a_damaged_note_is_no_record(note: bytes):
    assert lost_record(note, 1) is None


@given(st.binary(max_size=200))
def test_no_note_can_break_recovery(note: bytes):
    lost_record(note, 1)


def test_a_cut_note_is_no_record():
    note = opening_of(make_call("req_1"), 1)
    assert all(lost_record(note[:length], 1) is None for length in range(len(note)))


names = st.text(st.characters(min_codepoint=33, max_codepoint=0x1F9FF, exclude_categories=["Cs"]), max_size=200)


@given(names, names)
@example("\U0001f309" * 200, "\U0001f309" * 200)
@example("a" * 200, "\U0001f309" * 200)
def test_a_note_fits_whatever_a_caller_names_its_model(requested: str, model: str):
    """All other names are given out by the operator, 64 ASCII characters each at most; the longest of all of them."""
    call = msgspec.structs.replace(
        make_call("req_" + "f" * 24, requested_model=requested, model=model, provider="p" * 64),
        tenant="t" * 64,
        project="q" * 64,
        key="subject:" + "k" * 64,
        door="anthropic_count_tokens",
        lane="translated",
        started_at_us=2**53,
        price_version="10.20.30+20261121.796a39dd~10152014",
    )
    note = opening_of(call, 10**9)
    assert len(note) <= MAX_NOTE_BYTES
    lost = lost_record(note, 1)
    assert lost is not None
    assert requested.startswith(lost.requested_model)
    assert model.startswith(lost.model)


def test_the_longest_usual_names_are_kept_whole_for_budgets_go_by_them():
    model = "accounts/fireworks/models/" + "llama-v3p1-405b-instruct-long-context-preview-2026"
    lost = opened(make_call("req_1", requested_model=f"fireworks/{model}", provider="fireworks", model=model))
    assert (lost.requested_model, lost.model) == (f"fireworks/{model}", model)
