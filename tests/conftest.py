"""Fixtures and settings for every room."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from support import checked_streams
from support.fixtures import fake_provider

__all__ = ["fake_provider"]

# A busy machine is no failure, and the gate runs the same examples each time; at a desk they vary.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.register_profile("desk", deadline=None)
settings.load_profile("gate" if os.environ.get("CI") else "desk")

checked_streams.watch()


@pytest.fixture(autouse=True)
def _streams_keep_their_grammar() -> Iterator[None]:
    """Also those that a server wrote, which tells nobody but its client of a fault."""
    checked_streams.faults.clear()
    yield
    assert not checked_streams.faults
