"""Four workers count as one, and whoever is killed, whenever, leaves one row for each call and nothing held.

Real processes, real kills.  The counters are looked at as a neighbour sees them: another process on the same files.
"""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import pytest

from support.clients import CLIENTS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Stall, Tokens, faulty, words
from support.processes import PATIENCE_SECONDS, Process, ledger_url, started, until, workers_of
from tollhouse.errors import ProviderError
from tollhouse.ledger.address import counters_folder
from tollhouse.policy.counters import PurseState
from tollhouse.policy.shared_memory import SharedCounters
from tollhouse.upstream.address import parse_address
from tollhouse.upstream.transport import Deadlines, Outgoing
from tollhouse.upstream.wire import WireTransport

KEYS: Final = {name: f"th-key-of-{name}-0123456789" for name in ("rate", "seats", "rich")}
PRICES: Final = "\nprices: {openai/*: {input: 1, output: 2}}"
COST: Final = 10 * 1_000 + 8 * 2_000
"""What the fake provider's usual answer costs, in nano-USD."""
RICH: Final = "key:rich/total/ever"
ASKS: Final = CLIENTS["openai"]
PATIENT: Final = Deadlines(
    connect=PATIENCE_SECONDS, first_byte=PATIENCE_SECONDS, between_chunks=PATIENCE_SECONDS, total=PATIENCE_SECONDS
)


async def call(process: Process, key: str, model: str = "to-openai", *, stream: bool = False) -> int:
    """The status of one answer, on a connection of its own; 0 when it broke off."""
    transport = WireTransport()
    try:
        with suppress(ProviderError):
            incoming = await transport.send(
                Outgoing(
                    address=parse_address(process.url),
                    method=b"POST",
                    target=ASKS.path.encode(),
                    headers=[
                        (b"authorization", b"Bearer " + KEYS[key].encode()),
                        (b"content-type", b"application/json"),
                    ],
                    body=msgspec.json.encode(ASKS.question(model, stream=stream, max_tokens=100)),
                ),
                PATIENT,
            )
            await incoming.read_all(1 << 20)
            return incoming.status
    finally:
        await transport.aclose()
    return 0


@dataclass
class Watcher:
    """A neighbour of the gateway's workers that looks at a purse again and again."""

    folder: Path
    limit_nano: int
    counters: SharedCounters = field(init=False)
    seen: int = 0

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.counters = SharedCounters.open(counters_folder(ledger_url(self.folder), self.folder), processes=2)

    async def state(self) -> PurseState | None:
        found = await self.counters.purses([RICH])
        return found[0] if found else None

    async def look(self) -> None:
        """Checks the invariant once."""
        state = await self.state()
        if state is not None:
            self.seen += 1
            assert state.spent_nano + state.held_nano <= self.limit_nano

    async def go_on(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(0.005)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Looks for as long as the block lasts."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.go_on())
            yield
            task.cancel()


async def comes_to_rest(process: Process, watcher: Watcher) -> None:
    """Waits until nothing is held, and the purse is what the ledger adds up to."""

    async def is_settled() -> bool:
        state = await watcher.state()
        if state is None:  # it was forgotten when a worker died; the next call tells the store of it
            await call(process, "rich")
            return False
        return state.held_nano == 0 and state.spent_nano == sum(
            row["cost_nano"] for row in process.rows() if row["key"] == "rich"
        )

    await until(is_settled)


def keys(**terms: str) -> str:
    each = ", ".join(f"{{name: {name}, key: {KEYS[name]}, {text}}}" for name, text in terms.items())
    return f"\nauth: {{keys: [{each}]}}"


async def test_four_workers_let_through_what_one_would(tmp_path: Path, fake_provider: FakeProvider):
    limit = 5_000_000
    terms = keys(
        rate="limits: {requests_per_minute: 6}",
        seats="limits: {concurrent: 7}",
        rich=f"budget: {{total: {limit / 1e9:.9f}}}",
    )
    async with started(tmp_path, settings(fake_provider) + PRICES + terms, "--workers", "4") as process:
        # Seats: all ask while nobody is answered.
        go = asyncio.Event()
        stalled = faulty(Answer(text=words(8)), Stall("before_head", until=go))
        fake_provider.default = stalled
        statuses: list[int] = []

        async def ask_for_a_seat() -> None:
            statuses.append(await call(process, "seats"))

        async with asyncio.TaskGroup() as group:
            for _ in range(60):
                group.create_task(ask_for_a_seat())
            await until(lambda: is_length(statuses, 53))
            assert Counter(statuses) == {429: 53}
            go.set()
        assert Counter(statuses) == {429: 53, 200: 7}
        assert len(fake_provider.calls) == 7
        fake_provider.default = Answer(text=words(8))

        # A rate: so many, and what refills while they ask.
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(call(process, "rate")) for _ in range(60)]
        refilled = int((time.monotonic() - began) * 6 / 60)
        let_in = Counter(task.result() for task in asking)
        assert set(let_in) == {200, 429}
        assert 6 <= let_in[200] <= 6 + refilled

        # A budget: hundreds at once, until nothing more fits.
        watcher = Watcher(tmp_path, limit)
        some = asyncio.Semaphore(40)

        async def spend() -> int:
            async with some:
                return await call(process, "rich")

        async with watcher.watching(), asyncio.TaskGroup() as group:
            spending = [group.create_task(spend()) for _ in range(300)]
        outcome = Counter(task.result() for task in spending)
        assert set(outcome) == {200, 402}
        await comes_to_rest(process, watcher)
        while await call(process, "rich") == 200:
            outcome[200] += 1
        rows = [row for row in process.rows() if row["key"] == "rich"]
        assert len(rows) == outcome[200]
        total = sum(row["cost_nano"] for row in rows)
        assert limit - 300_000 < total <= limit
        assert total == outcome[200] * COST
        assert watcher.seen > 10
        await watcher.counters.aclose()


async def are_back(process: Process, restarts: int) -> bool:
    workers = (await process.health())["workers"]
    return all(worker["ready"] for worker in workers) and sum(worker["restarts"] for worker in workers) == restarts


async def is_length(items: list[int], length: int) -> bool:
    return len(items) >= length


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_killed_worker_and_a_killed_gateway_leave_one_row_for_each_call_and_nothing_held(
    tmp_path: Path, fake_provider: FakeProvider, seed: int
):
    chance = random.Random(seed)
    limit = 28_000_000
    """Room for the worst of three batches."""
    text = settings(fake_provider) + PRICES + keys(rich=f"budget: {{total: {limit / 1e9:.9f}}}")
    number = 0

    async def batch(process: Process, kill: Callable[[], None]) -> None:
        """Thirty calls of which some are not answered until somebody has been killed."""
        nonlocal number
        release = asyncio.Event()
        reached = len(fake_provider.calls)
        async with asyncio.TaskGroup() as group:
            for _ in range(30):
                number += 1
                if number % 2:
                    stall = Stall("before_head" if number % 3 else 4, until=release)
                    fake_provider.reply_to(f"m-{number}", faulty(Answer(text=words(8)), stall))
                group.create_task(call(process, "rich", f"openai/m-{number}", stream=number % 3 == 0))
            await fake_provider.call(reached + chance.randrange(8, 16))
            kill()
            release.set()

    async with started(tmp_path, text, "--workers", "2") as process:
        watcher = Watcher(tmp_path, limit)
        async with watcher.watching():
            for killed in (1, 2):
                victim = chance.choice(workers_of(process.child.pid))
                await batch(process, partial(os.kill, victim, signal.SIGKILL))
                await until(partial(are_back, process, killed))
            await batch(process, partial(os.killpg, process.child.pid, signal.SIGKILL))
        await process.child.wait()
        # Nobody is left who counts: the next to come finds the files as the dead have left them.
        await watcher.counters.aclose()

    async with started(tmp_path, text, "--workers", "2") as process:
        watcher.open()
        async with watcher.watching():
            await batch(process, lambda: None)
            await comes_to_rest(process, watcher)
            # What was lost counts: together with what is spent now, it is never more than the limit.
            fake_provider.default = Answer(text=words(8), tokens=Tokens(input=10, output=100))
            statuses: set[int] = set()
            while 402 not in statuses:
                async with asyncio.TaskGroup() as group:
                    more = [group.create_task(call(process, "rich", "openai/gpt-4o-mini")) for _ in range(20)]
                statuses |= {task.result() for task in more}
            assert statuses == {200, 402}
            await comes_to_rest(process, watcher)
        assert limit - 20 * 300_000 < sum(row["cost_nano"] for row in process.rows()) <= limit
        reached = Counter(call.model for call in fake_provider.calls)
        assert all(count == 1 for model, count in reached.items() if model != "gpt-4o-mini")
        rows = Counter(row["model"] for row in process.rows())
        assert {model: count for model, count in rows.items() if model in reached} == reached
        lost = [row for row in process.rows() if row["outcome"] == "lost"]
        assert any(row["model"] in reached for row in lost)
        for row in lost:
            assert (row["usage_source"], row["status"], row["provider"]) == ("estimated", 500, "openai")
            assert row["cost_nano"] > 100 * 2_000, "all that was held"
        never_sent = set(rows) - set(reached)
        assert never_sent <= {row["model"] for row in lost}, "only of the dead nobody can say whether they had sent it"
        assert watcher.seen > 10
        await watcher.counters.aclose()
