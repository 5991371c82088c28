"""What is put into one statement comes out as it went in, however alike its rows are."""

import itertools
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tollhouse.ledger.rows import COLUMNS, NULLABLE, WORDS, Row
from tollhouse.ledger.sqlite import SqliteStorage, prepare

NUMBERS = tuple(name for name in COLUMNS if name not in (*WORDS, "id", "attempts_detail"))
few_words = st.sampled_from(["", "a", "Ä\N{SNOWMAN}"])
"""Few, so that rows are often alike and often differ."""
numbers = st.sampled_from([0, 1, 7])


@st.composite
def rows(draw: st.DrawFn) -> Row:
    values: dict[str, str | int | None] = {"id": ""}
    values |= {name: draw(few_words) for name in WORDS}
    values |= {name: draw(numbers | st.none() if name in NULLABLE else numbers) for name in NUMBERS}
    values["attempts_detail"] = draw(st.none() | few_words)
    return tuple(values[name] for name in COLUMNS)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.lists(rows(), min_size=1, max_size=4), min_size=1, max_size=6))
def test_rows_are_written_as_they_are_whatever_those_before_had_in_common(batches: list[list[Row]]):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        prepare(path, f"sqlite:///{path}")
        storage = SqliteStorage(path, busy_timeout_ms=1000)
        storage.open()
        serial = itertools.count()
        named = [[(f"req_{next(serial):03}", *row[1:]) for row in batch] for batch in batches]
        for batch in named:
            assert storage.insert(batch) == frozenset()
        storage.close()
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute(f"SELECT {','.join(COLUMNS)} FROM calls ORDER BY id").fetchall()
    assert found == [row for batch in named for row in batch]
