"""Signed tokens and their subjects over the network: the same functions that the command line calls.

A subject's name stands in the query and not in the path, for that of an OIDC issuer has a slash in it.
"""

import time
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from tollhouse.config.schema import JwtSettings
from tollhouse.policy import subjects
from tollhouse.policy.registrar import KeyEdit
from tollhouse.policy.subjects import NewSubject, Subject
from tollhouse.policy.tokens import issuing
from tollhouse.policy.tokens.issuing import MAX_OVERLAP_SECONDS, Mint, NewToken, SigningKeyRecord, Token
from tollhouse.policy.tokens.secrets_file import SecretsFile, secrets_path
from tollhouse.server.admin.desk import at_desk, looked_up
from tollhouse.server.admin.operation import Asked, Limit, Nothing, Operation, Page, page_of


class ManyTokens(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tokens are wanted."""

    subject: str = ""
    after: str = ""
    """Those that were issued after the one with this id."""
    limit: Limit = 100
    all: bool = False
    """Those that were revoked or have expired too."""


class TokenRevocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a token is revoked."""

    cut: bool = False
    """End its calls in flight too."""
    foreign: bool = False
    """It may be one that was not issued here: of the older tool, of an OIDC issuer."""


class KeyRotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the keys that sign are rotated."""

    overlap_seconds: Annotated[float, msgspec.Meta(ge=0, le=MAX_OVERLAP_SECONDS)] = 30 * 86_400.0
    """How long tokens of the keys before stay good."""


class IssuedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token with its text, which is shown this once."""

    token: Token
    text: str


class ManySubjects(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which subjects are wanted."""

    after: str = ""
    """Those whose names come behind this one."""
    limit: Limit = 100
    revoked: bool = False
    """Those that were revoked too."""


class OneSubject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which subject is meant."""

    name: str
    """`ISSUER/SUB` for one of an OIDC issuer."""


class SubjectRevocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a subject is revoked."""

    cut: bool = False
    """End its calls in flight too."""


def _mint(asked: Asked[Any, Any]) -> Mint:
    office = asked.office
    settings = office.config().auth.jwt or JwtSettings()
    return Mint(settings, SecretsFile(secrets_path(office.environ, Path.home())))


def _list_tokens(asked: Asked[ManyTokens, Nothing]) -> Page[Token]:
    query = asked.query
    found = looked_up(
        asked,
        lambda open_: issuing.tokens(
            open_,
            subject_name=query.subject,
            after=query.after,
            at_most=query.limit + 1,
            good_at_us=None if query.all else time.time_ns() // 1000,
        ),
    )
    return page_of(found, query.limit, lambda token: token.jti)


def _issue_token(asked: Asked[Nothing, NewToken]) -> IssuedToken:
    issued = at_desk(asked, lambda desk: issuing.issue_token(desk, _mint(asked), asked.body))
    return IssuedToken(token=issued.record, text=issued.text)


def _show_token(asked: Asked[Nothing, Nothing]) -> Token:
    return looked_up(asked, lambda open_: issuing.token(open_, asked.path["jti"]))


def _revoke_token(asked: Asked[Nothing, TokenRevocation]) -> Token:
    body = asked.body
    return at_desk(
        asked,
        lambda desk: issuing.revoke_token(desk, asked.path["jti"], cuts=body.cut, is_foreign=body.foreign),
    )


def _list_keys(asked: Asked[Nothing, Nothing]) -> Page[SigningKeyRecord]:
    return Page(items=list(looked_up(asked, issuing.signing_keys)))


def _rotate(asked: Asked[Nothing, KeyRotation]) -> SigningKeyRecord:
    overlap = asked.body.overlap_seconds
    return at_desk(asked, lambda desk: issuing.rotate_signing_key(desk, _mint(asked), overlap_seconds=overlap))


def _list_subjects(asked: Asked[ManySubjects, Nothing]) -> Page[Subject]:
    query = asked.query
    found = looked_up(
        asked,
        lambda open_: subjects.subjects(open_, after=query.after, at_most=query.limit + 1, revoked_too=query.revoked),
    )
    return page_of(found, query.limit, lambda subject: subject.name)


def _create_subject(asked: Asked[Nothing, NewSubject]) -> Subject:
    return at_desk(asked, lambda desk: subjects.create_subject(desk, asked.body))


def _show_subject(asked: Asked[OneSubject, Nothing]) -> Subject:
    return looked_up(asked, lambda open_: subjects.subject(open_, asked.query.name))


def _edit_subject(asked: Asked[OneSubject, KeyEdit]) -> Subject:
    return at_desk(asked, lambda desk: subjects.edit_subject(desk, asked.query.name, asked.body))


def _revoke_subject(asked: Asked[OneSubject, SubjectRevocation]) -> Subject:
    return at_desk(asked, lambda desk: subjects.revoke_subject(desk, asked.query.name, cuts=asked.body.cut))


def _restore_subject(asked: Asked[OneSubject, Nothing]) -> Subject:
    return at_desk(asked, lambda desk: subjects.restore_subject(desk, asked.query.name))


_TOKENS: Final = "/admin/v1/tokens"
_SUBJECTS: Final = "/admin/v1/subjects"
_KEYS: Final = "/admin/v1/signing-keys"

TOKEN_OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    Operation(
        id="listTokens",
        method="GET",
        path=_TOKENS,
        role="viewer",
        summary="Signed tokens in the order in which they were issued; those that are good",
        tag="tokens",
        query=ManyTokens,
        body=Nothing,
        answer=Page[Token],
        work=_list_tokens,
    ),
    Operation(
        id="issueToken",
        method="POST",
        path=_TOKENS,
        role="admin",
        summary="Issue a token; its text is in this answer and nowhere else",
        tag="tokens",
        query=Nothing,
        body=NewToken,
        answer=IssuedToken,
        status=201,
        work=_issue_token,
    ),
    Operation(
        id="showToken",
        method="GET",
        path=f"{_TOKENS}/{{jti}}",
        role="viewer",
        summary="A token, revoked or not, without its text",
        tag="tokens",
        query=Nothing,
        body=Nothing,
        answer=Token,
        work=_show_token,
    ),
    Operation(
        id="revokeToken",
        method="POST",
        path=f"{_TOKENS}/{{jti}}/revoke",
        role="admin",
        summary="Take a token back for good",
        tag="tokens",
        query=Nothing,
        body=TokenRevocation,
        answer=Token,
        work=_revoke_token,
    ),
    Operation(
        id="listSigningKeys",
        method="GET",
        path=_KEYS,
        role="viewer",
        summary="The keys that sign tokens, the newest first, without their secrets",
        tag="tokens",
        query=Nothing,
        body=Nothing,
        answer=Page[SigningKeyRecord],
        work=_list_keys,
    ),
    Operation(
        id="rotateSigningKeys",
        method="POST",
        path=f"{_KEYS}/rotate",
        role="admin",
        summary="Make a new key that signs; tokens of those before stay good for a while",
        tag="tokens",
        query=Nothing,
        body=KeyRotation,
        answer=SigningKeyRecord,
        status=201,
        work=_rotate,
    ),
    Operation(
        id="listSubjects",
        method="GET",
        path=_SUBJECTS,
        role="viewer",
        summary="Subjects of signed tokens by name; what stands here counts, and not what their tokens say",
        tag="subjects",
        query=ManySubjects,
        body=Nothing,
        answer=Page[Subject],
        work=_list_subjects,
    ),
    Operation(
        id="createSubject",
        method="POST",
        path=_SUBJECTS,
        role="admin",
        summary="Write a subject down",
        tag="subjects",
        query=Nothing,
        body=NewSubject,
        answer=Subject,
        status=201,
        work=_create_subject,
    ),
    Operation(
        id="showSubject",
        method="GET",
        path=f"{_SUBJECTS}/one",
        role="viewer",
        summary="A subject, revoked or not",
        tag="subjects",
        query=OneSubject,
        body=Nothing,
        answer=Subject,
        work=_show_subject,
    ),
    Operation(
        id="editSubject",
        method="PATCH",
        path=f"{_SUBJECTS}/one",
        role="admin",
        summary="Change its terms or its end: what is not named stays, `null` takes away",
        tag="subjects",
        query=OneSubject,
        body=KeyEdit,
        answer=Subject,
        work=_edit_subject,
    ),
    Operation(
        id="revokeSubject",
        method="POST",
        path=f"{_SUBJECTS}/one/revoke",
        role="admin",
        summary="Let no token of it in any more",
        tag="subjects",
        query=OneSubject,
        body=SubjectRevocation,
        answer=Subject,
        work=_revoke_subject,
    ),
    Operation(
        id="restoreSubject",
        method="POST",
        path=f"{_SUBJECTS}/one/restore",
        role="admin",
        summary="Let it in again, with the tokens of it that are still good",
        tag="subjects",
        query=OneSubject,
        body=Nothing,
        answer=Subject,
        work=_restore_subject,
    ),
)
