"""Subjects of signed tokens, as the database has them: read and written like keys, by desks of the registrar.

A token speaks for a subject until it ends, and cannot be changed.  What stands here counts instead of what its tokens say, also
of those that were issued before, and within a second: it is how somebody's rights are changed, or ended, without asking for
the tokens that they have.  A subject of an OIDC issuer is called as its principal is: `corp/ann@example.com`.
"""

# ruff: noqa: S608 - every name that stands in a statement is our own; values are bound

from collections.abc import Sequence
from typing import Final

import msgspec

from tollhouse.errors import BadRequest, Conflict, NotFound, TokenMalformed
from tollhouse.ledger.transaction import Row, Transaction
from tollhouse.policy.register import MAX_PAGE, all_pages
from tollhouse.policy.registrar import (
    Desk,
    KeyEdit,
    check_expiry,
    check_holder,
    edited,
    edited_expiry,
    made_fields,
    named_fields,
    write_revocation,
)
from tollhouse.policy.terms import KeyTerms, checked, decode, encode
from tollhouse.policy.tokens.claims import MAX_SUBJECT_BYTES
from tollhouse.policy.tokens.claims import subject as read_subject


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A subject as it is.  Times are microseconds since the epoch."""

    name: str
    tenant: str
    project: str
    terms: KeyTerms
    created_at_us: int
    expires_at_us: int | None
    revoked_at_us: int | None
    cut: bool
    """Whether its calls in flight were to be ended when it was revoked."""


class NewSubject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subject to be made."""

    name: str
    """As in its tokens' `sub`, or `ISSUER/SUB` for one of an OIDC issuer."""
    tenant: str = ""
    project: str = ""
    terms: KeyTerms = KeyTerms()
    expires_at_us: int | None = None


def create_subject(desk: Desk, new: NewSubject) -> Subject:
    """Writes a subject down.  Raises `Conflict` if it is there, `NotFound` for its tenant or project, `BadRequest`."""
    _check_name(new.name)
    if desk.transaction.rows("SELECT 1 FROM subjects WHERE name = $1", new.name):
        raise Conflict(
            f"There is a subject {new.name!r}.",
            hint="`tollhouse subject edit` changes it, `tollhouse subject restore` lets a revoked one in again.",
            param="name",
        )
    check_holder(desk.transaction, new.tenant, new.project)
    terms = checked(new.terms)
    check_expiry(desk, new.expires_at_us)
    desk.transaction.run(
        "INSERT INTO subjects (name, tenant, project, expires_at_us, cut, terms, created_at_us, revision) "
        "VALUES ($1, $2, $3, $4, 0, $5, $6, $7)",
        new.name,
        new.tenant,
        new.project,
        new.expires_at_us,
        encode(terms),
        desk.now_us,
        desk.revision,
    )
    desk.note("subject.create", f"subject:{new.name}", made_fields(new.tenant, new.project, new.expires_at_us, terms))
    return subject(desk.transaction, new.name)


def edit_subject(desk: Desk, name: str, edit: KeyEdit) -> Subject:
    """Changes its terms or its end.  Raises `NotFound`, `BadRequest`."""
    found = subject(desk.transaction, name)
    expires_at_us = edited_expiry(desk, found.expires_at_us, edit)
    desk.transaction.run(
        "UPDATE subjects SET terms = $1, expires_at_us = $2, revision = $3 WHERE name = $4",
        encode(edited(found.terms, edit)),
        expires_at_us,
        desk.revision,
        name,
    )
    desk.note("subject.edit", f"subject:{name}", named_fields(edit))
    return subject(desk.transaction, name)


def revoke_subject(desk: Desk, name: str, *, cuts: bool = False) -> Subject:
    """Lets none of its tokens in any more; with `cuts`, its calls in flight are ended too.  Raises `NotFound`.

    May be said again, to cut what is still in flight.
    """
    write_revocation(desk, "subject", name, subject(desk.transaction, name), cuts=cuts)
    return subject(desk.transaction, name)


def restore_subject(desk: Desk, name: str) -> Subject:
    """Lets a revoked subject in again, with every token of it that has not ended otherwise.  Raises `NotFound`, `Conflict`."""
    if subject(desk.transaction, name).revoked_at_us is None:
        raise Conflict(f"The subject {name!r} is not revoked.")
    desk.transaction.run(
        "UPDATE subjects SET revoked_at_us = NULL, cut = 0, revision = $1 WHERE name = $2", desk.revision, name
    )
    desk.note("subject.restore", f"subject:{name}", {})
    return subject(desk.transaction, name)


def subject(transaction: Transaction, name: str) -> Subject:
    """A subject, revoked or not.  Raises `NotFound`."""
    rows = transaction.rows(f"SELECT {_COLUMNS} FROM subjects WHERE name = $1", name)
    if not rows:
        raise NotFound(
            f"There is no subject {name[:80]!r} in the database.",
            hint="`tollhouse subject list` names them; what tokens of others may do stands in the tokens.",
        )
    return _subject(rows[0])


def subjects(
    transaction: Transaction, *, after: str = "", at_most: int = MAX_PAGE, revoked_too: bool = False
) -> Sequence[Subject]:
    """Subjects by name, those behind `after`."""
    live = "" if revoked_too else " AND revoked_at_us IS NULL"
    rows = transaction.rows(
        f"SELECT {_COLUMNS} FROM subjects WHERE name > $1{live} ORDER BY name LIMIT $2", after, at_most
    )
    return [_subject(row) for row in rows]


def all_subjects(transaction: Transaction, *, revoked_too: bool = False) -> Sequence[Subject]:
    """Every subject by name, in as many pages as it takes."""
    return all_pages(
        lambda after: subjects(transaction, after=after, revoked_too=revoked_too), lambda subject: subject.name
    )


_COLUMNS: Final = "name, tenant, project, terms, created_at_us, expires_at_us, revoked_at_us, cut"


def _check_name(name: str) -> None:
    try:
        read_subject({"sub": name})
    except TokenMalformed as error:
        raise BadRequest(
            f"A subject is a name of at most {MAX_SUBJECT_BYTES} bytes that can be printed, without spaces around it.",
            param="name",
        ) from error


def _subject(row: Row) -> Subject:
    name, tenant, project, terms, created_at_us, expires, revoked, cut = row
    return Subject(
        name=name,
        tenant=tenant,
        project=project,
        terms=decode(terms, KeyTerms),
        created_at_us=created_at_us,
        expires_at_us=expires,
        revoked_at_us=revoked,
        cut=bool(cut),
    )
