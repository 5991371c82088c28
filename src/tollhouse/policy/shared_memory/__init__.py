"""Counters for the workers of one machine, in files that all of them map into memory.  No service is needed.

`store.py` tells how it works.  The files are `layout.py`, `file.py`, `slots.py` and `berths.py`; `joining.py` opens them,
`turn.py` keeps others out meanwhile, and `mending.py` mends what the dead left.  Claims are in `flights.py`, where they count
in `sites.py` and `purses.py`, and `placement.py` and `settlement.py` begin and end them, or `quick.py` in compiled code.
"""

from tollhouse.policy.shared_memory.store import SharedCounters

__all__ = ["SharedCounters"]
