"""A gateway process, as far as counters are concerned: four tasks that place claims and say on stdout which were placed.

Run as `python valkey_child.py URL PART COUNT`.  It says `ready`, begins when a line comes on stdin, says the id of each claim that
was placed, and `done` after COUNT attempts; then it waits to be killed.  PART is what the claims must pass:

- `rate`, `purse`: one of them, under the clock that tests move by hand; each claim is settled at once.
- `seats`: one too; the claims stand.
- `all`: seats and a purse, under the server's clock and with a short lease; every other claim is settled.
"""

import asyncio
import os
import sys
from typing import Final

from support.claims import claim_of
from tollhouse.policy.counters import Claim, Placed, Purse, Rate, Seats
from tollhouse.policy.valkey import ValkeySettings
from tollhouse.policy.valkey.scripts import SERVER_CLOCK, load
from tollhouse.policy.valkey.store import ValkeyCounters

CLOCK_KEY: Final = "tests:clock"
HAND_CLOCK: Final = f"local now = tonumber(redis.call('GET', '{CLOCK_KEY}'))"
"""For `scripts.load`: the time is what stands under `CLOCK_KEY`, microseconds since the epoch."""
RATE: Final = Rate("requests/crowd", 100, 1)
SEATS: Final = Seats("concurrent/crowd", 100)
PURSE: Final = Purse("crowd/total", 1_000)
HOLD: Final = 10
TASKS: Final = 4


def hurried(url: str) -> ValkeySettings:
    """A process that is missed soon after it died; on a busy machine, its calls have time all the same."""
    return ValkeySettings(
        url=url, connect_seconds=10, call_seconds=10, retry_seconds=0.05, beat_seconds=0.1, lease_seconds=1.0
    )


def claim_for(name: str, part: str) -> Claim:
    return claim_of(
        id=name,
        began_at_us=2,
        rates=(RATE,) if part == "rate" else (),
        seats=(SEATS,) if part in {"seats", "all"} else (),
        purses=(PURSE,) if part in {"purse", "all"} else (),
        hold_nano=HOLD,
        note=name.encode(),
    )


async def work(url: str, part: str, count: int) -> None:
    counters = ValkeyCounters.start(hurried(url), load(SERVER_CLOCK if part == "all" else HAND_CLOCK))
    await counters.purses([])
    os.write(1, b"ready\n")
    sys.stdin.readline()
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            claim = claim_for(f"{os.getpid()}-{number}", part)
            if isinstance(await counters.place(claim), Placed):
                os.write(1, f"{claim.id}\n".encode())
                if part in {"rate", "purse"} or (part == "all" and number % 2):
                    await counters.settle(claim.id, cost_nano=HOLD, tokens=None)

    async with asyncio.TaskGroup() as group:
        for _ in range(TASKS):
            group.create_task(caller())
    os.write(1, b"done\n")
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
