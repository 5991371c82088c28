"""Run by Alembic for each migration command: one connection and one transaction, or one script."""

import sqlite3

import sqlalchemy as sa
from alembic import context

from tollhouse.ledger.schema import METADATA


def _run() -> None:
    if context.is_offline_mode():
        # PostgreSQL: the script runs within a transaction of its reader, who holds the lock (see the package).
        context.configure(
            dialect_name="postgresql", target_metadata=METADATA, literal_binds=True, transactional_ddl=False
        )
        context.run_migrations()
        return
    url = context.config.get_main_option("sqlalchemy.url")
    if url is None:
        raise RuntimeError("migrations were started without a database")
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    if engine.dialect.name == "sqlite":
        _make_transactional(engine)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=METADATA, transactional_ddl=True)
        with context.begin_transaction():
            context.run_migrations()


def _make_transactional(engine: sa.Engine) -> None:
    """Puts all of a migration into one transaction that excludes other writers, which Python's driver does not do.

    Source: docs.sqlalchemy.org, "SQLite", on serializable isolation, savepoints and transactional DDL.
    """

    @sa.event.listens_for(engine, "connect")
    def _leave_transactions_to_us(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


_run()
