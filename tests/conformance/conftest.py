"""The stage on which all recordings are played, and the matrix of what the tests of this room proved."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from support.four_sides import Stage, staged
from support.matrix import Matrix


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("conformance")) as stage:
        yield stage


@pytest.fixture(scope="session")
def matrix() -> Matrix:
    return Matrix()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The page is compared when all else of this room has run."""
    items.sort(key=lambda item: item.path.name == "test_page.py" and item.path.parent.name == "conformance")
