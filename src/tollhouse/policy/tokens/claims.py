"""What a token claims, read out of a payload whose signature was checked."""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from tollhouse.errors import TokenIncomplete, TokenMalformed, TokenNotYetValid
from tollhouse.ledger.moments import moment_at

SKEW_SECONDS: Final = 60
"""How far the clock of an issuer may be ahead of ours.  No allowance is made at a token's end."""
MAX_SUBJECT_BYTES: Final = 128
"""It stands in the ledger, in logs and in metrics."""
MAX_ID_CHARACTERS: Final = 200
_LAST_SECOND: Final = 2**37
"""Some 4,000 years on: beyond it a moment can be neither computed with nor printed."""

Claims = Mapping[str, object]


def read_claims(payload: bytes) -> Claims:
    """The claims.  Raises `TokenMalformed` for what is no JSON object."""
    try:
        return msgspec.json.decode(payload, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TokenMalformed(
            "This token is damaged: its claims cannot be read.", hint="Copy the whole token again, or ask for another."
        ) from error


def require(claims: Claims, names: tuple[str, ...]) -> None:
    """Raises `TokenIncomplete` naming every one of these claims that is not there."""
    missing = [name for name in names if claims.get(name) is None]
    if missing:
        raise TokenIncomplete(
            f"This token has no {' and no '.join(f'`{name}`' for name in missing)}, and every token must have"
            f" {', '.join(f'`{name}`' for name in names)}.",
            hint="Ask whoever issued it for one that has.",
        )


def text(claims: Claims, name: str) -> str:
    """A claim that is a text; empty if it is not there.  Raises `TokenMalformed`."""
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong(name, "is not a text")
    return value


def identifier(claims: Claims, name: str) -> str:
    """A claim that names something, such as `jti`: at most `MAX_ID_CHARACTERS` that can be printed."""
    value = text(claims, name)
    if len(value) > MAX_ID_CHARACTERS or not value.isprintable():
        raise wrong(name, f"is longer than {MAX_ID_CHARACTERS} characters, or has some that cannot be printed")
    return value


def subject(claims: Claims, name: str = "sub") -> str:
    """Who it is.  Raises `TokenMalformed` for what cannot stand in the books."""
    value = text(claims, name)
    if not value or value != value.strip() or not value.isprintable() or len(value.encode()) > MAX_SUBJECT_BYTES:
        raise wrong(name, f"is not a name of at most {MAX_SUBJECT_BYTES} bytes that can be printed")
    return value


def moment_us(claims: Claims, name: str) -> int | None:
    """A NumericDate (RFC 7519, section 2) in microseconds since the epoch; `None` if it is not there."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise wrong(name, "is not a number of seconds")
    if not -_LAST_SECOND < value < _LAST_SECOND:
        raise wrong(name, "is not a moment that can be meant")
    return int(value * 1_000_000)


def texts(claims: Claims, name: str) -> tuple[str, ...]:
    """A claim that is a text or a list of texts, such as `aud`; empty if it is not there."""
    value = claims.get(name)
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise wrong(name, "is neither a text nor a list of texts")


def check_begun(claims: Claims, now_us: int) -> None:
    """Raises `TokenNotYetValid` for a token that is good only later, or that says it was issued in the future."""
    for name, what in (("nbf", "is good from"), ("iat", "was issued, by its own account, on")):
        at_us = moment_us(claims, name)
        if at_us is not None and at_us > now_us + SKEW_SECONDS * 1_000_000:
            raise TokenNotYetValid(
                f"This token {what} {shown(at_us)} on.",
                hint="Wait until then; if it is past already, the clock of whoever issued it or of this gateway is wrong.",
            )


def wrong(name: str, why: str) -> TokenMalformed:
    """The refusal of a claim."""
    return TokenMalformed(f"The claim `{name}` of this token {why}.", hint="Ask whoever issued it for a right one.")


def shown(at_us: int) -> str:
    """A moment for people."""
    return f"{moment_at(at_us):%Y-%m-%d %H:%M:%S} UTC"
