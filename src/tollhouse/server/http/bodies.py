"""Reading a request body within its bounds, and getting rid of one that is not wanted."""

import asyncio
from contextlib import suppress

from tollhouse.errors import BadRequest, BodyTooLarge, ClientLeft, UnsupportedMediaType
from tollhouse.server.http.asgi import Headers, Receive, Scope

BODY_SECONDS = 60.0
"""How long a client may take to send its whole body."""
DISCARD_BYTES = 128 * 1024 * 1024
DISCARD_SECONDS = 5.0
"""How much more of a refused body, and for how long, is taken in and thrown away."""
_ONE_AT_A_TIME = frozenset({"1.0", "1.1"})
"""Versions in which a connection is one request's at a time, and has to end when that one was not read."""


async def read_body(receive: Receive, headers: Headers, limit_bytes: int) -> bytes:
    """The whole body.

    Raises `BodyTooLarge` (at once when the client says its size, otherwise as soon as it is over), `UnsupportedMediaType` for
    compressed bodies, `ClientLeft`, and `BadRequest` when the body does not arrive in `BODY_SECONDS`.
    """
    expected = _check_head(headers, limit_bytes)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(receive, expected, limit_bytes)
    except TimeoutError as error:
        raise BadRequest(f"The request body did not arrive within {BODY_SECONDS:.0f} s.") from error


def _check_head(headers: Headers, limit_bytes: int) -> int:
    """How many bytes the body has, by its header; -1 when that does not say.  Raises as `read_body`."""
    expected = -1
    for name, value in headers:
        if name == b"content-length":
            if value.isdigit():
                expected = int(value)
            if expected > limit_bytes:
                raise BodyTooLarge(limit_bytes=limit_bytes)
        elif name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            raise UnsupportedMediaType(
                "Compressed request bodies are not read here.", hint="Send the body without Content-Encoding."
            )
    return expected


def has_body(headers: Headers) -> bool:
    """Whether a request comes with a body."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b" 0")) for name, value in headers
    )


def before_and_after(scope: Scope, answer: bytes) -> tuple[bytes, bytes]:
    """What of an answer leaves while the body of a refused request still comes, and what is kept until `discard_body` is done.

    Our own server takes in the rest of a request whose answer is out.  Others may see no use in that: hyper, which granian
    serves with, now and then ends the connection once it has sent all that was announced, and with it goes the answer, unread.
    For them the last byte waits.
    """
    if "tollhouse.request" in scope or scope["http_version"] not in _ONE_AT_A_TIME:
        return answer, b""
    return answer[:-1], answer[-1:]


async def discard_body(receive: Receive) -> None:
    """Takes in the rest of a body that was refused, within bounds.

    Clients send all of a request before they look for an answer (both vendors' SDKs do).  If the connection were closed
    with bytes of theirs unread, TCP would reset it, and the answer that says what is wrong would be lost on the way (RFC 9112,
    section 9.6).
    """
    left = DISCARD_BYTES
    with suppress(TimeoutError):  # a slow sender has had its answer
        async with asyncio.timeout(DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))


async def _read(receive: Receive, expected: int, limit_bytes: int) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeft("The client left while sending its request.")
    body: bytes = message.get("body", b"")
    if len(body) > limit_bytes:
        raise BodyTooLarge(limit_bytes=limit_bytes)
    # Servers tell the end of a body apart from its last piece; a body of known length need not wait for that.
    if len(body) == expected or not message.get("more_body", False):
        return body
    return await _read_rest(receive, body, limit_bytes)


async def _read_rest(receive: Receive, first: bytes, limit_bytes: int) -> bytes:
    pieces = [first]
    size = len(first)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft("The client left while sending its request.")
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            raise BodyTooLarge(limit_bytes=limit_bytes)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)
