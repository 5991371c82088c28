"""What one caller of a shared call gets, and what is written down for it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.errors import (
    BudgetExceeded,
    ClientLeft,
    Draining,
    KeyRevoked,
    RateLimited,
    TollhouseError,
    UpstreamTruncated,
)
from tollhouse.gateway.call import Call, Headers
from tollhouse.gateway.coalesce import Coalescer, Flight, Same
from tollhouse.gateway.failures import error_headers
from tollhouse.gateway.follow import Copying
from tollhouse.ledger.record import Attempt, CallRecord
from tollhouse.policy.identity import Principal

SAME = Same(answer=b"k" * 32, dialect="openai_chat", route="smart", streamed=True, includes_usage=False)
SSE: Headers = ((b"content-type", b"text/event-stream"),)


async def turn(times: int = 8) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


class Wire:
    """A client's end: what it got, in order with what was written down."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.got = b""
        self.is_whole = False
        self.breaks_with: Exception | None = None

    async def head(self, status: int, headers: Headers) -> None:
        self.status, self.headers = status, list(headers)

    async def body(self, data: bytes, *, more: bool) -> None:
        if self.breaks_with is not None:
            raise self.breaks_with
        self.got += data
        self.is_whole = not more
        self.log.append("last byte" if self.is_whole else "bytes")


class Office:
    """Callers of one coalescer, and the rows that are written for them."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.rows: list[CallRecord] = []
        self.now = 100.0
        self.unexpected: list[BaseException] = []
        self.coalescer = Coalescer(unexpected=self.unexpected.append)
        self.steps: asyncio.Queue[Any] = asyncio.Queue()
        self.is_slow_to_write = False

    def write(self, record: CallRecord) -> "asyncio.Future[None]":
        self.rows.append(record)
        self.log.append(f"row of {record.id}")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self.is_slow_to_write:
            written.set_result(None)
        return written

    async def run(self, flight: Flight) -> None:
        """Carries out what is put into `steps`; its own row is not of interest here."""
        flight.leader_headers = ((b"x-ratelimit-remaining", b"7"),)
        flight.record = CallRecord(
            id="req_leader",
            started_at_us=1,
            door="openai_chat",
            provider="acme",
            model="gpt-x",
            lane="same",
            receipt="lost",
        )
        while not flight.is_ended:
            match await self.steps.get():
                case TollhouseError() as error:
                    flight.fail(error)
                case int() as status:
                    await flight.head(status, SSE)
                case bytes() as data:
                    await flight.body(data, more=data != b"end")
                    flight.record.finish = "stop"

    def call(self, number: int, wire: Wire) -> "asyncio.Task[None]":
        call = Call(
            id=f"req_{number}",
            door="openai_chat",
            dialect=DIALECT,
            body=b"{}",
            headers=(),
            principal=Principal(key=f"key{number}", tenant="research"),
            address="127.0.0.1",
            arrived=self.now,
            arrived_at_us=5,
        )
        record = CallRecord(
            id=call.id, started_at_us=5, door=call.door, key=call.principal.key, tenant="research", lane="shared"
        )
        copying = Copying(
            call=call,
            sink=wire,
            record=record,
            write=self.write,
            error_headers=error_headers,
            headers=lambda leads: ((b"x-tollhouse-cache", b"miss" if leads else b"shared"),),
            monotonic=lambda: self.now,
        )
        return asyncio.get_running_loop().create_task(self.coalescer.share(SAME, self.run, copying.copy))

    async def callers(self, count: int, *steps: object) -> tuple[Sequence[Wire], Sequence["asyncio.Task[None]"]]:
        wires = [Wire(self.log) for _ in range(count)]
        tasks = [self.call(number, wire) for number, wire in enumerate(wires)]
        for step in steps:
            self.steps.put_nowait(step)
        await turn()
        return wires, tasks


@pytest.fixture
def office() -> Office:
    return Office()


async def test_every_caller_gets_the_answer_and_its_own_headers(office: Office):
    """What is left of the leader's limits is nobody else's business."""
    wires, tasks = await office.callers(2, 200, b"Hi ", b"end")
    await asyncio.gather(*tasks)
    for wire in wires:
        assert (wire.status, wire.got, wire.is_whole) == (200, b"Hi end", True)
    assert wires[0].headers == [*SSE, (b"x-ratelimit-remaining", b"7"), (b"x-tollhouse-cache", b"miss")]
    assert wires[1].headers == [*SSE, (b"x-tollhouse-cache", b"shared")]


async def test_who_joined_has_a_row_at_no_cost_and_the_leader_none_but_the_calls_own(office: Office):
    _, tasks = await office.callers(3, 200, b"Hi ")
    office.now += 2
    office.steps.put_nowait(b"end")
    await asyncio.gather(*tasks)
    assert [row.id for row in office.rows] == ["req_1", "req_2"]
    row = office.rows[0]
    assert (row.key, row.tenant, row.provider, row.model, row.lane) == ("key1", "research", "acme", "gpt-x", "shared")
    assert (row.status, row.outcome, row.finish, row.receipt) == (200, "ok", "stop", "lost")
    assert (row.cost_nano, row.usage.is_empty, row.attempts) == (0, True, ())
    assert (row.first_byte_us, row.duration_us) == (0, 2_000_000)


async def test_a_row_is_written_before_the_last_byte_leaves(office: Office):
    office.is_slow_to_write = True
    wires, tasks = await office.callers(2, 200, b"Hi ", b"end")
    assert tasks[0].done()
    assert (wires[1].is_whole, len(office.rows)) == (False, 1)
    tasks[1].cancel()
    await turn()
    assert len(office.rows) == 1


async def test_an_error_before_the_answer_is_said_to_each_caller_in_its_own_name(office: Office):
    wires, tasks = await office.callers(2, UpstreamTruncated("It was cut."))
    await asyncio.gather(*tasks)
    for number, wire in enumerate(wires):
        error = msgspec.json.decode(wire.got)["error"]
        assert (wire.status, wire.is_whole, error["code"]) == (502, True, "provider_truncated")
        assert f"req_{number}" in wire.got.decode()
        assert f"req_{1 - number}" not in wire.got.decode()
        assert (b"content-type", b"application/json") in wire.headers
    (row,) = office.rows
    assert (row.id, row.status, row.outcome, row.cost_nano) == ("req_1", 502, "provider_truncated", 0)
    assert office.log.index("row of req_1") < len(office.log) - 1


async def test_an_error_in_the_answer_ends_each_stream_with_its_own_event(office: Office):
    wires, tasks = await office.callers(2, 200, b"data: {}\n\n", UpstreamTruncated("It was cut."))
    await asyncio.gather(*tasks)
    for number, wire in enumerate(wires):
        assert wire.got.startswith(b"data: {}\n\n")
        assert wire.is_whole
        assert b"provider_truncated" in wire.got
        assert f"req_{number}".encode() in wire.got
    (row,) = office.rows
    assert (row.status, row.outcome, row.finish) == (200, "provider_truncated", "")


async def test_how_long_to_wait_is_said_to_whom_it_concerns(office: Office):
    wires, tasks = await office.callers(2, RateLimited("full", retry_after_seconds=7))
    office.steps.put_nowait(200)
    office.steps.put_nowait(b"end")
    await asyncio.gather(*tasks)
    assert wires[0].status == 429
    assert (b"retry-after", b"7") in wires[0].headers
    # The other has called for itself; the row of that call is its own run's.
    assert (wires[1].status, wires[1].got) == (200, b"end")
    assert office.rows == []


async def test_what_is_shared_after_being_sent_away_has_one_row(office: Office):
    empty = BudgetExceeded(budget="key:key0", spent_nano=1, limit_nano=1, resets_in_seconds=None)
    wires, tasks = await office.callers(3, empty)
    office.steps.put_nowait(200)
    office.steps.put_nowait(b"end")
    await asyncio.gather(*tasks)
    assert [wire.status for wire in wires] == [402, 200, 200]
    assert [row.id for row in office.rows] == ["req_2"]


@pytest.mark.parametrize(
    ("why", "begun", "expected"),
    [
        ((), False, (499, "client_left")),
        ((), True, (200, "client_left")),
        ((Draining.code,), False, (503, "draining")),
        ((KeyRevoked.code,), True, (200, KeyRevoked.code)),
    ],
)
async def test_who_joined_and_left_has_a_row_that_says_so(
    office: Office, why: tuple[str, ...], begun: bool, expected: tuple[int, str]
):
    steps = [200, b"Hi "] if begun else []
    wires, tasks = await office.callers(2, *steps)
    tasks[1].cancel(*why)
    await turn()
    (row,) = office.rows
    assert (row.status, row.outcome, row.cost_nano, row.finish) == (*expected, 0, "")
    for step in [b"end"] if begun else [200, b"end"]:
        office.steps.put_nowait(step)
    await tasks[0]
    assert wires[0].is_whole
    assert len(office.rows) == 1


@pytest.mark.parametrize(
    ("error", "outcome"), [(ClientLeft("gone"), "client_left"), (ZeroDivisionError(), "internal_error")]
)
async def test_a_client_that_cannot_be_reached_has_its_row(office: Office, error: Exception, outcome: str):
    wires, tasks = await office.callers(2)
    wires[1].breaks_with = error
    office.steps.put_nowait(200)
    office.steps.put_nowait(b"Hi")
    await turn()
    office.steps.put_nowait(b"end")
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results == [None, error]
    (row,) = office.rows
    assert (row.id, row.outcome) == ("req_1", outcome)


@pytest.mark.parametrize("after", range(14))
async def test_leaving_at_any_moment_leaves_exactly_one_row(office: Office, after: int):
    wires = [Wire(office.log), Wire(office.log)]
    tasks = [office.call(number, wire) for number, wire in enumerate(wires)]
    for step in (200, b"Hi ", b"there ", b"end"):
        office.steps.put_nowait(step)
    await turn(after)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # Who left before its task began was never a caller.
    assert len(office.rows) == (0 if after == 0 else 1)
    if wires[1].is_whole:
        assert office.rows[0].outcome == "ok"
    elif office.rows:
        assert (office.rows[0].outcome, office.rows[0].cost_nano) == ("client_left", 0)
    assert wires[0].got == b"Hi there end"


async def test_the_leaders_own_record_is_not_touched(office: Office):
    shared = CallRecord(
        id="x",
        started_at_us=1,
        door="d",
        provider="acme",
        attempts=(Attempt(provider="acme", model="m", outcome="ok"),),
    )

    async def run(flight: Flight) -> None:
        flight.record = shared
        await flight.head(200, SSE)
        await flight.body(b"end", more=False)

    office.run = run  # type: ignore[method-assign]  # another script
    before = msgspec.json.encode(shared)
    _, tasks = await office.callers(2)
    await asyncio.gather(*tasks)
    assert msgspec.json.encode(shared) == before
    assert office.rows[0].attempts == ()
