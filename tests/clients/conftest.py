"""One gateway for all clients of a module."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.errand import errand
from support.fake_replies import Answer, words
from support.proofs import Stage, staged


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("clients")) as stage:
        yield stage


@pytest.fixture
def stage(running: Stage) -> Stage:
    """The one gateway of a module, its provider's memory emptied."""
    running.fake.calls.clear()
    running.fake.default = Answer(text=words(8))
    running.fake.chooses = errand
    return running
