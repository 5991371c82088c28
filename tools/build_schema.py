"""Writes `ledger/schema.sql`, the snapshot that new SQLite ledgers are made from, out of the migrations.

python tools/build_schema.py
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

from tollhouse.ledger import migrations

OUTPUT: Final = Path(__file__).parents[1] / "src/tollhouse/ledger/schema.sql"
HEAD: Final = "-- Made by tools/build_schema.py from the migrations; not edited by hand.\n"


def main() -> None:
    """Migrates an empty database and dumps it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        migrations.upgrade(f"sqlite:///{path}")
        OUTPUT.write_text(HEAD + dump(path))
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size:,} bytes")


def dump(path: Path) -> str:
    """The statements that make the database, without its transaction."""
    with closing(sqlite3.connect(path)) as connection:
        statements = [line for line in connection.iterdump() if line not in {"BEGIN TRANSACTION;", "COMMIT;"}]
    return "\n".join(line.rstrip() for statement in statements for line in statement.splitlines()) + "\n"


if __name__ == "__main__":
    main()
