"""What other programs read is what stands in the ledger, and does nothing that it should not."""

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from support.books import MTOK, ask, priced, write
from support.call_records import NOON_US, make_call
from tollhouse.errors import BadRequest
from tollhouse.ledger import export as module
from tollhouse.ledger import store
from tollhouse.ledger.export import LAST_US, By, Table, calls, encoder_of, export, new_file, totals
from tollhouse.ledger.record import Attempt
from tollhouse.ledger.rows import COLUMNS

DAY = 86_400


@pytest.fixture
def url(url: str) -> str:
    return _filled(url)


@pytest.fixture
def any_url(any_url: str) -> str:
    return _filled(any_url)


def _filled(url: str) -> str:
    """Written out of order; one cost is not known."""
    failed = (Attempt(provider="openai", model="m", outcome="provider_timeout"),) * 2
    write(
        url,
        [
            priced("b", at=60),
            priced("a"),
            make_call("c", at=DAY, key="ci", cost_nano=None, attempts=failed),
            make_call("d", at=DAY, key="ci", requested_model='=cmd|"/c calc"!A1', cost_nano=7),
        ],
    )
    return url


def exported(url: str, form: str, table: Table | None = None) -> bytes:
    out = io.BytesIO()
    export(url, table or calls(0, LAST_US), encoder_of(form), out)
    return out.getvalue()


def as_json(url: str, table: Table | None = None) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in exported(url, "json", table).splitlines()]


def test_rows_are_exported_oldest_first_with_money_as_integers_and_dollars(any_url: str):
    records = as_json(any_url)

    assert [record["id"] for record in records] == ["a", "b", "c", "d"]
    assert list(records[0]) == [
        "started_at",
        *(name for column in COLUMNS for name in ([column, "cost_usd"] if column == "cost_nano" else [column])),
    ]
    assert (records[0]["cost_nano"], records[0]["cost_usd"]) == (2_600_000_000, "2.600000000")
    assert (records[2]["cost_nano"], records[2]["cost_usd"]) == (None, None)
    assert (records[3]["cost_nano"], records[3]["cost_usd"]) == (7, "0.000000007")
    assert records[0]["started_at"] == "2026-11-21T12:00:00.000000Z"
    assert msgspec.json.decode(records[2]["attempts_detail"])[0][2] == "provider_timeout"


def test_all_forms_hold_the_same(url: str):
    records = as_json(url)
    rows = list(csv.DictReader(io.StringIO(exported(url, "csv").decode(), newline="")))
    table = parquet.read_table(io.BytesIO(exported(url, "parquet"))).to_pylist()

    for record, row, stored in zip(records, rows, table, strict=True):
        for name, value in record.items():
            text = "" if value is None else str(value)
            assert row[name] in {text, f"'{text}"}
            if name == "started_at":
                assert stored[name] == datetime.fromisoformat(value)
            elif name == "cost_usd":
                assert stored[name] == (None if value is None else Decimal(value))
            else:
                assert stored[name] == value


def test_parquet_has_types_for_time_and_money(url: str):
    schema = parquet.read_schema(io.BytesIO(exported(url, "parquet")))

    assert schema.field("started_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("cost_nano").type == pa.int64()
    assert schema.field("cost_usd").type == pa.decimal128(19, 9)


def test_csv_is_that_of_rfc_4180(url: str):
    lines = exported(url, "csv").split(b"\r\n")

    assert len(lines) == 6  # a head, four calls, and the end of the last line
    assert lines[-1] == b""
    assert b'"[[""openai"",""m"",' in lines[3]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_no_text_of_a_csv_is_a_formula(url: str, start: str):
    ask(url, "DELETE FROM calls")
    write(url, [make_call("x", requested_model=f"{start}HYPERLINK()"), make_call("y", requested_model="fine=1")])
    first, second = csv.DictReader(io.StringIO(exported(url, "csv").decode(), newline=""))

    assert first["requested_model"] == f"'{start}HYPERLINK()"
    assert second["requested_model"] == "fine=1"


def test_only_calls_of_a_time_are_exported(any_url: str):
    assert [record["id"] for record in as_json(any_url, calls(NOON_US + 1, NOON_US + DAY * 1_000_000))] == ["b"]


def test_rows_are_read_page_by_page(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PAGE_ROWS", 2)
    pages = list(calls(0, LAST_US).pages(url))

    assert [len(page) for page in pages] == [2, 2]
    assert [record[1] for page in pages for record in page] == ["a", "b", "c", "d"]


def test_totals_are_exported_by_day_and_key(any_url: str):
    records = as_json(any_url, totals(0, LAST_US, [By.KEY, By.DAY]))

    assert [list(record)[:3] for record in records] == [["key", "day", "calls"]] * 2
    assert [(r["key"], r["day"], r["calls"], r["cost_nano"], r["cost_usd"]) for r in records] == [
        ("dev", "2026-11-21", 2, 5_200_000_000, "5.200000000"),
        ("ci", "2026-11-22", 2, 7, "0.000000007"),
    ]
    assert records[1]["unknown_cost_calls"] == 1


def test_totals_without_a_time_are_those_of_all_days(any_url: str):
    records = as_json(any_url, totals(0, LAST_US, [By.TENANT]))

    assert [(record["tenant"], record["calls"]) for record in records] == [("acme", 4)]


def test_totals_by_the_hour_are_those_of_whole_hours(any_url: str):
    end_us = NOON_US + 3_600_000_000
    table = totals(NOON_US + 30_000_000, end_us, [By.HOUR])

    assert [(record["hour"], record["calls"]) for record in as_json(any_url, table)] == [
        ("2026-11-21T12:00:00.000000Z", 2)
    ]
    stored = parquet.read_table(io.BytesIO(exported(any_url, "parquet", table))).to_pylist()
    assert stored[0]["hour"] == datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_a_day_is_a_date_in_parquet(url: str):
    table = parquet.read_table(io.BytesIO(exported(url, "parquet", totals(0, LAST_US, [By.DAY]))))

    assert table.column("day").to_pylist() == [date(2026, 11, 21), date(2026, 11, 22)]


def test_an_empty_ledger_has_a_head_and_no_records(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'e.db'}"
    store.prepare(url)

    assert exported(url, "csv").startswith(b"started_at,id,")
    assert exported(url, "csv").count(b"\r\n") == 1
    assert exported(url, "json") == b""
    assert parquet.read_table(io.BytesIO(exported(url, "parquet"))).num_rows == 0


def test_the_largest_cost_of_the_ledger_fits(url: str):
    ask(url, "DELETE FROM calls")
    write(url, [make_call("x", cost_nano=2**63 - 1)])
    (record,) = parquet.read_table(io.BytesIO(exported(url, "parquet"))).to_pylist()

    assert record["cost_usd"] == Decimal("9223372036.854775807")
    assert MTOK * record["cost_usd"] == record["cost_nano"]


# ------------------------------------------------------------------------------------------------------------ the file


def test_a_file_that_is_there_is_not_replaced_unless_asked(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_text("old")
    with pytest.raises(BadRequest, match="is there already"), new_file(path, may_replace=False):
        pass
    assert path.read_text() == "old"

    with new_file(path, may_replace=True) as file:
        file.write(b"new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path):
    path = tmp_path / "x.csv"

    def overtaken() -> None:
        with new_file(path, may_replace=False) as file:
            file.write(b"mine")
            path.write_text("theirs")

    with pytest.raises(BadRequest, match="meanwhile"):
        overtaken()
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("may_replace", [False, True])
def test_a_failed_export_leaves_nothing_behind(tmp_path: Path, may_replace: bool):
    path = tmp_path / "x.csv"
    if may_replace:
        path.write_text("old")

    def fail() -> None:
        with new_file(path, may_replace=may_replace) as file:
            file.write(b"half")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert [each.read_text() for each in tmp_path.iterdir()] == (["old"] if may_replace else [])
