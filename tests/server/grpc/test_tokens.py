"""Signed tokens over gRPC, as the older tool's client sends them."""

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest

from support.clients import settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Stall, faulty, words
from support.processes import until
from support.registers import Register
from support.serving import Serving
from support.tokens import SECRET, signed
from support.vibectl_client import Metadata, calling, prompt
from tollhouse.policy.tokens.issuing import revoke_token

GOOD = {"sub": "old", "iss": "vibectl-server", "iat": 1, "exp": 4_000_000_000, "jti": "b6f2"}
AUTH = f"\nauth: {{jwt: {{secret: {SECRET}, issuer: vibectl-server}}}}"


def bearing(**changes: object) -> Metadata:
    return (("authorization", f"Bearer {signed({**GOOD, **changes})}"),)


async def test_a_token_of_the_older_tool_is_let_in_and_its_subject_is_in_the_books(
    serving: Serving, fake_provider: FakeProvider
):
    fake_provider.default = Answer(text=words(6))
    gateway = await serving(settings(fake_provider) + AUTH)
    async with calling(gateway) as client:
        assert (await client.execute(prompt(), bearing())).success.response_text == words(6)
        for changes, says in (
            ({"exp": 2}, "expired on 1970-01-01"),
            ({"iss": "x"}, "issued by 'x'"),
            ({"sub": ""}, "`sub`"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await client.info(bearing(**changes))
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert says in (refused.value.details() or "")
    assert [row["key"] for row in gateway.rows()] == ["subject:old"]


async def test_the_stream_of_a_token_that_is_cut_ends_with_an_error(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path
):
    fake_provider.default = faulty(Answer(text=words(12)), Stall(8, until=asyncio.Event()))
    gateway = await serving(settings(fake_provider) + AUTH)
    register = Register(f"sqlite:///{tmp_path / 'ledger.db'}")

    async def is_under_way() -> bool:
        return len(gateway.worker.running) == 1

    async with calling(gateway) as client:
        async with asyncio.TaskGroup() as group:
            streaming = group.create_task(client.stream(prompt(), bearing()))
            await until(is_under_way)
            await asyncio.to_thread(register.do, lambda desk: revoke_token(desk, "b6f2", cuts=True, is_foreign=True))
        streamed = streaming.result()
        assert streamed.kinds[-1] == "error"
        assert "was revoked while this answer was under way" in streamed.error.error_message
        with pytest.raises(grpc.aio.AioRpcError, match="was revoked on"):
            await client.info(bearing())
