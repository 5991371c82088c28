"""Fixtures of this room.  Assertions of the shared contracts explain themselves like those of any test."""

import pytest

from support.postgres import postgres, postgres_session
from support.registers import postgres_register, postgres_register_url, register, sqlite_register

__all__ = [
    "postgres",
    "postgres_register",
    "postgres_register_url",
    "postgres_session",
    "register",
    "sqlite_register",
]

pytest.register_assert_rewrite("support.counters_contract", "support.counters_machine")
