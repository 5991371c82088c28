"""The ledger's tables for SQLAlchemy Core.

Imported by reports and migrations only: SQLAlchemy takes half a second to import, and a serving process never needs it.
"""

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()

# SQLite makes a column the row's own number only if its type is spelled INTEGER.
_ROW_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

CALLS: Final = sa.Table(
    "calls",
    METADATA,
    sa.Column("seq", _ROW_NUMBER, primary_key=True),
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
    sa.Index("calls_started_at", "started_at_us"),
)

SPEND_HOURS: Final = sa.Table(
    "spend_hours",
    METADATA,
    sa.Column("hour_us", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("project", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("alias", sa.Text, primary_key=True),
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False),
    sa.Column("errors", sa.BigInteger, nullable=False),
    sa.Column("input_tokens", sa.BigInteger),
    sa.Column("cache_read_tokens", sa.BigInteger),
    sa.Column("cache_write_tokens", sa.BigInteger),
    sa.Column("cache_write_1h_tokens", sa.BigInteger),
    sa.Column("output_tokens", sa.BigInteger),
    sa.Column("reasoning_tokens", sa.BigInteger),
    sa.Column("input_audio_tokens", sa.BigInteger),
    sa.Column("output_audio_tokens", sa.BigInteger),
    sa.Column("cost_nano", sa.BigInteger, nullable=False),
    sa.Column("unknown_cost_calls", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Totals of the calls by the hour in which they started; `alias` is empty for a `provider/model`.  In SQLite it is a view."""
