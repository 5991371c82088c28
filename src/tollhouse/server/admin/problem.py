"""What the admin API answers when it does not do what was asked: problem details (RFC 9457)."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import msgspec

from tollhouse.errors import BadRequest, ConfigError, MethodNotAllowed, TollhouseError

CONTENT_TYPE: Final = "application/problem+json"
UNPROCESSABLE: Final = 422
"""What was sent is JSON and of the right form, and still cannot be used."""

_FIELDS: Final = {
    "amount": "amount_nano",
    "balance": "balance_nano",
    "expires": "expires_at_us",
    "overlap": "overlap_seconds",
    "total": "total_nano",
}
"""What the command line, and so an error, calls otherwise than a body does."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was refused.  `code` is stable; `detail` and `hint` are for people."""

    type: str
    """`urn:tollhouse:problem:` and the code."""
    title: str
    """The HTTP status in words."""
    status: int
    detail: str
    code: str
    request_id: str
    """As in the header `x-request-id` and in the audit log."""
    hint: str = ""
    """What can be done about it."""
    field: str = ""
    """The field at fault, such as `terms.requests_per_minute`."""
    problems: tuple[str, ...] = ()
    """All of them, where there are several: what is wrong with a configuration."""


class Refusal(Exception):
    """Ends a request with a problem of the admin API's own."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str = "",
        field: str = "",
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.field = field
        self.headers = tuple(headers)

    def problem(self, request_id: str) -> Problem:
        """As it is answered."""
        return _problem(self.status, self.code, self.detail, hint=self.hint, field=self.field, request_id=request_id)


def problem_of(error: TollhouseError, request_id: str) -> Problem:
    """An error of the gateway's as a problem.  A value that cannot be used and a configuration that does not load are 422."""
    status = UNPROCESSABLE if isinstance(error, BadRequest | ConfigError) else error.http_status
    return _problem(
        status,
        error.code,
        "The configuration does not load." if isinstance(error, ConfigError) else error.message,
        hint=error.hint or "",
        field=_FIELDS.get(error.param or "", error.param or ""),
        problems=error.problems if isinstance(error, ConfigError) else (),
        request_id=request_id,
    )


def headers_of(error: TollhouseError) -> list[tuple[str, str]]:
    """Headers that belong to an error."""
    return [("allow", ", ".join(error.allowed))] if isinstance(error, MethodNotAllowed) else []


def _problem(
    status: int, code: str, detail: str, *, hint: str, field: str, request_id: str, problems: tuple[str, ...] = ()
) -> Problem:
    return Problem(
        type=f"urn:tollhouse:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        hint=hint,
        field=field,
        problems=problems,
        request_id=request_id,
    )
