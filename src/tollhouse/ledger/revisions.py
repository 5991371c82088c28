"""The revisions of the ledger's schema, and what to think of a database that is stamped with one.

A revision is stamped by Alembic in the table `alembic_version`; serving processes read it and import no Alembic.
"""

import os
import subprocess
import sys
from typing import Final

from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.ledger.address import shown

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009")
"""Oldest first; a database at any of them can be brought to the last."""
HEAD: Final = REVISIONS[-1]
MIGRATION_SECONDS: Final = 3600.0


def known(stamped: str, url: str) -> str:
    """The revision, if it is one of ours.  Raises `ConfigError` if it is from a newer version."""
    if stamped not in REVISIONS:
        raise ConfigError(
            [
                (
                    f"ledger.url: {shown(url)} has schema {stamped!r}, and the newest that this version knows is {HEAD!r}. It "
                    f"was written by a newer Tollhouse: upgrade this one, or use another ledger."
                )
            ]
        )
    return stamped


def migrate_apart(url: str) -> None:
    """Migrates in a child, so that a serving process never imports SQLAlchemy and Alembic.

    The address goes through the child's standard input, for it may hold a password.  Raises `StoreUnavailable`.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tollhouse.ledger.migrations"],
            input=url,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            encoding="utf-8",
            capture_output=True,
            check=False,
            timeout=MIGRATION_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise StoreUnavailable(f"Migrating {shown(url)} took more than {MIGRATION_SECONDS:.0f} s.") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise StoreUnavailable(
            f"Migrating {shown(url)} failed: {said[-1] if said else f'exit status {done.returncode}'}",
            hint="Run `tollhouse ledger migrate` to see all of it; the database is as it was.",
        )
