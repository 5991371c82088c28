"""Writes `docs/conformance.md` out of what the tests in `tests/conformance` prove.

    python -m tools.build_conformance

Nothing is written where a test fails.
"""

import os
import sys
from pathlib import Path
from typing import Final

import pytest

ROOM: Final = Path(__file__).parents[1] / "tests/conformance"


def main() -> int:
    """The exit status of the tests."""
    os.environ["TOLLHOUSE_WRITE_CONFORMANCE"] = "1"
    return pytest.main(["-q", str(ROOM)])


if __name__ == "__main__":
    sys.exit(main())
