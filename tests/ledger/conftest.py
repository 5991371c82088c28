"""Ledgers without rows, in the databases that they can be in."""

from pathlib import Path

import pytest

from support.postgres import postgres, postgres_ledger, postgres_session, postgres_url
from tollhouse.ledger import store

__all__ = ["postgres", "postgres_ledger", "postgres_session", "postgres_url"]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The address of one in SQLite."""
    return _in_sqlite(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of one in each database."""
    if request.param == "sqlite":
        return _in_sqlite(tmp_path)
    address: str = request.getfixturevalue("postgres_ledger")
    return address


def _in_sqlite(folder: Path) -> str:
    address = f"sqlite:///{folder / 't.db'}"
    store.prepare(address)
    return address
