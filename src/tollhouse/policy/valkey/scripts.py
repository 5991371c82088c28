"""The scripts that the store runs, put together from the files beside this one."""

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Final, Literal, TypeAlias

import msgspec

Name: TypeAlias = Literal[
    "place", "settle", "seed", "forget", "settled", "orphans", "purses", "beat", "join", "adopt", "leave"
]

SERVER_CLOCK: Final = "local clock = redis.call('TIME') local now = clock[1] * 1000000 + clock[2]"
"""Says what `now` is.  Tests put another line in its place, to move time by hand."""

_PIECES: Final[Mapping[Name, tuple[str, ...]]] = {
    "place": ("common", "member", "place"),
    "settle": ("common", "member", "ending", "settle"),
    "seed": ("common", "member", "seed"),
    "forget": ("common", "member", "forget"),
    "settled": ("common", "member", "settled"),
    "orphans": ("common", "member", "orphans"),
    "purses": ("common", "member", "purses"),
    "beat": ("common", "member", "beat"),
    "join": ("common", "ending", "join"),
    "adopt": ("common", "member", "adopt"),
    "leave": ("common", "leave"),
}


class Script(msgspec.Struct, frozen=True):
    """A script and the name under which a server keeps it."""

    source: bytes
    digest: bytes


def load(clock: str = SERVER_CLOCK) -> Mapping[Name, Script]:
    """All scripts, by name."""
    folder = resources.files("tollhouse.policy.valkey")
    scripts: dict[Name, Script] = {}
    for name, pieces in _PIECES.items():
        texts = [clock, *((folder / f"{piece}.lua").read_text(encoding="utf-8") for piece in pieces)]
        source = "\n".join(texts).encode()
        # SHA-1 is how the protocol names a script (https://valkey.io/commands/evalsha/), not a protection.
        scripts[name] = Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())
    return scripts
