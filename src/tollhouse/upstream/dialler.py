"""From a host and a port to an open socket: happy eyeballs, version 2 (RFC 8305).

A name may stand for several addresses of two families, and any of them may be dead, or worse, silent.  They are tried
in turn, IPv6 and IPv4 alternating, each `STAGGER_SECONDS` after the one before or as soon as one has failed; the first
that answers is used and the others are closed at once.

- **The order** is the resolver's (RFC 6724) by families.  Within a family each connection begins with the next address,
  so that connections spread over all of them although the answer is kept.  An address that failed, or that another one
  overtook, goes to the end for `DISTRUST_SECONDS`: a dead one costs one connection a quarter of a second, not each.
- **The attempts are the loop's own** (`create_connection` to a numeric address), not sockets of ours: whoever opens a
  socket has to close it, and a descriptor that two believe to own is closed twice (uvloop issues 645 and 738).
- **An answer that leads nowhere** is dropped; if it was a kept one, the name is asked for anew, once.

TLS and the proxy's handshake begin with the winner (section 5 of the RFC allows to race them too; a handshake costs the
provider and us a signature, and an address that accepts a connection seldom fails in it).
"""

import asyncio
import errno
import ipaddress
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, zip_longest
from typing import Final, cast

from tollhouse.upstream.names import Answer, Names, plain_reason

STAGGER_SECONDS = 0.25
"""RFC 8305, section 8: the recommended Connection Attempt Delay."""
DISTRUST_SECONDS = 30.0
MAX_DISTRUSTED = 256

Connect = Callable[[str, int], Awaitable[asyncio.Transport]]
"""Opens a socket to a numeric address.  Raises `OSError`; when cancelled it leaves nothing open."""

_OUR_OWN_FAULT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors of this machine, which say nothing about the address."""


class NotReached(OSError):
    """No address of a host took the connection.  Its text gives the reasons, by family if there was more than one."""

    def __init__(self, failures: Sequence[tuple[str, OSError]]) -> None:
        """`failures` are the addresses that were tried, and why each failed."""
        super().__init__(reasons(failures))
        self.is_refused = all(isinstance(error, ConnectionRefusedError) for _, error in failures)
        """Whether every address was there and refused: nothing listens."""


class Trail:
    """How far one connection has come on its way; for the words of its error and what is learned from it."""

    __slots__ = ("answer", "failures", "open_attempts", "port", "waits_for", "winner")

    def __init__(self) -> None:
        """At the start of the way."""
        self.waits_for = "a free connection"
        """What is being waited for, in words that follow "for"."""
        self.failures: list[tuple[str, OSError]] = []
        """Addresses that failed so far, and why."""
        self.answer: Answer | None = None
        self.open_attempts: list[str] = []
        """Addresses that have been tried and have not answered yet."""
        self.winner: str | None = None
        """The address that took the connection."""
        self.port = 0

    @property
    def words(self) -> str:
        """What is being waited for, and what has failed meanwhile."""
        failed = f" ({reasons(self.failures)})" if self.failures else ""
        return f"waited for {self.waits_for}{failed}"


class Dialler:
    """Opens sockets for one transport, and remembers which addresses were of use.  `close` it with the transport."""

    def __init__(
        self,
        names: Names | None = None,
        *,
        connect: Connect | None = None,
        stagger_seconds: float = STAGGER_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens nothing."""
        self.names = names or Names()
        """The names that it looked up."""
        self._connect = connect or open_socket
        self._stagger_seconds = stagger_seconds
        self._clock = clock
        self._distrusted: dict[tuple[str, int], float] = {}

    async def dial(self, host: str, port: int, trail: Trail) -> asyncio.Transport:
        """A connected socket; its owner sets the protocol, and looks first whether it `is_closing` already.

        Raises `NotReached` or `Unresolved`, both `OSError`.  Has no deadline of its own.  Cancelling closes everything.
        """
        trail.port = port
        if _is_numeric(host):
            return await self._race([host], trail)
        answer = self.names.kept(host)
        if answer is None:
            return await self._race_anew(host, trail)
        try:
            return await self._race_answer(answer, trail)
        except NotReached:
            asked_before = frozenset(answer.addresses)
            return await self._race_anew(host, trail, unless_all_in=asked_before)

    def give_up(self, trail: Trail) -> None:
        """Learns from a connection that came to nothing after `dial`, or that a deadline ended."""
        if trail.winner is not None:
            self._distrust(trail.winner, trail.port)
            return
        for address in trail.open_attempts:
            self._distrust(address, trail.port)
        if trail.open_attempts and trail.answer is not None:
            self.names.drop(trail.answer)

    def close(self) -> None:
        """Ends look-ups.  Attempts are ended by those who wait for them."""
        self.names.close()

    async def _race_anew(
        self, host: str, trail: Trail, *, unless_all_in: frozenset[str] = frozenset()
    ) -> asyncio.Transport:
        """Asks for the name.  Raises the failures so far if the answer holds no address but those."""
        trail.waits_for = f"the name {host} to be resolved"
        answer = await self.names.ask(host)
        if unless_all_in.issuperset(answer.addresses):
            self.names.drop(answer)
            raise NotReached(trail.failures)
        trail.failures.clear()
        return await self._race_answer(answer, trail)

    async def _race_answer(self, answer: Answer, trail: Trail) -> asyncio.Transport:
        trail.answer = answer
        now = self._clock()
        order = in_turn(
            answer.addresses,
            answer.turns,
            last={address for address in answer.addresses if self._distrusted.get((address, trail.port), 0.0) > now},
        )
        answer.turns += 1
        try:
            return await self._race(order, trail)
        except NotReached:
            self.names.drop(answer)
            raise

    async def _race(self, order: Sequence[str], trail: Trail) -> asyncio.Transport:
        trail.waits_for = f"an answer from {_counted(order)}"
        opened: list[tuple[str, asyncio.Transport]] = []
        try:
            if len(order) == 1:
                await self._attempt(order[0], opened, trail)
            else:
                await self._race_attempts(order, opened, trail)
        except BaseException:
            for _, transport in opened:
                transport.abort()
            raise
        if not opened:
            raise NotReached(trail.failures) from trail.failures[-1][1]
        (trail.winner, winner), *late = opened
        for _, transport in late:
            transport.abort()
        self._distrusted.pop((trail.winner, trail.port), None)
        for address in order[: order.index(trail.winner)]:
            if address in trail.open_attempts:
                self._distrust(address, trail.port)  # it had a head start
        return winner

    async def _race_attempts(
        self, order: Sequence[str], opened: list[tuple[str, asyncio.Transport]], trail: Trail
    ) -> None:
        """Ends when one is opened or all have failed, and then no attempt runs any more."""
        running: set[asyncio.Task[None]] = set()
        to_come = iter(order)
        async with asyncio.TaskGroup() as group:
            while not opened:
                address = next(to_come, None)
                if address is not None:
                    running.add(group.create_task(self._attempt(address, opened, trail)))
                elif not running:
                    return
                _, running = await asyncio.wait(
                    running,
                    timeout=None if address is None else self._stagger_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            for task in running:
                task.cancel()

    async def _attempt(self, address: str, opened: list[tuple[str, asyncio.Transport]], trail: Trail) -> None:
        """Adds to `opened`, in the same step in which the socket becomes ours, or to the trail's failures."""
        trail.open_attempts.append(address)
        try:
            transport = await self._connect(address, trail.port)
        except OSError as error:
            trail.open_attempts.remove(address)
            trail.failures.append((address, error))
            if error.errno not in _OUR_OWN_FAULT:
                self._distrust(address, trail.port)
        else:
            trail.open_attempts.remove(address)
            opened.append((address, transport))

    def _distrust(self, address: str, port: int) -> None:
        key = (address, port)
        self._distrusted.pop(key, None)
        if len(self._distrusted) >= MAX_DISTRUSTED:
            del self._distrusted[next(iter(self._distrusted))]  # the oldest
        self._distrusted[key] = self._clock() + DISTRUST_SECONDS


async def open_socket(address: str, port: int) -> asyncio.Transport:
    """A socket to a numeric address, as the running loop opens it; with a protocol that waits for its owner."""
    transport, _ = await asyncio.get_running_loop().create_connection(_Unclaimed, address, port)
    return transport


def in_turn(addresses: Sequence[str], turn: int, *, last: frozenset[str] | set[str] = frozenset()) -> list[str]:
    """The order in which to try addresses (RFC 8305, section 4).

    Families alternate, beginning with that of the first address; each family begins `turn` places further on; those in
    `last` come after all others.
    """
    families: dict[str, list[str]] = {}
    for address in addresses:
        families.setdefault(_family(address), []).append(address)
    turned = (of_one[turn % len(of_one) :] + of_one[: turn % len(of_one)] for of_one in families.values())
    mixed = [address for address in chain.from_iterable(zip_longest(*turned)) if address is not None]
    return sorted(mixed, key=last.__contains__)  # stable


def reasons(failures: Sequence[tuple[str, OSError]]) -> str:
    """Why each family failed, in a few words and without addresses: `IPv6: network is unreachable; IPv4: …`."""
    families: dict[str, dict[str, int]] = {}
    for address, error in failures:
        counts = families.setdefault(_family(address), {})
        why = plain_reason(error)
        counts[why] = counts.get(why, 0) + 1
    if len(failures) == 1:
        return plain_reason(failures[0][1])
    return "; ".join(
        f"{family}: " + ", ".join(f"{why} ({times} times)" if times > 1 else why for why, times in counts.items())
        for family, counts in families.items()
    )


class _Unclaimed(asyncio.Protocol):
    """The protocol of a socket that has no owner yet.  A peer that speaks first has nothing to say to us."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class is no subclass of asyncio's

    def data_received(self, _data: bytes) -> None:
        self._transport.abort()


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _counted(addresses: Sequence[str]) -> str:
    """`1 IPv6 address and 2 IPv4 addresses`."""
    counts: dict[str, int] = {}
    for address in addresses:
        counts[_family(address)] = counts.get(_family(address), 0) + 1
    return " and ".join(f"{count} {family} address{'es' if count > 1 else ''}" for family, count in counts.items())


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
