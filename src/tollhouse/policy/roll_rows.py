"""How a register is read into a roll: its mark, and what changed since an earlier one."""

from collections.abc import Iterator
from typing import Final

from tollhouse.ledger.transaction import Reader, Transaction
from tollhouse.policy.roll import Delta, HolderRow, KeyRow, Mark, SigningKeyRow, SubjectRow, TokenRow

PAGE_ROWS: Final = 2000
"""Rows that are in memory at a time, beside the roll that they go into."""
FORGET_AFTER_US: Final = 30 * 86_400_000_000
"""Keys that ended longer ago are not loaded: their bearers are told that they are unknown, no longer that they have ended."""

_MARK: Final = "SELECT epoch, revision FROM identity_state"


def mark(reader: Reader) -> Mark:
    """How far the register is.  Cheap: one row.  Raises `StoreUnavailable`."""
    return Mark(*reader.rows(_MARK)[0])


def delta(transaction: Transaction, since: Mark | None, now_us: int) -> Delta:
    """What changed since a mark; all there is without one, or if that mark is not of this register's past.

    The mark, tenants and projects are read now; keys and subjects while they are iterated, so within the transaction.
    """
    epoch, revision = transaction.rows(_MARK)[0]
    is_whole = since is None or epoch != since.epoch or revision < since.revision
    after = -1 if since is None or is_whole else since.revision
    return Delta(
        mark=Mark(epoch, revision),
        is_whole=is_whole,
        holders=[
            *(HolderRow(*row) for row in transaction.rows(_TENANTS, after)),
            *(HolderRow(*row) for row in transaction.rows(_PROJECTS, after)),
        ],
        subjects=(SubjectRow(*row) for row in transaction.rows(_SUBJECTS, after)),
        keys=_keys(transaction, after, now_us - FORGET_AFTER_US if is_whole else 0),
        tokens=(TokenRow(*row) for row in transaction.rows(_TOKENS, after, now_us)),
        signing_keys=(SigningKeyRow(*row) for row in transaction.rows(_SIGNING_KEYS, after)),
    )


def _keys(transaction: Transaction, after: int, ended_after_us: int) -> Iterator[KeyRow]:
    # By revision and name, which is an index of its own: few changes among many keys are found without a scan.
    revision, name = after + 1, ""
    while True:
        rows = [KeyRow(*row) for row in transaction.rows(_KEYS, revision, name, ended_after_us, PAGE_ROWS)]
        yield from rows
        if len(rows) < PAGE_ROWS:
            return
        revision, name = rows[-1].revision, rows[-1].name


_TENANTS: Final = "SELECT name, '', terms, balance_nano, removed_at_us, revision FROM tenants WHERE revision > $1"
_PROJECTS: Final = "SELECT tenant, name, terms, balance_nano, removed_at_us, revision FROM projects WHERE revision > $1"
_SUBJECTS: Final = (
    "SELECT name, tenant, project, expires_at_us, revoked_at_us, cut, terms, balance_nano, revision "
    "FROM subjects WHERE revision > $1"
)
_TOKENS: Final = (
    "SELECT jti, expires_at_us, revoked_at_us, cut, revision FROM tokens "
    "WHERE revision > $1 AND revoked_at_us IS NOT NULL AND coalesce(expires_at_us, $2) >= $2"
)
_SIGNING_KEYS: Final = "SELECT kid, algorithm, public_key, until_us, revision FROM signing_keys WHERE revision > $1"
_KEYS: Final = (
    "SELECT name, tenant, project, digest, former_digest, former_until_us, expires_at_us, revoked_at_us, cut, terms, "
    "balance_nano, revision FROM keys WHERE (revision, name) > ($1, $2) "
    "AND coalesce(revoked_at_us, expires_at_us, $3) >= $3 ORDER BY revision, name LIMIT $4"
)
