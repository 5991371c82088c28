"""A server that can be measured: what starts it, and how to know that it serves."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.compiled import BenchError
from bench.procs import running_on

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
POLL_SECONDS: Final = 0.002
LIVE_PATH: Final = "/health/live"
"""Answers 200 once the server serves; nginx and the bare relay are set up to have it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """How to start one server."""

    name: str
    command: tuple[str, ...]
    port: int
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    subject: Subject
    pid: int
    started_seconds: float
    """From the start of the process to its first 200 on `LIVE_PATH`."""


@contextmanager
def running(subject: Subject, cores: frozenset[int]) -> Iterator[Running]:
    """Starts the server on these cores, waits until it serves, and stops it at the end of the block."""
    with subject.log.open("ab") as log, running_on(cores):
        started = time.monotonic()
        process = subprocess.Popen(
            subject.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **subject.environment}
        )
    try:
        _wait_until_live(subject, process, started + START_SECONDS)
        yield Running(subject, process.pid, time.monotonic() - started)
    finally:
        _stop(process)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_live(subject: Subject, process: "subprocess.Popen[bytes]", give_up: float) -> None:
    while not _is_live(subject.port):
        if process.poll() is not None:
            raise BenchError(f"{subject.name} ended with status {process.returncode}:\n{_tail(subject.log)}")
        if time.monotonic() > give_up:
            raise BenchError(f"{subject.name} did not serve within {START_SECONDS:.0f} s:\n{_tail(subject.log)}")
        time.sleep(POLL_SECONDS)


def _is_live(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", LIVE_PATH)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
