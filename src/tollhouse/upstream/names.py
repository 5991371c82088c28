"""Names of providers and proxies, and the addresses that they stand for: asked for off the loop, shared, kept briefly.

The system's resolver (`getaddrinfo`) blocks, cannot be cancelled, and may take half a minute when a name server is
silent.  So a look-up has a thread of its own, of which there are few: never one of the event loop's default executor,
which the ledger and others need, nor of libuv's four, where a few silent names would hold up all others.  The threads
are daemons, so that one that hangs does not hold up the end of the process either.

A name that is asked for while it is being looked up waits for that answer; whoever leaves takes nothing from the
others.  Answers are kept for `KEPT_SECONDS`, because `getaddrinfo` does not say how long they are good for; failures
are not kept.
"""

import asyncio
import contextlib
import errno
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

KEPT_SECONDS = 30.0
"""How long an answer is used again.  Balancers that move by DNS use times to live of a minute, seldom of less."""
MAX_KEPT_NAMES = 256
MAX_LOOK_UPS = 8
"""Look-ups at the same time, each in a thread; names beyond wait in line."""
MAX_NAMES_ASKED = 256
"""Names under way and in line.  They come from the configuration, so more of them are a fault."""
MAX_ADDRESSES = 16
"""Addresses used of one answer."""

Resolve = Callable[[str], tuple[str, ...]]
"""From a name to numeric addresses, the preferred first.  Blocks; raises `OSError`."""


class Unresolved(OSError):
    """A name has no address.  Its text says why, without the name."""


@dataclass(slots=True, eq=False)
class Answer:
    """The addresses of a name.  One look-up's answer is one object, whoever shares it."""

    host: str
    addresses: tuple[str, ...]
    """Numeric, the preferred first; an IPv6 address may end in its zone (`fe80::1%2`)."""
    until: float
    """When it is too old, by the clock of `Names`."""
    turns: int = 0
    """Connections begun with it, so that each can begin with another address."""


class Names:
    """The answers of one transport.  Belongs to the event loop that first asks."""

    def __init__(
        self,
        resolve: Resolve | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        """Starts nothing.  `resolve` is called in threads; the system's resolver unless given."""
        self._resolve = resolve or resolve_by_system
        self._clock = clock
        self._kept_seconds = kept_seconds
        self._kept: dict[str, Answer] = {}
        self._asked: dict[str, asyncio.Future[Answer | OSError]] = {}
        self._line: deque[str] = deque()
        self._running = 0
        self._closed = False
        self.found = 0
        """Look-ups that had an answer."""
        self.failed = 0
        """Look-ups that had none."""

    @property
    def under_way(self) -> int:
        """Names being looked up or in line for it."""
        return len(self._asked)

    def kept(self, host: str) -> Answer | None:
        """The answer that is still good, if there is one."""
        answer = self._kept.get(host)
        if answer is not None and self._clock() >= answer.until:
            del self._kept[host]
            return None
        return answer

    async def ask(self, host: str) -> Answer:
        """Looks a name up, or joins the look-up that is under way.  Raises `Unresolved`.

        Cancelling leaves the look-up to those who share it, and to its end.
        """
        asked = self._asked.get(host)
        if asked is None:
            asked = self._begin(host)
        outcome = await asyncio.shield(asked)
        if isinstance(outcome, OSError):
            raise Unresolved(plain_reason(outcome)) from outcome
        return outcome

    def drop(self, answer: Answer) -> None:
        """Forgets an answer whose addresses are of no use; a newer one of the same name stays."""
        if self._kept.get(answer.host) is answer:
            del self._kept[answer.host]

    def close(self) -> None:
        """Forgets everything; who still waits fails.  Threads end with their look-up, and nobody hears of it."""
        self._closed = True
        self._kept.clear()
        self._line.clear()
        asked, self._asked = self._asked, {}
        for future in asked.values():
            if not future.done():
                future.set_result(OSError("the names are closed"))

    def _begin(self, host: str) -> "asyncio.Future[Answer | OSError]":
        if self._closed:
            raise Unresolved("the names are closed")
        if len(self._asked) >= MAX_NAMES_ASKED:
            raise Unresolved(f"{MAX_NAMES_ASKED} names are being looked up already")
        loop = asyncio.get_running_loop()
        asked = self._asked[host] = loop.create_future()
        self._line.append(host)
        self._start_threads(loop)
        return asked

    def _start_threads(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._line and self._running < MAX_LOOK_UPS:
            host = self._line.popleft()
            thread = threading.Thread(
                target=_look_up, args=(self._resolve, host, loop, self._finish), name="tollhouse-name", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # the system has no thread to give
                self._tell(host, OSError(errno.EAGAIN, str(error)))
            else:
                self._running += 1

    def _finish(self, host: str, outcome: tuple[str, ...] | OSError, loop: asyncio.AbstractEventLoop) -> None:
        """A thread is done; called on the loop."""
        self._running -= 1
        if self._closed:
            return
        if isinstance(outcome, OSError):
            self.failed += 1
            self._tell(host, outcome)
        else:
            self.found += 1
            answer = Answer(host, outcome[:MAX_ADDRESSES], self._clock() + self._kept_seconds)
            self._keep(answer)
            self._tell(host, answer)
        self._start_threads(loop)

    def _keep(self, answer: Answer) -> None:
        self._kept.pop(answer.host, None)
        if len(self._kept) >= MAX_KEPT_NAMES:
            del self._kept[next(iter(self._kept))]  # the oldest
        self._kept[answer.host] = answer

    def _tell(self, host: str, outcome: Answer | OSError) -> None:
        self._asked.pop(host).set_result(outcome)


def resolve_by_system(host: str) -> tuple[str, ...]:
    """The addresses that `getaddrinfo` gives, in its order (RFC 6724).  Blocks; raises `OSError`."""
    found: dict[str, None] = {}
    for family, _, _, _, sockaddr in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        if family == socket.AF_INET:
            found[str(sockaddr[0])] = None
        elif family == socket.AF_INET6:
            # (address, port, flow, zone): a link-local address means nothing without its zone.
            zone = sockaddr[3] if len(sockaddr) == 4 else 0
            found[f"{sockaddr[0]}%{zone}" if zone else str(sockaddr[0])] = None
    return tuple(found)


def plain_reason(error: OSError) -> str:
    """The system's words for an error; not the event loop's, which differ from loop to loop and hold addresses."""
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno).lower()
    return error.strerror.lower() if error.strerror else str(error).rstrip(".") or type(error).__name__


def _look_up(
    resolve: Resolve,
    host: str,
    loop: asyncio.AbstractEventLoop,
    finish: Callable[[str, tuple[str, ...] | OSError, asyncio.AbstractEventLoop], None],
) -> None:
    """What a thread does."""
    outcome: tuple[str, ...] | OSError
    try:
        outcome = resolve(host) or OSError("it has no address")
    except OSError as error:
        outcome = error
    except Exception as error:  # noqa: BLE001  # the thread's outer edge: callers wait for a word (UnicodeError, say)
        outcome = OSError(f"the resolver failed with {type(error).__name__}")
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(finish, host, outcome, loop)
