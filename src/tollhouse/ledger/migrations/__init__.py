"""The ledger's schema over time.  Alembic reads this folder; `upgrade` is the only way in.

To change the schema: add a revision under `versions/`, its name to `revisions.REVISIONS`, the columns to `schema.py`, and run
`tools/build_schema.py`, which writes the snapshot that new SQLite files are made from.

PostgreSQL gets a revision as a script (Alembic's offline mode), because SQLAlchemy has no driver for it here.  So a
revision never reads from its connection: it moves data with `op.execute("INSERT … SELECT …")`, and asks
`op.get_context().dialect.name` where the two databases differ.  A trigger of SQLite stands on one line, for the
snapshot is cut into statements at the ends of lines.
"""

import asyncio
import io
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config

from tollhouse.ledger.address import is_postgresql

MIGRATION_LOCK: Final = 0x746F_6C6C_6772_6174
"""The advisory lock of those who migrate a PostgreSQL: `tollgrat` in ASCII."""
COMMAND_SECONDS: Final = 3600.0


def config(sqlalchemy_url: str) -> Config:
    """Alembic's settings, without a file."""
    settings = Config(output_buffer=io.StringIO())
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("sqlalchemy.url", sqlalchemy_url.replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings


def upgrade(url: str, revision: str = "head") -> None:
    """Brings the database to a revision; does nothing if it is there.  All of it or, if it raises, nothing."""
    if is_postgresql(url):
        from tollhouse.ledger import postgres

        postgres.block_on(_upgrade_postgresql(url, revision))
    else:
        command.upgrade(config(url), revision)


def script(since: str | None, revision: str = "head") -> str:
    """What brings a PostgreSQL from one revision to another, in SQL."""
    settings = config("postgresql://")
    command.upgrade(settings, f"{since}:{revision}" if since else revision, sql=True)
    assert isinstance(settings.output_buffer, io.StringIO)
    return settings.output_buffer.getvalue()


async def _upgrade_postgresql(url: str, wanted: str) -> None:
    from tollhouse.ledger import postgres

    try:
        connection = await postgres.connect(url, command_seconds=COMMAND_SECONDS)
        try:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
                revision = await postgres.revision(connection, url)
                if statements := await asyncio.to_thread(script, revision, wanted):
                    await connection.execute(statements)
        finally:
            await connection.close(timeout=postgres.CLOSE_SECONDS)
    except postgres.FAILURES as error:
        raise postgres.unavailable(url, error) from error
