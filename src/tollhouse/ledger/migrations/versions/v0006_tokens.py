"""Signed tokens: those that were issued, those that were revoked, and the keys that sign them.

A token is good by its signature, so a row is no condition of it; what its holder may do stands in the token and is copied
here for whoever looks.  `revoked_at_us` is what workers read.  A token of somebody else's (of the older tool, of an OIDC
issuer) has a row only if it was revoked, without a subject, and without an end if nobody knew one.

`signing_keys` has no secret: those are in a file of the machine that made them (`policy.tokens.secrets_file`).  An Ed25519
key's public half is here, so that every machine can check its signatures.  A key is accepted until `until_us`, or for ever
while that is NULL; of those the newest signs.  Both tables are read by revision as the register's are.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "tokens",
        sa.Column("jti", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("kid", sa.Text, nullable=False),
        sa.Column("issued_at_us", sa.BigInteger, nullable=False),
        sa.Column("expires_at_us", sa.BigInteger),
        sa.Column("revoked_at_us", sa.BigInteger),
        sa.Column("cut", sa.SmallInteger, nullable=False),
        sa.Column("terms", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("tokens_revision", "tokens", ["revision"])
    op.create_index("tokens_subject", "tokens", ["subject", "jti"])
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.Text, primary_key=True),
        sa.Column("algorithm", sa.Text, nullable=False),
        sa.Column("public_key", sa.LargeBinary),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Not offered: going back would bring revoked tokens back."""
    raise NotImplementedError("the ledger is never migrated backwards; restore a copy instead")
