"""Run by Alembic for each migration command: one connection, one transaction."""

import sqlalchemy as sa
from alembic import context

from tollhouse.ledger.schema import METADATA


def _run() -> None:
    url = context.config.get_main_option("sqlalchemy.url")
    if url is None:
        raise RuntimeError("migrations were started without a database")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=METADATA)
        with context.begin_transaction():
            context.run_migrations()


_run()
