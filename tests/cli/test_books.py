"""What `tollhouse ledger explain`, `rerate`, `verify` and `export` print, and how they end."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest
from click.testing import CliRunner, Result

from support.books import BOOK, MTOK, ask, keep, priced, stored_totals, write
from support.call_records import make_call
from support.claims import claim_of
from support.valkey import Server, valkey, valkey_server
from tollhouse.chat.usage import Usage
from tollhouse.cli import tollhouse
from tollhouse.errors import BadRequest, ConfigError, NotFound, StoreUnavailable
from tollhouse.ledger import store
from tollhouse.ledger.prices import PRICES_FILE
from tollhouse.policy.counters import Placed, Purse
from tollhouse.policy.shared_memory import SharedCounters
from tollhouse.policy.valkey import ValkeySettings, open_counters

__all__ = ["valkey", "valkey_server"]

PRICES = """
prices:
  openai/*: {input: 4, cache_read: 1, output: 20}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No configuration is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("TOLLHOUSE_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "140")
    return tmp_path


@pytest.fixture
def url(folder: Path) -> str:
    address = f"sqlite:///{folder / 't.db'}"
    store.prepare(address)
    keep(address)
    write(address, [priced("a", key="dev"), priced("b", at=60, key="ci"), priced("c", provider="claude", model="opus")])
    return address


@pytest.fixture
def prices(folder: Path) -> str:
    path = folder / "prices.yaml"
    path.write_text(PRICES)
    return str(path)


def run(*arguments: str, url: str = "") -> Result:
    where = ["--ledger", url] if url else []
    return CliRunner().invoke(tollhouse, ["ledger", *arguments, *where], catch_exceptions=False)


# ------------------------------------------------------------------------------------------------------------- explain


def test_a_bill_is_printed_line_by_line(url: str):
    result = run("explain", "a", url=url)

    assert result.exit_code == 0
    assert [line.rstrip() for line in result.output.splitlines()] == [
        "call      a",
        "time      2026-11-21 12:00:00 UTC",
        "key       acme/web/dev",
        "model     openai/gpt-4o-mini-2024-07-18 (asked for fast)",
        "outcome   ok (200)",
        "counts    reported",
        f"prices    {BOOK.version}, openai/*",
        "",
        "              tokens   $ per million    amount",
        "──────────────────────────────────────────────",
        "cache read   400,000         $1.0000   $0.4000",
        "input        600,000         $2.0000   $1.2000",
        "output       100,000        $10.0000   $1.0000",
        "",
        "sum                                    $2.6000",
        "",
        "cost      $2.6000, as the bill says",
    ]


def test_a_bill_that_is_not_the_cost_ends_with_1(url: str):
    ask(url, "UPDATE calls SET cost_nano = 1")
    result = run("explain", "a", url=url)

    assert result.exit_code == 1
    assert "cost      $0.000000001, which is NOT what the bill says" in result.output


def test_an_embedded_model_in_the_configuration_is_no_obstacle(url: str, folder: Path):
    """Where it answers is known only while a gateway runs; what it is, always."""
    (folder / "tollhouse.yaml").write_text(
        f"auth: {{open: true}}\nledger: {{url: '{url}'}}\nproviders: {{local: {{}}, mine: {{type: grok, api_key: x}}}}\n"
    )
    for command in (["explain", "a"], ["verify"], ["rerate", "--from", "all", "--dry-run", "--prices", "own.yaml"]):
        (folder / "own.yaml").write_text(PRICES)
        assert run(*command).exit_code == 0, command


def test_json_has_the_lines_in_integers(url: str):
    found = msgspec.json.decode(run("explain", "a", "--json", url=url).output)

    assert found["lines"][1] == {"kind": "input", "tokens": 600_000, "rate_nano": 2 * MTOK, "nano": 1_200_000_000}
    assert (found["cost_nano"], found["adds_up"]) == (2_600_000_000, True)


def test_a_call_without_a_bill_is_explained_in_words(url: str):
    write(url, [make_call("n", usage=Usage(), cost_nano=None)])
    result = run("explain", "n", url=url)

    assert result.exit_code == 0
    assert result.output.endswith(
        "cost      not known\n          No tokens were counted, so nobody knows what it cost.\n"
    )


def test_nothing_in_a_call_moves_a_cursor(url: str):
    write(url, [make_call("n", requested_model="\x1b[31mred", usage=Usage(), cost_nano=0)])

    assert "\x1b" not in run("explain", "n", url=url).output


# -------------------------------------------------------------------------------------------------------------- rerate


def test_rating_again_prints_what_changed_by_model(url: str, prices: str):
    result = run("rerate", "--from", "all", "--prices", prices, url=url)
    lines = result.output.splitlines()

    assert result.exit_code == 0
    assert [line.split() for line in lines[2:4]] == [
        ["openai/gpt-4o-mini-2024-07-18", "2", "2", "$5.2000", "$9.6000", "+$4.4000"],
        ["claude/opus", "1", "0", "$4.5000", "$4.5000", "$0.0000"],
    ]
    assert lines[5].split() == ["total", "3", "2", "$9.7000", "$14.1000", "+$4.4000"]
    assert lines[7].startswith("2 calls changed; prices 0.")
    assert lines[8] == "1 call left alone: these prices, or the call's counts, say nothing about them."
    assert lines[9] == "What they cost before is kept as rerating 1; `tollhouse ledger explain` shows it."
    bill = run("explain", "a", url=url).output.splitlines()
    assert bill[-2].startswith("before    $2.6000 by ")
    assert bill[-1].startswith("          rated again ")
    assert bill[-1].endswith(" (rerating 1)")
    assert max(map(len, bill)) <= 80
    assert run("verify", url=url).exit_code == 0


def test_a_dry_run_says_what_would_change(url: str, prices: str):
    result = run("rerate", "--from", "2026-11-21", "--prices", prices, "--dry-run", "--json", url=url)
    found = msgspec.json.decode(result.output)

    assert (found["total"]["changed"], found["dry_run"], found["rerate"]) == (2, True, None)
    assert "before" not in run("explain", "a", url=url).output


def test_the_types_of_providers_are_known_from_the_kept_books(url: str, folder: Path):
    """`claude` is a configured name; the file speaks of its type."""
    path = folder / "prices.yaml"
    path.write_text("prices: {anthropic/opus: {input: 1, output: 0}}")
    run("rerate", "--from", "all", "--prices", str(path), url=url)

    assert "anthropic/opus" in run("explain", "c", url=url).output
    assert ask(url, "SELECT cost_nano FROM calls WHERE id = 'c'") == [(MTOK,)]


def test_a_compiled_book_and_overrides_beside_it(url: str, prices: str, folder: Path):
    book = folder / "book.json"
    book.write_bytes(PRICES_FILE.read_bytes())
    result = run("rerate", "--from", "all", "--prices", str(book), "--prices", prices, url=url)

    assert result.exit_code == 0
    # The overrides set the price of openai; of claude's model the list knows nothing, so it is left alone.
    assert ask(url, "SELECT cost_nano FROM calls WHERE id IN ('a', 'c')") == [(4_800_000_000,), (4_500_000_000,)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "prices: {opnai/*: {input: 1}}",
            "There is no provider and no type of provider 'opnai'. Did you mean 'openai'?",
        ),
        ("prices: {openai/*: {inputs: 1}}", "There is no such key. Did you mean 'input'?"),
        ("openai/*: {input: 1}", "There is no such key."),
        ("server: {port: 1}\nprices: {openai/*: {input: 1}}", "server: There is no such key."),
        ("prices: {}", "There are no prices here"),
        ("", "The file is empty"),
        ('{"version": "x"}', "This is not a compiled price book"),
        ('{"version":"a~b","source":"","providers":{}}', "A version has at most 60 letters"),
        ('{"version":"a","source":"","providers":{"openai":{"models":[["x"]]}}}', "This is not a compiled price book"),
    ],
)
def test_a_price_file_cannot_be_misread(url: str, folder: Path, text: str, why: str):
    path = folder / "bad"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        run("rerate", "--from", "all", "--prices", str(path), url=url)

    assert why in str(caught.value)
    assert "bad" in str(caught.value)


# -------------------------------------------------------------------------------------------------------------- verify


def test_books_that_add_up_are_said_to(url: str):
    result = run("verify", url=url)

    assert result.exit_code == 0
    assert result.output == dedent(
        """\
        calls     3, $9.7000
        totals    1 hour compared with their rows
        bills     3 made again
        counts    3 reported (100.0 %), $9.7000

        Everything adds up.
        """
    )


def test_what_does_not_add_up_ends_with_1(url: str):
    ask(url, "UPDATE calls SET cost_nano = 1 WHERE id = 'a'")
    result = run("verify", url=url)

    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == (
        f"WRONG  bills: Call a costs $0.000000001; by {BOOK.version} it is $2.600000000."
    )
    assert msgspec.json.decode(run("verify", "--json", url=url).output)["found"] == {"bills": 1}


def test_a_providers_report_is_compared(url: str, folder: Path):
    path = folder / "report.csv"
    path.write_text("date,model,cost\n2026-11-21,opus,4.50\n")
    assert run("verify", "--provider-report", str(path), "--provider", "claude", url=url).exit_code == 0

    path.write_text("date,model,cost\n2026-11-21,opus,4.60\n")
    result = run("verify", "--provider-report", str(path), "--provider", "claude", url=url)
    assert result.exit_code == 1
    assert (
        "WRONG  provider: 2026-11-21, opus: the cost is $4.6000 in the report and $4.5000 in the ledger."
        in result.output
    )


def test_the_configuration_says_how_long_rows_are_kept(url: str, folder: Path):
    ask(url, "UPDATE calls SET started_at_us = 1600000000000000")
    ask(url, f"UPDATE {stored_totals(url)} SET hour_us = 1599998400000000")
    ask(url, "DELETE FROM calls WHERE id = 'a'")
    assert run("verify", url=url).exit_code == 1
    assert run("verify", "--retention", "30d", url=url).exit_code == 0

    config = folder / "tollhouse.yaml"
    config.write_text(
        f"auth: {{open: true}}\nproviders: {{openai: {{api_key: sk-1}}}}\nledger: {{url: '{url}', retention: 30d}}\n"
    )
    result = run("verify")
    assert (result.exit_code, result.output.splitlines()[1]) == (
        0,
        "totals    0 hours compared with their rows, 1 more pruned",
    )


async def place(counters: SharedCounters, url: str, spent_nano: int) -> None:
    purse = Purse("key:dev/day/2026-11-21", 10 * MTOK)
    await counters.seed(purse, spent_nano=spent_nano, before_us=1, is_confirmed=True)
    assert isinstance(await counters.place(claim_of(id="x", began_at_us=2, purses=(purse,), hold_nano=5)), Placed)


def test_at_rest_nothing_may_be_held_and_budgets_must_be_exact(url: str, folder: Path):
    counters = SharedCounters.open(folder / "t.db.state", processes=2)
    dev_nano = 2_600_000_000 + 4_500_000_000
    asyncio.run(place(counters, url, dev_nano))
    held = run("verify", "--at-rest", url=url)
    asyncio.run(counters.settle("x", cost_nano=0, tokens=None))
    sound = run("verify", "--at-rest", url=url)
    ask(url, "UPDATE calls SET cost_nano = 0 WHERE id = 'c'")
    drifted = run("verify", "--at-rest", url=url)
    asyncio.run(counters.aclose())

    assert held.exit_code == 1
    assert (
        "WRONG  holds: Budget key:dev/day/2026-11-21 has $0.000000005 held, though nothing is under way." in held.output
    )
    assert sound.exit_code == 0
    assert "budgets   1 compared with the ledger" in sound.output
    assert (
        "WRONG  spending: Budget key:dev/day/2026-11-21 has spent $7.100000000 by the counters and $2.600000000 by the"
        in (drifted.output)
    )


@pytest.mark.parametrize("name", ["global/total/ever", "key:ci/total/ever"])
def test_budgets_of_the_configuration_and_of_the_database_are_compared_in_a_shared_store_too(
    url: str, folder: Path, valkey: Server, name: str
):
    config = folder / "tollhouse.yaml"
    config.write_text(
        "auth: {open: true}\nproviders: {openai: {api_key: sk-1}}\nbudgets: [{scope: global, total: 100}]\n"
        f"ledger: {{url: '{url}'}}\nstate: {{url: '{valkey.url}'}}\n"
    )
    made = CliRunner().invoke(tollhouse, ["key", "create", "ci", "--total", "9", "--config", str(config)])
    assert made.exit_code == 0, made.output

    async def die_in_a_call() -> None:
        counters = await open_counters(ValkeySettings(url=valkey.url))
        purse = Purse(name, 100 * MTOK)
        await counters.seed(purse, spent_nano=0, before_us=1)
        assert isinstance(await counters.place(claim_of(id="x", began_at_us=2, purses=(purse,), hold_nano=5)), Placed)
        await counters.aclose()

    asyncio.run(die_in_a_call())
    result = run("verify", "--at-rest")
    assert result.exit_code == 1
    assert f"WRONG  holds: Budget {name} has $0.000000005 held, though nothing is under way." in result.output


def test_without_counters_holds_cannot_be_said_to_be_zero(url: str):
    with pytest.raises(StoreUnavailable, match=r"counters in .* cannot be read"):
        run("verify", "--at-rest", url=url)


# -------------------------------------------------------------------------------------------------------------- export


def test_rows_go_to_standard_output(url: str):
    lines = run("export", "--format", "json", url=url).stdout_bytes.splitlines()

    assert [msgspec.json.decode(line)["id"] for line in lines] == ["a", "c", "b"]


def test_totals_by_several_groups(url: str):
    result = run("export", "--format", "csv", "--by", "provider", "--by", "key", "--since", "2026-11-21", url=url)

    assert [line.split(",")[:3] for line in result.stdout.splitlines()] == [
        ["provider", "key", "calls"],
        ["claude", "dev", "1"],
        ["openai", "ci", "1"],
        ["openai", "dev", "1"],
    ]


def test_a_file_is_not_overwritten_without_force(url: str, folder: Path):
    path = str(folder / "x.parquet")
    result = run("export", "--format", "parquet", "--output", path, url=url)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"3 records in {path}\n")

    with pytest.raises(BadRequest, match=r"is there already\. --force replaces it\."):
        run("export", "--format", "parquet", "--output", path, url=url)
    assert run("export", "--format", "parquet", "--output", path, "--force", url=url).exit_code == 0


# ---------------------------------------------------------------------------------------------------------- all of them


COMMANDS = [["explain", "a"], ["rerate", "--from", "all", "--prices"], ["verify"], ["export", "--format", "csv"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_ledger_that_is_not_there_is_said_so_and_not_made(folder: Path, prices: str, command: list[str]):
    more = [prices] if command[-1] == "--prices" else []
    with pytest.raises(NotFound, match="no ledger"):
        run(*command, *more, url=f"sqlite:///{folder / 'none.db'}")
    assert not (folder / "none.db").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_an_older_ledger_asks_to_be_migrated(url: str, prices: str, command: list[str]):
    with closing(sqlite3.connect(store.sqlite_path(url), isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0004'")
    more = [prices] if command[-1] == "--prices" else []
    with pytest.raises(StoreUnavailable, match="tollhouse ledger migrate"):
        run(*command, *more, url=url)
