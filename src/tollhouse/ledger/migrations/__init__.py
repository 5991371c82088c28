"""The ledger's schema over time.  Alembic reads this folder; `upgrade` is the only way in.

To change the schema: add a revision under `versions/`, its name to `store.REVISIONS`, the columns to `schema.py`, and run
`tools/build_schema.py`, which writes the snapshot that new SQLite files are made from.

PostgreSQL gets a revision as a script (Alembic's offline mode), because SQLAlchemy has no driver for it here.  So a
revision never reads from its connection: it moves data with `op.execute("INSERT … SELECT …")`, and asks
`op.get_context().dialect.name` where the two databases differ.  A trigger of SQLite stands on one line, for the
snapshot is cut into statements at the ends of lines.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config


def config(sqlalchemy_url: str) -> Config:
    """Alembic's settings, without a file."""
    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("sqlalchemy.url", sqlalchemy_url.replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings


def upgrade(sqlalchemy_url: str) -> None:
    """Brings the database to the newest revision; does nothing if it is there."""
    command.upgrade(config(sqlalchemy_url), "head")
