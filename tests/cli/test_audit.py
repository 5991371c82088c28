"""What `tollhouse audit` prints, and how it ends."""

import io
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from tollhouse.cli import tollhouse
from tollhouse.cli.audit import render
from tollhouse.errors import NotFound
from tollhouse.ledger import store
from tollhouse.ledger.audit import Head, entry
from tollhouse.ledger.audit_store import open_audit

NOON_US = 1_795_262_400_000_000


@pytest.fixture
def url(tmp_path: Path) -> str:
    address = f"sqlite:///{tmp_path / 't.db'}"
    store.prepare(address)
    return address


def write(url: str, count: int) -> Head:
    log = open_audit(url)
    head = log.append(
        [
            entry(
                at_us=NOON_US + number * 1_000_000,
                actor="ops" if number % 2 else "cli:ann",
                action="key.create",
                object=f"key:k{number}",
                changes={"tenant": "research"},
                address="127.0.0.1",
            )
            for number in range(count)
        ]
    )
    log.close()
    return head


def tamper(url: str, *statements: str) -> None:
    with closing(sqlite3.connect(store.sqlite_path(url), isolation_level=None)) as connection:
        for name in ("audit_follows", "audit_keeps_updated", "audit_keeps_deleted"):
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(tollhouse, ["audit", *arguments, "--ledger", url], catch_exceptions=False)


# ------------------------------------------------------------------------------------------------------------------ verify


def test_a_whole_log_is_said_to_be_unbroken_with_its_head(url: str):
    head = write(url, 3)
    result = run(url, "verify")

    assert result.exit_code == 0
    assert result.output.splitlines()[:2] == ["3 records, unbroken", f"head  {head.hash.hex()}"]


def test_an_empty_log_is_unbroken(url: str):
    result = run(url, "verify")

    assert result.exit_code == 0
    assert result.output.splitlines()[:2] == ["0 records, unbroken", f"head  {'00' * 32}"]


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (
            ["UPDATE audit SET actor = 'nobody' WHERE seq = 2"],
            "BROKEN  Record 2 was altered: its hash is not that of what",
        ),
        (["DELETE FROM audit WHERE seq = 2"], "BROKEN  Record 2 is missing."),
        (
            [
                "UPDATE audit SET seq = 99 WHERE seq = 2",
                "UPDATE audit SET seq = 2 WHERE seq = 3",
                "UPDATE audit SET seq = 3 WHERE seq = 99",
            ],
            "BROKEN  Record 2 was moved: it was written after record 3.",
        ),
    ],
)
def test_a_broken_log_names_the_first_broken_record_and_fails(url: str, statements: Sequence[str], said: str):
    write(url, 4)
    tamper(url, *statements)
    result = run(url, "verify")

    assert result.exit_code == 1
    assert result.output.startswith(said)
    assert "The 1 record before it holds" in result.output


def test_a_kept_head_is_found_in_a_log_that_grew(url: str):
    head = write(url, 3)
    write(url, 2)
    result = run(url, "verify", "--from-hash", head.hash.hex())

    assert result.exit_code == 0
    assert "kept  record 3; 2 records since" in result.output


def test_a_cut_tail_fails_against_the_kept_head(url: str):
    head = write(url, 3)
    tamper(url, "DELETE FROM audit WHERE seq = 3")
    result = run(url, "verify", "--from-hash", head.hash.hex())

    assert result.exit_code == 1
    assert result.output.startswith("BROKEN  The head that you kept is not in this log")
    assert "What is there holds: 2 records" in result.output


def test_what_is_no_head_is_a_usage_error(url: str):
    result = run(url, "verify", "--from-hash", "abc")

    assert result.exit_code == 2
    assert "64 hexadecimal digits" in result.output


def test_a_ledger_that_is_not_there_is_said_to_be_so(tmp_path: Path):
    with pytest.raises(NotFound, match="no ledger"):
        run(f"sqlite:///{tmp_path / 'none.db'}", "verify")


# -------------------------------------------------------------------------------------------------------------------- list


def test_records_are_listed_oldest_first(url: str):
    write(url, 3)
    lines = run(url, "list", "--since", "all").output.splitlines()

    assert lines[0].split() == ["#", "time", "(UTC)", "actor", "action", "object", "outcome", "address", "what"]
    assert lines[2].split() == [
        "1", "2026-11-21", "12:00:00", "cli:ann", "key.create", "key:k0", "ok", "127.0.0.1", '{"tenant":"research"}',
    ]  # fmt: skip
    assert len(lines) == 5


@pytest.mark.parametrize("width", [30, 80, 200])
def test_on_a_terminal_nothing_is_cut_and_no_line_is_too_long(url: str, width: int):
    write(url, 2)
    log = open_audit(url)
    records = list(log.records())
    log.close()
    out = io.StringIO()
    render(records, Console(file=out, force_terminal=True, color_system=None, width=width))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]

    assert max(map(len, lines)) <= width
    text = "".join(line.strip() for line in lines)
    assert text.count("127.0.0.1") == text.count('{"tenant":"research"}') == 2
    if width == 80:
        assert lines == [
            "1  2026-11-21 12:00:00  cli:ann  key.create  key:k0  ok",
            '    127.0.0.1  {"tenant":"research"}',
            "2  2026-11-21 12:00:01  ops  key.create  key:k1  ok",
            '    127.0.0.1  {"tenant":"research"}',
        ]


def test_filters_and_a_limit_choose_records(url: str):
    write(url, 10)
    lines = run(url, "list", "--since", "all", "--actor", "ops", "--limit", "2").output.splitlines()

    assert lines[0] == "The newest 2 records; --limit shows more."
    assert [line.split()[0] for line in lines[3:]] == ["8", "10"]
    assert run(url, "list", "--since", "2030-01-01").output == "Nothing in the audit log since 2030-01-01 00:00 UTC.\n"
    assert [line.split()[0] for line in run(url, "list", "--since", "2026-11-21T12:00:08").output.splitlines()[2:]] == [
        "9",
        "10",
    ]


def test_json_is_a_record_a_line_with_its_hashes(url: str):
    head = write(url, 2)
    first, second = [
        msgspec.json.decode(line) for line in run(url, "list", "--since", "all", "--json").output.splitlines()
    ]

    assert second["hash"] == head.hash.hex()
    assert second["previous"] == first["hash"]
    assert first["changes"] == {"tenant": "research"}


def test_nothing_in_a_record_moves_a_cursor_or_is_markup(url: str):
    log = open_audit(url)
    log.append([entry(at_us=NOON_US, actor="\x1b[31m[bold]x", action="key.create")])
    log.close()
    output = run(url, "list", "--since", "all").output

    assert "\x1b" not in output
    assert "[31m[bold]x" in output
