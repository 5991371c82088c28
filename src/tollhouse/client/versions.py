"""Which versions of client and server go together: the same major, and a client at most one minor ahead of its server."""

import re
from typing import Final

from tollhouse.client.failures import VersionMismatch

_VERSION: Final = re.compile(r"v?(\d{1,9})\.(\d{1,9})")


def check(client: str, server: str, where: str) -> None:
    """Raises `VersionMismatch`, saying which side to upgrade.  A version that cannot be read says nothing."""
    ours, theirs = _parsed(client), _parsed(server)
    if ours is None or theirs is None:
        return
    if ours[0] == theirs[0] and ours[1] <= theirs[1] + 1:
        return
    side = "server" if ours > theirs else "client"
    command = "pip install --upgrade tollhouse"
    what = f"`{command}` there" if side == "server" else f"`{command}` here"
    raise VersionMismatch(
        f"This client is version {client} and the server at {where} is {server}, which is too far apart.",
        hint=f"Upgrade the {side} ({what}); or say `check_version=False` to try all the same.",
        where=where,
    )


def _parsed(version: str) -> tuple[int, int] | None:
    found = _VERSION.match(version.strip())
    return (int(found[1]), int(found[2])) if found else None
