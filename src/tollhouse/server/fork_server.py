r"""Workers are forked from a process that has imported what they need, and has done nothing else.

To import everything takes each worker 0.4 s of CPU time and 30 MB of memory of its own.  A process that was forked has it all
at once and shares those pages with the others.  But only a process of one thread can be forked with a good conscience, in which
no event loop, no core of gRPC, no context of OpenSSL, no database and no lock lives; a supervisor soon has most of them.
So the command line forks the fork server off before any of that exists, and goes on to be the supervisor itself.

    tollhouse serve (supervisor) --- fork server --- worker 1
                                                 \-- worker 2

The fork server is blocked in one call, answers one request at a time, and ends with the supervisor.  It buries no worker before
the supervisor asks for its exit status: until then the number of the process belongs to nobody else.

On Linux only: the libraries of macOS must not be used after a fork without an `exec`.  There, and wherever the fork server was
lost, each worker is a fresh interpreter (`python -m tollhouse.server.worker`).
"""

import asyncio
import errno
import gc
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn, Self

from tollhouse.errors import GatewayError
from tollhouse.server.late_imports import import_early
from tollhouse.telemetry import logs

ANSWER_SECONDS: Final = 30.0
"""How long the fork server may take to answer; its first answer waits for its imports."""
NAME: Final = "tollhouse-forks"
"""Of the process, as `ps -o comm` shows it; at most 15 bytes."""
UNKNOWN_STATUS: Final = 255
"""The exit status of a worker whose end nobody saw; `asyncio` says the same then."""

_BLOCKED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""They often come to a whole group of processes.  The fork server ends with the supervisor, whatever it hears."""
_FORK: Final = b"f"
_STATUS: Final = b"s"
_REQUEST: Final = struct.Struct("=ci")
"""What is wanted, and the number of the worker or the id of its process.  A fork comes with the worker's end of its line."""
_ANSWER: Final = struct.Struct("=i")
"""The id of a process, or its status as `waitpid` gives it; or what went wrong, as a negative `errno`."""

log = logs.get("server")

Become = Callable[[socket.socket], int]
"""A worker's life: takes its line to the supervisor, and returns its exit status."""


class ForkServerLost(GatewayError):
    """Nobody forks any more; workers have to be started in another way."""


class ForkServer:
    """The fork server, as the supervisor sees it."""

    def __init__(self, line: socket.socket, pid: int) -> None:
        """Use `start`."""
        line.setblocking(False)  # noqa: FBT003
        self._line = line
        self._asking = asyncio.Lock()
        self.pid: int | None = pid
        """`None` once it is lost or closed."""

    @classmethod
    def start(cls, modules: Sequence[str], become: Become) -> Self | None:
        """Forks it off, and returns at once, while it still imports `modules`; `None` where that cannot be done safely.

        In this process nothing may exist yet that does not outlive a fork: see above.  `become` runs in each worker.
        """
        if not _can_fork():
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        _flush()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
        try:
            pid = os.fork()
            if not pid:
                ours.close()
                _serve(theirs, modules, become, before)
        except OSError as error:
            log.warning("workers cannot be forked, and import everything themselves", extra={"why": error.strerror})
            ours.close()
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        return cls(ours, pid)

    async def fork(self, number: int, line: socket.socket) -> int:
        """Makes a process that becomes worker `number` at the end `line`, and returns its id.

        Raises `GatewayError` if the machine has no room for it, and `ForkServerLost`.
        """
        pid = await self._ask(_FORK, number, line)
        if pid < 0:
            raise GatewayError(f"Worker {number} could not be forked: {os.strerror(-pid)}.")
        return pid

    async def status_of(self, pid: int) -> int:
        """The exit status of a worker that has ended: negative for a signal, `UNKNOWN_STATUS` if nobody was told.

        Its id is free for others afterwards.
        """
        try:
            status = await self._ask(_STATUS, pid)
        except ForkServerLost:
            status = _adopted(pid)
        return UNKNOWN_STATUS if status < 0 else os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Ends the fork server; workers that still run go on.  May be called twice."""
        self._line.close()
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)  # it would end by itself, if nobody has stopped it
            os.waitpid(self.pid, 0)
            self.pid = None

    async def _ask(self, what: bytes, about: int, line: socket.socket | None = None) -> int:
        request = _REQUEST.pack(what, about)
        async with self._asking:
            if self.pid is None:
                raise ForkServerLost("The process that workers are forked from is gone.")
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    socket.send_fds(self._line, [request], [] if line is None else [line.fileno()])
                    answer = await asyncio.get_running_loop().sock_recv(self._line, _ANSWER.size)
                if not answer:
                    raise ConnectionResetError(errno.ECONNRESET, "it has ended")
            except OSError as error:  # `TimeoutError` is one
                log.error(  # noqa: TRY400
                    "the process that workers are forked from is lost; those to come import everything themselves",
                    extra={"why": error.strerror or "it does not answer"},
                )
                self.close()
                raise ForkServerLost("The process that workers are forked from is lost.") from error
            except asyncio.CancelledError:
                self.close()  # its answer would be taken for that to the next request
                raise
        (number,) = _ANSWER.unpack(answer)
        return int(number)


def _can_fork() -> bool:
    """Whether this process may be forked: by the system, and by being of one thread."""
    try:
        return sys.platform == "linux" and len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
    except OSError:  # no such file system: nobody knows
        return False


def _adopted(pid: int) -> int:
    """The status of a worker that became our own child when the fork server died, as all orphans are of process 1."""
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError as error:
        return -(error.errno or errno.ECHILD)


# -------------------------------------------------------------------------------------------------- in the fork server


def _serve(
    line: socket.socket, modules: Sequence[str], become: Become, mask: set[int] | set[signal.Signals]
) -> NoReturn:
    """The fork server's life.  It ends when nobody holds the other end of `line`, and never returns to the command line."""
    try:
        _call_process(NAME)
        _let_go_of_stdin()
        import_early(modules)
        gc.collect()
        gc.freeze()  # or each worker's first collection would write to every page that it shares
        while True:
            request, descriptors, _, _ = socket.recv_fds(line, _REQUEST.size, 1, socket.MSG_CMSG_CLOEXEC)
            if not request:
                break
            what, about = _REQUEST.unpack(request)
            if what == _FORK:
                with socket.socket(fileno=descriptors[0]) as theirs:
                    answer = _fork(line, about, theirs, become, mask)
            else:
                answer = _bury(about)
            line.send(_ANSWER.pack(answer))
    except OSError:  # the supervisor is gone, which is not for us to tell
        pass
    except BaseException:  # noqa: BLE001  # the process's outer edge
        traceback.print_exc()
        _flush()
    os._exit(0)


def _fork(
    line: socket.socket, number: int, theirs: socket.socket, become: Become, mask: set[int] | set[signal.Signals]
) -> int:
    """The id of a new worker, or a negative `errno`.  In the worker it does not return."""
    try:
        pid = os.fork()
    except OSError as error:
        return -(error.errno or errno.EAGAIN)
    if pid:
        return pid
    status = 1
    try:
        line.close()
        _call_process(f"tollhouse-w{number}")
        # What is signalled before here waits until here.
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor hears it too and decides
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        status = become(theirs)
    except BaseException:  # noqa: BLE001  # the process's outer edge: the frames below are the supervisor's
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


def _bury(pid: int) -> int:
    """The status of a worker whose end of its line was closed: by the kernel, as it ended."""
    try:
        return os.waitpid(pid, 0)[1]
    except OSError as error:
        return -(error.errno or errno.ECHILD)


def _call_process(name: str) -> None:
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _let_go_of_stdin() -> None:
    """Whoever holds the other end of it has started a supervisor, and means that."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if nothing:
        os.close(nothing)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):  # nobody reads it, or it is closed
                stream.flush()
