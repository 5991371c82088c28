"""Who may call over gRPC, and the exact reason for who may not."""

import grpc
import grpc.aio
import pytest

from support.clients import settings
from support.fake_provider import FakeProvider
from support.serving import KEY, Running, Serving
from support.tokens import SECRET, signed
from support.vibectl_client import PATH, Metadata, VibectlClient, calling, prompt
from tollhouse.server.grpc.door import peer_address

METHODS = ("Execute", "StreamExecute", "GetServerInfo")


async def call(client: VibectlClient, method: str, metadata: Metadata) -> None:
    if method == "Execute":
        await client.execute(prompt(), metadata)
    elif method == "StreamExecute":
        await client.stream(prompt(), metadata)
    else:
        await client.info(metadata)


async def refused(gateway: Running, method: str, metadata: Metadata) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """The status, its words and the trailing metadata of a call that must not get through."""
    async with calling(gateway) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(client, method, metadata)
    error = caught.value
    return error.code(), error.details() or "", {str(k): str(v) for k, v in error.trailing_metadata() or ()}


def bearing(credential: str) -> Metadata:
    return (("authorization", credential),)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("metadata", "code", "words"),
    [
        ((), "credential_missing", "carries no key"),
        (bearing(KEY), "unauthenticated", "malformed"),
        (bearing("Basic dXNlcjpwYXNz"), "unauthenticated", "malformed"),
        (bearing("Bearer "), "unauthenticated", "malformed"),
        (bearing("Bearer somebody-elses"), "unauthenticated", "not known here"),
    ],
    ids=["missing", "no scheme", "other scheme", "empty", "unknown"],
)
async def test_a_caller_that_is_nobody_is_told_why(
    serving: Serving, fake_provider: FakeProvider, metadata: Metadata, code: str, words: str, method: str
):
    gateway = await serving(settings(fake_provider))
    status, details, trailing = await refused(gateway, method, metadata)
    assert status == grpc.StatusCode.UNAUTHENTICATED
    assert words in details
    assert "somebody-elses" not in details
    assert trailing["x-tollhouse-code"] == code
    assert trailing["x-request-id"].startswith("req_")
    assert not fake_provider.calls


async def test_every_fault_of_a_token_is_told_apart(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + f"\nauth: {{jwt: {{secret: {SECRET}, issuer: vibectl-server}}}}")
    good = {"sub": "ann", "iss": "vibectl-server", "iat": 1, "exp": 4_000_000_000, "jti": "b6f2"}
    faults = {
        "token_expired": signed({**good, "exp": 2}),
        "token_wrong_issuer": signed({**good, "iss": "somebody"}),
        "token_bad_signature": signed(good, SECRET[::-1]),
        "token_malformed": signed(good)[:-30].replace(".", " "),
        "token_incomplete": signed({name: value for name, value in good.items() if name != "exp"}),
    }
    for code, token in faults.items():
        status, details, trailing = await refused(gateway, "Execute", bearing(f"Bearer {token}"))
        assert status == grpc.StatusCode.UNAUTHENTICATED
        assert trailing["x-tollhouse-code"] == code
        assert token not in details
    async with calling(gateway) as client:
        await client.execute(prompt(), bearing(f"Bearer {signed(good)}"))
    assert gateway.rows()[0]["key"] == "subject:ann"


async def test_nothing_is_taken_in_of_who_is_nobody(serving: Serving, fake_provider: FakeProvider):
    """The answer comes while the client has sent no message yet: of 32 MiB of it, nothing would be read."""
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        rpc: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = client.channel.stream_unary(PATH + "Execute")
        call = rpc(metadata=bearing("Bearer somebody-elses"), timeout=60)
        assert await call.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_call_without_a_request_is_broken_off(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        rpc: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = client.channel.stream_unary(PATH + "Execute")
        call = rpc(metadata=bearing(f"Bearer {KEY}"), timeout=60)
        await call.done_writing()
        assert await call.code() != grpc.StatusCode.OK
    assert not fake_provider.calls


@pytest.mark.parametrize("credential", [f"Bearer {KEY}", f"bearer {KEY}"])
async def test_a_known_key_gets_in(serving: Serving, fake_provider: FakeProvider, credential: str):
    gateway = await serving(settings(fake_provider))
    async with calling(gateway) as client:
        for method in METHODS:
            await call(client, method, bearing(credential))
    assert [row["key"] for row in gateway.rows()] == ["test", "test"]


async def test_an_open_gateway_lets_anybody_in(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + "\nauth: {open: true}")
    async with calling(gateway) as client:
        await client.execute(prompt(), ())
    assert gateway.rows()[0]["key"] == "anonymous"


@pytest.mark.parametrize("method", METHODS)
async def test_a_key_that_is_bound_to_other_addresses_is_denied(
    serving: Serving, fake_provider: FakeProvider, method: str
):
    gateway = await serving(
        settings(fake_provider) + f"\nauth: {{keys: [{{name: test, key: {KEY}, ip_ranges: [10.0.0.0/8]}}]}}"
    )
    status, details, trailing = await refused(gateway, method, bearing(f"Bearer {KEY}"))
    assert status == grpc.StatusCode.PERMISSION_DENIED
    assert "127.0.0.1" in details
    assert trailing["x-tollhouse-code"] == "address_not_allowed"


async def test_a_trusted_proxy_says_who_the_caller_is(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        f"server: {{trusted_proxies: [127.0.0.0/8]}}\n{settings(fake_provider)}"
        f"\nauth: {{keys: [{{name: test, key: {KEY}, ip_ranges: [10.0.0.0/8]}}]}}"
    )
    async with calling(gateway) as client:
        await client.info((*bearing(f"Bearer {KEY}"), ("x-forwarded-for", "10.1.2.3")))


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:54321", "127.0.0.1"),
        ("ipv6:%5B::1%5D:54321", "::1"),
        ("ipv6:[2001:db8::7]:443", "2001:db8::7"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:80", "192.0.2.1"),
        ("unix:/run/tollhouse.sock", ""),
        ("unix:", ""),
        ("ipv4:nonsense", ""),
        ("", ""),
    ],
)
def test_what_is_read_of_a_peer(peer: str, address: str):
    assert peer_address(peer) == address
