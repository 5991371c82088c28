"""The compiled steps of the shared counters do to the last bit what the same steps in Python do."""

import random
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from shutil import which

import pytest

from support.counters_contract import START_US
from support.shared_counters import SharedBench, audit, lock_taken
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import (
    MAX_LIMIT_NANO,
    Answer,
    Claim,
    Ending,
    Parts,
    Placed,
    Purse,
    Rate,
    Seats,
    Spending,
    Unseeded,
)
from tollhouse.policy.shared_memory import SharedCounters
from tollhouse.policy.shared_memory.layout import AT_DIRTY, AT_MOVED
from tollhouse.policy.shared_memory.quick import QUICK, Quick

needs_compiled = pytest.mark.skipif(QUICK is None, reason="the compiled part was not built here")

PURSES = [Purse("global/day", 20_000_000), Purse("key:a/month", 9_000_000), Purse("tenant:t/week/soft", None)]
SEATS = [Seats("concurrent/global", 9), Seats("concurrent/key:a", 4)]
KINDS = [
    Parts(),
    Parts(seats=(SEATS[0],)),
    Parts((Rate("requests/key:a", 60, 1), Rate("tokens/key:a", 5_000, 5_000, "tokens")), (), (PURSES[0],)),
    Parts((Rate("requests/key:a", 60, 1), Rate("tokens/key:b", 7_001, 700, "tokens")), tuple(SEATS), tuple(PURSES)),
    Parts((), (), (PURSES[1], PURSES[2])),
]


def test_where_there_is_a_compiler_the_steps_are_compiled():
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if which(compiler) is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("there is no compiler, or Python came without its headers")
    assert QUICK is not None


class Course:
    """One store that is asked the same as the other, under the same clocks."""

    def __init__(self, folder: Path, quick: Quick | None) -> None:
        folder.mkdir()
        self.bench = SharedBench(folder, meters=128, purses=8, quick=quick)

    async def open(self) -> SharedCounters:
        self.store = await self.bench.open()
        return self.store

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.bench.folder.iterdir()}


async def asked(course: Course, claim: Claim) -> Answer:
    """Places a claim; what the store does not know of purses, it is told as the gate would."""
    answer = await course.store.place(claim)
    if isinstance(answer, Unseeded):
        for purse in answer.purses:
            await course.store.seed(purse, spent_nano=1_000, before_us=course.bench.wall_us)
        answer = await course.store.place(claim)
    return answer


def some_claim(chance: random.Random, number: int, now_us: int) -> Claim:
    return Claim(
        id=f"req_{number:024d}",
        began_at_us=now_us - chance.choice([0, 0, 0, 5_000_000]),
        parts=chance.choice(KINDS),
        tokens=chance.choice([0, 1, 17, 699, 700, 4_999, 10**9, 1 << 62]),
        hold_nano=chance.choice([0, 1, 250_000, 2_000_000]),
        note=chance.randbytes(chance.choice([0, 7, 640])),
    )


@needs_compiled
@pytest.mark.parametrize("seed", range(12))
async def test_both_ways_answer_the_same_and_leave_the_same_bytes(tmp_path: Path, seed: int):
    compiled, python = Course(tmp_path / "compiled", QUICK), Course(tmp_path / "python", None)
    stores = [await compiled.open(), await python.open()]
    chance = random.Random(seed)
    standing: list[str] = []
    placed = 0
    for number in range(600):
        step = chance.random()
        if step < 0.55:
            claim = some_claim(chance, number, compiled.bench.wall_us)
            answers = [await asked(course, claim) for course in (compiled, python)]
            assert answers[0] == answers[1]
            if isinstance(answers[0], Placed):
                standing.append(claim.id)
                placed += 1
        elif step < 0.85 and standing:
            chance.shuffle(standing)
            ended = [standing.pop() for _ in range(min(len(standing), chance.randint(1, 5)))]
            used = (
                [None, 0, 5, 20_000] if len(ended) > 1 else [10**12]
            )  # a debt that is cut is cut once for all of a kind
            endings = [Ending(each, chance.choice([0, 77, 3_000_000]), chance.choice(used)) for each in ended]
            if chance.random() < 0.1:
                endings.append(endings[0])
            done = [changes(store.settle_all_now(endings)) for store in stores]
            assert done[0] == done[1]
        elif step < 0.9 and standing:
            name = standing.pop()
            for store in stores:
                await store.release(name)
        elif step < 0.92:
            for store in stores:
                await store.forget([PURSES[0].name])
        elif step < 0.94 and standing:
            claim = some_claim(chance, number, compiled.bench.wall_us)
            claim = Claim(id=standing[0], began_at_us=claim.began_at_us, parts=KINDS[3], hold_nano=10, note=b"moved on")
            for store in stores:
                await store.place(claim, extends=True)
        else:
            seconds = chance.choice([0.001, 1.5, 40.0])
            compiled.bench.advance(seconds)
            python.bench.advance(seconds)
    for store in stores:
        audit(store)
    assert placed > 100
    assert compiled.files() == python.files()
    await compiled.bench.aclose()
    await python.bench.aclose()


def changes(told: Sequence[Sequence[Spending]]) -> dict[str, tuple[int, int]]:
    """What all of them together did to each purse: one way tells it claim by claim, the other kind by kind."""
    steps = [step for each in told for step in each]
    return {
        name: (
            min(step.before_nano for step in steps if step.purse == name),
            max(step.after_nano for step in steps if step.purse == name),
        )
        for name in {step.purse for step in steps}
    }


@needs_compiled
async def test_what_is_out_of_the_ordinary_is_left_to_python(tmp_path: Path):
    course = Course(tmp_path / "compiled", QUICK)
    store = await course.open()
    kind = KINDS[3]
    await asked(course, Claim(id="first", began_at_us=START_US, parts=kind, tokens=1))
    sites = store._sites[id(kind)]
    berth, words = store._berth, store._file.words

    def place(
        *, plan=sites.plan, spot=berth.free[-1], began=START_US, hold=1, tokens=1, name="req", note=b""
    ) -> object:
        assert QUICK is not None
        now_ns = course.bench.uptime_ns
        return QUICK.place(store._file.map, berth.map, -1, plan, spot, now_ns, began, hold, tokens, name, note)

    before = course.files()
    words[AT_DIRTY] = 1
    assert place() is None, "the last one died in there"
    words[AT_DIRTY] = 0
    words[AT_MOVED] += 1
    assert place() is None, "a slot has moved"
    words[AT_MOVED] -= 1
    for wrong in (
        {"name": ""},
        {"name": "x" * 65},
        {"name": "a\0b"},
        {"note": bytes(641)},
        {"hold": -1},
        {"hold": MAX_LIMIT_NANO + 1},
        {"hold": 1 << 70},
        {"began": -1},
        {"tokens": -1},
        {"tokens": (1 << 62) + 1},
        {"spot": -1},
        {"spot": 1 << 40},
    ):
        assert place(**wrong) is None, wrong
    assert course.files() == before
    with pytest.raises(ValueError, match="a plan of 3 bytes"):
        place(plan=b"abc")
    with pytest.raises(ValueError, match="a plan of"):
        place(plan=sites.plan[:-8])
    assert place() is not None
    await course.bench.aclose()


@needs_compiled
async def test_a_lock_that_is_taken_is_not_waited_for(tmp_path: Path):
    course = Course(tmp_path / "compiled", QUICK)
    store = await course.open()
    claim = Claim(id="first", began_at_us=START_US, parts=KINDS[1])
    assert isinstance(await store.place(claim), Placed)
    with lock_taken(course.bench.folder):
        for step in (
            lambda: store.place_now(Claim(id="second", began_at_us=START_US, parts=KINDS[1])),
            lambda: store.settle_now("first", cost_nano=0, tokens=None),
        ):
            with pytest.raises(StoreUnavailable, match="kept the shared counters locked"):
                step()
    assert isinstance(await store.place(Claim(id="second", began_at_us=START_US, parts=KINDS[1])), Placed)
    audit(store)
    await course.bench.aclose()
