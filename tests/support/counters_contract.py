"""What every store of counters must keep, told once.

A test module gives a fixture named `bench` and subclasses `CountersContract`; pytest then runs all of it against that store:

    @pytest.fixture
    async def bench(): ...

    class TestValkeyCounters(CountersContract): ...

Amounts are tiny numbers of nano-USD, so that a reader can add them up.
"""

from collections.abc import Sequence
from typing import Protocol

import pytest

from support.claims import claim_of
from tollhouse.policy.counters import (
    MAX_CLAIM_PARTS,
    MAX_NOTE_BYTES,
    Claim,
    Counters,
    Orphan,
    Placed,
    Purse,
    PurseEmpty,
    PurseState,
    Rate,
    RateFull,
    Seats,
    SeatsTaken,
    Spending,
    Unseeded,
)

START_US = 1_800_000_000_000_000
"""When the bench's clock begins, microseconds since the epoch."""

Part = Rate | Seats | Purse


class Bench(Protocol):
    """A store under test, with a clock that stands still until it is moved."""

    async def open(self) -> Counters:
        """Another process's view of the same counters; all are closed when the test ends."""
        ...

    async def kill(self, counters: Counters) -> None:
        """The process of these counters dies: nothing more is called on them, and whatever it takes for others to notice is over."""
        ...

    def advance(self, seconds: float) -> None:
        """Moves the clock on for every process, wall time and monotonic time alike.  Begins at `START_US`."""
        ...


def minute(name: str, per_minute: int, amount: int = 1) -> Rate:
    return Rate(f"requests/{name}", per_minute, amount)


def tokens(name: str, per_minute: int, amount: int) -> Rate:
    return Rate(f"tokens/{name}", per_minute, amount, "tokens")


def claim(
    name: str,
    *parts: Part,
    hold: int = 0,
    began: int = START_US,
    note: bytes = b"",
) -> Claim:
    return claim_of(
        id=name,
        began_at_us=began,
        rates=tuple(part for part in parts if isinstance(part, Rate)),
        seats=tuple(part for part in parts if isinstance(part, Seats)),
        purses=tuple(part for part in parts if isinstance(part, Purse)),
        hold_nano=hold,
        note=note,
    )


async def seeded(store: Counters, *purses: Purse, spent: int = 0, before: int = START_US) -> None:
    for purse in purses:
        await store.seed(purse, spent_nano=spent, before_us=before)


async def state(store: Counters, purse: Purse) -> PurseState:
    [found] = await store.purses([purse.name])
    return found


async def money(store: Counters, purse: Purse) -> tuple[int, int]:
    """Spent and held."""
    found = await state(store, purse)
    return found.spent_nano, found.held_nano


def approx(seconds: float) -> object:
    """A store may keep time in microseconds."""
    return pytest.approx(seconds, abs=1e-5)


DAY = Purse("key:dev/day/2027-01-15", 100, START_US + 86_400_000_000)
MONTH = Purse("tenant:research/month/2027-01", 1_000, START_US + 30 * 86_400_000_000)
SOFT = Purse("global/total", None)
DESK = Seats("concurrent/key:dev", 2)


class CountersContract:
    """Subclass it under a name that begins with `Test`."""

    # ------------------------------------------------------------------------------------------------------- rates

    async def test_a_limit_of_n_lets_exactly_n_through(self, bench: Bench) -> None:
        store = await bench.open()
        for limit in (1, 7, 600):
            rate = minute(f"n{limit}", limit)
            answers = [await store.place(claim(f"{limit}/{i}", rate)) for i in range(limit + 1)]
            assert [type(answer) for answer in answers] == [Placed] * limit + [RateFull]

    async def test_a_limit_is_one_limit_for_all_processes(self, bench: Bench) -> None:
        one, two = await bench.open(), await bench.open()
        rate = minute("shared", 5)
        answers = [await store.place(claim(f"c{i}", rate)) for i, store in enumerate([one, two] * 4)]
        assert sum(isinstance(answer, Placed) for answer in answers) == 5

    async def test_a_rate_refills_evenly(self, bench: Bench) -> None:
        store = await bench.open()
        rate = minute("even", 6)  # one each ten seconds
        for i in range(6):
            await store.place(claim(f"c{i}", rate))
        bench.advance(9.99)
        assert isinstance(await store.place(claim("early", rate)), RateFull)
        bench.advance(0.01)
        assert isinstance(await store.place(claim("due", rate)), Placed)
        assert isinstance(await store.place(claim("next", rate)), RateFull)

    async def test_a_rate_never_holds_more_than_a_minute(self, bench: Bench) -> None:
        store = await bench.open()
        rate = minute("idle", 3)
        await store.place(claim("first", rate))
        bench.advance(86_400)
        answers = [await store.place(claim(f"c{i}", rate)) for i in range(4)]
        assert [type(answer) for answer in answers] == [Placed] * 3 + [RateFull]

    async def test_levels_say_what_is_left_and_when_it_is_full_again(self, bench: Bench) -> None:
        store = await bench.open()
        few, many = minute("few", 7), tokens("many", 100_000, 40_000)
        first = await store.place(claim("c1", few, many))
        assert isinstance(first, Placed)
        assert [level.rate for level in first.levels] == [few, many]
        assert [level.remaining for level in first.levels] == [6, 60_000]
        assert [level.reset_seconds for level in first.levels] == [approx(60 / 7), approx(24)]
        bench.advance(12)
        second = await store.place(claim("c2", few, many))
        assert isinstance(second, Placed)
        assert [level.remaining for level in second.levels] == [6, 40_000]
        assert [level.reset_seconds for level in second.levels] == [approx(60 / 7), approx(36)]

    async def test_the_longest_wait_is_told_and_it_is_enough(self, bench: Bench) -> None:
        store = await bench.open()
        short, long, free = minute("short", 60, 60), minute("long", 10, 5), minute("free", 1_000)
        await store.place(claim("c1", short, long, free))
        await store.place(claim("c2", long))
        refused = await store.place(claim("c3", minute("short", 60), long, free))
        assert isinstance(refused, RateFull)
        assert refused.rate == long
        assert refused.wait_seconds == approx(30)
        assert [level.remaining for level in refused.levels] == [0, 0, 999]
        bench.advance(refused.wait_seconds)
        assert isinstance(await store.place(claim("c3", minute("short", 60), long, free)), Placed)

    async def test_a_take_can_be_most_of_a_minute(self, bench: Bench) -> None:
        store = await bench.open()
        assert isinstance(await store.place(claim("c1", tokens("big", 1_000, 1_000))), Placed)
        refused = await store.place(claim("c2", tokens("big", 1_000, 250)))
        assert isinstance(refused, RateFull)
        assert refused.wait_seconds == approx(15)

    # -------------------------------------------------------------------------------------------- rates, corrected

    async def test_tokens_that_were_not_used_are_given_back(self, bench: Bench) -> None:
        store = await bench.open()
        rate = tokens("back", 1_000, 900)
        await store.place(claim("c1", rate))
        await store.settle("c1", cost_nano=0, tokens=300)
        answer = await store.place(claim("c2", tokens("back", 1_000, 700)))
        assert isinstance(answer, Placed)
        assert answer.levels[0].remaining == 0

    async def test_tokens_above_the_estimate_put_a_rate_into_debt(self, bench: Bench) -> None:
        store = await bench.open()
        await store.place(claim("c1", tokens("debt", 600, 100)))
        await store.settle("c1", cost_nano=0, tokens=1_200)
        refused = await store.place(claim("c2", tokens("debt", 600, 10)))
        assert isinstance(refused, RateFull)
        assert refused.wait_seconds == approx(61)
        assert refused.levels[0].remaining == 0
        bench.advance(61)
        assert isinstance(await store.place(claim("c2", tokens("debt", 600, 10))), Placed)

    async def test_a_debt_counts_from_now_when_the_rate_was_full_again(self, bench: Bench) -> None:
        store = await bench.open()
        await store.place(claim("c1", tokens("late", 600, 100)))
        bench.advance(3_600)
        await store.settle("c1", cost_nano=0, tokens=400)
        refused = await store.place(claim("c2", tokens("late", 600, 301)))
        assert isinstance(refused, RateFull)
        assert refused.levels[0].remaining == 300

    async def test_what_is_given_back_late_does_not_fill_above_full(self, bench: Bench) -> None:
        store = await bench.open()
        await store.place(claim("c1", tokens("cap", 600, 600)))
        bench.advance(30)
        await store.settle("c1", cost_nano=0, tokens=0)
        answers = [await store.place(claim(f"d{i}", tokens("cap", 600, 300))) for i in range(3)]
        assert [type(answer) for answer in answers] == [Placed, Placed, RateFull]

    async def test_tokens_nobody_knows_stay_as_estimated(self, bench: Bench) -> None:
        store = await bench.open()
        await store.place(claim("c1", tokens("unknown", 1_000, 900)))
        await store.settle("c1", cost_nano=0, tokens=None)
        assert isinstance(await store.place(claim("c2", tokens("unknown", 1_000, 101))), RateFull)

    async def test_settling_does_not_give_requests_back(self, bench: Bench) -> None:
        store = await bench.open()
        await store.place(claim("c1", minute("asked", 1)))
        await store.settle("c1", cost_nano=0, tokens=0)
        assert isinstance(await store.place(claim("c2", minute("asked", 1))), RateFull)

    async def test_releasing_gives_rates_back(self, bench: Bench) -> None:
        store = await bench.open()
        parts = minute("undone", 1), tokens("undone", 100, 100)
        for i in range(3):
            assert isinstance(await store.place(claim(f"c{i}", *parts)), Placed)
            await store.release(f"c{i}")

    # ------------------------------------------------------------------------------------------------------- seats

    @pytest.mark.parametrize("way", ["settle", "release"])
    async def test_a_seat_is_free_when_its_call_ends(self, bench: Bench, way: str) -> None:
        one, two = await bench.open(), await bench.open()
        assert isinstance(await one.place(claim("a", DESK)), Placed)
        assert isinstance(await two.place(claim("b", DESK)), Placed)
        assert await one.place(claim("c", DESK)) == SeatsTaken(DESK)
        assert await two.place(claim("d", DESK)) == SeatsTaken(DESK)
        if way == "settle":
            await two.settle("b", cost_nano=0, tokens=None)
        else:
            await two.release("b")
        assert isinstance(await one.place(claim("c", DESK)), Placed)
        assert await two.place(claim("d", DESK)) == SeatsTaken(DESK)

    async def test_a_seat_does_not_free_itself_with_time(self, bench: Bench) -> None:
        store = await bench.open()
        await store.place(claim("a", Seats("one", 1)))
        bench.advance(3_600)
        assert await store.place(claim("b", Seats("one", 1))) == SeatsTaken(Seats("one", 1))

    # ------------------------------------------------------------------------------------------------------ purses

    async def test_a_purse_nobody_told_about_places_nothing(self, bench: Bench) -> None:
        store = await bench.open()
        rate = minute("r", 1)
        await seeded(store, MONTH)
        parts = (rate, DESK, DAY, MONTH, SOFT)
        assert await store.place(claim("a", *parts, hold=10)) == Unseeded((DAY, SOFT))
        await seeded(store, DAY, SOFT)
        assert isinstance(await store.place(claim("a", *parts, hold=10)), Placed)
        assert [await money(store, purse) for purse in (DAY, MONTH, SOFT)] == [(0, 10)] * 3

    async def test_what_was_told_is_known_to_every_process(self, bench: Bench) -> None:
        one, two = await bench.open(), await bench.open()
        await seeded(one, DAY, spent=95)
        assert isinstance(await two.place(claim("a", DAY, hold=5)), Placed)
        assert await state(one, DAY) == PurseState(
            name=DAY.name, spent_nano=95, held_nano=5, seeded_before_us=START_US, is_confirmed=False
        )

    async def test_spent_and_held_reach_the_limit_and_do_not_pass_it(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, DAY, spent=40)
        assert isinstance(await store.place(claim("a", DAY, hold=35)), Placed)
        assert await store.place(claim("b", DAY, hold=26)) == PurseEmpty(DAY, spent_nano=40, held_nano=35)
        assert isinstance(await store.place(claim("b", DAY, hold=25)), Placed)
        assert await store.place(claim("c", DAY, hold=1)) == PurseEmpty(DAY, spent_nano=40, held_nano=60)
        await store.settle("a", cost_nano=30, tokens=None)
        assert isinstance(await store.place(claim("c", DAY, hold=5)), Placed)
        assert await money(store, DAY) == (70, 30)

    async def test_a_free_call_passes_a_purse_that_is_just_used_up_and_not_one_in_debt(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, DAY, spent=100)
        assert isinstance(await store.place(claim("a", DAY)), Placed)
        await store.settle("a", cost_nano=1, tokens=None)
        assert isinstance(await store.place(claim("b", DAY)), PurseEmpty)

    async def test_the_limit_is_the_claims_not_the_seeds(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, DAY)
        raised = Purse(DAY.name, 200, DAY.ends_at_us)
        assert isinstance(await store.place(claim("a", DAY, hold=101)), PurseEmpty)
        assert isinstance(await store.place(claim("a", raised, hold=101)), Placed)

    async def test_a_soft_budget_only_counts(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, SOFT)
        large = 8_000_000_000_000_000
        assert isinstance(await store.place(claim("a", SOFT, hold=large)), Placed)
        assert await store.settle("a", cost_nano=large, tokens=None) == [Spending(SOFT.name, 0, large)]

    async def test_the_first_empty_purse_is_named(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, DAY, spent=98)
        await seeded(store, MONTH, spent=999)
        assert await store.place(claim("a", SOFT, MONTH, DAY, hold=2)) == Unseeded((SOFT,))
        await seeded(store, SOFT)
        refused = await store.place(claim("a", SOFT, DAY, MONTH, hold=2))
        assert refused == PurseEmpty(MONTH, spent_nano=999, held_nano=0)

    async def test_settling_replaces_the_hold_by_the_cost(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, DAY, MONTH, spent=10)
        await store.place(claim("a", DAY, MONTH, hold=50))
        assert sorted(await store.settle("a", cost_nano=7, tokens=None), key=lambda step: step.purse) == [
            Spending(DAY.name, 10, 17),
            Spending(MONTH.name, 10, 17),
        ]
        assert [await money(store, purse) for purse in (DAY, MONTH)] == [(17, 0)] * 2

    async def test_a_cost_above_its_hold_is_spent_in_full(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, DAY, spent=90)
        await store.place(claim("a", DAY, hold=10))
        assert await store.settle("a", cost_nano=25, tokens=None) == [Spending(DAY.name, 90, 115)]
        assert await store.place(claim("b", DAY, hold=0)) == PurseEmpty(DAY, spent_nano=115, held_nano=0)

    async def test_releasing_spends_nothing(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, DAY, spent=10)
        await store.place(claim("a", DAY, hold=50))
        await store.release("a")
        assert await money(store, DAY) == (10, 0)

    async def test_no_two_settlements_see_the_same_step(self, bench: Bench) -> None:
        one, two = await bench.open(), await bench.open()
        await seeded(one, SOFT)
        for store, name in ((one, "a"), (two, "b"), (one, "c")):
            await store.place(claim(name, SOFT, hold=10))
        steps = [
            *await two.settle("b", cost_nano=3, tokens=None),
            *await one.settle("c", cost_nano=4, tokens=None),
            *await one.settle("a", cost_nano=5, tokens=None),
        ]
        assert [(step.before_nano, step.after_nano) for step in steps] == [(0, 3), (3, 7), (7, 12)]

    # ------------------------------------------------------------------------------------------- the claim's life

    async def test_a_claim_without_parts_stands_and_ends(self, bench: Bench) -> None:
        store = await bench.open()
        assert await store.place(claim("a")) == Placed()
        assert not await store.is_settled_before(START_US + 1)
        assert list(await store.settle("a", cost_nano=5, tokens=3)) == []
        assert await store.is_settled_before(START_US + 1)

    async def test_ending_what_is_not_there_does_nothing(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, DAY)
        await store.place(claim("a", DAY, DESK, hold=10))
        await store.settle("a", cost_nano=4, tokens=None)
        assert list(await store.settle("a", cost_nano=4, tokens=None)) == []
        await store.release("a")
        assert list(await store.settle("never", cost_nano=4, tokens=None)) == []
        await store.release("never")
        assert await money(store, DAY) == (4, 0)

    @pytest.mark.parametrize("obstacle", ["rate", "seats", "purse", "unseeded"])
    async def test_a_refused_claim_has_changed_nothing(self, bench: Bench, obstacle: str) -> None:
        store = await bench.open()
        free = minute("free", 1), tokens("free", 50, 50), Seats("free", 1), DAY, MONTH
        await seeded(store, DAY, MONTH)
        full = Purse("full", 10)
        await seeded(store, full, spent=10)
        await store.place(claim("before", minute("full", 1), Seats("full", 1)))
        obstacles: dict[str, Part] = {
            "rate": minute("full", 1),
            "seats": Seats("full", 1),
            "purse": full,
            "unseeded": Purse("unknown", 10),
        }
        for i in range(2):
            refused = await store.place(claim(f"r{i}", *free, obstacles[obstacle], hold=100))
            assert not isinstance(refused, Placed)
            assert list(await store.settle(f"r{i}", cost_nano=9, tokens=1)) == []
        assert [await money(store, purse) for purse in (DAY, MONTH, full)] == [(0, 0), (0, 0), (10, 0)]
        assert isinstance(await store.place(claim("after", *free, hold=100)), Placed)

    async def test_what_waiting_does_not_help_is_said_first(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, DAY, spent=100)
        parts: list[Part] = [minute("full", 1), Seats("full", 1)]
        await store.place(claim("a", *parts))
        assert isinstance(await store.place(claim("b", *parts, DAY, MONTH, hold=1)), Unseeded)
        assert isinstance(await store.place(claim("b", *parts, DAY, hold=1)), PurseEmpty)
        assert isinstance(await store.place(claim("b", *parts)), RateFull)

    async def test_the_largest_claim_fits(self, bench: Bench) -> None:
        store = await bench.open()
        third = MAX_CLAIM_PARTS // 3
        rates = [minute(f"r{i}", 10) for i in range(third)]
        seats = [Seats(f"s{i}", 1) for i in range(third)]
        purses = [Purse(f"p{i}", 100) for i in range(third)]
        await seeded(store, *purses)
        largest = claim("a" * 36, *rates, *seats, *purses, hold=100, note=b"\x00\xff" * (MAX_NOTE_BYTES // 2))
        assert isinstance(await store.place(largest), Placed)
        assert len(await store.settle("a" * 36, cost_nano=60, tokens=None)) == third
        assert [await money(store, purse) for purse in purses] == [(60, 0)] * third

    async def test_names_of_any_script_are_kept_apart(self, bench: Bench) -> None:
        store = await bench.open()
        names = ["a", "a ", "A", "é", "e\u0301", "鍵", "tenant:x/day:{1}", "x" * 200]
        purses = [Purse(name, 100) for name in names]
        for i, purse in enumerate(purses):
            await store.seed(purse, spent_nano=i, before_us=START_US)
            assert isinstance(
                await store.place(claim(name := f"c{i}", minute(purse.name, 1), Seats(purse.name, 1))), Placed
            ), name
        assert [found.spent_nano for found in await store.purses(names)] == list(range(len(names)))

    # ----------------------------------------------------------------------------------------------------- extends

    async def test_an_extension_adds_parts_and_one_settlement_ends_all(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, DAY, MONTH)
        other = Seats("provider:two", 1)
        await store.place(claim("a", DESK, DAY, tokens("one", 100, 40), hold=10))
        more = claim("a", other, DAY, MONTH, tokens("two", 100, 40), hold=20)
        answer = await store.place(more, extends=True)
        assert isinstance(answer, Placed)
        assert [level.rate for level in answer.levels] == list(more.parts.rates)
        assert [await money(store, purse) for purse in (DAY, MONTH)] == [(0, 30), (0, 20)]

        steps = await store.settle("a", cost_nano=25, tokens=60)
        assert sorted(step.purse for step in steps) == [DAY.name, MONTH.name]
        assert [await money(store, purse) for purse in (DAY, MONTH)] == [(25, 0)] * 2
        assert isinstance(await store.place(claim("b", other, DESK)), Placed)
        for name in ("one", "two"):
            refused = await store.place(claim("c", tokens(name, 100, 41)))
            assert isinstance(refused, RateFull)
            assert refused.levels[0].remaining == 40

    async def test_an_extension_takes_a_rate_again_and_a_seat_once(self, bench: Bench) -> None:
        store = await bench.open()
        parts = minute("again", 2), Seats("once", 1)
        assert isinstance(await store.place(claim("a", *parts)), Placed)
        assert isinstance(await store.place(claim("a", *parts), extends=True), Placed)
        assert isinstance(await store.place(claim("b", minute("again", 2))), RateFull)
        await store.release("a")
        answer = await store.place(claim("b", *parts))
        assert isinstance(answer, Placed)
        assert answer.levels[0].remaining == 1

    async def test_tokens_are_corrected_against_all_that_was_taken(self, bench: Bench) -> None:
        store = await bench.open()
        await store.place(claim("a", tokens("twice", 1_000, 300)))
        await store.place(claim("a", tokens("twice", 1_000, 300)), extends=True)
        await store.settle("a", cost_nano=0, tokens=350)
        refused = await store.place(claim("b", tokens("twice", 1_000, 651)))
        assert isinstance(refused, RateFull)
        assert refused.levels[0].remaining == 650

    async def test_a_refused_extension_leaves_the_claim_as_it_was(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, DAY, MONTH)
        await store.place(claim("a", DAY, DESK, minute("one", 5), hold=60))
        refused = await store.place(claim("a", MONTH, DAY, minute("one", 5), hold=41), extends=True)
        assert refused == PurseEmpty(DAY, spent_nano=0, held_nano=60)
        assert [await money(store, purse) for purse in (DAY, MONTH)] == [(0, 60), (0, 0)]
        assert not await store.is_settled_before(START_US + 1)
        assert list(await store.settle("a", cost_nano=5, tokens=None)) == [Spending(DAY.name, 0, 5)]
        assert [await money(store, purse) for purse in (DAY, MONTH)] == [(5, 0), (0, 0)]

    async def test_an_extension_of_nothing_is_a_claim(self, bench: Bench) -> None:
        """A store that was emptied has lost the claim; the call goes on and must be counted."""
        store = await bench.open()
        await seeded(store, DAY)
        assert isinstance(await store.place(claim("a", DAY, hold=10), extends=True), Placed)
        assert await money(store, DAY) == (0, 10)
        await store.settle("a", cost_nano=1, tokens=None)
        assert await money(store, DAY) == (1, 0)

    async def test_an_extensions_note_replaces_the_first_and_no_note_keeps_it(self, bench: Bench) -> None:
        store, other = await bench.open(), await bench.open()
        await store.place(claim("a", note=b"first", hold=5))
        await store.place(claim("b", note=b"kept", hold=5))
        await store.place(claim("a", note=b"second", hold=3), extends=True)
        await store.place(claim("b", hold=0), extends=True)
        await bench.kill(store)
        assert by_id(await other.orphans()) == [
            Orphan("a", START_US, 8, b"second"),
            Orphan("b", START_US, 5, b"kept"),
        ]

    # ------------------------------------------------------------------------------------------ seeding, confirming

    async def test_the_first_to_seed_sets_the_moment(self, bench: Bench) -> None:
        one, two = await bench.open(), await bench.open()
        assert await one.seed(DAY, spent_nano=10, before_us=START_US) == START_US
        assert await two.seed(DAY, spent_nano=99, before_us=START_US + 5) == START_US
        assert await two.seed(DAY, spent_nano=99, before_us=START_US - 5, is_confirmed=True) == START_US
        found = await state(one, DAY)
        assert (found.spent_nano, found.is_confirmed) == (10, False)

    async def test_telling_the_same_moment_again_replaces_the_sum_and_keeps_what_was_settled(
        self, bench: Bench
    ) -> None:
        store = await bench.open()
        await seeded(store, DAY, spent=10)
        await store.place(claim("a", DAY, hold=50))
        await store.settle("a", cost_nano=3, tokens=None)
        await store.place(claim("b", DAY, hold=20))
        assert await store.seed(DAY, spent_nano=15, before_us=START_US, is_confirmed=True) == START_US
        assert await state(store, DAY) == PurseState(
            name=DAY.name, spent_nano=18, held_nano=20, seeded_before_us=START_US, is_confirmed=True
        )

    async def test_a_call_that_began_before_the_seed_counts_until_the_confirmation_counts_it(
        self, bench: Bench
    ) -> None:
        """Its row is in the sum that is read at the confirmation, and was not in the first: until then only we know of it."""
        store = await bench.open()
        await seeded(store, DAY)
        await store.place(claim("old", DAY, hold=50, began=START_US + 10))
        await store.forget([DAY.name])
        await seeded(store, DAY, spent=5, before=START_US + 20)
        await store.place(claim("new", DAY, hold=20, began=START_US + 20))
        assert await store.settle("old", cost_nano=40, tokens=None) == [Spending(DAY.name, 5, 45)]
        await store.settle("new", cost_nano=7, tokens=None)
        assert await money(store, DAY) == (52, 0)
        assert isinstance(await store.place(claim("more", DAY, hold=49)), PurseEmpty)

        await seeded(store, DAY, spent=45, before=START_US + 20)  # told again without being sure: it may be in both
        assert await money(store, DAY) == (92, 0)
        await store.seed(DAY, spent_nano=45, before_us=START_US + 20, is_confirmed=True)
        assert await money(store, DAY) == (52, 0)

    async def test_what_is_settled_while_a_purse_is_unseeded_counts_until_the_confirmation(self, bench: Bench) -> None:
        """Whoever seeds may have read the ledger just before that row."""
        store = await bench.open()
        await seeded(store, DAY)
        await store.place(claim("a", DAY, hold=50))
        await store.forget([DAY.name])
        assert list(await store.settle("a", cost_nano=40, tokens=None)) == []
        await seeded(store, DAY, spent=0, before=START_US + 20)
        assert await money(store, DAY) == (40, 0)
        await store.seed(DAY, spent_nano=40, before_us=START_US + 20, is_confirmed=True)
        assert await money(store, DAY) == (40, 0)

    async def test_a_call_that_waited_until_after_the_confirmation_is_counted(self, bench: Bench) -> None:
        """Its row is in no sum that was read."""
        store = await bench.open()
        await seeded(store, DAY, spent=10, before=START_US + 20)
        await store.seed(DAY, spent_nano=10, before_us=START_US + 20, is_confirmed=True)
        await store.place(claim("waited", DAY, hold=50, began=START_US))
        assert await store.settle("waited", cost_nano=5, tokens=None) == [Spending(DAY.name, 10, 15)]
        assert await store.seed(DAY, spent_nano=15, before_us=START_US + 20, is_confirmed=True) == START_US + 20
        assert await money(store, DAY) == (15, 0)

    async def test_what_is_told_about_a_confirmed_purse_changes_nothing(self, bench: Bench) -> None:
        store = await bench.open()
        await store.seed(DAY, spent_nano=10, before_us=START_US, is_confirmed=True)
        for spent, is_confirmed in ((99, False), (99, True), (0, False)):
            assert await store.seed(DAY, spent_nano=spent, before_us=START_US, is_confirmed=is_confirmed) == START_US
        found = await state(store, DAY)
        assert (found.spent_nano, found.is_confirmed) == (10, True)

    async def test_a_forgotten_purse_is_unseeded_and_keeps_its_holds(self, bench: Bench) -> None:
        one, two = await bench.open(), await bench.open()
        await seeded(one, DAY, MONTH, spent=10)
        await one.place(claim("a", DAY, MONTH, hold=50))
        await two.forget([DAY.name, "never heard of"])
        assert await one.purses([DAY.name]) == []
        assert await one.place(claim("b", DAY, MONTH, hold=1)) == Unseeded((DAY,))
        await seeded(two, DAY, spent=30, before=START_US + 9)
        assert await state(one, DAY) == PurseState(
            name=DAY.name, spent_nano=30, held_nano=50, seeded_before_us=START_US + 9, is_confirmed=False
        )
        assert await money(one, MONTH) == (10, 50)

    async def test_purses_nobody_knows_are_left_out(self, bench: Bench) -> None:
        store = await bench.open()
        await seeded(store, DAY, spent=1)
        assert [found.name for found in await store.purses([MONTH.name, DAY.name, "nothing"])] == [DAY.name]
        assert list(await store.purses([])) == []

    async def test_is_settled_before_looks_at_every_process(self, bench: Bench) -> None:
        one, two = await bench.open(), await bench.open()
        assert await one.is_settled_before(START_US + 100)
        await one.place(claim("a", began=START_US + 10))
        await two.place(claim("b", DESK, began=START_US + 5))
        await two.place(claim("c", began=START_US + 50))
        for store in (one, two):
            assert await store.is_settled_before(START_US + 5)
            assert not await store.is_settled_before(START_US + 6)
        await two.settle("b", cost_nano=0, tokens=None)
        for store in (one, two):
            assert await store.is_settled_before(START_US + 10)
            assert not await store.is_settled_before(START_US + 11)
        await one.release("a")
        await bench.kill(two)
        assert await one.is_settled_before(START_US + 50)
        assert not await one.is_settled_before(START_US + 51), "an orphan has not ended"
        await one.orphans()
        assert not await one.is_settled_before(START_US + 51), "handing it out has not ended it"
        await one.settle("c", cost_nano=0, tokens=None)
        assert await one.is_settled_before(START_US + 51)

    # ----------------------------------------------------------------------------------------------------- orphans

    async def test_claims_of_the_living_are_no_orphans(self, bench: Bench) -> None:
        one, two = await bench.open(), await bench.open()
        await one.place(claim("a", DESK))
        await two.place(claim("b"))
        assert list(await one.orphans()) == []
        assert list(await two.orphans()) == []

    async def test_an_orphan_is_whole_and_settling_it_ends_everything(self, bench: Bench) -> None:
        one, two = await bench.open(), await bench.open()
        await seeded(one, DAY, MONTH)
        rate = tokens("r", 100, 90)
        note = bytes(range(256))
        await one.place(claim("a", rate, DESK, DAY, MONTH, hold=60, note=note, began=START_US + 3))
        await bench.kill(one)
        assert await money(two, DAY) == (0, 60), "what a dead process held stays held until somebody settles it"
        assert await two.orphans() == [Orphan("a", START_US + 3, 60, note)]
        steps = await two.settle("a", cost_nano=42, tokens=40)
        assert sorted(steps, key=lambda step: step.purse) == [Spending(DAY.name, 0, 42), Spending(MONTH.name, 0, 42)]
        assert [await money(two, purse) for purse in (DAY, MONTH)] == [(42, 0)] * 2
        assert [type(await two.place(claim(name, DESK))) for name in "xyz"] == [Placed, Placed, SeatsTaken]
        assert list(await two.orphans()) == []

    async def test_an_orphan_can_be_released(self, bench: Bench) -> None:
        one, two = await bench.open(), await bench.open()
        await seeded(one, DAY)
        await one.place(claim("a", Seats("one", 1), DAY, hold=60))
        await bench.kill(one)
        assert len(await two.orphans()) == 1
        await two.release("a")
        assert await money(two, DAY) == (0, 0)
        assert isinstance(await two.place(claim("b", Seats("one", 1))), Placed)

    async def test_each_orphan_is_handed_to_one_asker_only(self, bench: Bench) -> None:
        dead, one, two = await bench.open(), await bench.open(), await bench.open()
        for i in range(5):
            await dead.place(claim(f"c{i}"))
        await bench.kill(dead)
        handed = [orphan.id for asker in (one, two, one, two, one) for orphan in await asker.orphans(2)]
        assert sorted(handed) == [f"c{i}" for i in range(5)]
        assert [*await one.orphans(), *await two.orphans()] == []

    async def test_an_orphan_whose_asker_died_is_handed_out_again(self, bench: Bench) -> None:
        dead, asker, last = await bench.open(), await bench.open(), await bench.open()
        await seeded(dead, DAY)
        await dead.place(claim("a", DAY, hold=30))
        await dead.place(claim("b", DAY, hold=30))
        await bench.kill(dead)
        assert len(await asker.orphans()) == 2
        await asker.settle("a", cost_nano=1, tokens=None)
        await asker.place(claim("own", DAY, hold=5))
        await bench.kill(asker)
        assert [orphan.id for orphan in by_id(await last.orphans())] == ["b", "own"]
        for name in ("b", "own"):
            await last.settle(name, cost_nano=1, tokens=None)
        assert await money(last, DAY) == (3, 0)

    async def test_claims_that_stand_when_a_store_is_closed_become_orphans(self, bench: Bench) -> None:
        one, two = await bench.open(), await bench.open()
        await one.place(claim("a", note=b"n"))
        await one.aclose()
        await bench.kill(one)  # whatever it takes for others to notice
        assert await two.orphans() == [Orphan("a", START_US, 0, b"n")]

    async def test_a_process_that_starts_later_finds_the_orphans(self, bench: Bench) -> None:
        dead = await bench.open()
        await seeded(dead, DAY)
        await dead.place(claim("a", DAY, DESK, hold=30))
        await bench.kill(dead)
        later = await bench.open()
        assert [orphan.id for orphan in await later.orphans()] == ["a"]
        await later.release("a")
        await seeded(later, DAY)  # whether its sum survived is the store's choice
        assert await money(later, DAY) == (0, 0)


def by_id(orphans: Sequence[Orphan]) -> list[Orphan]:
    return sorted(orphans, key=lambda orphan: orphan.id)
