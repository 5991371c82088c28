"""Who may call: tenants, their projects, keys, subjects of signed tokens, and what was paid in.

Every writing transaction raises `identity_state.revision` by one before anything else and stamps what it changes with it.
That row's lock makes the revisions commit in their order, so whoever has read up to one misses nothing by asking for later
ones.  Nothing is deleted: names stand in the books.  `terms` is the JSON text that `policy.terms` reads and writes.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "identity_state",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.CheckConstraint("id = 1", name="identity_state_is_one_row"),
    )
    op.execute("INSERT INTO identity_state (id, epoch, revision) VALUES (1, '', 0)")
    op.create_table("tenants", sa.Column("name", sa.Text, primary_key=True), _removed(), *_carries(), *_lives())
    op.create_table(
        "projects",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        _removed(),
        *_carries(),
        *_lives(),
    )
    op.create_table(
        "keys",
        sa.Column("name", sa.Text, primary_key=True),
        *_belongs(),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("former_digest", sa.LargeBinary),
        sa.Column("former_until_us", sa.BigInteger),
        *_ends(),
        *_carries(),
        *_lives(),
        sa.UniqueConstraint("digest", name="keys_digest"),
    )
    op.create_table(
        "subjects", sa.Column("name", sa.Text, primary_key=True), *_belongs(), *_ends(), *_carries(), *_lives()
    )
    op.create_table(
        "top_ups",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("amount_nano", sa.BigInteger, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_index("keys_revision", "keys", ["revision", "name"])
    for table in ("tenants", "projects", "subjects"):
        op.create_index(f"{table}_revision", table, ["revision"])
    op.create_index("keys_tenant", "keys", ["tenant", "project"])
    op.create_index("top_ups_whose", "top_ups", ["kind", "name"])


def downgrade() -> None:
    """Not offered: going back would drop the keys."""
    raise NotImplementedError("the ledger is never migrated backwards; restore a copy instead")


def _belongs() -> list[sa.Column[str]]:
    """Empty names are none."""
    return [sa.Column("tenant", sa.Text, nullable=False), sa.Column("project", sa.Text, nullable=False)]


def _ends() -> list[sa.Column[int]]:
    """`cut`: calls in flight are ended too."""
    return [
        sa.Column("expires_at_us", sa.BigInteger),
        sa.Column("revoked_at_us", sa.BigInteger),
        sa.Column("cut", sa.SmallInteger, nullable=False),
    ]


def _removed() -> sa.Column[int]:
    return sa.Column("removed_at_us", sa.BigInteger)


def _carries() -> list[sa.Column[str] | sa.Column[int]]:
    """`balance_nano` is the sum of the top-ups; NULL for what is not prepaid."""
    return [sa.Column("terms", sa.Text, nullable=False), sa.Column("balance_nano", sa.BigInteger)]


def _lives() -> list[sa.Column[int]]:
    return [
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    ]
