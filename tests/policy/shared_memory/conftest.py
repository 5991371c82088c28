"""Fixtures of the counters in shared memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.shared_counters import SharedBench
from tollhouse.policy.shared_memory.quick import QUICK


@pytest.fixture(params=["compiled", "python"])
async def bench(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[SharedBench]:
    """Both ways of counting keep the same contract."""
    if request.param == "compiled" and QUICK is None:
        pytest.skip("the compiled part was not built here")
    made = SharedBench(tmp_path, quick=QUICK if request.param == "compiled" else None)
    yield made
    await made.aclose()
