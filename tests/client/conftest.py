"""The town that this folder's clients talk to: one for all of its tests."""

from collections.abc import Iterator

import pytest

from support.client_town import Town


@pytest.fixture(scope="package")
def town() -> Iterator[Town]:
    with Town() as town:
        yield town
