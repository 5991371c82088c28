"""What `tollhouse usage` and `tollhouse ledger` print, on real ledgers."""

import io
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from support.call_records import NOON_US, make_call
from tollhouse.chat.usage import Usage
from tollhouse.cli import ledger, printing, usage
from tollhouse.errors import ConfigError, NotFound, StoreUnavailable
from tollhouse.ledger import store
from tollhouse.ledger.record import CallRecord
from tollhouse.ledger.reports import By
from tollhouse.ledger.reports import usage as report_usage
from tollhouse.ledger.rows import row_of
from tollhouse.ledger.sqlite import SqliteStorage

HOUR = 3600


def write(path: Path, *calls: CallRecord) -> str:
    url = f"sqlite:///{path}"
    store.prepare(url)
    storage = SqliteStorage(path, busy_timeout_ms=1000)
    storage.open()
    storage.insert([row_of(call) for call in calls])
    storage.close()
    return url


@pytest.fixture
def books(tmp_path: Path) -> str:
    """Three models over two days, by two keys; one call failed and two have no known price."""
    said = Usage(input_tokens=1000, cache_read_tokens=600, output_tokens=50, reasoning_tokens=20, source="reported")
    return write(
        tmp_path / "t.db",
        make_call("a", usage=said, cost_nano=12_300_000),
        make_call("b", usage=said, cost_nano=1),
        make_call("c", model="gpt-next", usage=said, cost_nano=None, key="ci"),
        make_call("d", model="gpt-next", usage=Usage(), cost_nano=None, outcome="provider_timeout", key="ci"),
        make_call("e", at=13 * HOUR, provider="local", model="tiny", usage=said, cost_nano=0, tenant=""),
    )


def run(*arguments: str) -> Result:
    group = usage.command if arguments[0] == "usage" else ledger.command
    return CliRunner().invoke(group, arguments[1:], catch_exceptions=False)


def test_json_has_integers_of_nano_dollars_and_says_what_is_not_known(books: str) -> None:
    said = json.loads(run("usage", "--ledger", books, "--since", "all", "--json").output)

    assert [(group["name"], group["totals"]["cost_nano"]) for group in said["groups"]] == [
        ("openai/gpt-4o-mini-2024-07-18", 12_300_001),
        ("openai/gpt-next", 0),
        ("local/tiny", 0),
    ]
    assert said["groups"][1]["totals"] == {
        "calls": 2,
        "errors": 1,
        "input_tokens": 1000,
        "cache_read_tokens": 600,
        "cache_write_tokens": None,
        "output_tokens": 50,
        "reasoning_tokens": 20,
        "cost_nano": 0,
        "unknown_cost_calls": 2,
    }
    assert (said["by"], said["since_us"]) == ("model", None)
    assert (said["total"]["calls"], said["total"]["cost_nano"], said["total"]["input_tokens"]) == (5, 12_300_001, 4000)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("model", ["openai/gpt-4o-mini-2024-07-18", "openai/gpt-next", "local/tiny"]),
        ("key", ["dev", "ci"]),
        ("day", ["2026-11-21", "2026-11-22"]),
        ("provider", ["openai", "local"]),
        ("tenant", ["acme", ""]),
    ],
)
def test_usage_is_grouped_from_the_dearest_down_and_days_in_their_order(books: str, by: str, names: list[str]) -> None:
    assert [group.name for group in report_usage(books, by=By(by)).groups] == names


def test_only_calls_since_the_moment_are_counted(books: str) -> None:
    said = json.loads(run("usage", "--ledger", books, "--since", "2026-11-22", "--json").output)

    assert [group["name"] for group in said["groups"]] == ["local/tiny"]
    assert said["since_us"] == NOON_US + 12 * HOUR * 1_000_000


def test_a_pipe_gets_the_whole_table_unfolded(books: str) -> None:
    lines = run("usage", "--ledger", books, "--since", "all").output.splitlines()

    (mini,) = [line for line in lines if "gpt-4o-mini" in line]
    assert mini.split() == [
        "openai/gpt-4o-mini-2024-07-18",
        "2",
        "0",
        "2,000",
        "1,200",
        "-",
        "100",
        "40",
        "$0.012300001",
    ]
    (following,) = [line for line in lines if "gpt-next" in line]
    assert following.split()[1:3] == ["2", "1"]
    assert following.rstrip().endswith("unknown")
    (total,) = [line for line in lines if line.startswith("total")]
    assert total.rstrip().endswith("$0.012300001 + 2 unknown")
    assert lines[-1] == "In all $0.012300001 + 2 calls of unknown price."
    assert not any("\x1b" in line or "…" in line for line in lines)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_terminal_of_any_width_shows_every_group_and_no_line_is_too_long(books: str, width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system=None, width=width)
    usage.render(report_usage(books, by=By.MODEL), console)
    shown = out.getvalue()

    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    assert "local/tiny" in shown
    assert "$0.012300001" in shown
    assert ("reasoning" in shown.splitlines()[0]) is (width >= 200)


@pytest.mark.parametrize("width", [80, 200])
def test_costs_stand_with_their_points_below_each_other(books: str, width: int) -> None:
    out = io.StringIO()
    usage.render(report_usage(books, by=By.KEY), Console(file=out, force_terminal=True, color_system=None, width=width))
    table, _ = out.getvalue().split("Calls since")
    costs = [line for line in table.splitlines() if "$" in line]

    assert len(costs) == 2, "one key, and the total; what the other one's calls cost is not known"
    assert costs[1].rstrip().endswith("$0.012300001 + 2 unknown")
    assert len({line.rindex("$") for line in costs}) == len({line.rindex(".") for line in costs}) == 1


def test_a_name_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    url = write(tmp_path / "t.db", make_call("a", model="\x1b[2J[red]x"))

    assert "openai/\ufffd[2J[red]x" in run("usage", "--ledger", url, "--since", "all").output


def test_without_calls_it_says_so(tmp_path: Path) -> None:
    url = write(tmp_path / "t.db")

    assert run("usage", "--ledger", url, "--since", "all").output == "No calls since the ledger began.\n"


def test_without_a_ledger_it_says_so_and_makes_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no ledger"):
        run("usage", "--ledger", f"sqlite:///{tmp_path}/none.db")

    assert list(tmp_path.iterdir()) == []


def test_a_ledger_of_an_older_schema_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    (tmp_path / "t.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreUnavailable, match="not a database"):
        run("usage", "--ledger", f"sqlite:///{path}")


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (0, "$0.0000"),
        (1, "$0.000000001"),
        (12_300_000, "$0.0123"),
        (123_456_789, "$0.123456789"),
        (1_234_500_000_000, "$1,234.5000"),
        (-5_000_000_000, "-$5.0000"),
    ],
)
def test_dollars_are_exact(nano: int, shown: str) -> None:
    assert printing.dollars(nano) == shown


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T10:00+02:00", datetime(2026, 11, 1, 8, tzinfo=UTC)),
        ("all", None),
    ],
)
def test_since_is_a_day_a_moment_or_all(text: str, moment: datetime | None) -> None:
    assert usage.Since().convert(text, None, None) == moment


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("24h", 86400), ("7d", 604_800), ("2w", 1_209_600)])
def test_since_is_a_time_ago(text: str, seconds: int) -> None:
    before = datetime.now(UTC)
    moment = usage.Since().convert(text, None, None)
    after = datetime.now(UTC)

    assert moment is not None
    assert before.timestamp() - seconds <= moment.timestamp() <= after.timestamp() - seconds


@pytest.mark.parametrize("text", ["7", "yesterday", "7x", "", "-1d", "999999d"])
def test_any_other_since_is_refused_with_the_right_forms(text: str) -> None:
    result = run("usage", "--since", text)

    assert result.exit_code == 2
    assert "Write 30m, 24h, 7d" in result.output


def test_without_a_configuration_the_ledger_is_beside_the_process(tmp_path: Path) -> None:
    write(tmp_path / "tollhouse.db", make_call("a"))
    environment = {name: value for name, value in os.environ.items() if name != "TOLLHOUSE_CONFIG"}
    environment |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    command = [sys.executable, "-m", "tollhouse", "usage", "--since", "all", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert json.loads(done.stdout)["total"]["calls"] == 1


def test_the_ledger_of_the_configuration_is_read(tmp_path: Path) -> None:
    url = write(tmp_path / "books.db", make_call("a"))
    config = tmp_path / "tollhouse.yaml"
    config.write_text(f"auth: {{open: true}}\nproviders: {{ollama: {{}}}}\nledger: {{url: '{url}'}}\n")

    assert json.loads(run("usage", "--config", str(config), "--since", "all", "--json").output)["total"]["calls"] == 1


def test_a_configuration_that_does_not_load_names_the_way_around_it(tmp_path: Path) -> None:
    config = tmp_path / "tollhouse.yaml"
    config.write_text("providrs: {}\n")
    with pytest.raises(ConfigError, match="--ledger URL"):
        run("usage", "--config", str(config))


def test_migrate_creates_a_ledger_and_leaves_an_up_to_date_one_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"

    assert (
        run("ledger", "migrate", "--ledger", url).output
        == f"{tmp_path}/t.db is now at schema {store.HEAD} (was new).\n"
    )
    assert run("ledger", "migrate", "--url", url).output == f"{tmp_path}/t.db is up to date (schema {store.HEAD}).\n"


def test_info_says_where_the_ledger_is_and_what_waits(tmp_path: Path, books: str) -> None:
    (tmp_path / "t.db.journal-1-abc.jsonl").touch()
    shown = run("ledger", "info", "--ledger", books).output

    assert f"path      {tmp_path}/t.db\n" in shown
    assert f"schema    {store.HEAD}\ncalls     5\n" in shown
    assert "journals  1 waiting to be replayed, 0 with damaged lines" in shown
    assert re.search(r"^size      [\d,]+ bytes$", shown, re.MULTILINE), "five rows do not say how large one is"
