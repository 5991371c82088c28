"""The optional parts that the code names are those that can be installed."""

import tomllib
from pathlib import Path

from tollhouse import extras
from tollhouse.extras import Extra

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_every_extra_that_is_named_can_be_installed() -> None:
    optional = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    named = [value for value in vars(extras).values() if isinstance(value, Extra)]
    assert {extra.name for extra in named} <= set(optional)
    assert len(named) == len({extra.name for extra in named}) > 5


def test_what_is_missing_of_an_extra_is_found_without_importing_it() -> None:
    assert Extra("x", ("json", "nothing_of_that_name", "nothing_of_that_name.at_all")).missing() == (
        "nothing_of_that_name",
        "nothing_of_that_name.at_all",
    )
    assert extras.POSTGRES.missing(lambda name: name != "asyncpg") == ("asyncpg",)
    assert extras.POSTGRES.command == "pip install 'tollhouse[postgres]'"
