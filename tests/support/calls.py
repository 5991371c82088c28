"""Requests to a scripted peer, as short as a test wants them."""

from tollhouse.upstream.address import parse_address, target
from tollhouse.upstream.transport import Deadlines, Incoming, Outgoing

PATIENT = Deadlines(connect=30, first_byte=30, between_chunks=30, total=60)
"""Deadlines that no test is meant to meet."""
BRIEF = 0.05
"""A deadline that a test is meant to meet, in seconds."""


def post(
    url: str, body: bytes = b"{}", *, path: str = "/v1/chat", headers: tuple[tuple[bytes, bytes], ...] = ()
) -> Outgoing:
    """A POST of JSON to `url` + `path`."""
    address = parse_address(url)
    return Outgoing(address, b"POST", target(address, path), ((b"content-type", b"application/json"), *headers), body)


def get(url: str, *, method: bytes = b"GET", path: str = "/v1/models") -> Outgoing:
    """A request without a body."""
    address = parse_address(url)
    return Outgoing(address, method, target(address, path), (), b"")


async def read_to_end(incoming: Incoming) -> bytes:
    """All pieces, as a relay would read them."""
    pieces = []
    while piece := await incoming.read_some():
        pieces.append(piece)
    return b"".join(pieces)
