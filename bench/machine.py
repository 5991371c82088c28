"""Facts about the machine and the code that was measured."""

import importlib.metadata
import os
import platform
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Final

from bench.report import Machine

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("uvloop", "httptools", "msgspec")


def machine(nginx_program: str | None) -> Machine:
    """What this machine is."""
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        kernel=platform.release(),
        python=platform.python_version(),
        nginx=_nginx_version(nginx_program) if nginx_program else "missing",
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def short_commit() -> str:
    """The commit of the working tree, with a `+` where the package differs from it; `unknown` outside of git."""
    commit = _git("rev-parse", "--short", "HEAD")
    if not commit:
        return "unknown"
    return commit + ("+" if _git("status", "--porcelain", "--", "src") else "")


def direct_dependencies(pyproject: str) -> int:
    """How many packages the core asks for by name."""
    return len(tomllib.loads(pyproject)["project"]["dependencies"])


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _nginx_version(program: str) -> str:
    done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    return done.stderr.strip().rpartition("/")[2]
