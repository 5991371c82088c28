"""What a fresh installation of the core takes."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.compiled import BenchError
from bench.machine import ROOT


@dataclass(frozen=True, slots=True)
class Installed:
    """Contents of a virtual environment, without pip itself."""

    megabytes: float
    distributions: int
    """The project's own included."""


def install_and_weigh() -> Installed:
    """Installs the project into a new virtual environment, by the index that pip is set up for, and weighs it."""
    with tempfile.TemporaryDirectory(prefix="tollhouse-size-") as folder:
        target = Path(folder) / "packages"
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--target",
            str(target),
        ]
        _run([*pip, "--require-hashes", "-r", str(ROOT / "requirements" / "base.txt")])
        _run([*pip, "--no-deps", str(ROOT)])
        return weigh(target)


def weigh(packages: Path) -> Installed:
    """Sizes of the files as they are, which is a little less than the blocks that a disk gives them."""
    sizes = [(Path(folder) / name).lstat().st_size for folder, _, names in os.walk(packages) for name in names]
    return Installed(
        megabytes=sum(sizes) / 1e6,
        distributions=sum(1 for _ in packages.glob("*.dist-info")),
    )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"`{' '.join(command)}` failed:\n{done.stderr.strip()}")
