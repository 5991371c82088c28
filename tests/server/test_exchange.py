"""How an exchange ends whose request was refused."""

from collections.abc import Callable

import pytest

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.errors import BodyTooLarge
from tollhouse.server.http.asgi import Headers, Message, Scope
from tollhouse.server.http.exchange import Exchange

BODY = b"x" * 100
SCOPE: Scope = {
    "type": "http",
    "method": "POST",
    "path": "/v1/chat/completions",
    "headers": [(b"content-length", b"100")],
    "client": ("192.0.2.7", 1234),
}


class Arrived:
    """A request of our own server's, all of which is here; it notes how its answer ended."""

    is_coded = False
    is_complete = True
    task = None
    has_departed = False

    def __init__(self) -> None:
        self.status = 0
        self.pieces: list[tuple[bytes, bool]] = []

    def take(self) -> bytes:
        return BODY

    def begin(self, status: int, headers: Headers) -> None:
        del headers
        self.status = status

    def put(self, data: bytes, *, more: bool) -> bool:
        self.pieces.append((data, more))
        return False

    async def drained(self) -> None:
        raise AssertionError

    def when_departed(self, callback: Callable[[], object] | None) -> None:
        raise AssertionError(callback)


async def nothing_more_comes() -> Message:
    raise AssertionError("waited for more of a body that is here")


async def nobody_sends(message: Message) -> None:
    raise AssertionError(message)


async def test_a_body_that_is_here_and_too_large_is_not_waited_for():
    """Or the next request on the connection would wait as long as for the rest of a body that still comes."""
    request = Arrived()
    exchange = Exchange({**SCOPE, "tollhouse.request": request}, nothing_more_comes, nobody_sends, DIALECT)
    with pytest.raises(BodyTooLarge) as refused:
        exchange.take(len(BODY) - 1)
    await exchange.refuse(refused.value)
    assert request.status == 413
    assert [more for _, more in request.pieces] == [False]
