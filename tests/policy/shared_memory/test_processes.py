"""Counters shared by real processes, and by processes that are killed at any moment."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from support.claims import claim_of
from support.shared_counters import audit
from support.shared_counters_child import (
    DESK,
    HARD,
    HOLD,
    RATE,
    SOFT,
    Ledger,
    Log,
    Row,
    now_us,
    open_counters,
    purses_of,
    seed,
)
from tollhouse.policy.counters import Orphan, Placed, SeatsTaken
from tollhouse.policy.shared_memory import SharedCounters

assert HARD.limit_nano is not None
HARD_CLAIMS = HARD.limit_nano // (HOLD * 10)
TESTS = Path(__file__).parents[2]


class Nursery:
    """Forks processes, and ends those that are left."""

    def __init__(self, folder: Path) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "support.shared_counters_child", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=TESTS,
        )
        self.alive: set[int] = set()

    def start(self, role: str, number: int) -> int:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(b"%s %d\n" % (role.encode(), number))
        self._parent.stdin.flush()
        child = int(self._parent.stdout.readline())
        self.alive.add(child)
        return child

    def kill(self, child: int) -> None:
        self.alive.discard(child)
        os.kill(child, signal.SIGKILL)

    def close(self) -> None:
        for child in [*self.alive]:
            self.kill(child)
        self._parent.communicate()


@contextmanager
def nursery(folder: Path) -> Iterator[Nursery]:
    made = Nursery(folder)
    try:
        yield made
    finally:
        made.close()


def wait_until(is_so: Callable[[], object], seconds: float = 60) -> None:
    give_up_at = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up_at, "it takes too long"
        time.sleep(0.01)


def whole_lines(folder: Path, pattern: str) -> list[bytes]:
    return [line for path in folder.glob(pattern) for line in path.read_bytes().split(b"\n")[:-1]]


def test_four_processes_share_each_limit_to_the_last_one(tmp_path: Path):
    counters = open_counters(tmp_path, lambda: 1_000_000_000_000)
    for purse in (HARD, SOFT):
        counters.seed_now(purse, spent_nano=0, before_us=0)
    with nursery(tmp_path) as children:
        for number in range(4):
            children.start("crowd", number)
        wait_until(lambda: len(whole_lines(tmp_path, "log-crowd-*")) == 4)
        lines = [msgspec.json.decode(line, type=dict[str, int]) for line in whole_lines(tmp_path, "log-crowd-*")]
        done = sum((Counter(line) for line in lines), Counter[str]())
        assert done["rates"] == RATE.per_minute
        assert done["seats"] == DESK.limit
        assert done["hard"] == HARD_CLAIMS
        hard, soft = counters.purses_now([HARD.name, SOFT.name])
        assert (hard.spent_nano, hard.held_nano) == (0, HARD.limit_nano)
        assert (soft.spent_nano, soft.held_nano) == (done["soft"], 0)
        audit(counters)

    held = orphans_of(counters, RATE.per_minute + DESK.limit + HARD_CLAIMS)
    assert Counter(orphan.hold_nano for orphan in held)[HOLD * 10] == HARD_CLAIMS
    for orphan in held:
        counters.settle_now(orphan.id, cost_nano=orphan.hold_nano, tokens=None)
    [hard] = counters.purses_now([HARD.name])
    assert (hard.spent_nano, hard.held_nano) == (HARD.limit_nano, 0)
    assert is_free(counters, DESK.limit)


def orphans_of(counters: SharedCounters, count: int) -> list[Orphan]:
    """All of them, when the kernel has buried the dead."""
    found: list[Orphan] = []

    def is_all() -> bool:
        found.extend(counters.orphans_now(1_000))
        return len(found) >= count

    wait_until(is_all)
    assert counters.orphans_now() == []
    return found


def is_free(counters: SharedCounters, limit: int) -> bool:
    """Whether exactly so many sit down at the desk."""
    answers = [
        counters.place_now(claim_of(id=f"free-{i}", began_at_us=now_us(), seats=(DESK,))) for i in range(limit + 1)
    ]
    return [type(answer) for answer in answers] == [Placed] * limit + [SeatsTaken]


def test_no_death_at_any_moment_loses_the_lock_a_hold_or_money(tmp_path: Path):
    """Three processes spend as quickly as they can; one after another is killed in the middle of it, sixty times.

    Two askers end the claims of the dead, as workers do: a row that the dead one wrote is the cost; where there is none, they
    write it.  After each death the sums are what the claims add up to.  In the end everything was given back, what was spent is
    what the rows say, and the hard budget was never passed.
    """
    chance = random.Random(1)
    askers = [open_counters(tmp_path), open_counters(tmp_path)]
    log, ledger = Log(tmp_path, "spend", 0), Ledger(tmp_path)
    handed: list[str] = []

    def end_orphans(asker: SharedCounters) -> None:
        orphans = asker.orphans_now(chance.choice([1, 3, 100]))
        ledger.refresh()
        for orphan in orphans:
            handed.append(orphan.id)
            row = ledger.rows.get(orphan.id)
            if row is None:
                row = Row(orphan.id, orphan.began_at_us, orphan.hold_nano // 2, purses_of(orphan.note))
                log.write(row)
            asker.settle_now(orphan.id, cost_nano=row.cost, tokens=None)

    def is_all_ended() -> bool:
        for asker in askers:
            end_orphans(asker)
        return askers[0].is_settled_before_now(1 << 60)

    with nursery(tmp_path) as children:
        running = [children.start("spend", number) for number in (1, 2, 3)]
        for number in range(4, 64):
            time.sleep(chance.random() * 0.02)
            dying = running.pop(chance.randrange(3))
            children.kill(dying)
            running.append(children.start("spend", number))
            asker = askers[number % 2]
            audit(asker)
            end_orphans(asker)
            confirm(ledger, asker)
            assert ledger.spent(HARD.name) <= (HARD.limit_nano or 0)

    wait_until(is_all_ended)
    audit(askers[0])
    assert len({*handed}) == len(handed), "an orphan was handed out twice"
    wait_until(lambda: confirm(ledger, askers[1]))
    for purse in (HARD, SOFT):
        [state] = askers[0].purses_now([purse.name])
        assert state.spent_nano == ledger.spent(purse.name)
        assert state.held_nano == 0
    assert is_free(askers[0], DESK.limit)


def confirm(ledger: Ledger, counters: SharedCounters) -> bool:
    """What the gateway does once a second.  True when all sums are sure."""
    states = {state.name: state for state in counters.purses_now([HARD.name, SOFT.name])}
    for purse in (HARD, SOFT):
        state = states.get(purse.name)
        if state is None:
            seed(ledger, counters, (purse,))
        elif not state.is_confirmed and counters.is_settled_before_now(state.seeded_before_us):
            total = ledger.spent(purse.name, before_us=state.seeded_before_us)
            counters.seed_now(purse, spent_nano=total, before_us=state.seeded_before_us, is_confirmed=True)
    return all(state.is_confirmed for state in states.values()) and len(states) == 2
