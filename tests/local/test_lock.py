import subprocess
import sys
from pathlib import Path

import pytest

from tollhouse.errors import LocalModelUnavailable
from tollhouse.local.lock import FileLock

HOLDER = """
import sys
from pathlib import Path
from tollhouse.local.lock import FileLock
with FileLock(Path(sys.argv[1])).hold(10):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_waits_for_another_and_then_has_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LocalModelUnavailable, match="Another process"), FileLock(path).hold(0):
            pass
        waited: list[None] = []

        def let_go() -> None:
            assert holder.stdin is not None
            waited.append(None)
            holder.stdin.close()

        with FileLock(path).hold(30, while_waiting=let_go):
            assert waited
            assert holder.wait(30) == 0


def test_a_killed_holder_leaves_no_lock_behind(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        holder.wait(30)
        with FileLock(path).hold(30):
            pass
