"""The writer against a real PostgreSQL that is stopped, killed, frozen and locked: the ledger ends up with what was written,
once each, and no call waits long.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from support.call_records import make_call
from support.postgres import PostgresServer
from tollhouse.ledger.journal import Journal
from tollhouse.ledger.postgres import PostgresStorage
from tollhouse.ledger.writer import LedgerWriter, WriterSettings

CHILD = Path(__file__).parents[1] / "support" / "ledger_child.py"
CALLERS = 20


@asynccontextmanager
async def running(url: str, folder: Path, command_seconds: float = 5.0) -> AsyncIterator[LedgerWriter]:
    settings = WriterSettings(url=url, journal_directory=folder, retry_seconds=0.02)
    journal = Journal(folder, "books", max_bytes=settings.journal_max_bytes)
    storage = PostgresStorage(url, command_seconds=command_seconds)
    writer = LedgerWriter(storage, journal, settings, asyncio.get_running_loop())
    writer._thread.start()
    try:
        yield writer
    finally:
        await writer.aclose()


async def until(fact: Callable[[], bool]) -> None:
    """Lets the loop run until a fact holds."""
    async with asyncio.timeout(30):
        while not fact():  # noqa: ASYNC110 - what is waited for happens in another thread or process
            await asyncio.sleep(0.005)


async def books_of(url: str) -> tuple[list[str], int, int]:
    """The ids of all rows in their order, the calls that the totals know, and their cost."""
    connection = await asyncpg.connect(url)
    try:
        ids = [row["id"] for row in await connection.fetch("SELECT id FROM calls ORDER BY id")]
        totals = await connection.fetchrow(
            "SELECT coalesce(sum(calls), 0), coalesce(sum(cost_nano), 0) FROM spend_hours"
        )
        return ids, int(totals[0]), int(totals[1])
    finally:
        await connection.close()


def journals_in(folder: Path) -> list[Path]:
    return [*folder.glob("*.jsonl")]


def start_child(url: str, name: str, count: int, state: Path) -> "subprocess.Popen[str]":
    """A process that writes calls and prints the acknowledged ones; its journals are in a folder of its own."""
    environ = {**os.environ, "PYTHONPATH": str(CHILD.parents[1]), "XDG_STATE_HOME": str(state)}
    return subprocess.Popen(
        [sys.executable, str(CHILD), url, name, str(count)], stdout=subprocess.PIPE, text=True, env=environ
    )


class Load:
    """Callers that write one row after the other until they are told to stop."""

    def __init__(self, writer: LedgerWriter) -> None:
        self._writer = writer
        self.written: list[str] = []
        self.is_over = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._call(number))

    async def more(self, count: int) -> None:
        """Returns when so many more rows were acknowledged."""
        goal = len(self.written) + count
        await until(lambda: len(self.written) >= goal)

    async def _call(self, caller: int) -> None:
        number = 0
        while not self.is_over:
            name = f"{caller:02}-{number:06}"
            await self._writer.write(make_call(name, at=number, cost_nano=3))
            self.written.append(name)
            number += 1
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["in good order", "at once"])
async def test_a_server_stopped_under_load_gets_every_row_once_when_it_is_back(
    postgres: PostgresServer, postgres_ledger: str, tmp_path: Path, how: signal.Signals
) -> None:
    async with running(postgres_ledger, tmp_path) as writer, asyncio.TaskGroup() as group:
        load = Load(writer)
        group.create_task(load.run())
        await load.more(500)
        assert writer.state().status == "ok"
        await asyncio.to_thread(postgres.stop, how)
        await load.more(500)
        state = writer.state()
        assert (state.status, state.failed_rows) == ("degraded", 0)
        assert "127.0.0.1" in state.reason
        assert journals_in(tmp_path)
        await asyncio.to_thread(postgres.start)
        await until(lambda: writer.state().status == "ok")
        await load.more(500)
        await until(lambda: not journals_in(tmp_path))
        load.is_over = True
    ids, calls, cost = await books_of(postgres_ledger)

    assert ids == sorted(load.written)
    assert (calls, cost) == (len(ids), 3 * len(ids))
    assert journals_in(tmp_path) == []


async def test_a_gateway_that_starts_without_its_server_serves_and_makes_the_tables_later(
    postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    await asyncio.to_thread(postgres.stop)
    async with running(postgres_url, tmp_path) as writer:
        await asyncio.gather(*(writer.write(make_call(f"{number:02}", cost_nano=1)) for number in range(50)))
        assert writer.state().journaled_rows == 50
        await asyncio.to_thread(postgres.start)
        await until(lambda: writer.state().replayed_rows == 50)
        await writer.write(make_call("50", cost_nano=1))
        assert writer.state().written_rows == 1

    assert await books_of(postgres_url) == ([f"{number:02}" for number in range(51)], 51, 51)


async def test_a_server_that_hangs_holds_up_one_batch_and_no_more(
    postgres: PostgresServer, postgres_ledger: str, tmp_path: Path
) -> None:
    async with running(postgres_ledger, tmp_path, command_seconds=0.5) as writer:
        await writer.write(make_call("before"))
        postgres.freeze()
        try:
            async with asyncio.timeout(10):
                for number in range(200):
                    await writer.write(make_call(f"during-{number}"))
            assert writer.state().journaled_rows == 200
        finally:
            postgres.thaw()
        await until(lambda: writer.state().replayed_rows == 200)

    ids, calls, _ = await books_of(postgres_ledger)
    assert (len(ids), len(set(ids)), calls) == (201, 201, 201)


async def test_a_locked_table_sends_rows_to_the_journal_and_gets_them_back(
    postgres_ledger: str, tmp_path: Path
) -> None:
    bully = await asyncpg.connect(postgres_ledger)
    async with running(postgres_ledger, tmp_path, command_seconds=0.2) as writer:
        await writer.write(make_call("before"))
        async with bully.transaction():
            await bully.execute("LOCK TABLE calls IN ACCESS EXCLUSIVE MODE")
            async with asyncio.timeout(10):
                for number in range(100):
                    await writer.write(make_call(f"during-{number}"))
            assert writer.state().status == "degraded"
        await until(lambda: writer.state().replayed_rows == 100)
    await bully.close()

    ids, calls, _ = await books_of(postgres_ledger)
    assert (len(ids), calls) == (101, 101)


async def test_two_gateways_write_one_database_through_a_crash_of_the_server(
    postgres: PostgresServer, postgres_ledger: str, tmp_path: Path
) -> None:
    """Each gateway has its own journals, as if it were on a machine of its own."""
    count = 3000
    children = [start_child(postgres_ledger, name, count, tmp_path / name) for name in ("left", "right")]
    outputs = [child.stdout for child in children if child.stdout is not None]
    acknowledged = [await asyncio.to_thread(output.readline) for output in outputs for _ in range(500)]
    await asyncio.to_thread(postgres.stop, signal.SIGQUIT)
    acknowledged += [await asyncio.to_thread(output.readline) for output in outputs for _ in range(500)]
    await asyncio.to_thread(postgres.start)
    for child, output in zip(children, outputs, strict=True):
        acknowledged += (await asyncio.to_thread(output.read)).splitlines(keepends=True)
        assert child.wait(60) == 0
        output.close()
    expected = sorted(f"{name}-{number}" for name in ("left", "right") for number in range(count))
    assert sorted(line.strip() for line in acknowledged) == expected

    # What the gateways left in their journals is there once they have been started again.
    for name in ("left", "right"):
        folder = tmp_path / name / "tollhouse"
        writer = LedgerWriter.start(
            WriterSettings(url=postgres_ledger, journal_directory=folder), asyncio.get_running_loop()
        )
        await until(lambda folder=folder: not journals_in(folder))  # type: ignore[misc]
        await writer.aclose()
    ids, calls, _ = await books_of(postgres_ledger)
    assert ids == expected
    assert calls == len(expected)
