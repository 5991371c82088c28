"""What the tests of telemetry share."""

import io
import logging
from collections.abc import Iterator

import pytest

from tollhouse.telemetry import logs


@pytest.fixture
def telemetry_log() -> Iterator[io.StringIO]:
    """What the gateway says about itself, as JSON lines; afterwards its logger is as it was."""
    root = logging.getLogger(logs.ROOT)
    before = root.handlers, root.level, root.propagate
    out = io.StringIO()
    logs.configure("info", "json", out)
    yield out
    root.handlers, root.level, root.propagate = before
