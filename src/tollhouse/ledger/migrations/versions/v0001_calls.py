"""The table of calls."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the table and its indexes."""
    op.create_table(
        "calls",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("started_at_us", sa.BigInteger, nullable=False),
        sa.Column("door", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("requested_model", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("streamed", sa.SmallInteger, nullable=False),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("finish", sa.Text, nullable=False),
        sa.Column("input_tokens", sa.BigInteger),
        sa.Column("cache_read_tokens", sa.BigInteger),
        sa.Column("cache_write_tokens", sa.BigInteger),
        sa.Column("cache_write_1h_tokens", sa.BigInteger),
        sa.Column("output_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("input_audio_tokens", sa.BigInteger),
        sa.Column("output_audio_tokens", sa.BigInteger),
        sa.Column("usage_source", sa.Text, nullable=False),
        sa.Column("cost_nano", sa.BigInteger),
        sa.Column("price_version", sa.Text, nullable=False),
        sa.Column("receipt", sa.Text, nullable=False),
        sa.Column("first_byte_us", sa.BigInteger),
        sa.Column("duration_us", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.SmallInteger, nullable=False),
        sa.Column("attempts_detail", sa.Text),
        sa.UniqueConstraint("id", name="calls_id"),
    )
    op.create_index("calls_started_at", "calls", ["started_at_us"])


def downgrade() -> None:
    """Not offered: going back would drop the books."""
    raise NotImplementedError("the ledger is never migrated backwards; restore a copy instead")
