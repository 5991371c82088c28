"""Counters in Valkey or Redis, for several machines.  `tollhouse.policy.counters` says what they must keep.

Each placing and each ending of a claim is one script on the server, which is one step there, all or nothing, by the server's
clock.  The pieces, from the wire up:

- `*.lua`: the scripts.  `common.lua` says how things are kept.
- `scripts`: puts them together and names them by their digest.
- `wire`: one connection of redis-py: addresses, deadlines, errors.
- `session`: what a gateway process is to the store: a lease that it renews, a pipeline of commands, and how both begin again
  on a new connection.
- `store`: claims in, answers out.

This module imports none of them, so that a gateway without a shared store never loads the client library.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tollhouse.errors import NotInstalled
from tollhouse.extras import VALKEY

if TYPE_CHECKING:
    from tollhouse.policy.valkey.store import ValkeyCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class ValkeySettings:
    """Where the store is, and how long is waited for it."""

    url: str = field(repr=False)
    """`redis://`, `rediss://`, `valkey://` or `valkeys://` `[user:password@]host[:port][/database]`."""
    connect_seconds: float = 0.5
    """For a connection, from its name look-up to a session on it."""
    call_seconds: float = 0.25
    """For the answers to one batch of commands."""
    retry_seconds: float = 1.0
    """How often a store that is away is tried again."""
    beat_seconds: float = 1.0
    """How often the lease is renewed.  Shows a silent store too, in a quiet gateway."""
    lease_seconds: float = 5.0
    """How long after its last sign of life a process counts as dead, and its claims as orphans."""


async def open_counters(settings: ValkeySettings) -> "ValkeyCounters":
    """Counters on that store, whether it can be reached now or not; `aclose` ends them.

    Raises `ConfigError` for an address that is none, and `NotInstalled` without the extra `valkey`.
    """
    try:
        from tollhouse.policy.valkey.store import ValkeyCounters
    except ModuleNotFoundError as error:
        raise NotInstalled(f"Shared state in Valkey or Redis needs the `valkey` extra: {VALKEY.command}.") from error
    return ValkeyCounters.start(settings)
