"""What a supervisor sees of its workers' counters and of the ledger."""

import asyncio
from pathlib import Path

from support.admin import CONFIG
from support.call_records import NOON_US, make_call
from support.claims import claim_of
from tollhouse.config.load import parse
from tollhouse.config.schema import Config, Scope
from tollhouse.ledger import store
from tollhouse.ledger.rows import row_of
from tollhouse.ledger.sqlite import SqliteStorage
from tollhouse.policy.counters import Placed, Purse
from tollhouse.policy.shared_memory import SharedCounters
from tollhouse.providers.registry import defaults_by_type
from tollhouse.server.admin.study import Glance, Study


def configured(folder: Path) -> Config:
    text = CONFIG + f"ledger: {{url: 'sqlite:///{folder / 't.db'}'}}\n"
    return parse(text, environ={}, provider_types=defaults_by_type())


async def test_it_sees_what_a_worker_holds_and_has_spent(tmp_path: Path):
    study = Study(configured(tmp_path), {})
    worker = SharedCounters.open(tmp_path / "t.db.state", processes=2)
    purse = Purse("key:k/day/2026-11-21", 100)
    await worker.seed(purse, spent_nano=30, before_us=NOON_US)
    placed = await worker.place(claim_of(id="req_1", began_at_us=NOON_US, purses=(purse,), hold_nano=20))
    assert isinstance(placed, Placed)

    (state,) = await study.purses([purse.name, "key:k/day/another"])
    assert (state.spent_nano, state.held_nano) == (30, 20)
    await worker.settle("req_1", cost_nano=7, tokens=None)
    (state,) = await study.purses([purse.name])
    assert (state.spent_nano, state.held_nano) == (37, 0)
    await study.aclose()
    await study.aclose()
    await worker.aclose()


async def test_it_reads_the_ledger(tmp_path: Path):
    config = configured(tmp_path)
    store.prepare(config.ledger.url)
    storage = SqliteStorage(tmp_path / "t.db", busy_timeout_ms=1000)
    storage.open()
    storage.insert([row_of(make_call("req_1", key="k", cost_nano=5)), row_of(make_call("req_2", key="l", cost_nano=6))])
    storage.close()
    study = Study(config, {})

    assert await study.spent(Scope("key", "k"), NOON_US - 1, NOON_US + 1) == 5
    assert await study.spent(Scope("global"), NOON_US - 1, NOON_US + 1) == 11
    await study.aclose()


def test_nothing_is_opened_before_somebody_asks(tmp_path: Path):
    study = Study(configured(tmp_path), {})
    asyncio.run(study.aclose())

    assert list(tmp_path.iterdir()) == []


async def test_a_glance_leaves_a_budget_whose_sum_was_forgotten_to_the_ledger(tmp_path: Path):
    """After calls were rated again, until the next call of the budget: it was shown as if nothing had been spent."""
    counters = SharedCounters.open(tmp_path / "t.db.state", processes=2)
    kept, forgotten = Purse("key:k/day/2026-11-21", 100), Purse("key:l/day/2026-11-21", 100)
    for purse in (kept, forgotten):
        await counters.seed(purse, spent_nano=30, before_us=NOON_US)
    await counters.forget([forgotten.name])
    await counters.aclose()
    glance = Glance(f"sqlite:///{tmp_path / 't.db'}", tmp_path, None)

    (state,) = await glance.purses([kept.name, forgotten.name])
    assert (state.name, state.spent_nano) == (kept.name, 30)
    await glance.aclose()
