"""How budgets stand in the counters, compared with the ledger: for checking, when nothing is under way.

The file of this machine's counters is read without joining those who count and without their lock, so what is read while calls
settle need not fit together.
"""

import re
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from tollhouse.config.schema import BudgetSettings, Period, Scope
from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.moments import us_of
from tollhouse.ledger.spending import LAST_US, SpendReader
from tollhouse.ledger.verify import Purse
from tollhouse.policy.counters import PurseState
from tollhouse.policy.shared_memory.file import CountersFile
from tollhouse.policy.shared_memory.layout import (
    AT_METERS,
    AT_PURSES,
    FLAGS,
    IS_CONFIRMED,
    IS_SEEDED,
    NAME,
    NAME_BYTES,
    WORD_BYTES,
    Layout,
)
from tollhouse.policy.windows import Window, window

SOFT: Final = "/soft"
Kind = Literal["global", "tenant", "project", "key", "provider", "model"]
"""Of a scope that can have a budget."""
_WEEK: Final = re.compile(r"(\d{4})-W(\d{2})")


class Named(NamedTuple):
    """What the name of a purse says."""

    scope: Scope
    window: Window


def parse_name(name: str) -> Named:
    """`tenant:research/month/2026-11` or the same with `/soft`.  Raises `ValueError` for anything else."""
    try:
        scope, period, label = name.removesuffix(SOFT).rsplit("/", 2)
        kind, _, of = scope.partition(":")
        named = Scope(msgspec.convert(kind, Kind), of)
        found = window(msgspec.convert(period, Period), _moment_in(label))
    except ValueError as error:
        raise ValueError(f"{name!r} is not the name of a budget") from error
    if found.label != label:
        raise ValueError(f"{name!r} has no window {label!r}")
    return Named(named, found)


def read_purses(folder: Path) -> list[PurseState]:
    """All budgets in the counters' file of a folder.  Raises `StoreUnavailable` when there is none that we can read.

    Of one whose sum nobody has told yet, or that was to be forgotten, it is only true what is held.
    """
    with closing(_opened(folder)) as counters:
        return [_state(counters, at) for at in counters.purses.used()]


def read_seeded_purses(folder: Path) -> list[PurseState]:
    """Those of `read_purses` that have a sum, as `Counters.purses` gives them."""
    with closing(_opened(folder)) as counters:
        words = counters.words
        return [_state(counters, at) for at in counters.purses.used() if words[at + FLAGS] & IS_SEEDED]


def _opened(folder: Path) -> CountersFile:
    path = folder / "counters"
    try:
        with path.open("rb") as file:
            words = memoryview(file.read(AT_PURSES * WORD_BYTES + WORD_BYTES)).cast("q")
        return CountersFile(path, Layout(words[AT_METERS], words[AT_PURSES]))
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise StoreUnavailable(f"The counters in {folder} cannot be read: {error}.") from error


def names_of(budgets: Iterable[BudgetSettings], now_us: int) -> list[str]:
    """What these budgets are called in their present windows."""
    return [
        f"{each.scope}/{each.period}/{window(each.period, now_us).label}{'' if each.is_hard else SOFT}"
        for each in budgets
    ]


async def compared(states: Iterable[PurseState], ledger: SpendReader) -> list[Purse]:
    """The budgets with what the ledger says of their windows.  Raises `StoreUnavailable`.

    A budget whose sum was never told for certain is taken at the ledger's word: only what it holds can be wrong.
    """
    purses = []
    for state in states:
        scope, opened = parse_name(state.name)
        before_us = LAST_US if opened.ends_at_us is None else opened.ends_at_us
        ledger_nano = await ledger.spent(scope, opened.from_us, before_us)
        spent_nano = state.spent_nano if state.is_confirmed else ledger_nano
        purses.append(Purse(state.name, spent_nano, state.held_nano, ledger_nano))
    return purses


def _state(counters: CountersFile, at: int) -> PurseState:
    words = counters.words
    _, flags, _, early, spent, held, moment = counters.read_purse(at)
    return PurseState(
        name=counters.text(at + NAME, words[at + NAME_BYTES]),
        spent_nano=spent if flags & IS_SEEDED else early,
        held_nano=held,
        seeded_before_us=moment,
        is_confirmed=bool(flags & IS_SEEDED and flags & IS_CONFIRMED),
    )


def _moment_in(label: str) -> int:
    """Any moment of a window, from its label.  Raises `ValueError`."""
    if label == "ever":
        return 0
    if found := _WEEK.fullmatch(label):
        day = datetime.fromisocalendar(int(found[1]), int(found[2]), 1).replace(tzinfo=UTC)
    else:
        form = {7: "%Y-%m", 10: "%Y-%m-%d", 13: "%Y-%m-%dT%H"}.get(len(label), "%Y")
        day = datetime.strptime(label, form).replace(tzinfo=UTC)
    return us_of(day)
