"""Counters for the workers of one machine, in files that all of them map into memory.  No service is needed.

`store.py` tells how it works; `slots.py`, `berths.py` and `guard.py` are its parts.
"""

from tollhouse.policy.shared_memory.store import SharedCounters

__all__ = ["SharedCounters"]
