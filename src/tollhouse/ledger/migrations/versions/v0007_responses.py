"""Responses that callers may ask for again, or go on from, by their id.

`responses.input` is what a call added to the conversation, `responses.body` the answer; both are JSON, deflated, so they hold
prompts and completions.  A conversation is followed backwards by `previous_id`.  `response_items` finds the items that a
caller names by their ids instead of sending them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "responses",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("previous_id", sa.Text),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("input", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    # Both the oldest and the sum of all are read from the index alone.
    op.create_index("responses_age", "responses", ["created_at_us", "size_bytes"])
    op.create_table(
        "response_items",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("response_id", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("response_items_of", "response_items", ["tenant", "response_id"])


def downgrade() -> None:
    """Not offered: going back would drop what callers count on."""
    raise NotImplementedError("the ledger is never migrated backwards; restore a copy instead")
