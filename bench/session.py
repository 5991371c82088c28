"""A whole bench: which servers run when, in which order they are measured, and the rows that come of it."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from bench.bare_relay import bare_relay
from bench.comparison import Pair, compare
from bench.compiled import fake_provider, run_load
from bench.figures import Spread, spread_of
from bench.gateway import gateway
from bench.latency import added_latency
from bench.machine import ROOT, direct_dependencies
from bench.nginx import find_nginx, nginx
from bench.procs import Cores, memory
from bench.report import Row
from bench.scenarios import CHAT, Effort, Scenario, load_of
from bench.subject import Running, Subject, free_port, running

SubjectName = Literal["tollhouse", "bare-relay"]
Part = Literal["cpu", "latency", "memory", "start"]
PARTS: Final[tuple[Part, ...]] = ("cpu", "latency", "memory", "start")

WARM_UP_REQUESTS: Final = 500
RSS_MOST_MB: Final = 120.0
START_MOST_SECONDS: Final = 1.0
VERSION_MOST_SECONDS: Final = 0.2
DEPENDENCIES_MOST: Final = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for."""

    subject: SubjectName
    gateway_command: str
    scenarios: tuple[Scenario, ...]
    parts: frozenset[Part]
    effort: Effort
    cores: Cores


@dataclass(slots=True)
class Session:
    """Measures one server against nginx.  Rows and remarks gather as it goes."""

    options: Options
    say: Callable[[str], None]
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Everything, in the order of the table.  Raises `BenchError` when a server or an answer is not right."""
        if not self.options.cores.are_apart:
            self.remarks.append("One core only: the load generator disturbed what it measured.")
        if self.options.parts & {"cpu", "latency"}:
            self._compare_with_nginx()
        if "memory" in self.options.parts:
            self._measure_memory()
        if "start" in self.options.parts:
            self.say("start")
            self._measure_starts()

    def _compare_with_nginx(self) -> None:
        cores, parts = self.options.cores, self.options.parts
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollhouse-bench-")))
            provider_port = stack.enter_context(fake_provider(cores.others))
            server = stack.enter_context(running(self._subject(folder, provider_port), cores.server))
            yardstick = self._yardstick(stack, folder, provider_port)
            self._send(server, WARM_UP_REQUESTS)
            if "cpu" in parts:
                self._compare_all(server, yardstick)
            if "latency" in parts:
                self.say("added latency")
                plain = load_of(CHAT, server.subject.port, self.options.effort.latency_requests)
                servers = {each.subject.name: each.subject.port for each in (server, yardstick) if each}
                self.rows += added_latency(plain, provider_port, servers, cores.others)

    def _subject(self, folder: Path, provider_port: int) -> Subject:
        port = free_port()
        if self.options.subject == "bare-relay":
            return bare_relay(folder=folder, port=port, provider_port=provider_port)
        command = self.options.gateway_command
        return gateway(command, folder=folder, port=port, admin_port=free_port(), provider_port=provider_port)

    def _yardstick(self, stack: ExitStack, folder: Path, provider_port: int) -> Running | None:
        program = find_nginx()
        if program is None:
            self.remarks.append("nginx is missing (Debian: apt install nginx-light), so there are no ratios.")
            return None
        subject = nginx(program, folder=folder, port=free_port(), provider_port=provider_port)
        return stack.enter_context(running(subject, self.options.cores.server))

    def _send(self, server: Running, requests: int) -> None:
        run_load(load_of(CHAT, server.subject.port, requests), self.options.cores.others)

    def _compare_all(self, server: Running, yardstick: Running | None) -> None:
        translates = self.options.subject == "tollhouse"
        pair = Pair(
            server=server,
            server_translates=translates,
            yardstick=yardstick,
            effort=self.options.effort,
            cores=self.options.cores,
        )
        for scenario in self.options.scenarios:
            if translates or scenario.client is scenario.provider:
                self.say(f"CPU time, {scenario.name}")
                outcome = compare(scenario, pair)
                self.rows += outcome.rows
                self.remarks += outcome.remarks

    def _measure_memory(self) -> None:
        """Of a server that has done nothing else."""
        requests = self.options.effort.memory_requests
        self.say(f"memory after {requests:,} requests")
        with self._fresh_server() as server:
            fresh = memory(server.pid)
            self._send(server, requests)
            used = memory(server.pid)
        group = f"Memory after {requests:,} requests"
        self.rows += [
            Row(group=group, name="resident", measured=_once(used.rss / 2**20), unit="MB", most=RSS_MOST_MB),
            Row(group=group, name="proportional (PSS)", measured=_once(used.pss / 2**20), unit="MB"),
            Row(group=group, name="resident before the first request", measured=_once(fresh.rss / 2**20), unit="MB"),
            Row(group=group, name="processes", measured=_once(used.processes), unit=""),
        ]

    def _measure_starts(self) -> None:
        times = [self._start() for _ in range(self.options.effort.starts)]
        group = "Start, on one core"
        live = spread_of([live for live, _ in times])
        answered = spread_of([answered for _, answered in times])
        self.rows += [
            Row(group=group, name="to the first 200 of /health/live", measured=live, unit="s"),
            Row(group=group, name="to the first chat answered", measured=answered, unit="s", most=START_MOST_SECONDS),
        ]
        if self.options.subject == "tollhouse":
            version = spread_of([_seconds_of_version() for _ in range(self.options.effort.starts)])
            needed = _once(direct_dependencies((ROOT / "pyproject.toml").read_text()))
            self.rows += [
                Row(group=group, name="`tollhouse --version`", measured=version, unit="s", most=VERSION_MOST_SECONDS),
                Row(group="Installation", name="direct dependencies", measured=needed, unit="", most=DEPENDENCIES_MOST),
            ]

    def _start(self) -> tuple[float, float]:
        """Seconds from the start of a server to being live, and to the end of its first answer."""
        before = time.monotonic()
        with self._fresh_server() as server:
            first = replace(load_of(CHAT, server.subject.port, 1), connections=1, warmup=0)
            run_load(first, self.options.cores.others)
            return server.started_seconds, time.monotonic() - before

    @contextmanager
    def _fresh_server(self) -> Iterator[Running]:
        """A server in an empty folder, with a provider of its own."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tollhouse-bench-")))
            provider_port = stack.enter_context(fake_provider(self.options.cores.others))
            yield stack.enter_context(running(self._subject(folder, provider_port), self.options.cores.server))


def _once(value: float) -> Spread:
    return Spread(value, value, value)


def _seconds_of_version() -> float:
    before = time.monotonic()
    subprocess.run([sys.executable, "-m", "tollhouse", "--version"], check=True, capture_output=True)
    return time.monotonic() - before
