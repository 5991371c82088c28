"""The names of budgets can be read back, and their state without joining those who count."""

from pathlib import Path

import pytest

from support.claims import claim_of
from tollhouse.config.schema import BudgetSettings, Period, Scope
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.counters import Placed, Purse
from tollhouse.policy.purses_at_rest import names_of, parse_name, read_purses, read_seeded_purses
from tollhouse.policy.shared_memory import SharedCounters
from tollhouse.policy.windows import FOREVER, window

NOON_US = 1_795_262_400_000_000
"""21 November 2026, a Saturday."""


@pytest.mark.parametrize("period", ["hour", "day", "week", "month", "total"])
@pytest.mark.parametrize(
    "scope",
    [
        Scope("global"),
        Scope("tenant", "research"),
        Scope("project", "research/search"),
        Scope("model", "openai/gpt-5.2"),
        Scope("key", "a/day/b"),
    ],
)
@pytest.mark.parametrize("is_hard", [True, False])
def test_a_name_says_scope_and_window(scope: Scope, period: Period, is_hard: bool):
    (name,) = names_of([BudgetSettings(scope=scope, period=period, limit_nano=1, is_hard=is_hard)], NOON_US)

    assert parse_name(name) == (scope, window(period, NOON_US))


def test_names_are_those_that_people_know():
    budget = BudgetSettings(scope=Scope("tenant", "research"), period="month", limit_nano=1)

    assert names_of([budget], NOON_US) == ["tenant:research/month/2026-11"]
    assert parse_name("global/total/ever").window is FOREVER


@pytest.mark.parametrize(
    "name", ["", "global", "global/day", "global/year/2026", "global/day/2026-13-41", "ip:1/day/2026-11-21"]
)
def test_what_is_no_name_is_refused(name: str):
    with pytest.raises(ValueError, match="is not the name of a budget"):
        parse_name(name)


def test_a_window_of_another_period_is_refused():
    with pytest.raises(ValueError, match="has no window"):
        parse_name("global/day/2026-11")


async def test_purses_are_read_while_others_count(tmp_path: Path):
    counters = SharedCounters.open(tmp_path, processes=2, meters=128, purses=8)
    told, untold = Purse("key:dev/day/2026-11-21", 100), Purse("global/total/ever", None)
    await counters.seed(told, spent_nano=40, before_us=5, is_confirmed=True)
    await counters.seed(untold, spent_nano=7, before_us=5)
    assert isinstance(
        await counters.place(claim_of(id="x", began_at_us=6, purses=(told, untold), hold_nano=30)), Placed
    )
    found = {state.name: state for state in read_purses(tmp_path)}
    told_state, untold_state = await counters.purses([told.name, untold.name])
    await counters.aclose()

    assert found == {told.name: told_state, untold.name: untold_state}
    assert (found[told.name].spent_nano, found[told.name].held_nano) == (40, 30)


async def test_a_purse_that_was_to_be_forgotten_has_no_sum_until_it_is_told_again(tmp_path: Path):
    counters = SharedCounters.open(tmp_path, processes=2, meters=128, purses=8)
    kept, forgotten = Purse("key:dev/day/2026-11-21", 100), Purse("global/total/ever", None)
    for purse in (kept, forgotten):
        await counters.seed(purse, spent_nano=40, before_us=5, is_confirmed=True)
    assert isinstance(await counters.place(claim_of(id="x", began_at_us=6, purses=(forgotten,), hold_nano=30)), Placed)
    await counters.forget([forgotten.name])
    everything, seeded = read_purses(tmp_path), read_seeded_purses(tmp_path)
    await counters.aclose()

    assert [state.name for state in seeded] == [kept.name]
    assert {state.name: state.held_nano for state in everything} == {kept.name: 0, forgotten.name: 30}


@pytest.mark.parametrize("content", [None, b"", b"x" * 64])
def test_what_are_no_counters_cannot_be_read(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "counters").write_bytes(content)
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        read_purses(tmp_path)
