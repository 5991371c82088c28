"""What a worker opens, and lets go of."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from support.admin import CONFIG
from tollhouse.config.load import parse
from tollhouse.config.schema import StateSettings
from tollhouse.errors import ConfigError
from tollhouse.ledger.address import counters_folder
from tollhouse.policy.shared_memory import SharedCounters
from tollhouse.providers.registry import defaults_by_type
from tollhouse.server.stores import Stores


async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 't.db'}"
    config = parse(CONFIG + f"ledger: {{url: '{url}'}}\n", environ={}, provider_types=defaults_by_type())
    before = set(threading.enumerate())

    with pytest.raises(ConfigError, match=r"state\.url"):
        await Stores.open(replace(config, state=StateSettings(url="nowhere")), {}, on_cut=lambda _: None)

    assert {thread.name for thread in set(threading.enumerate()) - before if "asyncio" not in thread.name} == set()
    alone = SharedCounters.open(
        counters_folder(url, tmp_path), processes=1
    )  # is refused while another one counts there
    await alone.aclose()
