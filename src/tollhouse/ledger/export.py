"""The ledger's rows, or totals over them, as a file that other programs read: CSV, JSON Lines, Parquet.

Everything is read and written page by page.  Amounts come twice: as integers of nano-USD, which are exact everywhere, and as
decimal dollars, for people and spreadsheets.

CSV follows RFC 4180.  A text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a line
break) gets an apostrophe in front, for names of models and keys can come from callers: OWASP, "CSV Injection".  JSON and
Parquet hold texts as they are.
"""

import csv
import io
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, TypeAlias

import msgspec

from tollhouse.errors import BadRequest, NotInstalled
from tollhouse.extras import EXPORT
from tollhouse.ledger.hours import HOUR_US, NUMBERS
from tollhouse.ledger.moments import moment_at
from tollhouse.ledger.reading import REPORT_SECONDS, Statement, read
from tollhouse.ledger.rows import COLUMNS, WORDS
from tollhouse.ledger.transaction import Transaction, open_reader

PAGE_ROWS: Final = 5000
DAY_US: Final = 86_400_000_000
LAST_US: Final = 2**62
FORMULA_STARTS: Final = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""The last four are the full-width forms, which some spreadsheets take for the same."""

Value: TypeAlias = str | int | Decimal | date | datetime | None
Record: TypeAlias = tuple[Value, ...]


class By(StrEnum):
    """What totals are grouped by."""

    HOUR = "hour"
    DAY = "day"
    TENANT = "tenant"
    PROJECT = "project"
    KEY = "key"
    ALIAS = "alias"
    PROVIDER = "provider"
    MODEL = "model"


class Column(NamedTuple):
    """A column of the file."""

    name: str
    kind: type[str] | type[int] | type[Decimal] | type[date]


class Table(NamedTuple):
    """What is exported: columns, and the records in pages."""

    columns: tuple[Column, ...]
    pages: Callable[[str], Generator[list[Record], None, None]]
    """Reads a ledger by its address."""


Encoder: TypeAlias = Callable[[Table, Iterator[list[Record]], IO[bytes]], int]
"""Writes all pages and returns how many records there were."""


def calls(since_us: int, until_us: int) -> Table:
    """Every call that began at `since_us` or later and before `until_us`, oldest first."""
    columns = [Column("started_at", datetime)]
    for name in COLUMNS:
        columns.append(Column(name, str if name in _TEXTS else int))
        if name == "cost_nano":
            columns.append(Column("cost_usd", Decimal))
    at_cost = COLUMNS.index("cost_nano") + 1
    names = ", ".join(f'"{name}"' for name in COLUMNS)

    def page(transaction: Transaction, place: tuple[int, int]) -> list[tuple[Any, ...]]:
        return transaction.rows(
            f"SELECT seq, {names} FROM calls WHERE (started_at_us, seq) > ($1, $2) AND started_at_us >= $1 "  # noqa: S608 - our own names
            "AND started_at_us < $3 ORDER BY started_at_us, seq LIMIT $4",
            *place,
            until_us,
            PAGE_ROWS,
        )

    def pages(url: str) -> Generator[list[Record], None, None]:
        place = (since_us, -1)
        with closing(open_reader(url, answer_seconds=REPORT_SECONDS)) as reader:
            while rows := reader.read(partial(page, place=place)):
                yield [
                    (moment_at(row[_AT_START]), *row[1 : at_cost + 1], _dollars(row[at_cost]), *row[at_cost + 1 :])
                    for row in rows
                ]
                place = (rows[-1][_AT_START], rows[-1][0])

    return Table(tuple(columns), pages)


def totals(since_us: int, until_us: int, by: Sequence[By]) -> Table:
    """Totals of whole hours, from that of `since_us` up to that of `until_us`; pruned calls are in them.

    With an hour or a day among the groups, memory holds one day of them; otherwise all.
    """
    if not by:
        raise ValueError("totals of what?")
    keys = [Column(each, _KINDS.get(each, str)) for each in by]
    columns = (*keys, *(Column(name, int) for name in NUMBERS), Column("cost_usd", Decimal))
    groups = [_TIMES.get(each, f'"{each}"') for each in by]
    sums = [f"CAST(sum({name}) AS bigint)" for name in NUMBERS]
    numbers = ", ".join(str(number) for number in range(1, len(by) + 1))
    # By the time first: the days that are read one after the other are then in order.
    order = ", ".join(str(at + 1) for at in sorted(range(len(by)), key=lambda at: by[at] not in _TIMES))
    statement = (
        f"SELECT {', '.join((*groups, *sums))} FROM spend_hours "  # noqa: S608 - our own names
        f"WHERE hour_us >= ? AND hour_us < ? GROUP BY {numbers} ORDER BY {order}"
    )
    at_cost = len(by) + NUMBERS.index("cost_nano")
    first_us, end_us = since_us // HOUR_US * HOUR_US, -(-until_us // HOUR_US) * HOUR_US

    def pages(url: str) -> Generator[list[Record], None, None]:
        is_by_time = not _TIMES.keys().isdisjoint(by)
        for from_us, before_us in _days(url, first_us, end_us) if is_by_time else [(first_us, end_us)]:
            (rows,) = read(url, [Statement(statement, (from_us, before_us))])
            yield [
                (
                    *(_TIMES_OF[each](row[at]) if each in _TIMES else row[at] for at, each in enumerate(by)),
                    *row[len(by) :],
                    _dollars(row[at_cost]),
                )
                for row in rows
            ]

    return Table(columns, pages)


def _days(url: str, from_us: int, before_us: int) -> Iterator[tuple[int, int]]:
    """The parts of a time that lie in one day each and have totals."""
    while True:
        (found,) = read(url, [Statement(_FIRST_HOUR, (from_us,))])
        if not found or (hour_us := int(found[0][0])) >= before_us:
            return
        next_day_us = (hour_us // DAY_US + 1) * DAY_US
        yield hour_us, min(next_day_us, before_us)
        from_us = next_day_us


# Not `min`: of a view, SQLite would read every hour for that.
_FIRST_HOUR: Final = "SELECT hour_us FROM spend_hours WHERE hour_us >= ? ORDER BY hour_us LIMIT 1"
_TIMES: Final = {By.HOUR: "hour_us", By.DAY: f"hour_us / {DAY_US} * {DAY_US}"}
_KINDS: Final[dict[By, type[date]]] = {By.HOUR: datetime, By.DAY: date}
_AT_START: Final = COLUMNS.index("started_at_us") + 1
_TEXTS: Final = frozenset({"id", *WORDS, "attempts_detail"})


def export(url: str, table: Table, encoder: Encoder, out: IO[bytes]) -> int:
    """Writes everything and returns how many records there were.  Blocks.  Raises `StoreUnavailable` and `OSError`."""
    with closing(table.pages(url)) as pages:
        return encoder(table, pages, out)


def encoder_of(name: str) -> Encoder:
    """The encoder of `csv`, `json` or `parquet`.  Raises `NotInstalled` for the last without its extra."""
    if name == "parquet" and EXPORT.missing():
        raise NotInstalled(f"Parquet needs the `export` extra: {EXPORT.command}.")
    return _ENCODERS[name]


@contextmanager
def new_file(path: Path, *, may_replace: bool) -> Iterator[IO[bytes]]:
    """A file that is there when all of it was written, and not before.  Raises `BadRequest` when there is one already."""
    if path.exists() and not may_replace:
        raise BadRequest(f"{path} is there already.", hint="--force replaces it.")
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("xb") as file:
            yield file
        if may_replace:
            draft.replace(path)
            return
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            raise BadRequest(f"{path} was made by somebody else meanwhile.", hint="--force replaces it.") from None
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


# ----------------------------------------------------------------------------------------------------------- the forms


def _write_csv(table: Table, pages: Iterator[list[Record]], out: IO[bytes]) -> int:
    text = io.StringIO(newline="")
    writer = csv.writer(text)  # its usual dialect is that of RFC 4180: commas, CRLF, quotes where they are needed
    writer.writerow([column.name for column in table.columns])
    texts = [at for at, column in enumerate(table.columns) if column.kind is str]
    others = [at for at, column in enumerate(table.columns) if column.kind not in {str, int}]
    count = 0
    for records in pages:
        for record in records:
            row = list(record)
            for at in texts:
                value = row[at]
                if value and str(value)[0] in FORMULA_STARTS:
                    row[at] = f"'{value}"
            for at in others:
                row[at] = _plain(row[at])
            writer.writerow(row)
        count += len(records)
        _empty(text, out)
    _empty(text, out)
    return count


def _empty(text: io.StringIO, out: IO[bytes]) -> None:
    out.write(text.getvalue().encode("utf-8", "replace"))
    text.seek(0)
    text.truncate()


def _write_json(table: Table, pages: Iterator[list[Record]], out: IO[bytes]) -> int:
    names = [column.name for column in table.columns]
    others = [at for at, column in enumerate(table.columns) if column.kind not in {str, int}]
    encoder = msgspec.json.Encoder()
    count = 0
    for records in pages:
        objects = []
        for record in records:
            row = list(record)
            for at in others:
                row[at] = _plain(row[at])
            objects.append(dict(zip(names, row, strict=True)))
        out.write(encoder.encode_lines(objects))
        count += len(records)
    return count


def _write_parquet(table: Table, pages: Iterator[list[Record]], out: IO[bytes]) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {
        str: pa.string(),
        int: pa.int64(),
        # 64 bits of nano-USD have at most 19 digits.
        Decimal: pa.decimal128(19, 9),
        datetime: pa.timestamp("us", tz="UTC"),
        date: pa.date32(),
    }
    schema = pa.schema([(column.name, kinds[column.kind]) for column in table.columns])
    count = 0
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        for records in pages:
            columns = [
                pa.array(values, type=field.type)
                for values, field in zip(zip(*records, strict=True), schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            count += len(records)
    return count


_ENCODERS: Final[dict[str, Encoder]] = {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}
FORMATS: Final = tuple(_ENCODERS)


_TIMES_OF: Final[dict[By, Callable[[int], date]]] = {By.HOUR: moment_at, By.DAY: lambda us: moment_at(us).date()}


def _dollars(nano: int | None) -> Decimal | None:
    return None if nano is None else Decimal(nano).scaleb(-9)


def _plain(value: Value) -> Value:
    """A time or an amount as text."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return f"{value.isoformat(timespec='microseconds').removesuffix('+00:00')}Z"
    return value.isoformat() if isinstance(value, date) else value
