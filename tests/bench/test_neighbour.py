"""Quiet slices are chosen by what the watch saw, never by what was measured."""

import os
import shutil

import pytest

from bench.compiled import compile_all
from bench.neighbour import neighbour_on, quietest


def test_the_least_disturbed_quarter_counts_in_the_order_of_measuring():
    assert quietest([0.9, 0.6, 0.8, 0.7, 0.65, 0.9, 0.9, 0.9]) == [1, 4]


def test_of_few_slices_one_counts():
    assert quietest([0.9, 0.6]) == [1]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the bench measures on Linux only")
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_every_lap_tells_what_a_step_took():
    compile_all()
    with neighbour_on(frozenset(os.sched_getaffinity(0))) as neighbour:
        laps = [neighbour.lap() for _ in range(3)]
    assert all(0.05 < lap < 100 for lap in laps)
