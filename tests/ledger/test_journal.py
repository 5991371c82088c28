"""The journal: what it took is handed back once, whoever wrote it and however that process ended."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from support.call_records import make_call
from tollhouse.errors import StoreUnavailable
from tollhouse.ledger.journal import REPLAY_ROWS, Journal, Replayed
from tollhouse.ledger.rows import COLUMNS, Row, row_of


class Books:
    """Takes rows as a database does: once each.  Can be shut."""

    def __init__(self) -> None:
        self.rows: dict[object, Row] = {}
        self.calls: list[int] = []
        self.is_shut = False
        self.refuses: frozenset[str] = frozenset()

    def commit(self, rows: Sequence[Row]) -> frozenset[str]:
        if self.is_shut:
            raise StoreUnavailable("shut")
        self.calls.append(len(rows))
        self.rows.update({row[0]: row for row in rows if row[0] not in self.refuses})
        return self.refuses & {str(row[0]) for row in rows}


def rows(*names: str) -> list[Row]:
    return [row_of(make_call(name)) for name in names]


def total(steps: Sequence[Replayed]) -> tuple[int, int, int]:
    return sum(s.rows for s in steps), sum(s.torn for s in steps), sum(s.damaged for s in steps)


def open_journal(folder: Path, max_bytes: int = 1_000_000) -> Journal:
    return Journal(folder, "t.db", max_bytes=max_bytes)


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


def test_rows_come_back_as_they_were_and_the_file_goes(tmp_path: Path) -> None:
    journal, books = open_journal(tmp_path), Books()
    journal.append(rows("a", "b"))
    journal.append(rows("c"))

    assert total([*journal.replay(books.commit)]) == (3, 0, 0)
    assert list(books.rows.values()) == rows("a", "b", "c")
    assert files(tmp_path) == []
    assert total([*journal.replay(books.commit)]) == (0, 0, 0)


def test_nothing_is_made_before_the_first_row(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "later")

    assert [*journal.replay(Books().commit)] == []
    assert not (tmp_path / "later").exists()


def test_a_torn_last_line_is_reported_and_the_others_come_back(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append(rows("a", "b"))
    journal.close()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for cut in range(1, 60):
        books = Books()
        path.write_bytes(whole[: len(whole) - cut])

        assert total([*open_journal(tmp_path).replay(books.commit)]) == (1, 1, 0)
        assert list(books.rows) == ["a"]


def test_a_damaged_line_is_reported_and_its_file_is_kept(tmp_path: Path) -> None:
    journal, books = open_journal(tmp_path), Books()
    journal.append(rows("a", "b", "c"))
    journal.close()
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes().replace(b'"b"', b'"B"'))

    assert total([*journal.replay(books.commit)]) == (2, 0, 1)
    assert list(books.rows) == ["a", "c"]
    assert files(tmp_path) == [".damaged"]


def test_a_row_that_the_database_refuses_is_kept_as_damaged(tmp_path: Path) -> None:
    journal, books = open_journal(tmp_path), Books()
    books.refuses = frozenset({"b"})
    journal.append(rows("a", "b"))

    assert total([*journal.replay(books.commit)]) == (1, 0, 1)
    assert files(tmp_path) == [".damaged"]


def test_a_replay_that_fails_keeps_the_rows_and_a_second_one_repeats_them(tmp_path: Path) -> None:
    journal, books = open_journal(tmp_path), Books()
    many = rows(*(f"{number}" for number in range(REPLAY_ROWS + 10)))
    journal.append(many)
    steps = journal.replay(books.commit)
    next(steps)
    books.is_shut = True
    with pytest.raises(StoreUnavailable, match="shut"):
        next(steps)
    books.is_shut = False
    journal.append(rows("meanwhile"))

    assert total([*journal.replay(books.commit)]) == (REPLAY_ROWS + 11, 0, 0)
    assert len(books.rows) == REPLAY_ROWS + 11
    assert files(tmp_path) == []


def test_rows_appended_during_a_replay_wait_for_the_next(tmp_path: Path) -> None:
    journal, books = open_journal(tmp_path), Books()
    journal.append(rows("a"))
    for _ in journal.replay(books.commit):
        journal.append(rows("b"))

    assert list(books.rows) == ["a"]
    assert total([*journal.replay(books.commit)]) == (1, 0, 0)


def test_the_file_of_a_living_process_is_left_alone_and_that_of_a_dead_one_adopted(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from support.call_records import make_call; from tollhouse.ledger.journal import Journal\n"
        "from tollhouse.ledger.rows import row_of\n"
        "journal = Journal(pathlib.Path(sys.argv[1]), 't.db', max_bytes=1000000)\n"
        "journal.append([row_of(make_call('theirs'))]); print('written', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", script, str(tmp_path)]
    books = Books()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "written\n"
        assert [*open_journal(tmp_path).replay(books.commit)] == []
        other.kill()
        other.wait(10)

    assert total([*open_journal(tmp_path).replay(books.commit)]) == (1, 0, 0)
    assert list(books.rows) == ["theirs"]


def test_its_size_is_bounded_and_a_refused_batch_leaves_nothing(tmp_path: Path) -> None:
    journal, books = open_journal(tmp_path, max_bytes=2000), Books()
    journal.append(rows("a"))
    with pytest.raises(StoreUnavailable, match="bound of 2,000 bytes"):
        journal.append(rows(*(f"more-{number}" for number in range(20))))
    journal.append(rows("b"))

    assert total([*journal.replay(books.commit)]) == (2, 0, 0)
    assert list(books.rows) == ["a", "b"]


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match=r"journal in .*file.* cannot be written"):
        open_journal(tmp_path / "file").append(rows("a"))


def test_a_file_that_was_deleted_under_us_is_not_written_any_more(tmp_path: Path) -> None:
    journal, books = open_journal(tmp_path), Books()
    journal.append(rows("lost"))
    for path in tmp_path.iterdir():
        path.unlink()
    journal.append(rows("kept"))
    [*journal.replay(books.commit)]

    assert list(books.rows) == ["kept"]


def test_a_file_of_a_version_with_other_columns_is_read_by_name(tmp_path: Path) -> None:
    journal, books = open_journal(tmp_path), Books()
    journal.append([row_of(make_call("a"))])
    journal.close()
    (path,) = tmp_path.iterdir()
    head, row = path.read_bytes().splitlines()
    columns, values = msgspec.json.decode(head[9:]), msgspec.json.decode(row[9:])
    older = tmp_path / "t.db.journal-0-older.jsonl"
    from tollhouse.ledger.journal import _line

    order = [*reversed(range(len(COLUMNS)))]
    order.remove(COLUMNS.index("receipt"))
    older.write_bytes(
        _line(msgspec.json.encode([*(columns[at] for at in order), "gone"]))
        + _line(msgspec.json.encode([*(values[at] for at in order), 7]))
    )
    path.unlink()

    assert total([*journal.replay(books.commit)]) == (1, 0, 0)
    (found,) = books.rows.values()
    wanted = dict(zip(COLUMNS, row_of(make_call("a")), strict=True)) | {"receipt": None}
    assert dict(zip(COLUMNS, found, strict=True)) == wanted
