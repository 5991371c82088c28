"""The counters of a machine, as everything on it that serves one ledger shares them."""

from pathlib import Path
from typing import Final

from tollhouse.ledger.address import counters_folder
from tollhouse.policy.shared_memory import SharedCounters

SEVERAL: Final = 2
"""Counters are always shared: beside the workers of this gateway there may be another one on the same ledger, or the next one
that takes over.  A lock of its own would save each call a microsecond."""


def join_counters(url: str, state: Path) -> SharedCounters:
    """Joins those who count for the ledger at `url`; `state` is its `state_folder`.  Raises as `SharedCounters.open` does."""
    return SharedCounters.open(counters_folder(url, state), processes=SEVERAL)
