"""The checked-in code is what its `.proto` files make."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPILER = "1.85."
"""The release of grpcio-tools that the checked-in code was made with; others word their output differently."""


def test_the_checked_in_code_is_what_its_sources_make():
    if not version("grpcio-tools").startswith(COMPILER):
        pytest.skip(f"the code was generated with grpcio-tools {COMPILER}*, and {version('grpcio-tools')} is installed")
    done = subprocess.run(
        [sys.executable, "-m", "tools.build_proto", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
