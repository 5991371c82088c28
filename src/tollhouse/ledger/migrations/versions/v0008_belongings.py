"""Whose what callers made at providers is: files, batches, vector stores, cached contents.

At a provider it belongs to the gateway's one account; here a row says which tenant made it.  `belongings.id` is what the
provider calls it, with the collection where that is part of the name (`files/abc`).
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Makes the table."""
    op.create_table(
        "belongings",
        sa.Column("provider", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("noted_at_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    # Who has most, and what of that is oldest.
    op.create_index("belongings_age", "belongings", ["tenant", "noted_at_us"])


def downgrade() -> None:
    """Not offered: without it nobody would know whose anything is."""
    raise NotImplementedError("the ledger is never migrated backwards; restore a copy instead")
