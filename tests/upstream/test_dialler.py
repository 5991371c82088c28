"""Happy eyeballs: the order of addresses as a table, the race with attempts that do what the test says."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.towns import NEVER, SOON, Directory, SilentDirectory, comes_true
from tollhouse.upstream.dialler import DISTRUST_SECONDS, MAX_DISTRUSTED, Dialler, NotReached, Trail, in_turn, reasons
from tollhouse.upstream.names import Names, Unresolved

HOST, PORT = "api.example", 443
SIX, SIX_2 = "2001:db8::1", "2001:db8::2"
FOUR, FOUR_2, FOUR_3 = "192.0.2.1", "192.0.2.2", "192.0.2.3"
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('192.0.2.1', 443)")
NO_ROUTE = OSError(errno.ENETUNREACH, "Network is unreachable")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Opened(asyncio.Transport):
    """A socket that was opened."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Town:
    """Addresses that refuse or are silent; all others answer.  `knocked` has the attempts in order."""

    def __init__(self, *, silent: tuple[str, ...] = (), dead: dict[str, OSError] | None = None) -> None:
        self.silent = set(silent)
        self.dead = dead or {}
        self.knocked: list[str] = []
        self.opened: list[Opened] = []
        self.left: list[str] = []
        self.doors: dict[str, asyncio.Event] = {}
        """Silent addresses answer when theirs is set."""
        self.slow_to_leave: asyncio.Event | None = None
        """What a cancelled attempt waits for before it ends."""

    async def __call__(self, address: str, port: int) -> asyncio.Transport:
        assert port == PORT
        self.knocked.append(address)
        if address in self.dead:
            raise self.dead[address]
        if address in self.silent:
            try:
                await self.doors.setdefault(address, asyncio.Event()).wait()
            except asyncio.CancelledError:
                if self.slow_to_leave is not None:
                    await self.slow_to_leave.wait()
                self.left.append(address)
                raise
        self.opened.append(Opened(address))
        return self.opened[-1]

    @property
    def still_open(self) -> list[str]:
        return [opened.address for opened in self.opened if not opened.aborted]


def dialler(
    town: Town,
    *answers: tuple[str, ...] | OSError,
    stagger: float = NEVER,
    clock: Callable[[], float] | None = None,
    directory: Directory | SilentDirectory | None = None,
) -> Dialler:
    clock = clock or Clock()
    names = Names(directory or Directory(*answers), clock=clock)
    return Dialler(names, connect=town, stagger_seconds=stagger, clock=clock)


async def dialled(dialler: Dialler, host: str = HOST) -> str:
    """The address that took the connection."""
    transport = await dialler.dial(host, PORT, Trail())
    assert isinstance(transport, Opened)
    return transport.address


async def failure(dialling: Awaitable[object]) -> str:
    with pytest.raises(NotReached) as caught:
        await dialling
    return str(caught.value)


@pytest.fixture(autouse=True)
async def no_task_is_left_over() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --------------------------------------------------------------------------------------------------- order and words


@pytest.mark.parametrize(
    ("addresses", "turn", "last", "order"),
    [
        ((FOUR,), 0, set(), [FOUR]),
        ((SIX, SIX_2, FOUR, FOUR_2), 0, set(), [SIX, FOUR, SIX_2, FOUR_2]),
        ((FOUR, FOUR_2, SIX), 0, set(), [FOUR, SIX, FOUR_2]),
        ((SIX, SIX_2, FOUR, FOUR_2), 1, set(), [SIX_2, FOUR_2, SIX, FOUR]),
        ((FOUR, FOUR_2, FOUR_3), 2, set(), [FOUR_3, FOUR, FOUR_2]),
        ((FOUR, FOUR_2, FOUR_3), 3, set(), [FOUR, FOUR_2, FOUR_3]),
        ((SIX, FOUR), 1, set(), [SIX, FOUR]),
        ((SIX, SIX_2, FOUR), 0, {SIX}, [FOUR, SIX_2, SIX]),
        ((SIX, SIX_2, FOUR), 0, {SIX, SIX_2}, [FOUR, SIX, SIX_2]),
        ((SIX, FOUR), 0, {SIX, FOUR}, [SIX, FOUR]),
    ],
)
def test_families_alternate_connections_spread_and_distrusted_addresses_come_last(
    addresses: tuple[str, ...], turn: int, last: set[str], order: list[str]
):
    assert in_turn(addresses, turn, last=last) == order


SOME_ADDRESSES = st.lists(st.sampled_from([SIX, SIX_2, FOUR, FOUR_2, FOUR_3]), min_size=1, unique=True)


@given(SOME_ADDRESSES, st.integers(0, 100), st.sets(st.sampled_from([SIX, FOUR, FOUR_2])))
def test_every_address_is_tried_once(addresses: list[str], turn: int, last: set[str]):
    assert sorted(in_turn(addresses, turn, last=last)) == sorted(addresses)


@pytest.mark.parametrize(
    ("failures", "words"),
    [
        ([(FOUR, REFUSED)], "connection refused"),
        ([(SIX, NO_ROUTE), (FOUR, REFUSED)], "IPv6: network is unreachable; IPv4: connection refused"),
        ([(FOUR, REFUSED), (FOUR_2, REFUSED)], "IPv4: connection refused (2 times)"),
        ([(FOUR, REFUSED), (FOUR_2, NO_ROUTE)], "IPv4: connection refused, network is unreachable"),
        ([(FOUR, OSError("Odd."))], "Odd"),
    ],
)
def test_reasons_are_short_and_hold_no_addresses(failures: list[tuple[str, OSError]], words: str):
    assert reasons(failures) == words


# ------------------------------------------------------------------------------------------------------------ the race


async def test_a_silent_address_is_overtaken_after_the_stagger_and_closed():
    town = Town(silent=(SIX,))
    assert await dialled(dialler(town, (SIX, FOUR), stagger=SOON)) == FOUR
    assert (town.knocked, town.left, town.still_open) == ([SIX, FOUR], [SIX], [FOUR])


async def test_a_failed_attempt_starts_the_next_at_once():
    town = Town(dead={SIX: NO_ROUTE, FOUR: REFUSED})
    assert await dialled(dialler(town, (SIX, FOUR, FOUR_2), stagger=NEVER)) == FOUR_2
    assert town.knocked == [SIX, FOUR, FOUR_2]


async def test_an_earlier_attempt_that_answers_late_still_wins():
    town = Town(silent=(SIX, FOUR))
    async with asyncio.TaskGroup() as group:
        dialling = group.create_task(dialled(dialler(town, (SIX, FOUR), stagger=SOON)))
        await comes_true(lambda: town.knocked == [SIX, FOUR])
        town.doors[SIX].set()
    assert dialling.result() == SIX
    assert (town.left, town.still_open) == ([FOUR], [SIX])


async def test_of_two_that_answer_in_the_same_moment_one_is_closed():
    town = Town(silent=(SIX, FOUR))
    async with asyncio.TaskGroup() as group:
        dialling = group.create_task(dialled(dialler(town, (SIX, FOUR), stagger=SOON)))
        await comes_true(lambda: town.knocked == [SIX, FOUR])
        town.doors[SIX].set()
        town.doors[FOUR].set()
    assert len(town.opened) == 2
    assert town.still_open == [dialling.result()]


async def test_when_all_fail_the_error_has_the_reason_of_each_family():
    town = Town(dead={SIX: NO_ROUTE, FOUR: REFUSED})
    assert await failure(dialler(town, (SIX, FOUR)).dial(HOST, PORT, Trail())) == (
        "IPv6: network is unreachable; IPv4: connection refused"
    )


async def test_a_numeric_host_is_not_looked_up():
    town, directory = Town(), Directory(OSError("not to be asked"))
    assert await dialled(dialler(town, directory=directory), SIX) == SIX
    assert await dialled(dialler(town, directory=directory), FOUR) == FOUR
    assert directory.asked == []


# ------------------------------------------------------------------------------------------------- what is remembered


async def test_connections_spread_over_the_addresses_of_a_kept_answer():
    a_dialler = dialler(Town(), (FOUR, FOUR_2, FOUR_3))
    assert [await dialled(a_dialler) for _ in range(4)] == [FOUR, FOUR_2, FOUR_3, FOUR]


async def test_an_address_that_failed_is_not_the_first_to_be_tried_again_until_its_time_is_over():
    town, clock = Town(dead={SIX: NO_ROUTE}), Clock()
    a_dialler = dialler(town, (SIX, FOUR), clock=clock)
    assert [await dialled(a_dialler) for _ in range(3)] == [FOUR] * 3
    assert town.knocked == [SIX, FOUR, FOUR, FOUR]
    town.dead.clear()
    clock.now += DISTRUST_SECONDS
    assert await dialled(a_dialler) == SIX


async def test_an_address_that_was_overtaken_costs_the_stagger_once():
    town = Town(silent=(SIX,))
    a_dialler = dialler(town, (SIX, FOUR), stagger=SOON)
    assert [await dialled(a_dialler) for _ in range(3)] == [FOUR] * 3
    assert town.knocked == [SIX, FOUR, FOUR, FOUR]


async def test_an_address_that_was_tried_after_the_winner_is_not_blamed():
    town = Town(silent=(FOUR, FOUR_2))
    a_dialler = dialler(town, (FOUR, FOUR_2), stagger=SOON)
    async with asyncio.TaskGroup() as group:
        dialling = group.create_task(dialled(a_dialler))
        await comes_true(lambda: town.knocked == [FOUR, FOUR_2])
        town.doors[FOUR].set()
    assert dialling.result() == FOUR
    town.silent.clear()
    assert await dialled(a_dialler) == FOUR_2  # whose turn it is


async def test_an_address_that_answers_is_trusted_again():
    town = Town(dead={FOUR: REFUSED, FOUR_2: REFUSED})
    a_dialler = dialler(town, (FOUR, FOUR_2))
    await failure(a_dialler.dial(HOST, PORT, trail := Trail()))
    assert len(trail.failures) == 2
    del town.dead[FOUR]
    assert [await dialled(a_dialler) for _ in range(2)] == [FOUR] * 2
    assert town.knocked == [FOUR, FOUR_2, FOUR, FOUR]


async def test_a_fault_of_our_own_is_not_blamed_on_the_address():
    town = Town(dead={SIX: OSError(errno.EMFILE, "Too many open files")})
    a_dialler = dialler(town, (SIX, FOUR))
    assert await dialled(a_dialler) == FOUR
    town.dead.clear()
    assert await dialled(a_dialler) == SIX


async def test_distrust_is_bounded():
    town = Town(dead={f"192.0.2.{number}": REFUSED for number in range(130)})
    a_dialler = dialler(town)
    for third in (2, 3):
        for number in range(130):
            address = f"192.0.{third}.{number}"
            town.dead[address] = REFUSED
            await failure(a_dialler.dial(address, PORT, Trail()))
    assert len(a_dialler._distrusted) == MAX_DISTRUSTED


async def test_a_kept_answer_that_leads_nowhere_is_asked_for_anew():
    town = Town()
    a_dialler = dialler(town, directory=(directory := Directory((FOUR,), (FOUR_2,))))
    assert await dialled(a_dialler) == FOUR
    town.dead[FOUR] = REFUSED
    assert await dialled(a_dialler) == FOUR_2
    assert await dialled(a_dialler) == FOUR_2
    assert directory.asked == [HOST, HOST]


async def test_it_is_asked_anew_once_and_the_same_addresses_are_not_tried_twice():
    town = Town()
    a_dialler = dialler(town, directory=(directory := Directory((FOUR,), (FOUR,), (FOUR_2,))))
    assert await dialled(a_dialler) == FOUR
    town.dead[FOUR] = REFUSED
    assert await failure(a_dialler.dial(HOST, PORT, Trail())) == "connection refused"
    assert (directory.asked, town.knocked) == ([HOST] * 2, [FOUR] * 2)
    assert await dialled(a_dialler) == FOUR_2
    assert (directory.asked, town.knocked) == ([HOST] * 3, [FOUR, FOUR, FOUR_2])  # nothing was kept


async def test_the_reasons_are_those_of_the_newest_answer():
    town = Town(dead={SIX: NO_ROUTE})
    a_dialler = dialler(town, (FOUR,), (SIX,))
    assert await dialled(a_dialler) == FOUR
    town.dead[FOUR] = REFUSED
    assert await failure(a_dialler.dial(HOST, PORT, Trail())) == "network is unreachable"


async def test_a_fresh_answer_that_leads_nowhere_is_not_asked_for_twice_and_not_kept():
    town = Town(dead={FOUR: REFUSED})
    a_dialler = dialler(town, directory=(directory := Directory((FOUR,), (FOUR_2,))))
    await failure(a_dialler.dial(HOST, PORT, Trail()))
    assert directory.asked == [HOST]
    assert await dialled(a_dialler) == FOUR_2
    assert town.knocked == [FOUR, FOUR_2]


async def test_a_name_that_is_gone_when_it_is_asked_for_anew_is_told_as_that():
    town = Town()
    a_dialler = dialler(town, (FOUR,), socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert await dialled(a_dialler) == FOUR
    town.dead[FOUR] = REFUSED
    with pytest.raises(Unresolved, match=r"^name or service not known$"):
        await a_dialler.dial(HOST, PORT, Trail())


async def test_addresses_that_were_silent_to_the_deadline_are_forgotten_and_distrusted():
    town = Town(silent=(SIX, FOUR))
    a_dialler = dialler(town, (SIX, FOUR, FOUR_2), (SIX, FOUR_2, FOUR), stagger=NEVER)
    trail = Trail()
    async with asyncio.TaskGroup() as group:
        dialling = group.create_task(a_dialler.dial(HOST, PORT, trail))
        await comes_true(lambda: town.knocked == [SIX])
        dialling.cancel()
    a_dialler.give_up(trail)
    assert trail.words == "waited for an answer from 1 IPv6 address and 2 IPv4 addresses"
    assert await dialled(a_dialler) == FOUR_2
    assert town.knocked == [SIX, FOUR_2]


async def test_a_winner_that_came_to_nothing_is_not_the_next_to_be_tried():
    a_dialler, trail = dialler(Town(), (SIX, FOUR)), Trail()
    await a_dialler.dial(HOST, PORT, trail)
    a_dialler.give_up(trail)
    assert await dialled(a_dialler) == FOUR


async def test_the_words_of_a_trail_have_what_failed_meanwhile():
    town = Town(silent=(FOUR,), dead={SIX: NO_ROUTE})
    trail = Trail()
    async with asyncio.TaskGroup() as group:
        dialling = group.create_task(dialler(town, (SIX, FOUR)).dial(HOST, PORT, trail))
        await comes_true(lambda: town.knocked == [SIX, FOUR])
        dialling.cancel()
    assert trail.words == "waited for an answer from 1 IPv6 address and 1 IPv4 address (network is unreachable)"


# -------------------------------------------------------------------------------------------------------- cancellation


async def cancelled_when(dialling: Coroutine[object, object, object], moment: Callable[[], bool]) -> None:
    """Begins, cancels at that moment, and sees that the caller hears of the cancelling and of nothing else."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(dialling)
        await comes_true(moment)
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()


async def test_cancelled_during_the_look_up():
    town, silent = Town(), SilentDirectory((FOUR,))
    a_dialler = dialler(town, directory=silent)
    await cancelled_when(a_dialler.dial(HOST, PORT, Trail()), lambda: silent.asked == [HOST])
    assert town.knocked == []
    silent.release()
    assert await dialled(a_dialler) == FOUR


@pytest.mark.parametrize("answer", [(SIX,), (SIX, FOUR), (SIX, FOUR, SIX_2)])
async def test_cancelled_during_the_attempts(answer: tuple[str, ...]):
    town = Town(silent=answer)
    a_dialler = dialler(town, answer, stagger=SOON)
    await cancelled_when(a_dialler.dial(HOST, PORT, Trail()), lambda: len(town.knocked) == len(answer))
    assert sorted(town.left) == sorted(answer)
    assert town.opened == []


async def test_cancelled_while_the_winner_waits_for_the_losers_to_leave():
    """The moment in which a socket is open and nobody has it yet."""
    town = Town(silent=(SIX,))
    town.slow_to_leave = asyncio.Event()
    a_dialler = dialler(town, (SIX, FOUR), stagger=SOON)
    async with asyncio.TaskGroup() as group:
        dialling = group.create_task(a_dialler.dial(HOST, PORT, Trail()))
        await comes_true(lambda: town.still_open == [FOUR])
        dialling.cancel()
        await asyncio.sleep(0)
        town.slow_to_leave.set()
        await asyncio.wait([dialling])
    assert dialling.cancelled()
    assert (len(town.opened), town.still_open) == (1, [])


@pytest.mark.parametrize("steps", range(12))
async def test_cancelled_after_any_number_of_steps(steps: int):
    town = Town(silent=(SIX,), dead={FOUR: REFUSED})
    a_dialler = dialler(town, (SIX, FOUR, FOUR_2), stagger=0)
    async with asyncio.TaskGroup() as group:
        dialling = group.create_task(a_dialler.dial(HOST, PORT, Trail()))
        await comes_true(lambda: len(town.knocked) > 0)
        for _ in range(steps):
            await asyncio.sleep(0)
        dialling.cancel()
        await asyncio.wait([dialling])
    assert town.still_open == ([] if dialling.cancelled() else [FOUR_2])
    assert town.knocked.count(SIX) == town.left.count(SIX)
