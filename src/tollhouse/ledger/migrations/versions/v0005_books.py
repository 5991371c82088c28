"""What bills are explained from: the price books that calls were priced with, and what calls cost before they were rated again.

`price_books.book` is the compiled book, deflated, kept once for all versions that differ in their overrides alone; those name
it in `list_version`.  A call's row has the name of its provider, not its type, so the types stand in `price_book_providers`.
`books_state.revision` is raised by every transaction that changes what calls cost: whoever remembers sums reads them again.
What was kept of a call goes with it when it is pruned, for row numbers of SQLite are used again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Makes the tables and the trigger."""
    op.create_table(
        "price_books",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("kept_at_us", sa.BigInteger, nullable=False),
        sa.Column("list_version", sa.Text, nullable=False),
        sa.Column("book", sa.LargeBinary),
        sa.Column("overrides", sa.Text, nullable=False),
    )
    op.create_table(
        "price_book_providers",
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
    )
    op.create_table(
        "rerates",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("began_at_us", sa.BigInteger, nullable=False),
        sa.Column("ended_at_us", sa.BigInteger),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("asked", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        sa.Column("was_nano", sa.BigInteger, nullable=False),
        sa.Column("now_nano", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "rerated_calls",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("rerate", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("was_nano", sa.BigInteger),
        sa.Column("was_version", sa.Text, nullable=False),
        sa.Column("now_nano", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "books_state",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.CheckConstraint("id = 1", name="books_state_is_one_row"),
    )
    op.execute("INSERT INTO books_state (id, revision) VALUES (1, 0)")
    if op.get_context().dialect.name == "sqlite":
        # On one line: the snapshot is cut into statements at the ends of lines.
        op.execute(
            "CREATE TRIGGER calls_forgotten AFTER DELETE ON calls "
            "BEGIN DELETE FROM rerated_calls WHERE seq = old.seq; END"
        )
        return
    op.execute(
        "CREATE FUNCTION calls_forgotten() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "DELETE FROM rerated_calls WHERE seq IN (SELECT seq FROM gone); RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER calls_forgotten AFTER DELETE ON calls REFERENCING OLD TABLE AS gone "
        "FOR EACH STATEMENT EXECUTE FUNCTION calls_forgotten()"
    )


def downgrade() -> None:
    """Not offered: going back would drop the books."""
    raise NotImplementedError("the ledger is never migrated backwards; restore a copy instead")
