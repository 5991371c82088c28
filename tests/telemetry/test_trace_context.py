"""A call's place in a trace: what a caller says of it, and what is made up."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.ledger.record import Trace
from tollhouse.telemetry.trace_context import Tracing, traceparent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def place(*values: str, sample: float = 0.0) -> Trace:
    tracing = Tracing(sample, random.Random(5).getrandbits)
    return tracing([(b"accept", b"*/*"), *((b"traceparent", value.encode("latin-1")) for value in values)])


@pytest.mark.parametrize(
    ("said", "is_sampled"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-00", False),
        (f"00-{TRACE}-{PARENT}-03", True),  # the flag of level 2, that the id is random
        (f"00-{TRACE}-{PARENT}-fe", False),
        (f"cc-{TRACE}-{PARENT}-01", True),  # of a later version
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", True),
    ],
)
def test_a_call_belongs_to_its_callers_trace_and_the_caller_decides_whether_it_is_sent(said: str, is_sampled: bool):
    for sample in (0.0, 1.0):
        found = place(said, sample=sample)
        assert (found.trace_id, found.parent_id, found.is_sampled) == (TRACE, PARENT, is_sampled)
        assert found.span_id != PARENT


@pytest.mark.parametrize(
    "said",
    [
        "",
        "garbage",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01 ",
        f" 00-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\n",
        f"ff-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"cc-{TRACE}-{PARENT}-01-{'x' * 600}",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT.upper()}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00_{TRACE}_{PARENT}_01",
        f"00-{TRACE}-{PARENT}-0g",
        f"00-{'²' * 32}-{PARENT}-01",
    ],
)
def test_what_is_not_written_as_the_specification_has_it_is_taken_for_nothing(said: str):
    found = place(said)
    assert found.trace_id != TRACE
    assert not found.parent_id
    assert not found.is_sampled


def test_two_parents_are_none():
    found = place(f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01")
    assert not found.parent_id


def test_of_the_calls_without_a_caller_that_decides_the_given_part_is_sent():
    tracing = Tracing(0.25, random.Random(5).getrandbits)
    chosen = sum(tracing([]).is_sampled for _ in range(4000))
    assert 900 < chosen < 1100
    assert not any(place(sample=0.0).is_sampled for _ in range(100))
    assert all(place(sample=1.0).is_sampled for _ in range(100))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**128 - 1))
def test_ids_are_never_zero_and_those_of_attempts_never_those_of_their_call(span: int, trace: int):
    given = {63: span & (2**63 - 1), 64: span, 128: trace}
    found = Tracing(1.0, given.__getitem__)([])
    ids = [found.span_id, *(found.attempt_id(number) for number in range(20))]
    assert len(set(ids)) == len(ids)
    assert "0" * 16 not in ids
    assert found.trace_id != "0" * 32
    assert {len(each) for each in ids} == {16}


def test_what_a_gateway_behind_is_told_reads_as_the_same_trace():
    for sample in (0.0, 1.0):
        here = place(sample=sample)
        there = place(traceparent(here, 1).decode())
        assert (there.trace_id, there.parent_id, there.is_sampled) == (
            here.trace_id,
            here.attempt_id(1),
            here.is_sampled,
        )
