"""One worker process, as its supervisor sees it: forked where that is possible, a fresh interpreter otherwise.

Either way the two are connected by a line, a pair of sockets.  The job goes one way, `ready` the other, and whichever of them
ends, the other one hears it: the kernel closes the line.
"""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Final, Protocol

from tollhouse.errors import GatewayError
from tollhouse.server.fork_server import ForkServer, ForkServerLost
from tollhouse.server.worker import Job, write_job

READY_SECONDS: Final = 30.0


class Running(Protocol):
    """A process, as `asyncio.subprocess.Process` is one."""

    @property
    def returncode(self) -> int | None:
        """`None` while it runs; negative when a signal ended it."""
        ...

    async def wait(self) -> int:
        """Returns the exit status once it has ended."""
        ...

    def send_signal(self, signal: int) -> None:
        """Sends a signal to a process that runs."""
        ...


class WorkerProcess:
    """One worker and its restarts."""

    def __init__(self, job: Job, number: int, forks: ForkServer | None) -> None:
        """Starts nothing.  Without `forks` the process will be a fresh interpreter."""
        self.number = number
        self.is_ready = False
        self.restarts = 0
        self._job = write_job(job)
        self._forks = forks
        self._process: Running | None = None
        self._line: asyncio.StreamWriter | None = None
        self._is_outdated = False
        """Whether the configuration has changed since the process was started, which is not ready yet."""

    @property
    def exit_status(self) -> int | None:
        """`None` before the start and while it runs; negative when a signal ended it."""
        return None if self._process is None else self._process.returncode

    async def start(self) -> None:
        """Starts the process and waits until it listens.  Raises `GatewayError` if it ends or stays silent."""
        self.close()
        self._is_outdated = False
        ours, theirs = socket.socketpair()
        with theirs:
            heard, self._line = await asyncio.open_connection(sock=ours)
            process = self._process = await self._begin(theirs, heard)
        self._line.write(self._job.encode() + b"\n")
        try:
            async with asyncio.timeout(READY_SECONDS):
                word = await heard.readline()
        except ConnectionError:  # it ended before it had read its job
            word = b""
        except TimeoutError as error:
            self.kill()
            raise GatewayError(f"Worker {self.number} was not ready within {READY_SECONDS:.0f} s.") from error
        if word.strip() != b"ready":
            await process.wait()
            raise GatewayError(f"Worker {self.number} could not start; its own message stands above.")
        self.is_ready = True
        if self._is_outdated:
            self.reload()

    async def wait(self) -> None:
        """Returns when the process has ended, or at once where there is none."""
        if self._process is not None:
            await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Hands a signal on, if the process runs."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):  # it has just ended
                self._process.send_signal(number)

    def reload(self) -> None:
        """Has the process read the configuration again, as soon as it is ready: before, a SIGHUP could end it."""
        if self.is_ready:
            self.signal(signal.SIGHUP)
        else:
            self._is_outdated = True

    def kill(self) -> None:
        """Ends the process without asking."""
        self.signal(signal.SIGKILL)

    def close(self) -> None:
        """Hangs up.  A process that still runs ends by itself then."""
        if self._line is not None:
            self._line.close()
            self._line = None

    async def _begin(self, line: socket.socket, heard: asyncio.StreamReader) -> Running:
        if self._forks is not None:
            with suppress(ForkServerLost):  # it has said so in the log
                return _Forked(await self._forks.fork(self.number, line), heard, self._forks)
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tollhouse.server.worker", stdin=line.fileno()
        )


class _Forked:
    """A process that is not our child but the fork server's: its line tells of its end, and the fork server of its status."""

    def __init__(self, pid: int, heard: asyncio.StreamReader, forks: ForkServer) -> None:
        self.returncode: int | None = None
        self._pid = pid
        self._heard = heard
        self._forks = forks

    async def wait(self) -> int:
        """Returns the exit status once it has ended."""
        if self.returncode is None:
            with suppress(ConnectionError):  # it ended with something unread
                while await self._heard.read(1024):
                    pass
            self.returncode = await self._forks.status_of(self._pid)
        return self.returncode

    def send_signal(self, signal: int) -> None:
        """Raises `ProcessLookupError` if there is none, which can be only where the fork server is lost."""
        os.kill(self._pid, signal)
