"""What `tollhouse budgets` says is left."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from support.call_records import make_call
from support.claims import claim_of
from tollhouse.cli import tollhouse
from tollhouse.errors import NotFound
from tollhouse.ledger import store
from tollhouse.ledger.rows import row_of
from tollhouse.ledger.sqlite import SqliteStorage
from tollhouse.policy.counters import Placed, Purse
from tollhouse.policy.shared_memory import SharedCounters

CONFIG = """
auth:
  keys: [{name: dev, key: "a-long-enough-key", budget: {daily: 5, total: 20}}]
providers:
  openai: {api_key: sk-test}
budgets:
  - {scope: global, total: 10, mode: soft}
ledger: {url: "sqlite:///LEDGER"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration and its ledger, with one call of the key `dev` that cost $1.50."""
    (tmp_path / "tollhouse.yaml").write_text(CONFIG.replace("LEDGER", str(tmp_path / "t.db")))
    store.prepare(f"sqlite:///{tmp_path / 't.db'}")
    storage = SqliteStorage(tmp_path / "t.db", busy_timeout_ms=1000)
    storage.open()
    storage.insert([row_of(make_call("req_1", key="dev", cost_nano=1_500_000_000, at=-365 * 86_400))])
    storage.close()
    return tmp_path


def run(folder: Path, *arguments: str) -> Result:
    words = [*arguments, "--config", str(folder / "tollhouse.yaml")]
    return CliRunner().invoke(tollhouse, words, catch_exceptions=False)


def shown(folder: Path, *arguments: str) -> dict[str, dict[str, object]]:
    lines = run(folder, "budgets", "--json", *arguments).stdout.splitlines()
    return {f"{one['scope']}/{one['period']}": one for one in map(json.loads, lines)}


async def spend(folder: Path) -> None:
    """Leaves $2 spent and $0.25 held in the soft budget over all, as a gateway that was killed would."""
    counters = SharedCounters.open(folder / "t.db.state", processes=2)
    purse = Purse("global/total/ever/soft", 10_000_000_000)
    await counters.seed(purse, spent_nano=2_000_000_000, before_us=1)
    claim = claim_of(id="req_9", began_at_us=1, purses=(purse,), hold_nano=250_000_000)
    assert isinstance(await counters.place(claim), Placed)


def test_without_a_gateway_the_ledger_says_what_was_spent(folder: Path):
    before = {path.name for path in folder.iterdir()}
    found = shown(folder)

    assert found.keys() == {"key:dev/day", "key:dev/total", "global/total"}
    total = found["key:dev/total"]
    assert (total["limit_nano"], total["spent_nano"], total["left_nano"]) == (20 * 10**9, 15 * 10**8, 185 * 10**8)
    assert (total["is_hard"], total["source"], total["resets_at_us"]) == (True, "ledger", None)
    assert {path.name for path in folder.iterdir()} - before <= {"t.db-wal", "t.db-shm"}


def test_what_is_counted_and_held_is_shown_and_left_as_it_is(folder: Path):
    asyncio.run(spend(folder))
    for _ in range(2):
        over_all = shown(folder)["global/total"]
        assert (over_all["spent_nano"], over_all["held_nano"]) == (2 * 10**9, 25 * 10**7)
        assert (over_all["left_nano"], over_all["source"]) == (775 * 10**7, "counters")


def test_budgets_of_the_database_are_among_them(folder: Path):
    run(folder, "tenant", "create", "lab", "--monthly", "100")
    run(folder, "project", "create", "lab/paper", "--weekly", "7")
    run(folder, "key", "create", "ci", "--tenant", "lab", "--hourly", "0.5")

    assert shown(folder).keys() == {
        "global/total", "key:dev/day", "key:dev/total", "tenant:lab/month", "project:lab/paper/week", "key:ci/hour",
    }  # fmt: skip
    assert shown(folder, "--tenant", "lab").keys() == {"tenant:lab/month", "project:lab/paper/week"}
    assert shown(folder, "--key", "ci").keys() == {"key:ci/hour"}
    assert shown(folder, "--key", "dev").keys() == {"key:dev/day", "key:dev/total"}


def test_the_table_is_in_dollars_and_says_when(folder: Path):
    lines = run(folder, "budgets").stdout.splitlines()

    over_all = next(line for line in lines if line.startswith("global/total"))
    assert over_all.split() == ["global/total", "(soft)", "$10.00", "$1.50", "-", "$8.50", "never"]
    day = next(line for line in lines if line.startswith("key:dev/day"))
    assert day.endswith("00:00")


def test_who_has_none_is_told_so(folder: Path):
    assert run(folder, "budgets", "--key", "nobody").stdout == "No budgets of its own.\n"


def test_without_a_ledger_it_says_what_makes_one(folder: Path):
    (folder / "t.db").unlink()
    with pytest.raises(NotFound, match="no ledger"):
        run(folder, "budgets")
