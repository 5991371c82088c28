"""Addresses and deadlines of the shared store, clusters, and what a server says about itself."""

import asyncio
import time

import pytest

from support.claims import claim_of
from support.valkey import Server, cluster, valkey, valkey_server
from tollhouse.errors import ConfigError, StoreUnavailable
from tollhouse.policy.counters import Placed, Seats
from tollhouse.policy.valkey import ValkeySettings, open_counters
from tollhouse.policy.valkey.store import complaints
from tollhouse.policy.valkey.wire import MAX_EXTENSIONS, SLOW_SECONDS, Address, Patience, Wire, address_of

__all__ = ["valkey", "valkey_server"]

SECRET = "hunter2-with@sign"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1", "redis://127.0.0.1:6379/0"),
        ("valkey://store:7000/3", "redis://store:7000/3"),
        ("rediss://store/", "rediss://store:6379/0"),
        ("valkeys://user:pass@store:1/15", "rediss://store:1/15"),
        ("redis://:p%40ss@[::1]:7000", "redis://[::1]:7000/0"),
    ],
)
def test_an_address_is_read_and_shown_without_credentials(url: str, shown: str):
    address = address_of(url)
    assert str(address) == repr(address) == shown


def test_credentials_are_unquoted():
    assert address_of("redis://us%2Fer:p%40ss%3Aword@store") == Address("store", 6379, 0, False, "us/er", "p@ss:word")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://user:hunter2@store",
        "redis://",
        "redis://user:hunter2@store:port",
        "redis://user:hunter2@store:99999",
        "redis://user:hunter2@store/zero",
        "redis://user:hunter2@store?db=3",
        "redis://user:hunter2@[::1",
        "unix:///run/redis.sock",
    ],
)
def test_what_is_no_address_is_refused_without_showing_it(url: str):
    with pytest.raises(ConfigError) as refused:
        address_of(url)
    assert "`state.url`" in str(refused.value) or "`state.url`" in refused.value.problems[0]
    assert "hunter2" not in str(refused.value)


async def test_a_password_is_used_and_never_shown(valkey: Server):
    # The rights that docs/shared-state.md names.
    rights = "resetkeys ~tollhouse:* -@all +@read +@write +@scripting +@connection +select +info +time"
    valkey.client.execute_command("ACL SETUSER", "guest", "on", f">{SECRET}", *rights.split())
    quoted = SECRET.replace("@", "%40")
    known = await open_counters(ValkeySettings(url=f"redis://guest:{quoted}@127.0.0.1:{valkey.port}/1"))
    assert isinstance(await known.place(claim_of(id="a", began_at_us=1)), Placed)
    assert list(await known.orphans()) == []
    assert list(await known.check()) == []
    await known.aclose()

    wrong = ValkeySettings(url=f"redis://guest:{quoted}x@127.0.0.1:{valkey.port}")
    assert SECRET not in repr(wrong)
    unknown = await open_counters(wrong)
    with pytest.raises(StoreUnavailable) as refused:
        await unknown.place(claim_of(id="b", began_at_us=1))
    assert "invalid username-password" in str(refused.value)
    assert SECRET not in str(refused.value)
    await unknown.aclose()
    valkey.client.acl_deluser("guest")


async def test_nobody_listening_is_told_at_once():
    with pytest.raises(StoreUnavailable, match=r"redis://127\.0\.0\.1:1/0 cannot be reached"):
        await Wire.connect(address_of("redis://127.0.0.1:1"), timeout_seconds=5)


async def test_a_server_that_only_accepts_fails_in_bounded_time():
    is_over = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        is_over.set()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(10):
        with pytest.raises(StoreUnavailable, match="does not answer in time"):
            await Wire.connect(address_of(f"redis://user:pass@127.0.0.1:{port}"), timeout_seconds=0.1)
        await is_over.wait()


async def test_a_process_that_stood_still_gives_the_answer_its_time_again():
    async with Patience(0.02):
        await asyncio.sleep(0)
        time.sleep(0.02 + 2 * SLOW_SECONDS)  # noqa: ASYNC251 - stands still
        for _ in range(5):  # turns that it takes to read what has come meanwhile
            await asyncio.sleep(0)


async def test_patience_ends():
    async def wait_for_ever() -> None:
        async with Patience(0.001):
            for _ in range(MAX_EXTENSIONS + 1):
                time.sleep(0.001 + 2 * SLOW_SECONDS)  # noqa: ASYNC251
                await asyncio.sleep(0)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait_for_ever()


def test_what_a_server_says_about_itself_is_judged():
    good = "redis_version:7.2.4\r\nvalkey_version:8.1.8\r\nmaxmemory_policy:noeviction\r\n"
    assert list(complaints(good)) == []
    assert list(complaints("redis_version:6.2.5\r\nmaxmemory_policy:noeviction\r\n")) == []
    [old] = complaints("redis_version:6.0.16\r\nmaxmemory_policy:noeviction\r\n")
    assert "6.0.16" in old
    [evicting] = complaints("redis_version:7.2.4\r\nmaxmemory_policy:volatile-ttl\r\n")
    assert "volatile-ttl" in evicting


async def test_a_node_of_a_cluster_that_has_not_our_keys_names_the_one_that_has():
    with cluster() as (owner, other):
        counters = await open_counters(ValkeySettings(url=other.url, connect_seconds=10, call_seconds=10))
        try:
            one = Seats("one", 1)
            assert isinstance(await counters.place(claim_of(id="a", began_at_us=1, seats=(one,))), Placed)
            assert len(owner.client.keys("tollhouse:*")) > 0
            assert len(other.client.keys("*")) == 0
        finally:
            await counters.aclose()
