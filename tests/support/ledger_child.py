"""A process that writes calls into a ledger and says on stdout which ones were acknowledged, a line each.

Run as `python ledger_child.py URL NAME COUNT`.
"""

import asyncio
import os
import sys

from support.call_records import make_call
from tollhouse.ledger.writer import LedgerWriter, WriterSettings

CALLERS = 20


async def work(url: str, name: str, count: int) -> None:
    settings = WriterSettings(url=url, busy_timeout_ms=int(os.environ.get("BUSY_MS", "5000")), retry_seconds=0.05)
    writer = LedgerWriter.start(settings, asyncio.get_running_loop())
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await writer.write(make_call(f"{name}-{number}", at=number))
            os.write(1, f"{name}-{number}\n".encode())

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())
    await writer.aclose()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
