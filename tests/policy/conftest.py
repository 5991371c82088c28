"""Assertions of the shared contracts explain themselves like those of any test."""

import pytest

pytest.register_assert_rewrite("support.counters_contract", "support.counters_machine")
