"""What a call through the gateway takes longer than a direct one, as a program with the client library sees it.

    python -m bench.client               # under a minute; prints a table
    python -m bench.client --calls 500 --write

One client calls the same provider (`bench/native/fake.c`, which answers at once) directly and through a `tollhouse serve` with
everything switched on, in JSON, protobuf and gRPC, with one call at a time on kept connections.  The ways take turns, call by
call, so that whatever else the machine does hits all of them; the added latency is the difference of medians.
"""

import argparse
import asyncio
import datetime as dt
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.compiled import BenchError, compile_all, fake_provider
from bench.gateway import COMMAND, KEY, gateway
from bench.machine import machine, short_commit
from bench.procs import choose_cores
from bench.subject import free_port, running
from tollhouse.client import AsyncClient
from tollhouse.config.schema import ProviderSettings
from tollhouse.config.secret import Secret

RESULTS: Final = Path(__file__).parent / "results"
CALLS: Final = 300
WARM_UP_CALLS: Final = 30
MOST_ADDED_MS: Final = 5.0
PROVIDER: Final = "openai-lab"
MODEL: Final = "gpt-4o-mini"
PROMPT: Final = "Say in two sentences what a toll house is."

Ask = Callable[[AsyncClient], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Line:
    """One way, as it was measured, in milliseconds."""

    way: str
    kind: str
    p50: float
    p99: float
    added_p50: float
    """Over the direct way; 0 for that itself."""


async def whole(client: AsyncClient) -> None:
    """One whole answer."""
    answer = await client.chat(PROMPT)
    if not answer.text:
        raise BenchError("An answer was empty.")


async def first_word(client: AsyncClient) -> None:
    """A stream until its first word; the rest is read afterwards."""
    async with client.stream(PROMPT) as stream:
        async for _ in stream:
            break


KINDS: Final[Mapping[str, Ask]] = {"whole answer": whole, "first word": first_word}


def client_of(way: str, *, port: int, grpc_port: int, provider_port: int) -> AsyncClient:
    """A client that goes that way, and knows nothing of whoever runs the bench."""
    provider = ProviderSettings(
        name=PROVIDER,
        type="openai-compatible",
        base_url=f"http://127.0.0.1:{provider_port}/v1",
        api_key=Secret("lab"),
    )
    environ = {"HOME": tempfile.gettempdir()}
    if way == "direct":
        return AsyncClient(mode="direct", model=f"{PROVIDER}/{MODEL}", providers={PROVIDER: provider}, environ=environ)
    url = f"tollhouse+insecure://127.0.0.1:{grpc_port}" if way == "grpc" else f"http://127.0.0.1:{port}"
    return AsyncClient(url, protocol=way, token=KEY, model="chat", environ=environ)


WAYS: Final = ("direct", "json", "protobuf", "grpc")


async def measured(calls: int, *, port: int, grpc_port: int, provider_port: int) -> list[Line]:
    """All ways, in turns."""
    lines: list[Line] = []
    async with AsyncExitStack() as stack:
        clients = {
            way: await stack.enter_async_context(
                client_of(way, port=port, grpc_port=grpc_port, provider_port=provider_port)
            )
            for way in WAYS
        }
        for kind, ask in KINDS.items():
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            for turn in range(WARM_UP_CALLS + calls):
                for way, client in clients.items():
                    began = time.perf_counter()
                    await ask(client)
                    if turn >= WARM_UP_CALLS:
                        seconds[way].append(time.perf_counter() - began)
            direct = percentile(seconds["direct"], 0.5)
            lines += [
                Line(way, kind, percentile(each, 0.5), percentile(each, 0.99), percentile(each, 0.5) - direct)
                for way, each in seconds.items()
            ]
    return lines


def percentile(seconds: Sequence[float], part: float) -> float:
    """In milliseconds, by nearest rank."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000


def run(calls: int) -> list[Line]:
    """Starts provider and gateway, and measures.  Raises `BenchError`."""
    compile_all()
    cores = choose_cores(frozenset(os.sched_getaffinity(0)))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollhouse-bench-")))
        provider_port = stack.enter_context(fake_provider(cores.others))
        port, grpc_port = free_port(), free_port()
        subject = gateway(
            f"{COMMAND} --grpc-port {grpc_port}",
            folder=folder,
            port=port,
            admin_port=free_port(),
            provider_port=provider_port,
        )
        stack.enter_context(running(subject, cores.server))
        return asyncio.run(measured(calls, port=port, grpc_port=grpc_port, provider_port=provider_port))


def table_of(lines: Sequence[Line]) -> Table:
    """For people."""
    table = Table("what", "way", "p50 ms", "p99 ms", "added p50 ms", box=None, padding=(0, 2, 0, 0))
    for line in lines:
        added = "" if line.way == "direct" else f"{line.added_p50:.2f}"
        table.add_row(line.kind, line.way, f"{line.p50:.2f}", f"{line.p99:.2f}", added)
    return table


def page_of(lines: Sequence[Line], calls: int) -> str:
    """The same in Markdown, with where it was measured."""
    where = machine(None)
    rows = "\n".join(
        f"| {line.kind} | {line.way} | {line.p50:.2f} | {line.p99:.2f} | "
        f"{'' if line.way == 'direct' else f'{line.added_p50:.2f}'} |"
        for line in lines
    )
    return (
        f"# What the gateway adds to a call of the client library\n\n"
        f"`python -m bench.client --calls {calls}` at {short_commit()}, {dt.datetime.now(dt.UTC):%Y-%m-%d}, on "
        f"{where.cpu} ({where.cores} cores), Linux {where.kernel}, Python {where.python}.\n\n"
        f"| what | way | p50 ms | p99 ms | added p50 ms |\n| --- | --- | --- | --- | --- |\n{rows}\n"
    )


def main() -> None:
    """The command line.  Exit status 1 if a way adds more than it may."""
    parser = argparse.ArgumentParser(prog="python -m bench.client", description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS, help="measured calls on each way")
    parser.add_argument("--write", action="store_true", help="write a page to bench/results/")
    given = parser.parse_args()
    try:
        lines = run(given.calls)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(2)
    Console().print(table_of(lines))
    if given.write:
        file = RESULTS / f"{dt.datetime.now(dt.UTC):%Y-%m-%d}-{short_commit()}-client.md"
        file.write_text(page_of(lines, given.calls))
        print(f"\nwritten to {file}")
    slow = [line for line in lines if line.kind == "whole answer" and line.added_p50 > MOST_ADDED_MS]
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
