"""The ledger's address: which database it names, and where this machine keeps what belongs to it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tollhouse.config.values import without_password
from tollhouse.errors import ConfigError

DEFAULT_URL: Final = "sqlite:///tollhouse.db"


def is_postgresql(url: str) -> bool:
    """Whether the ledger is in PostgreSQL; it is in a SQLite file otherwise."""
    return url.startswith(("postgresql://", "postgres://"))


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///relative` or `sqlite:////absolute` address.  Raises `ConfigError` for anything else."""
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path.startswith(":memory:") or "?" in path:
        raise ConfigError(
            [
                (
                    f"ledger.url: {shown(url)!r} is not an address of a ledger. Write sqlite:///tollhouse.db, or "
                    "sqlite:////var/lib/tollhouse/ledger.db (four slashes) for an absolute path, or "
                    "postgresql://user@host/database."
                )
            ]
        )
    return Path(path)


def shown(url: str) -> str:
    """The address as it may stand in a message: without user, password and query.  A SQLite ledger is its path."""
    return url.removeprefix("sqlite:///") if url.startswith("sqlite:///") else without_password(url)


def state_folder(url: str, configured: str | None, environ: Mapping[str, str]) -> Path:
    """Where this machine keeps what waits for the ledger: `ledger.state_folder`, else the folder of a SQLite ledger, else
    `$XDG_STATE_HOME/tollhouse`.

    XDG base directory specification 0.8: relative paths are ignored, and `~/.local/state` is the default.
    """
    if configured is not None:
        return Path(configured)
    if not is_postgresql(url):
        return sqlite_path(url).parent
    xdg = environ.get("XDG_STATE_HOME", "")
    home = Path(xdg) if xdg.startswith("/") else Path(environ.get("HOME") or "/") / ".local" / "state"
    return home / "tollhouse"


def journal_name(url: str) -> str:
    """What the journals' names begin with.  Two databases never share one; a new password changes nothing."""
    if not is_postgresql(url):
        return sqlite_path(url).name
    parts = urlsplit(url)
    place = f"{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"postgresql-{hashlib.sha256(place.encode()).hexdigest()[:12]}"


def counters_folder(url: str, state: Path) -> Path:
    """Where this machine counts what the calls of that ledger take; `state` is its `state_folder`."""
    return state / f"{journal_name(url)}.state"
