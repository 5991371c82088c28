"""Reading a request body within its bounds."""

import asyncio

from tollhouse.errors import BadRequest, BodyTooLarge, ClientLeft, UnsupportedMediaType
from tollhouse.server.http.asgi import Headers, Receive

BODY_SECONDS = 60.0
"""How long a client may take to send its whole body."""


async def read_body(receive: Receive, headers: Headers, limit_bytes: int) -> bytes:
    """The whole body.

    Raises `BodyTooLarge` (at once when the client says its size, otherwise as soon as it is over), `UnsupportedMediaType` for
    compressed bodies, `ClientLeft`, and `BadRequest` when the body does not arrive in `BODY_SECONDS`.
    """
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
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeft("The client left while sending its request.")
    body: bytes = message.get("body", b"")
    if len(body) > limit_bytes:
        raise BodyTooLarge(limit_bytes=limit_bytes)
    # Servers tell the end of a body apart from its last piece; a body of known length need not wait for that.
    if len(body) == expected or not message.get("more_body", False):
        return body
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_rest(receive, body, limit_bytes)
    except TimeoutError as error:
        raise BadRequest(f"The request body did not arrive within {BODY_SECONDS:.0f} s.") from error


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
