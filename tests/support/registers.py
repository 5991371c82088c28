"""Registers of keys on real databases of both kinds, with a clock that stands still until it is moved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from support.postgres import PostgresServer
from tollhouse.ledger import store
from tollhouse.ledger.transaction import Transaction, transact
from tollhouse.policy.register import read
from tollhouse.policy.registrar import Change, Desk, write

T = TypeVar("T")

NOON_US = 1_795_262_400_000_000
"""21 November 2026, 12:00 UTC."""
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
DOLLAR = 1_000_000_000


@dataclass
class Register:
    """A register, its clock, and what was audited."""

    url: str
    now_us: int = NOON_US
    audited: list[Change] = field(default_factory=list)

    def do(self, work: Callable[[Desk], T], *, reserved: Sequence[str] = ()) -> T:
        """One writing transaction of `cli:ann`."""
        return write(self.url, work, actor="cli:ann", audit=self._audit, reserved=reserved, now_us=lambda: self.now_us)

    def see(self, work: Callable[[Transaction], T]) -> T:
        """One reading transaction."""
        return read(self.url, work)

    def mark(self) -> tuple[str, int]:
        """Its epoch and revision."""
        epoch, revision = self.see(lambda t: t.rows("SELECT epoch, revision FROM identity_state"))[0]
        return epoch, revision

    def _audit(self, transaction: Transaction, changes: Sequence[Change]) -> None:
        assert transaction.rows("SELECT 1") == [(1,)]
        self.audited.extend(changes)


@pytest.fixture
def sqlite_register(tmp_path: Path) -> Register:
    """An empty register in a SQLite file."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    store.prepare(url)
    return Register(url)


@pytest.fixture(scope="session")
def postgres_register_url(postgres_session: PostgresServer) -> str:
    """A ledger in PostgreSQL, made once; `postgres_register` empties it."""
    return postgres_session.make_ledger()


@pytest.fixture
def postgres_register(postgres: PostgresServer, postgres_register_url: str) -> Register:
    """An empty register in PostgreSQL."""
    del postgres  # it runs, whatever the test before did to it
    transact(postgres_register_url, _empty)
    return Register(postgres_register_url)


@pytest.fixture(params=["sqlite", "postgres"])
def register(request: pytest.FixtureRequest) -> Register:
    """An empty register, in either kind of database."""
    found: Register = request.getfixturevalue(f"{request.param}_register")
    return found


def _empty(transaction: Transaction) -> None:
    for table in ("keys", "subjects", "projects", "tenants", "top_ups", "tokens", "signing_keys"):
        transaction.run(f"DELETE FROM {table}")
    transaction.run("UPDATE identity_state SET epoch = '', revision = 0")
