"""The last word of an RPC, whose library takes one message at a time."""

import asyncio
from typing import Any, NoReturn

import grpc
import grpc.aio
import pytest

from tollhouse.errors import ClientLeft
from tollhouse.server.grpc.door import break_off, send


class SlowContext:
    """An RPC whose client takes messages at the test's word."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.status: grpc.StatusCode | None = None
        self.begun = asyncio.Event()
        self.room = asyncio.Event()
        self.is_writing = False

    async def write(self, message: bytes) -> None:
        if self.is_writing:
            raise grpc.aio.InternalError("TOO_MANY_OPERATIONS")
        self.is_writing = True
        self.begun.set()
        await self.room.wait()
        self.is_writing = False
        self.taken.append(message)

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        if self.is_writing:
            raise grpc.aio.InternalError("TOO_MANY_OPERATIONS")
        self.status = code
        raise grpc.aio.AbortError(details)


async def cut_off(context: Any, message: bytes) -> "asyncio.Task[None]":
    """A task that was cancelled in the middle of sending."""
    task = asyncio.get_running_loop().create_task(send(context, message))
    await context.begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    return task


async def test_a_cancellation_leaves_when_the_message_under_way_is_through():
    context: Any = SlowContext()
    task = await cut_off(context, b"first")
    assert not task.done()
    context.room.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await send(context, b"the last word")
    assert context.taken == [b"first", b"the last word"]


async def test_a_client_that_takes_nothing_is_left_to_itself_and_told_when_it_does():
    context: Any = SlowContext()

    async def rpc() -> None:
        try:
            await send(context, b"first", last_seconds=0)
        except asyncio.CancelledError:
            with pytest.raises(ClientLeft):
                await send(context, b"the last word")
            await break_off(context)

    task = asyncio.get_running_loop().create_task(rpc())
    await context.begun.wait()
    task.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()
    assert context.status is None
    context.room.set()
    with pytest.raises(grpc.aio.AbortError):
        await task
    assert context.taken == [b"first"]
    assert context.status == grpc.StatusCode.UNAVAILABLE


async def test_who_is_not_there_any_more_gets_no_status():
    context: Any = SlowContext()
    context.is_writing = True
    with pytest.raises(asyncio.CancelledError):
        await break_off(context)
