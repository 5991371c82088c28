"""A ledger with many rows: how fast they are written, how large they are, how long questions take.

    python -m bench.ledger_rows                                  # 10 million rows in a SQLite file, some five minutes
    python -m bench.ledger_rows --rows 1000000 --days 3
    python -m bench.ledger_rows --url postgresql://me@127.0.0.1/bench

It fills an empty ledger, as the gateway would have: through the storage's own statements, so that totals are kept.  The
database is deleted at the end unless it was named.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tollhouse.chat.usage import Usage
from tollhouse.config.schema import Scope
from tollhouse.ledger import store
from tollhouse.ledger.record import Attempt, CallRecord
from tollhouse.ledger.rows import COLUMNS, Row, row_of
from tollhouse.ledger.spending import SpendReader
from tollhouse.ledger.writer import LedgerWriter, WriterSettings

KEYS = [f"key-{number:02}" for number in range(50)]
MODELS = [("openai", "gpt-4o-mini-2024-07-18"), ("anthropic", "claude-haiku-4-5"), ("local", "qwen3-0.6b")]
ALIASES = ["smart", "fast"]
BATCH = 1000
DAY_US = 86_400_000_000
CALLERS = 256
"""Calls that wait for their rows at the same time, when the writer is measured."""


def main() -> None:
    options = _options()
    if options.url:
        measure(options.url, options.rows, options.days, options.writer_rows)
        return
    with tempfile.TemporaryDirectory(prefix="tollhouse-rows-", dir=options.folder) as folder:
        measure(f"sqlite:///{folder}/ledger.db", options.rows, options.days, options.writer_rows)


def measure(url: str, rows: int, days: int, writer_rows: int) -> None:
    store.prepare(url)
    end_us = time.time_ns() // 1000
    start_us = end_us - days * DAY_US
    _fill(url, rows, start_us, end_us)
    contents = store.contents_of(url)
    print(
        f"calls             {contents.calls:,}, {contents.size_bytes / contents.calls:.0f} bytes a call with all indexes"
    )
    for by in ("day", "key", "model", "provider", "tenant"):
        for since in ("all", "7d"):
            command = [sys.executable, "-m", "tollhouse", "usage", "--ledger", url, "--by", by, "--since", since]
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            print(f"usage             {time.perf_counter() - began:6.2f} s  --by {by} --since {since}")
    asyncio.run(_ask(url, start_us, end_us))
    asyncio.run(_write(url, writer_rows))
    _prune(url, start_us + DAY_US, min(rows // max(days, 1), 200_000))


def _fill(url: str, rows: int, start_us: int, end_us: int) -> None:
    storage = store.storage_of(url, busy_timeout_ms=10_000)
    storage.open()
    took = worked = 0.0
    for batch in _batches(rows, start_us, end_us):
        began, cpu = time.perf_counter(), time.thread_time()
        assert not storage.insert(batch)
        took += time.perf_counter() - began
        worked += time.thread_time() - cpu
    storage.close()
    print(
        f"storage           {rows / took:,.0f} rows/s by {BATCH} at once; {1e6 * worked / rows:.1f} us of our CPU a row"
    )


def _batches(rows: int, start_us: int, end_us: int) -> Iterator[list[Row]]:
    chance = random.Random(1)
    patterns = [_pattern(chance, number) for number in range(600)]
    step = (end_us - start_us) / max(rows, 1)
    for first in range(0, rows, BATCH):
        count = min(BATCH, rows - first)
        chosen = chance.choices(patterns, k=count)
        yield [
            (f"req_{number:024x}", start_us + int(number * step), *pattern)
            for number, pattern in enumerate(chosen, first)
        ]


def _pattern(chance: random.Random, number: int) -> Row:
    """A row without its first two columns."""
    return row_of(_call(chance, number, 0))[2:]


def _call(chance: random.Random, number: int, at_us: int) -> CallRecord:
    provider, model = MODELS[number % len(MODELS)]
    key = KEYS[number % len(KEYS)]
    usage = Usage(
        input_tokens=chance.randrange(50, 8000),
        cache_read_tokens=chance.choice([None, 0, 1024]),
        output_tokens=chance.randrange(1, 2000),
        source="reported",
    )
    return CallRecord(
        id=f"req_w{number:023x}",
        started_at_us=at_us,
        door="openai_chat",
        tenant="acme" if number % 2 else "research",
        project="web",
        key=key,
        requested_model=ALIASES[number % 2] if number % 5 else f"{provider}/{model}",
        provider=provider,
        model=model,
        streamed=True,
        lane="same",
        status=200,
        outcome="ok" if number % 50 else "provider_timeout",
        finish="stop",
        usage=usage,
        cost_nano=chance.randrange(10**4, 10**7),
        price_version="0.2.3+20261121.796a39dd",
        first_byte_us=chance.randrange(10**5, 10**6),
        duration_us=chance.randrange(10**6, 10**7),
        attempts=(Attempt(provider=provider, model=model, outcome="ok", status=200),),
    )


async def _ask(url: str, start_us: int, end_us: int) -> None:
    reader = SpendReader(url, Path(tempfile.gettempdir()) / "no-journals-here")
    scopes = [Scope("global"), Scope("key", KEYS[7]), Scope("project", "acme/web"), Scope("model", "smart")]
    windows = {
        "all of it": (start_us, end_us),
        "one day": (end_us - DAY_US, end_us),
        "within an hour": (end_us - 9**9, end_us - 7**9),
    }
    for scope in scopes:
        for name, (from_us, before_us) in windows.items():
            began = time.perf_counter()
            spent = await reader.spent(scope, from_us, before_us)
            print(
                f"spent             {1e3 * (time.perf_counter() - began):6.1f} ms {scope}, {name}: {spent / 1e9:,.2f} dollars"
            )
    began = time.perf_counter()
    await reader.costs_of([f"req_{number:024x}" for number in range(1000)])
    print(f"costs_of          {1e3 * (time.perf_counter() - began):6.1f} ms for 1,000 ids")
    await reader.aclose()


async def _write(url: str, rows: int) -> None:
    """The writer as the gateway uses it: many callers, each waiting for its own row."""
    chance = random.Random(2)
    with tempfile.TemporaryDirectory() as journals:
        settings = WriterSettings(url=url, journal_directory=Path(journals))
        writer = LedgerWriter.start(settings, asyncio.get_running_loop())
        now_us = time.time_ns() // 1000
        calls = iter([_call(chance, number, now_us + number) for number in range(rows)])

        async def caller() -> None:
            for call in calls:
                await writer.write(call)

        began, cpu, loop_cpu = time.perf_counter(), time.process_time(), time.thread_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(caller())
        took, worked, loop_worked = (
            time.perf_counter() - began,
            time.process_time() - cpu,
            time.thread_time() - loop_cpu,
        )
        state = writer.state()
        await writer.aclose()
    print(
        f"writer            {rows / took:,.0f} rows/s by {CALLERS} callers; CPU a row {1e6 * loop_worked / rows:.1f} us on "
        f"the loop, {1e6 * (worked - loop_worked) / rows:.1f} us in the thread; {state.journaled_rows:,} by the journal"
    )


def _prune(url: str, before_us: int, rows: int) -> None:
    storage = store.storage_of(url, busy_timeout_ms=10_000)
    storage.open()
    began, deleted = time.perf_counter(), 0
    while deleted < rows and (step := storage.prune(before_us, 500)):
        deleted += step
    took = time.perf_counter() - began
    storage.close()
    print(
        f"prune             {deleted / took:,.0f} rows/s in steps of 500, {1e3 * took * 500 / max(deleted, 1):.1f} ms a step"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=30, help="over which the rows are spread")
    parser.add_argument("--writer-rows", type=int, default=200_000)
    parser.add_argument("--url", help="an empty ledger; kept")
    parser.add_argument("--folder", help="where the SQLite file is made")
    return parser.parse_args()


if __name__ == "__main__":
    assert len(COLUMNS) == len(row_of(_call(random.Random(0), 0, 0)))
    main()
