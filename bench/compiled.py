"""The small C programs of the bench: a fake provider, a load generator, a watch; compiled when they are first needed."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench.procs import running_on

HERE: Final = Path(__file__).parent
SOURCES: Final = HERE / "native"
BINARIES: Final = HERE / "bin"


class BenchError(Exception):
    """The bench cannot go on; the message says why and what to do."""


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the load generator saw.  Every answer was complete and right, or there is no result."""

    requests: int
    seconds: float
    events: int
    """Server-sent events received."""
    body_bytes: int
    reads: int
    """Successful reads of a socket; with one read an event, nothing was coalesced on the way."""
    reconnects: int
    total_p50_us: int
    total_p99_us: int
    first_p50_us: int
    """From the request to the first byte of the answer's body."""
    first_p99_us: int
    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One run of the load generator."""

    port: int
    request: bytes
    end: str
    """How every answer's body must end, white space aside."""
    requests: int
    connections: int
    warmup: int = 0
    warmup_request: bytes | None = None
    """Sent instead of `request` in the warm-up; its answers end alike."""
    rate: float = 0.0
    """Requests a second at fixed times; 0 for a closed loop."""


def compile_all() -> None:
    """Compiles what is missing or older than its source.  Raises `BenchError` without a compiler."""
    for name in ("fake", "load", "neighbour"):
        _compile(name)


@contextmanager
def fake_provider(cores: frozenset[int]) -> Iterator[int]:
    """Runs the fake provider on a free port, which is the value."""
    with running_on(cores):
        process = subprocess.Popen([BINARIES / "fake"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int(json.loads(process.stdout.readline())["port"])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def run_load(load: Load, cores: frozenset[int], before: Callable[[], None] | None = None) -> LoadResult:
    """Warms up, calls `before`, then sends the measured requests.  Raises `BenchError` at the first wrong answer."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-load-") as folder:
        with running_on(cores):
            process = subprocess.Popen(
                _arguments(load, Path(folder)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            if process.stdout.readline() and before is not None:
                before()
            output, complaint = process.communicate("go\n")
    if process.returncode:
        raise BenchError(complaint.strip())
    return msgspec.json.decode(output, type=LoadResult)


def _arguments(load: Load, folder: Path) -> list[str]:
    (folder / "request").write_bytes(load.request)
    (folder / "warmup").write_bytes(load.warmup_request or load.request)
    options = {
        "port": load.port,
        "request": folder / "request",
        "warmup-request": folder / "warmup",
        "end": load.end,
        "connections": load.connections,
        "requests": load.requests,
        "warmup": load.warmup,
        "rate": load.rate,
    }
    return [str(BINARIES / "load"), *(part for name, value in options.items() for part in (f"--{name}", str(value)))]


def _compile(name: str) -> None:
    binary = BINARIES / name
    newest = max(path.stat().st_mtime for path in SOURCES.iterdir())
    if binary.exists() and binary.stat().st_mtime >= newest:
        return
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchError("There is no C compiler (cc); the bench needs one (Debian: apt install gcc libc6-dev).")
    BINARIES.mkdir(exist_ok=True)
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(binary), str(SOURCES / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"`{' '.join(command)}` failed:\n{done.stderr}")
