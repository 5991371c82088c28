"""Processes that count in a shared folder, and can be killed at any moment.

Run as `python -m support.shared_counters_child FOLDER`; it then forks a process for each line `ROLE SEED` on its standard input, and
answers with the new process's number.  Forking costs a hundredth of starting Python, so that a test can afford many deaths.

What a process has done stands in the file `log-ROLE-SEED` beside the counters, a line each.  For the role `spend` this file is
its ledger: a line is written before the claim is settled, as the gateway writes its rows.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from support.claims import claim_of
from tollhouse.policy.counters import Claim, Parts, Placed, Purse, Rate, Seats, Unseeded
from tollhouse.policy.shared_memory import SharedCounters

PATIENCE_SECONDS: Final = 30.0
"""A busy machine is no failure."""
RATE: Final = Rate("requests/all", 300, 1)
DESK: Final = Seats("desk", 7)
ROOM: Final = Seats("room", 1_000)
TOKENS: Final = Rate("tokens/all", 600_000_000, 100, "tokens")
HARD: Final = Purse("hard/day", 6_000)
SOFT: Final = Purse("soft/total", None)
HOLD: Final = 10


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A line of a ledger."""

    id: str
    began: int
    cost: int
    purses: tuple[str, ...]


def now_us() -> int:
    return time.time_ns() // 1_000


class Ledger:
    """The rows of all processes, as far as they were written whole.  Reads only what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self.rows: dict[str, Row] = {}

    def refresh(self) -> None:
        for path in self._folder.glob("log-spend-*"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                lines = file.read().rpartition(b"\n")[0]
            for line in lines.splitlines():
                row = msgspec.json.decode(line, type=Row)
                assert row.id not in self.rows, "a call has two rows"
                self.rows[row.id] = row
            self._read[path] = self._read.get(path, 0) + len(lines) + bool(lines)

    def spent(self, purse: str, *, before_us: int = 1 << 60) -> int:
        """The sum of the rows that began before then."""
        self.refresh()
        return sum(row.cost for row in self.rows.values() if purse in row.purses and row.began < before_us)


def seed(ledger: Ledger, counters: SharedCounters, purses: tuple[Purse, ...]) -> None:
    """Reads the ledger and tells the store."""
    for purse in purses:
        moment = now_us()
        counters.seed_now(purse, spent_nano=ledger.spent(purse.name, before_us=moment), before_us=moment)


class Log:
    """Lines that are written at once and outlive the process."""

    def __init__(self, folder: Path, role: str, number: int) -> None:
        self._file = os.open(folder / f"log-{role}-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, value: object) -> None:
        os.write(self._file, msgspec.json.encode(value) + b"\n")


def open_counters(folder: Path, clock: Callable[[], int] = time.monotonic_ns) -> SharedCounters:
    return SharedCounters.open(
        folder, processes=8, meters=128, purses=16, patience_seconds=PATIENCE_SECONDS, monotonic_ns=clock
    )


def crowd(folder: Path, number: int) -> None:
    """Tries each limit more often than it lets through, in a minute that does not pass; then spends from one purse."""
    counters = open_counters(folder, lambda: 1_000_000_000_000)
    log = Log(folder, "crowd", number)
    chance = random.Random(number)

    def tries(name: str, count: int, parts: Parts, hold_nano: int = 0) -> int:
        ids = [f"{name}-{number}-{i}" for i in range(count)]
        claims = [Claim(id=i, began_at_us=now_us(), parts=parts, hold_nano=hold_nano) for i in ids]
        return sum(isinstance(counters.place_now(one), Placed) for one in claims)

    rates = tries("rate", 200, Parts(rates=(RATE,)))
    seats = tries("seat", 20, Parts(seats=(DESK,)))
    hard = tries("hard", 200, Parts(purses=(HARD,)), HOLD * 10)
    total = 0
    for i in range(300):
        name, cost = f"soft-{number}-{i}", chance.randrange(50)
        placed = counters.place_now(
            claim_of(id=name, began_at_us=now_us(), seats=(ROOM,), rates=(TOKENS,), purses=(SOFT,), hold_nano=HOLD)
        )
        if isinstance(placed, Placed):
            counters.settle_now(name, cost_nano=cost, tokens=100)
            total += cost
    log.write({"rates": rates, "seats": seats, "hard": hard, "soft": total})
    while True:  # what it holds stays held until it is killed
        signal.pause()


def spend(folder: Path, number: int) -> None:
    """Places, extends, settles and releases whatever chance says, until it is killed."""
    counters = open_counters(folder)
    log, ledger = Log(folder, "spend", number), Ledger(folder)
    chance = random.Random(number)
    standing: list[tuple[Claim, int]] = []
    """With what is held by now."""

    def is_placed(claim: Claim, *, extends: bool = False) -> bool:
        answer = counters.place_now(claim, extends=extends)
        if isinstance(answer, Unseeded):
            seed(ledger, counters, answer.purses)
        return isinstance(answer, Placed)

    for i in range(sys.maxsize):
        if len(standing) < 4:
            purses = tuple(purse for purse in (HARD, SOFT) if chance.random() < 0.6)
            claim = claim_of(
                id=f"{number}-{i}",
                began_at_us=now_us(),
                rates=(TOKENS,) if chance.random() < 0.5 else (),
                seats=tuple(seats for seats in (DESK, ROOM) if chance.random() < 0.5),
                purses=purses,
                hold_nano=HOLD,
                note=note_of(purses),
            )
            if is_placed(claim):
                standing.append((claim, HOLD))
        if not standing:
            continue
        claim, hold = standing.pop(chance.randrange(len(standing)))
        match chance.choices(["extend", "release", "settle"], [3, 5, 2])[0]:
            case "extend":
                more = claim_of(
                    id=claim.id,
                    began_at_us=claim.began_at_us,
                    rates=(TOKENS,),
                    seats=(ROOM,),
                    purses=claim.parts.purses,
                    hold_nano=5,
                    note=claim.note,
                )
                is_longer = hold < 50 and is_placed(more, extends=True)
                standing.append((claim, hold + 5 if is_longer else hold))
            case "release":
                counters.release_now(claim.id)
            case _:
                cost = chance.randrange(hold // 2)
                log.write(Row(claim.id, claim.began_at_us, cost, purses_of(claim.note)))
                counters.settle_now(claim.id, cost_nano=cost, tokens=chance.randrange(200))


def note_of(purses: tuple[Purse, ...]) -> bytes:
    """What a row would need."""
    return msgspec.json.encode([purse.name for purse in purses])


def purses_of(note: bytes) -> tuple[str, ...]:
    """The names in a note."""
    return msgspec.json.decode(note, type=tuple[str, ...])


def serve(folder: Path) -> None:
    """Forks on request."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        role, number = line.split()
        child = os.fork()
        if child == 0:
            try:
                {"crowd": crowd, "spend": spend}[role](folder, int(number))
            finally:
                os._exit(1)
        os.write(1, b"%d\n" % child)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
