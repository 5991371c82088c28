"""Rate limits as clients meet them: so many are let through and no more, and the others are told when to come again."""

import asyncio
from pathlib import Path

import pytest

from support.clients import CLIENTS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Failure, Stall, Tokens, faulty, words
from support.serving import KEY, Running, Serving
from support.serving import Answer as Told

pytestmark = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""
AUTH = f"\nauth: {{keys: [{{name: test, key: {KEY}, tenant: research, project: search OWN}}]}}"
TWO = "{requests_per_minute: 2}"


def keyed(own: str = "") -> str:
    """The test's key, in a project of a tenant."""
    return AUTH.replace(" OWN", f", {own}" if own else "")


async def ask(gateway: Running, model: str = "to-openai", client: str = "openai", *, stream: bool = False) -> Told:
    asks = CLIENTS[client]
    return await gateway.ask(asks.path, asks.question(model, stream=stream))


def refusal(told: Told, client: str) -> tuple[str, str]:
    """Its words and its kind, as the client's dialect has them."""
    said = CLIENTS[client].read_whole(told.body)
    assert said.error is not None
    assert said.error_type is not None
    return said.error, said.error_type


# ------------------------------------------------------------------------------------------------- whose limit it is


@pytest.mark.parametrize(
    ("limits", "own", "name"),
    [
        ("requests_per_minute: 2", "", "requests/global"),
        (f"per_key: {TWO}", "", "requests/key:test"),
        (f"per_tenant: {TWO}", "", "requests/tenant:research"),
        (f"per_ip: {TWO}", "", "requests/ip:127.0.0.1"),
        ("requests_per_minute: 500", f"limits: {TWO}", "requests/key:test"),
        ("scopes: [{scope: 'tenant:research', requests_per_minute: 2}]", "", "requests/tenant:research"),
        (
            "scopes: [{scope: 'project:research/search', requests_per_minute: 2}]",
            "",
            "requests/project:research/search",
        ),
        ("scopes: [{scope: 'provider:openai', requests_per_minute: 2}]", "", "requests/provider:openai"),
        ("scopes: [{scope: 'model:to-openai', requests_per_minute: 2}]", "", "requests/model:to-openai"),
        (
            "scopes: [{scope: 'model:openai/gpt-4o-mini', requests_per_minute: 2}]",
            "",
            "requests/model:openai/gpt-4o-mini",
        ),
        ("per_key: {requests_per_minute: 2}, requests_per_minute: 3", "", "requests/key:test"),
    ],
)
async def test_two_a_minute_are_two_and_the_third_is_told_when_to_come(
    serving: Serving, fake_provider: FakeProvider, limits: str, own: str, name: str
):
    gateway = await serving(settings(fake_provider) + keyed(own) + f"\nlimits: {{{limits}}}")
    answers = [await ask(gateway, client=client) for client in ("openai", "anthropic")]
    assert [answer.status for answer in answers] == [200, 200]
    for client in CLIENTS:
        told = await ask(gateway, client=client)
        assert told.status == 429
        words, kind = refusal(told, client)
        assert f"2 requests a minute are used up (limit '{name}')" in words
        assert kind in {"rate_limit_error", "rate_limit_exceeded", "requests"}
        assert 1 <= int(told.headers["retry-after"]) <= 30
    assert len(fake_provider.calls) == 2
    assert len(gateway.rows()) == 2, "what reached nobody has no row"


async def test_who_asks_for_another_model_is_not_held_up_by_the_limit_of_this_one(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(
        settings(fake_provider) + "\nlimits: {scopes: [{scope: 'model:to-openai', requests_per_minute: 1}]}"
    )
    statuses = [(await ask(gateway, f"to-{name}")).status for name in ("openai", "openai", "anthropic", "anthropic")]
    assert statuses == [200, 429, 200, 200]


async def test_a_call_refused_by_one_limit_takes_nothing_from_the_others(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        settings(fake_provider)
        + "\nlimits: {requests_per_minute: 3, scopes: [{scope: 'model:to-openai', requests_per_minute: 1}]}"
    )
    statuses = [(await ask(gateway, "to-openai")).status for _ in range(6)]
    assert statuses == [200] + [429] * 5
    assert [(await ask(gateway, "to-anthropic")).status for _ in range(2)] == [200, 200]


async def ask_for(gateway: Running, *forwarded: str) -> int:
    """The status of a call that came through a proxy, which wrote these fields."""
    asks = CLIENTS["openai"]
    headers = [
        (b"authorization", b"Bearer " + KEY.encode()),
        *((b"X-Forwarded-For", each.encode()) for each in forwarded),
    ]
    return (await gateway.ask(asks.path, asks.question("to-openai"), headers=headers)).status


async def test_behind_a_trusted_proxy_each_caller_has_its_own_limit(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        settings(fake_provider)
        + "\nserver: {trusted_proxies: ['127.0.0.0/8', '10.0.0.0/8']}"
        + f"\nlimits: {{per_ip: {TWO}}}"
    )
    assert [await ask_for(gateway, "192.0.2.1") for _ in range(3)] == [200, 200, 429]
    assert [await ask_for(gateway, "198.51.100.9, 192.0.2.1, 10.0.0.3") for _ in range(2)] == [429, 429], (
        "whatever it adds"
    )
    assert await ask_for(gateway, "192.0.2.1", "192.0.2.2") == 200
    assert [await ask_for(gateway, f"2001:db8::{n}") for n in range(3)] == [200, 200, 429], "one host has all of a /64"
    assert await ask_for(gateway, "2001:db8:0:1::1") == 200
    assert [await ask_for(gateway) for _ in range(3)] == [200, 200, 429], "the proxy itself"


async def test_whoever_is_no_trusted_proxy_cannot_choose_whose_limit_it_meets(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(
        settings(fake_provider) + "\nserver: {trusted_proxies: ['10.0.0.0/8']}" + f"\nlimits: {{per_ip: {TWO}}}"
    )
    assert [await ask_for(gateway, f"192.0.2.{n}") for n in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_key_that_is_bound_to_addresses_is_refused_from_others_and_nothing_is_sent(
    serving: Serving, fake_provider: FakeProvider, client: str
):
    gateway = await serving(
        settings(fake_provider)
        + keyed("ip_ranges: ['192.0.2.0/24']")
        + "\nserver: {trusted_proxies: ['127.0.0.0/8'], grpc_port: none}"
    )
    told = await ask(gateway, client=client)
    assert told.status == 403
    assert "may not be used from 127.0.0.1" in refusal(told, client)[0]
    assert [await ask_for(gateway, address) for address in ("198.51.100.1", "192.0.2.1")] == [403, 200]
    assert len(fake_provider.calls) == len(gateway.rows()) == 1


# -------------------------------------------------------------------------------------------------------- the headers


async def test_every_answer_says_how_the_limits_stand_in_the_clients_dialect(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(settings(fake_provider) + "\nlimits: {requests_per_minute: 3, tokens_per_minute: 50000}")
    answer = await ask(gateway, client="openai")
    assert answer.headers["x-ratelimit-limit-requests"] == "3"
    assert answer.headers["x-ratelimit-remaining-requests"] == "2"
    assert answer.headers["x-ratelimit-limit-tokens"] == "50000"
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 50_000
    assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
    answer = await ask(gateway, client="anthropic", stream=True)
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "3"
    assert answer.headers["anthropic-ratelimit-requests-remaining"] == "1"
    assert answer.headers["anthropic-ratelimit-tokens-limit"] == "50000"
    assert answer.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert not any(name.startswith("x-ratelimit") for name in answer.headers)
    await ask(gateway)
    for client, name in (
        ("openai", "x-ratelimit-remaining-requests"),
        ("anthropic", "anthropic-ratelimit-requests-remaining"),
    ):
        refused = await ask(gateway, client=client)
        assert (refused.status, refused.headers[name]) == (429, "0")


async def test_without_limits_nothing_is_said_of_any(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider))
    for client in CLIENTS:
        answer = await ask(gateway, client=client)
        assert not any("ratelimit" in name for name in answer.headers)


# --------------------------------------------------------------------------------------------------- tokens and seats


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_tokens_count_as_the_provider_counted_them(serving: Serving, fake_provider: FakeProvider, stream: bool):
    """Estimated at over 300 each, five calls would be too many at once; they turn out to be of 18."""
    gateway = await serving(settings(fake_provider) + "\nlimits: {tokens_per_minute: 900}")
    for _ in range(5):
        assert (await ask(gateway, stream=stream)).status == 200
    fake_provider.default = Answer(text=words(3), tokens=Tokens(input=2_000, output=700))
    assert (await ask(gateway, stream=stream)).status == 200
    refused = await ask(gateway)
    assert refused.status == 429
    assert "900 tokens a minute are used up (limit 'tokens/global')" in refusal(refused, "openai")[0]
    assert int(refused.headers["retry-after"]) > 60, "it is in debt by more than a minute's worth"


@pytest.mark.parametrize("scope", ["concurrent: 2", "per_key: {concurrent: 2}", "per_ip: {concurrent: 2}"])
async def test_so_many_at_once_and_a_seat_that_was_left_is_free(
    serving: Serving, fake_provider: FakeProvider, scope: str
):
    go = asyncio.Event()
    stalled = faulty(Answer(text=words(6)), Stall(4, until=go))
    fake_provider.reply(stalled, stalled)
    gateway = await serving(settings(fake_provider) + f"\nlimits: {{{scope}}}")
    asks = CLIENTS["openai"]
    streams = [await gateway.open(asks.path, asks.question("to-openai", stream=True)) for _ in range(2)]
    refused = await ask(gateway)
    assert refused.status == 429
    assert "2 calls at a time" in refusal(refused, "openai")[0]
    assert refused.headers["retry-after"] == "1"
    go.set()
    for stream in streams:
        assert asks.read(await stream.read_all(1 << 20)).is_whole
    assert [(await ask(gateway)).status for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize(
    ("reply", "status"),
    [(Failure(status=400), 400), (Failure(status=500), 500), (faulty(Answer(), Stall("before_head")), 504)],
)
async def test_a_call_that_failed_leaves_its_seat(
    serving: Serving, fake_provider: FakeProvider, reply: Failure, status: int
):
    fake_provider.default = reply
    gateway = await serving(
        settings(fake_provider, deadlines="{first_byte: 20ms}") + "\nlimits: {concurrent: 1}\nretry: {max_attempts: 1}"
    )
    assert [(await ask(gateway)).status for _ in range(3)] == [status] * 3


# ------------------------------------------------------------------------------------------------------------ waiting


async def test_a_call_may_wait_for_a_seat_instead(serving: Serving, fake_provider: FakeProvider):
    go = asyncio.Event()
    fake_provider.reply(faulty(Answer(text=words(6)), Stall("before_head", until=go)))
    gateway = await serving(settings(fake_provider) + "\nlimits: {concurrent: 1, max_wait: 60s, max_waiting: 2}")
    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask(gateway))
        await fake_provider.call(0)
        waiting = [group.create_task(ask(gateway)) for _ in range(2)]
        admission = gateway.worker.app.serving.gateway.admission
        async with asyncio.timeout(30):
            while admission._waiting < 2:  # type: ignore[attr-defined]  # noqa: ASYNC110  # nothing else shows who waits
                await asyncio.sleep(0.01)
        refused = await ask(gateway)
        assert refused.status == 429, "and no more wait than may"
        go.set()
    assert [task.result().status for task in (first, *waiting)] == [200] * 3
    assert len(fake_provider.calls) == 3


async def test_a_caller_who_leaves_the_queue_leaves_nothing_behind(serving: Serving, fake_provider: FakeProvider):
    go = asyncio.Event()
    fake_provider.reply(faulty(Answer(text=words(6)), Stall("before_head", until=go)))
    gateway = await serving(settings(fake_provider) + "\nlimits: {concurrent: 1, max_wait: 60s}")
    admission = gateway.worker.app.serving.gateway.admission

    async def wait_until(count: int) -> None:
        async with asyncio.timeout(30):
            while admission._waiting != count:  # type: ignore[attr-defined]  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask(gateway))
        await fake_provider.call(0)
        leaving = group.create_task(ask(gateway))
        await wait_until(1)
        leaving.cancel()
        await wait_until(0)
        go.set()
    assert first.result().status == 200
    assert len(gateway.rows()) == len(fake_provider.calls) == 1


# ----------------------------------------------------------------------------------------------- another may answer


@pytest.mark.parametrize("scope", ["provider:openai", "model:openai/gpt-4o-mini"])
@pytest.mark.parametrize("client", list(CLIENTS))
async def test_a_providers_own_limit_moves_a_call_on_to_the_next_candidate(
    serving: Serving, fake_provider: FakeProvider, scope: str, client: str
):
    gateway = await serving(
        settings(fake_provider, both="[openai/gpt-4o-mini, spare/second]")
        + f"\nlimits: {{scopes: [{{scope: '{scope}', requests_per_minute: 1}}, {{scope: 'provider:spare', requests_per_minute: 2}}]}}"
    )
    answers = [await ask(gateway, "both", client) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    answered = [answer.headers.get("x-tollhouse-model") for answer in answers]
    assert answered == ["openai/gpt-4o-mini", "spare/second", "spare/second", None]
    assert [(row["provider"], row["attempts"]) for row in gateway.rows()] == [("openai", 1), ("spare", 1), ("spare", 1)]


async def test_the_callers_own_limit_does_not(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(
        settings(fake_provider, both="[openai/gpt-4o-mini, spare/second]") + f"\nlimits: {{per_key: {TWO}}}"
    )
    assert [(await ask(gateway, "both")).status for _ in range(3)] == [200, 200, 429]
    assert {row["provider"] for row in gateway.rows()} == {"openai"}


# ------------------------------------------------------------------------------------------------------------- changes


async def test_a_reload_changes_a_limit_and_forgets_nothing(
    serving: Serving, fake_provider: FakeProvider, tmp_path: Path
):
    text = settings(fake_provider) + "\nlimits: {requests_per_minute: 2}"
    gateway = await serving(text)
    assert [(await ask(gateway)).status for _ in range(3)] == [200, 200, 429]
    file = tmp_path / "tollhouse.yaml"
    file.write_text(file.read_text().replace("requests_per_minute: 2", "requests_per_minute: 3"))
    gateway.worker.reload()
    assert (await ask(gateway)).status == 429, "the minute's worth was used up"
    file.write_text(file.read_text().replace("requests_per_minute: 3", "concurrent: 5"))
    gateway.worker.reload()
    assert (await ask(gateway)).status == 200


async def test_a_count_of_tokens_takes_its_turn_too(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + "\nlimits: {requests_per_minute: 2, concurrent: 1}")
    asks = CLIENTS["anthropic"]
    counted = [await gateway.ask("/v1/messages/count_tokens", asks.question("to-anthropic")) for _ in range(3)]
    assert [answer.status for answer in counted] == [200, 200, 429]
    assert (await ask(gateway)).status == 429
