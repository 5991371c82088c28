"""Fixtures for all rooms; `tests/conftest.py` brings them in."""

from collections.abc import AsyncIterator

import pytest

from support.fake_provider import FakeProvider


@pytest.fixture
async def fake_provider() -> AsyncIterator[FakeProvider]:
    """A running fake provider; `support.fake_provider` has its guide."""
    async with FakeProvider() as fake:
        yield fake
