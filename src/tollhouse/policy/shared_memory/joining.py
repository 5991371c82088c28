"""Joining the processes that count in a folder."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tollhouse.errors import ConfigError
from tollhouse.policy.shared_memory.berths import MAX_BERTHS, Berth, berth_numbers, is_held
from tollhouse.policy.shared_memory.file import CountersFile
from tollhouse.policy.shared_memory.flights import Flights
from tollhouse.policy.shared_memory.guard import Guard
from tollhouse.policy.shared_memory.layout import AT_DIRTY, AT_SERIAL, Layout
from tollhouse.policy.shared_memory.mending import add_up, wind
from tollhouse.policy.shared_memory.purses import Purses


@dataclass(frozen=True, slots=True)
class Joined:
    """What a process counts with, from when it joins the others until it leaves."""

    file: CountersFile
    guard: Guard
    flights: Flights
    purses: Purses

    def leave(self) -> None:
        """Lets go of the files."""
        self.flights.leave()
        self.file.close()
        self.guard.close()


def join(
    folder: Path,
    layout: Layout,
    *,
    is_alone: bool,
    patience_seconds: float,
    monotonic_ns: Callable[[], int],
    wall_us: Callable[[], int],
) -> Joined:
    """Opens a folder's files, or makes them, and mends what is left of processes that are all dead.

    One who is to be alone keeps the lock.  Raises `ConfigError` when the folder cannot be used or belongs to processes that do
    not fit, and `StoreUnavailable` when the lock is not to be had.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as undo:
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            guard = Guard(lock, patience_seconds=patience_seconds)
            undo.callback(guard.close)
            guard.take()
            living = sum(is_held(folder, number) for number in berth_numbers(folder))
            if is_alone and living:
                # It would shut the others out.
                raise ConfigError([f"{living} other processes count in {folder}, where this one expected to be alone."])
            file = _open_file(folder, layout, may_replace=not living, wall_us=wall_us)
            undo.callback(file.close)
            berth = _own_berth(folder)
            undo.callback(berth.leave)
            flights = Flights(folder, berth)
            purses = Purses(file, flights, wall_us)
            if not living:
                file.words[AT_SERIAL] = max(file.words[AT_SERIAL], wall_us())  # the loss of power may have set it back
                wind(file, monotonic_ns())
                add_up(file, flights, purses)
                file.words[AT_DIRTY] = 0
            if not is_alone:
                guard.give()
            undo.pop_all()
    except OSError as error:
        raise ConfigError([f"The folder {folder} cannot be used for the shared counters: {error}."]) from error
    return Joined(file, guard, flights, purses)


def _open_file(folder: Path, layout: Layout, *, may_replace: bool, wall_us: Callable[[], int]) -> CountersFile:
    path = folder / "counters"
    try:
        return CountersFile(path, layout)
    except (ValueError, FileNotFoundError) as error:
        if not may_replace:
            problem = f"Other processes count in {folder}, and in another way than this one would: {error}."
            raise ConfigError(
                [f"{problem} Stop them first, or give this gateway a state folder of its own."]
            ) from error
        return CountersFile.make(path, layout, first_serial=wall_us())


def _own_berth(folder: Path) -> Berth:
    """The first that is free and empty.  Those of the dead are left to whoever asks for orphans."""
    for number in range(MAX_BERTHS):
        berth = Berth.take(folder, number)
        if berth is None:
            continue
        if berth.is_empty:
            return berth
        berth.leave()
    raise ConfigError([f"All {MAX_BERTHS} places for processes in {folder} are taken."])
