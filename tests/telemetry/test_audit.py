"""What of many failures is written, by whom, and what happens when the database does not take it."""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.postgres import PostgresServer, postgres, postgres_session
from tollhouse.errors import Conflict, StoreUnavailable
from tollhouse.ledger import store
from tollhouse.ledger.audit import Entry, Head, Record
from tollhouse.ledger.audit_store import AuditLog, open_audit
from tollhouse.policy.registrar import Desk, KeyEdit, NewKey, create_key, edit_key, rotate_key, top_up, write
from tollhouse.policy.terms import KeyTerms
from tollhouse.telemetry.audit import (
    MAX_ADDRESSES,
    MAX_QUEUED,
    OWN_RECORDS,
    RECORDS_PER_ADDRESS,
    RECORDS_PER_WINDOW,
    SUMMARIES,
    WINDOW_SECONDS,
    Failure,
    Flood,
    RegisterAudit,
    Trail,
)

__all__ = ["postgres", "postgres_session"]


def failure(address: str, number: int = 0) -> Failure:
    return Failure(at_us=number, address=address, code="unauthenticated", door="public", request_id=f"req_{number}")


def run(flood: Flood, failures: Iterable[tuple[float, Failure]]) -> list[Entry]:
    """Everything that is written of failures that come at these times."""
    written: list[Entry] = []
    now = 0.0
    for now, one in failures:
        written += flood.due(now)
        noted = flood.note(one, now)
        written += [] if noted is None else [noted]
    return written + flood.due(now, is_over=True)


# ------------------------------------------------------------------------------------------------------------------ floods


def test_a_few_failures_are_a_record_each() -> None:
    written = run(Flood(), [(0.0, failure("10.0.0.1", 1)), (1.0, failure("10.0.0.1", 2)), (2.0, failure("::1", 3))])

    assert [(one.address, one.request_id, one.events) for one in written] == [
        ("10.0.0.1", "req_1", 1),
        ("10.0.0.1", "req_2", 1),
        ("::1", "req_3", 1),
    ]
    assert written[0].action == "auth.fail"
    assert written[0].outcome == "refused"
    assert written[0].object == "public"
    assert written[0].changes == '{"code":"unauthenticated"}'


def test_the_flood_of_one_address_is_its_first_records_and_one_count() -> None:
    written = run(Flood(), [(number / 1000, failure("10.0.0.1", number)) for number in range(10_000)])

    assert len(written) == RECORDS_PER_ADDRESS + 1
    assert written[-1].events == 10_000 - RECORDS_PER_ADDRESS
    assert (written[-1].at_us, written[-1].request_id) == (9999, "req_9999")


def test_a_count_of_different_failures_says_how_many_there_were_of_each() -> None:
    """The last of a flood is not what all of it was."""
    revoked = [msgspec.structs.replace(failure("10.0.0.1"), code="key_revoked", door="admin") for _ in range(8)]
    others = [failure("10.0.0.1") for _ in range(2)]
    apart = [failure(f"10.0.1.{number}") for number in range(SUMMARIES + OWN_RECORDS) for _ in range(20)]

    one = run(Flood(), [(0.0, each) for each in [*revoked, *others]])[-1]
    of_all = run(Flood(), [(0.0, each) for each in [*apart, *revoked, *others]])[-1]

    assert (one.object, one.changes) == (
        "admin, public",
        '{"codes":{"key_revoked":3,"unauthenticated":2},"further":true}',
    )
    assert '"key_revoked":8,' in of_all.changes


def test_a_flood_from_many_addresses_is_bounded_and_nothing_is_uncounted() -> None:
    many = [(0.001, failure(f"10.{number >> 8 & 255}.{number & 255}.1", number)) for number in range(20_000)]
    written = run(Flood(), many)

    assert len(written) <= RECORDS_PER_WINDOW
    assert sum(one.events for one in written) == 20_000


def test_the_busiest_addresses_have_a_count_of_their_own_and_the_rest_share_one() -> None:
    quiet = [failure(f"10.0.1.{number}") for number in range(100)]
    busy = [failure(f"10.0.0.{number}") for number in range(SUMMARIES) for _ in range(20)]
    written = run(Flood(), [(0.0, one) for one in quiet + busy])

    summaries = written[OWN_RECORDS:]
    assert {one.address for one in summaries[:-1]} == {f"10.0.0.{number}" for number in range(SUMMARIES)}
    assert [one.events for one in summaries[:-1]] == [20] * SUMMARIES
    assert (summaries[-1].address, summaries[-1].events) == ("", 100 - OWN_RECORDS)
    assert summaries[-1].changes == f'{{"addresses":{100 - OWN_RECORDS},"code":"unauthenticated","further":true}}'


def test_addresses_beyond_the_bound_are_still_counted() -> None:
    flood = Flood()
    many = [(0.0, failure(f"10.{number >> 8 & 255}.{number & 255}.1")) for number in range(MAX_ADDRESSES + 500)]
    written = run(flood, many)

    assert sum(one.events for one in written) == MAX_ADDRESSES + 500


def test_a_new_minute_begins_anew() -> None:
    flood = Flood()
    first = [(0.0, failure("10.0.0.1", number)) for number in range(8)]
    later = [(WINDOW_SECONDS + 1, failure("10.0.0.1", 100 + number)) for number in range(2)]
    written = run(flood, first + later)

    assert [one.events for one in written] == [1, 1, 1, 1, 1, 3, 1, 1]


def test_a_window_is_due_when_it_ends_and_not_before() -> None:
    flood = Flood()
    assert flood.seconds_left(0.0) is None
    for _ in range(RECORDS_PER_ADDRESS + 1):
        flood.note(failure("10.0.0.1"), 0.0)

    assert flood.seconds_left(10.0) == WINDOW_SECONDS - 10
    assert flood.due(WINDOW_SECONDS - 0.1) == []
    assert [one.events for one in flood.due(WINDOW_SECONDS)] == [1]
    assert flood.seconds_left(WINDOW_SECONDS) is None


@given(
    st.lists(
        st.tuples(st.floats(0, 30), st.sampled_from(["10.0.0.1", "10.0.0.2", "", "::1", "2001:db8::1", "?"])),
        max_size=300,
    )
)
def test_every_failure_is_counted_exactly_once_whenever_it_comes(steps: list[tuple[float, str]]) -> None:
    now = 0.0
    failures = []
    for wait, address in steps:
        now += wait
        failures.append((now, failure(address)))

    assert sum(one.events for one in run(Flood(), failures)) == len(steps)


def test_an_ipv6_caller_has_as_many_addresses_as_it_likes_and_counts_once() -> None:
    written = run(Flood(), [(0.0, failure(f"2001:db8:1:2::{number:x}")) for number in range(50)])

    assert [one.address for one in written[-2:]] == ["2001:db8:1:2::4", "2001:db8:1:2::/64"]
    assert written[-1].events == 50 - RECORDS_PER_ADDRESS


# ------------------------------------------------------------------------------------------------------------------- trail


class Fickle:
    """A database in memory that can be away, with a bell for each thing that was tried."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.is_away = False
        self.tried = threading.Semaphore(0)
        self.was_closed = threading.Event()

    def append(self, entries: Sequence[Entry]) -> Head:
        try:
            if self.is_away:
                raise StoreUnavailable("The database is away.")
            self.entries.extend(entries)
            return Head(len(self.entries))
        finally:
            self.tried.release()

    def fetch(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        raise AssertionError("nobody reads")

    def close(self) -> None:
        self.was_closed.set()


def fail_often(trail: Trail, count: int) -> None:
    for number in range(count):
        trail.fail(address="10.0.0.1", code="unauthenticated", door="public", request_id=f"req_{number}")


async def test_failures_are_written_and_the_rest_of_a_flood_when_the_trail_ends(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 't.db'}"
    store.prepare(url)
    trail = Trail.of(url)
    fail_often(trail, 100)
    await trail.aclose()
    await trail.aclose()

    log = open_audit(url)
    written = list(log.records())
    assert log.verify().is_whole
    log.close()
    assert [one.events for one in written] == [1] * RECORDS_PER_ADDRESS + [100 - RECORDS_PER_ADDRESS]
    assert written[0].actor == "gateway"
    assert trail.state().dropped == 0


async def test_a_trail_that_nobody_used_opens_nothing() -> None:
    threads = threading.active_count()
    fickle = Fickle()
    trail = Trail(AuditLog(fickle))
    assert threading.active_count() == threads
    await trail.aclose()

    assert not fickle.was_closed.is_set()


async def test_records_wait_for_a_database_that_is_away_and_are_written_when_it_is_back() -> None:
    fickle = Fickle()
    fickle.is_away = True
    trail = Trail(AuditLog(fickle), retry_seconds=0.01)
    fail_often(trail, 3)
    assert fickle.tried.acquire(timeout=10)
    assert fickle.tried.acquire(timeout=10)
    assert trail.state().trouble == "The database is away."
    fickle.is_away = False
    await trail.aclose()

    assert [one.request_id for one in fickle.entries] == ["req_0", "req_1", "req_2"]
    assert trail.state().trouble == ""
    assert fickle.was_closed.is_set()


async def test_what_was_too_much_to_keep_is_counted_in_a_record_of_its_own(some_entry: Callable[[int], Entry]) -> None:
    fickle = Fickle()
    fickle.is_away = True
    trail = Trail(AuditLog(fickle), retry_seconds=0.01)
    count = 2 * MAX_QUEUED + 500
    for number in range(count):
        trail.record(some_entry(number))
    assert fickle.tried.acquire(timeout=10)
    fickle.is_away = False
    await trail.aclose()

    dropped = trail.state().dropped
    assert dropped >= 500
    counts = [one.events for one in fickle.entries if one.action == "audit.drop"]
    assert sum(counts) == dropped
    assert len(fickle.entries) - len(counts) == count - dropped


async def test_a_trail_ends_in_time_when_the_database_stays_away(caplog: pytest.LogCaptureFixture) -> None:
    fickle = Fickle()
    fickle.is_away = True
    trail = Trail(AuditLog(fickle), retry_seconds=0.01)
    fail_often(trail, 2)
    await trail.aclose(deadline_seconds=1.0)

    assert trail.state().queued == 2
    assert "was not written to its end" in caplog.text


async def test_a_defect_of_the_writer_is_a_complaint_and_not_its_end() -> None:
    class Broken(Fickle):
        def append(self, entries: Sequence[Entry]) -> Head:
            if self.is_away:
                self.tried.release()
                raise RuntimeError("a defect")
            return super().append(entries)

    broken = Broken()
    broken.is_away = True
    trail = Trail(AuditLog(broken), retry_seconds=0.01)
    fail_often(trail, 1)
    assert broken.tried.acquire(timeout=10)
    assert broken.tried.acquire(timeout=10)
    assert "a defect" in trail.state().trouble
    broken.is_away = False
    await trail.aclose()

    assert len(broken.entries) == 1


@pytest.fixture
def some_entry() -> Callable[[int], Entry]:
    return lambda number: Entry(at_us=number, actor="gateway", action="config.reload")


# ---------------------------------------------------------------------------------------------------------------- register


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path / 't.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        address = server.make_database()
    store.prepare(address)
    return address


def records(url: str) -> list[Record]:
    log = open_audit(url)
    try:
        assert log.verify().is_whole
        return list(log.records())
    finally:
        log.close()


def test_what_changes_the_register_is_recorded_with_it_and_without_secrets(url: str) -> None:
    audit = RegisterAudit(address="127.0.0.1", request_id="req_1")

    def work(desk: Desk) -> str:
        issued = create_key(desk, NewKey(name="ci", terms=KeyTerms(models=("fast",)), balance_nano=10**9))
        edit_key(desk, "ci", KeyEdit(requests_per_minute=60))
        top_up(desk, "key", "ci", 5 * 10**9)
        return issued.secret + rotate_key(desk, "ci").secret

    secrets = write(url, work, actor="ops", audit=audit)
    written = records(url)

    assert [(one.actor, one.action, one.object, one.address, one.request_id) for one in written] == [
        ("ops", action, "key:ci", "127.0.0.1", "req_1")
        for action in ("key.create", "key.topup", "key.edit", "key.topup", "key.rotate")
    ]
    assert written[0].changes == '{"models":["fast"]}'
    assert written[2].changes == '{"requests_per_minute":60}'
    everything = "".join(one.changes for one in written)
    assert secrets[:10] not in everything
    assert secrets[52:62] not in everything


def test_a_change_that_fails_leaves_no_record(url: str) -> None:
    write(url, lambda desk: create_key(desk, NewKey(name="ci")), actor="ops", audit=RegisterAudit())

    def work(desk: Desk) -> None:
        create_key(desk, NewKey(name="other"))
        create_key(desk, NewKey(name="ci"))

    with pytest.raises(Conflict):
        write(url, work, actor="ops", audit=RegisterAudit())

    assert [one.object for one in records(url)] == ["key:ci"]


def test_a_change_that_cannot_be_recorded_is_not_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 't.db'}"
    store.prepare(url)
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        connection.execute("CREATE TRIGGER no_more BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StoreUnavailable):
        write(url, lambda desk: create_key(desk, NewKey(name="ci")), actor="ops", audit=RegisterAudit())
    with closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        assert connection.execute("SELECT count(*) FROM keys").fetchone() == (0,)
