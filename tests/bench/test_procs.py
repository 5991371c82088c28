import os
import subprocess
import sys

from bench.procs import Stat, choose_cores, cpu_seconds, memory, parse_rollup, parse_stat, tree_of

STAT = "4242 (a (very) odd name) S 17 4242 4242 0 -1 4194560 900 0 0 0 120 30 7 5 20 0 9 0 100 1000 200 1844"
ROLLUP = """55d0-7ffc ---p 00000000 00:00 0                          [rollup]
Rss:               43520 kB
Pss:               30000 kB
Private_Dirty:     21000 kB
"""
BURN_AND_WAIT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; end = time.process_time() + 0.2\\nwhile time.process_time() < end: pass"])
child.wait()
print("burnt", flush=True)
sys.stdin.read()
"""


def test_a_name_with_brackets_and_spaces_does_not_shift_the_fields():
    assert parse_stat(STAT) == Stat(parent=17, reaped_ticks=12)


def test_a_rollup_is_read_in_bytes():
    assert parse_rollup(ROLLUP) == {"Rss": 43520 * 1024, "Pss": 30000 * 1024, "Private_Dirty": 21000 * 1024}


def test_the_server_gets_a_core_of_its_own_where_there_are_two():
    cores = choose_cores(frozenset({0, 1, 5}))
    assert (cores.server, cores.others, cores.are_apart) == (frozenset({5}), frozenset({0, 1}), True)


def test_one_core_is_shared_and_said_to_be():
    cores = choose_cores(frozenset({3}))
    assert (cores.server, cores.others, cores.are_apart) == (frozenset({3}), frozenset({3}), False)


def test_the_time_of_a_child_that_has_ended_is_not_lost():
    """Measured in processor time, which other work on the machine does not change."""
    with subprocess.Popen(
        [sys.executable, "-c", BURN_AND_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "burnt\n"
        assert cpu_seconds(process.pid) >= 0.2
        process.communicate("")


def test_a_tree_begins_with_its_root_and_holds_its_children():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        tree = tree_of(os.getpid())
        child.communicate(b"\n")
    assert tree[0] == os.getpid()
    assert child.pid in tree


def test_shared_pages_are_divided_in_pss_only():
    used = memory(os.getpid())
    assert used.rss >= used.pss > 0
