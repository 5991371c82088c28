"""How workers learn of changes: real databases, threads and processes."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.postgres import PostgresServer
from support.registers import DAY_US, DOLLAR, HOUR_US, NOON_US, Register
from tollhouse.errors import KeyExpired, KeyRevoked, Unauthenticated
from tollhouse.ledger import store
from tollhouse.ledger.transaction import Transaction, open_reader, transact
from tollhouse.policy.directory import Directory, open_directory
from tollhouse.policy.identity import KeyRing
from tollhouse.policy.registrar import (
    Edit,
    KeyEdit,
    NewKey,
    NewTenant,
    create_key,
    create_tenant,
    edit_key,
    edit_tenant,
    remove_tenant,
    revoke_key,
    rotate_key,
    top_up,
)
from tollhouse.policy.terms import KeyTerms

PATIENCE_SECONDS = 60.0


@contextmanager
def directory(register: Register, copy: Path | None = None, cut: set[str] | None = None) -> Iterator[Directory]:
    """One that looks when it is told to."""
    found = Directory(
        open_reader(register.url),
        copy=copy,
        on_cut=(set() if cut is None else cut).update,
        now_us=lambda: register.now_us,
    )
    try:
        yield found
    finally:
        found.stop()


def ring(found: Directory, register: Register) -> KeyRing:
    return KeyRing([], rolls=found, now_us=lambda: register.now_us)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def issue(register: Register, name: str, **fields: object) -> bytes:
    new = NewKey(name=name, **fields)  # type: ignore[arg-type]  # a test's fields
    return register.do(lambda desk: create_key(desk, new)).secret.encode()


# --------------------------------------------------------------------------------------------------------------- step by step


def test_a_new_key_is_let_in_and_a_revoked_one_is_not(register: Register):
    with directory(register) as found:
        keys = ring(found, register)
        assert found.refresh()
        secret = issue(register, "ci")
        with pytest.raises(Unauthenticated):
            keys.identify(secret)

        assert found.refresh()
        assert keys.identify(secret).key == "ci"

        register.do(lambda desk: revoke_key(desk, "ci"))
        assert found.refresh()
        with pytest.raises(KeyRevoked):
            keys.identify(secret)


def test_edits_top_ups_and_tenants_reach_the_principal(register: Register):
    register.do(lambda desk: create_tenant(desk, NewTenant(name="acme")))
    secret = issue(register, "ci", tenant="acme", balance_nano=DOLLAR)
    with directory(register) as found:
        keys = ring(found, register)
        found.refresh()
        before = keys.identify(secret)
        register.do(lambda desk: edit_key(desk, "ci", KeyEdit(concurrent=3, models=("fast",))))
        register.do(lambda desk: top_up(desk, "key", "ci", 2 * DOLLAR))
        register.do(lambda desk: edit_tenant(desk, "acme", Edit(daily_nano=9)))
        found.refresh()
        after = keys.identify(secret)

    assert (before.limits.concurrent, [one.limit_nano for one in before.budgets]) == (None, [DOLLAR])
    assert (after.limits.concurrent, [one.limit_nano for one in after.budgets]) == (3, [3 * DOLLAR])
    assert [one.limit_nano for one in after.shared.budgets] == [9]


def test_a_rotated_key_has_two_secrets_until_the_overlap_ends(register: Register):
    first = issue(register, "ci")
    with directory(register) as found:
        keys = ring(found, register)
        second = register.do(lambda desk: rotate_key(desk, "ci", overlap_seconds=3600)).secret.encode()
        found.refresh()
        assert keys.identify(first) is keys.identify(second)

        register.now_us += HOUR_US
        assert keys.identify(second).key == "ci"
        with pytest.raises(KeyExpired, match="replaced"):
            keys.identify(first)


def test_a_rotation_without_overlap_ends_the_old_secret(register: Register):
    first = issue(register, "ci")
    second = register.do(lambda desk: rotate_key(desk, "ci")).secret.encode()
    with directory(register) as found:
        found.refresh()
        with pytest.raises(KeyExpired, match="replaced"):
            ring(found, register).identify(first)
        assert ring(found, register).identify(second).key == "ci"


def test_an_expired_key_needs_no_news_to_end(register: Register):
    secret = issue(register, "ci", expires_at_us=NOON_US + HOUR_US)
    with directory(register) as found:
        found.refresh()
        assert ring(found, register).identify(secret).key == "ci"
        register.now_us += HOUR_US
        with pytest.raises(KeyExpired, match="expired on 2026-11-21 13:00:00"):
            ring(found, register).identify(secret)


def test_only_what_changed_is_read(register: Register):
    issue(register, "a")
    with directory(register) as found:
        found.refresh()
        before = found.roll
        found.refresh()
        assert found.roll is before

        issue(register, "b")
        found.refresh()
        assert len(found.roll) == 2


def test_more_keys_than_a_page_are_all_read(sqlite_register: Register):
    register = sqlite_register
    register.do(lambda desk: [create_key(desk, NewKey(name=f"k{number:05}")) for number in range(2005)])
    with directory(register) as found:
        found.refresh()
        assert len(found.roll) == 2005
        register.do(lambda desk: [edit_key(desk, f"k{number:05}", KeyEdit(concurrent=1)) for number in range(2003)])
        found.refresh()
        assert len(found.roll) == 2005


def test_keys_that_ended_long_ago_are_not_loaded(register: Register):
    issue(register, "old", expires_at_us=NOON_US + HOUR_US)
    issue(register, "gone")
    register.do(lambda desk: revoke_key(desk, "gone"))
    issue(register, "live", expires_at_us=NOON_US + 100 * DAY_US)
    register.now_us += 31 * DAY_US
    with directory(register) as found:
        found.refresh()
        assert [found.roll.knows(name) for name in ("old", "gone", "live")] == [False, False, True]

        register.do(lambda desk: edit_key(desk, "old", KeyEdit(expires_at_us=register.now_us + HOUR_US)))
        found.refresh()
        assert found.roll.knows("old")


def test_who_holds_an_old_principal_changes_nothing(register: Register):
    """A call in flight keeps what it began with; it can neither see the change nor undo it."""
    secret = issue(register, "ci", terms=KeyTerms(concurrent=9))
    with directory(register) as found:
        found.refresh()
        held = ring(found, register).identify(secret)
        register.do(lambda desk: edit_key(desk, "ci", KeyEdit(concurrent=1)))
        found.refresh()

        assert held.limits.concurrent == 9
        with pytest.raises(AttributeError):
            held.limits = held.limits  # type: ignore[misc]  # that is the point
        assert ring(found, register).identify(secret).limits.concurrent == 1


# ------------------------------------------------------------------------------------------------------------------- cutting


def test_the_listener_hears_of_keys_that_were_cut_after_they_are_gone(register: Register):
    secrets = {name: issue(register, name) for name in ("a", "b")}
    heard: list[bool] = []

    def listen(names: frozenset[str]) -> None:
        assert names == {"a"}
        with pytest.raises(KeyRevoked):
            ring(found, register).identify(secrets["a"])
        heard.append(True)

    found = Directory(open_reader(register.url), on_cut=listen, now_us=lambda: register.now_us)
    found.refresh()
    register.do(lambda desk: (revoke_key(desk, "a", cuts=True), revoke_key(desk, "b")))
    found.refresh()
    found.refresh()
    found.stop()
    assert heard == [True]


def test_cutting_can_be_asked_for_later_and_with_a_whole_tenant(register: Register):
    cut: set[str] = set()
    register.do(lambda desk: create_tenant(desk, NewTenant(name="acme")))
    issue(register, "late")
    issue(register, "theirs", tenant="acme")
    with directory(register, cut=cut) as found:
        found.refresh()
        register.do(lambda desk: revoke_key(desk, "late"))
        found.refresh()
        assert cut == set()
        register.do(lambda desk: revoke_key(desk, "late", cuts=True))
        register.do(lambda desk: remove_tenant(desk, "acme", revokes_keys=True, cuts=True))
        found.refresh()
    assert cut == {"late", "theirs"}


def test_a_start_cuts_nothing(register: Register):
    cut: set[str] = set()
    issue(register, "a")
    register.do(lambda desk: revoke_key(desk, "a", cuts=True))
    with directory(register, cut=cut) as found:
        found.refresh()
    assert cut == set()


# ------------------------------------------------------------------------------------------------------------------ outages


def test_with_postgresql_stopped_the_last_known_keys_serve_and_the_rest_is_learned_after(
    postgres: PostgresServer, postgres_register: Register
):
    register = postgres_register
    cut: set[str] = set()
    secrets = {name: issue(register, name) for name in ("a", "b")}
    with directory(register, cut=cut) as found:
        keys = ring(found, register)
        assert found.refresh()
        postgres.stop()
        assert not found.refresh()
        assert found.state().problem
        assert "cannot be used" in found.state().problem
        assert keys.identify(secrets["a"]).key == "a"

        postgres.start()
        register.do(lambda desk: revoke_key(desk, "a", cuts=True))
        assert found.refresh()
        assert not found.state().problem
        with pytest.raises(KeyRevoked):
            keys.identify(secrets["a"])
        assert keys.identify(secrets["b"]).key == "b"
    assert cut == {"a"}


def test_a_file_that_was_moved_away_is_an_outage_and_another_file_another_register(
    sqlite_register: Register, tmp_path: Path
):
    register = sqlite_register
    secret = issue(register, "a")
    with directory(register) as found:
        keys = ring(found, register)
        assert found.refresh()
        for file in tmp_path.glob("ledger.db*"):
            file.rename(tmp_path / f"was-{file.name}")
        assert not found.refresh()
        assert keys.identify(secret).key == "a"

        store.prepare(register.url)
        other = issue(register, "b")
        found.refresh()  # at the latest by now the old file is let go of
        assert found.refresh()
        assert keys.identify(other).key == "b"
        with pytest.raises(Unauthenticated):
            keys.identify(secret)


def test_a_register_from_a_backup_is_read_as_a_whole(sqlite_register: Register, tmp_path: Path):
    """It has the same epoch, and may have gone on to a later revision: asking for what is new would miss what is gone."""
    register, path = sqlite_register, tmp_path / "ledger.db"
    kept = issue(register, "kept")
    backup = path.read_bytes()
    lost = issue(register, "lost")
    with directory(register) as found:
        keys = ring(found, register)
        found.refresh()
        assert keys.identify(lost).key == "lost"
        for file in tmp_path.glob("ledger.db*"):
            file.unlink()
        path.write_bytes(backup)
        later = [issue(register, name) for name in ("b", "c")]
        found.refresh()
        assert found.refresh()
        assert [keys.identify(secret).key for secret in (kept, *later)] == ["kept", "b", "c"]
        with pytest.raises(Unauthenticated):
            keys.identify(lost)


def test_a_register_that_was_put_back_under_an_open_connection_is_read_as_a_whole(register: Register):
    secret = issue(register, "lost")
    issue(register, "other")
    with directory(register) as found:
        found.refresh()
        assert ring(found, register).identify(secret).key == "lost"

        def put_back(transaction: Transaction) -> None:
            transaction.run("DELETE FROM keys WHERE name = $1", "lost")
            transaction.run("UPDATE identity_state SET revision = 1")

        transact(register.url, put_back)
        assert found.refresh()
        with pytest.raises(Unauthenticated):
            ring(found, register).identify(secret)


def test_a_gateway_starts_without_its_database_with_the_keys_on_disk(register: Register, tmp_path: Path):
    secret = issue(register, "a")
    revoked = issue(register, "b")
    copy = tmp_path / "state" / "ledger.keys"
    with directory(register, copy) as found:
        found.refresh()
        register.do(lambda desk: revoke_key(desk, "b"))
        found.refresh()  # a revocation is copied at once, however short ago the last copy was made

    assert secret not in copy.read_bytes()
    away = Register("postgresql://nobody@127.0.0.1:1/none")
    with directory(away, copy) as found:
        found.start()
        assert found.state().source == "disk"
        assert found.state().problem
        assert ring(found, away).identify(secret).key == "a"
        with pytest.raises(KeyRevoked):
            ring(found, away).identify(revoked)


def test_without_database_and_copy_there_are_no_keys_and_the_state_says_so(tmp_path: Path):
    away = Register(f"sqlite:///{tmp_path / 'none.db'}")
    with directory(away, tmp_path / "none.keys") as found:
        found.start()
        state = found.state()
    assert (state.source, state.keys) == ("nothing", 0)
    assert "none.db" in state.problem


def test_a_damaged_copy_is_as_good_as_none(tmp_path: Path):
    copy = tmp_path / "ledger.keys"
    copy.write_bytes(b"{}\n")
    away = Register(f"sqlite:///{tmp_path / 'none.db'}")
    with directory(away, copy) as found:
        found.start()
        assert found.state().source == "nothing"


def test_new_keys_are_copied_now_and_then_and_at_the_end(sqlite_register: Register, tmp_path: Path):
    register, copy = sqlite_register, tmp_path / "ledger.keys"
    clock = [0.0]
    found = Directory(
        open_reader(register.url), copy=copy, poll_seconds=3600, now_us=lambda: NOON_US, monotonic=lambda: clock[0]
    )
    issue(register, "a")
    found.refresh()
    first = copy.read_bytes()
    issue(register, "b")
    found.refresh()
    assert copy.read_bytes() == first
    clock[0] += 6
    found.refresh()
    second = copy.read_bytes()
    assert b'"b"' in second
    issue(register, "c")
    found.start()
    found.stop()
    assert b'"c"' in copy.read_bytes()


def test_what_another_worker_has_copied_is_not_copied_again(sqlite_register: Register, tmp_path: Path):
    register, copy = sqlite_register, tmp_path / "ledger.keys"
    issue(register, "a")
    with directory(register, copy) as one, directory(register, copy) as other:
        one.refresh()
        written = copy.stat().st_ino
        other.refresh()
        assert copy.stat().st_ino == written


# ------------------------------------------------------------------------------------------------------- threads and processes

WORKER = """
import sys
from pathlib import Path
from tollhouse.errors import Unauthenticated
from tollhouse.policy.directory import open_directory
from tollhouse.policy.identity import KeyRing

cut = []
found = open_directory(sys.argv[1], Path(sys.argv[2]), on_cut=lambda names: cut.extend(sorted(names)))
found.start()
keys = KeyRing([], rolls=found)
print("ready", "sqlalchemy" in sys.modules, flush=True)
for line in sys.stdin:
    try:
        print("in", keys.identify(line.strip().encode()).key, *cut, flush=True)
    except Unauthenticated as error:
        print("out", error.code, *cut, flush=True)
found.stop()
"""


def test_writers_at_the_same_time_are_all_noticed(register: Register):
    """Were a later revision committed before an earlier one, a directory that looked in between would miss the earlier."""
    names = [[f"w{writer}-{number}" for number in range(8)] for writer in range(3)]
    issue(register, "first")
    with directory(register) as found, ThreadPoolExecutor(len(names)) as threads:
        found.refresh()
        writers = [threads.submit(lambda own=own: [issue(register, name) for name in own]) for own in names]  # type: ignore[misc]
        while not all(writer.done() for writer in writers):
            assert found.refresh()
        for writer in writers:
            writer.result()
        found.refresh()
        assert [name for own in names for name in own if not found.roll.knows(name)] == []


class Worker:
    """A process with a directory of its own."""

    def __init__(self, url: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, url, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ready = self._line()

    def ask(self, secret: bytes) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{secret.decode()}\n")
        self._process.stdin.flush()
        return self._line()

    def end(self) -> int:
        self._process.communicate(timeout=PATIENCE_SECONDS)
        return self._process.returncode

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def test_every_process_learns_of_new_and_revoked_keys_by_itself(register: Register, tmp_path: Path):
    known = issue(register, "known")
    workers = [Worker(register.url, tmp_path / name) for name in ("one", "two")]
    assert [worker.ready for worker in workers] == ["ready False"] * 2
    assert [worker.ask(known) for worker in workers] == ["in known"] * 2

    secret = issue(register, "ci")
    for worker in workers:
        until(lambda worker=worker: worker.ask(secret) == "in ci")  # type: ignore[misc]
    register.do(lambda desk: revoke_key(desk, "ci", cuts=True))
    for worker in workers:
        until(lambda worker=worker: worker.ask(secret) == "out key_revoked ci")  # type: ignore[misc]
        assert worker.end() == 0
    assert [one.stat().st_mode & 0o777 for one in tmp_path.glob("*/*.keys")] == [0o600] * 2


def test_a_directory_of_its_own_thread_stops_when_it_is_told_to(register: Register, tmp_path: Path):
    others = set(threading.enumerate())
    found = open_directory(register.url, tmp_path)
    found.start()
    assert not found.state().problem
    found.stop()
    found.stop()
    assert not [thread for thread in set(threading.enumerate()) - others if thread.name == "tollhouse-directory"]
