"""Every wait for a provider has a deadline, and the client is told which one it was.

The deadlines are short, and nothing is measured: a provider that is silent is so for good, so there is only one way to end.
"""

import socket
from collections.abc import Iterator

import pytest

from support.clients import CLIENTS, LANES, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Failure, Stall, faulty, words
from support.serving import Serving

pytestmark = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""
ONCE = "\nretry: {max_attempts: 1}"


@pytest.fixture
def full() -> Iterator[str]:
    """An address whose connections are never accepted: the queue of a listening socket is filled, and nobody empties it."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        for _ in range(16):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
            waiting.append(client)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        for client in waiting:
            client.close()


@pytest.mark.parametrize("lane", LANES, ids="-to-".join)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_provider_that_says_nothing_is_a_504_that_names_the_first_byte(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str], stream: bool
):
    fake_provider.default = faulty(Answer(), Stall("before_head"))
    gateway = await serving(settings(fake_provider) + ONCE + "\ndeadlines: {first_byte: 200ms}")
    asks = CLIENTS[lane[0]]
    answer = await gateway.ask(asks.path, asks.question(f"to-{lane[1]}", stream=stream))
    said = asks.read_whole(answer.body)
    assert answer.status == 504
    assert said.error_type == {"openai": "server_error", "anthropic": "timeout_error"}[lane[0]]
    assert said.error is not None
    assert "deadlines.first_byte" in said.error
    (row,) = gateway.rows()
    assert (row["outcome"], row["status"], row["usage_source"]) == ("provider_timeout", 504, "estimated")
    assert row["input_tokens"] > 0, "what was sent may have been read, and billed"
    await fake_provider.calls[0].client_left.wait()


@pytest.mark.parametrize("lane", LANES, ids="-to-".join)
async def test_a_stream_that_stops_coming_ends_with_an_error_event_that_names_the_wait(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str]
):
    fake_provider.default = faulty(Answer(text=words(9)), Stall(6))
    gateway = await serving(settings(fake_provider) + ONCE + "\ndeadlines: {between_chunks: 200ms}")
    asks = CLIENTS[lane[0]]
    answer = await gateway.ask(asks.path, asks.question(f"to-{lane[1]}", stream=True))
    said = asks.read(answer.body)
    assert answer.status == 200
    assert said.is_broken
    assert said.error is not None
    assert "deadlines.between_chunks" in said.error
    assert words(9).startswith(said.text)
    (row,) = gateway.rows()
    assert (row["outcome"], row["status"]) == ("provider_timeout", 200)
    await fake_provider.calls[0].client_left.wait()


@pytest.mark.parametrize("client", list(CLIENTS))
async def test_half_a_body_is_a_504_that_names_the_wait(serving: Serving, fake_provider: FakeProvider, client: str):
    fake_provider.default = faulty(Answer(text=words(9)), Stall(0))
    gateway = await serving(settings(fake_provider) + ONCE + "\ndeadlines: {between_chunks: 200ms}")
    asks = CLIENTS[client]
    answer = await gateway.ask(asks.path, asks.question("to-openai"))
    assert answer.status == 504
    assert "deadlines.between_chunks" in (asks.read_whole(answer.body).error or "")


@pytest.mark.parametrize("client", list(CLIENTS))
async def test_a_stream_that_is_not_over_in_time_is_ended_by_the_total(
    serving: Serving, fake_provider: FakeProvider, client: str
):
    fake_provider.default = faulty(Answer(text=words(9)), Stall(6))
    gateway = await serving(settings(fake_provider) + ONCE + "\ndeadlines: {total: 1s}")
    asks = CLIENTS[client]
    answer = await gateway.ask(asks.path, asks.question("to-anthropic", stream=True))
    said = asks.read(answer.body)
    assert said.is_broken
    assert said.error is not None
    assert "deadlines.total" in said.error
    (row,) = gateway.rows()
    assert (row["outcome"], row["usage_source"]) == ("provider_timeout", "rebuilt")


async def test_the_total_holds_over_all_attempts_and_waits(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = Failure(status=503)
    retry = "{max_attempts: 20, backoff_base: 200ms, backoff_cap: 200ms}"
    gateway = await serving(settings(fake_provider) + f"\nretry: {retry}\ndeadlines: {{total: 300ms}}")
    asks = CLIENTS["openai"]
    answer = await gateway.ask(asks.path, asks.question("to-openai"))
    assert answer.status == 503, "the last word of the provider, not a time-out of ours"
    assert len(fake_provider.calls) < 20


@pytest.mark.parametrize("client", list(CLIENTS))
async def test_a_connection_that_is_never_accepted_is_a_504_that_names_it(serving: Serving, full: str, client: str):
    gateway = await serving(
        f"providers: {{lab: {{type: openai-compatible, base_url: '{full}/v1', api_key: x}}}}{ONCE}\n"
        "deadlines: {connect: 200ms}"
    )
    asks = CLIENTS[client]
    answer = await gateway.ask(asks.path, asks.question("lab/m"))
    assert answer.status == 504
    assert "deadlines.connect" in (asks.read_whole(answer.body).error or "")
    assert gateway.rows() == [], "nothing was sent, so nothing is owed"


async def test_a_providers_own_deadline_goes_before_the_general_one(serving: Serving, fake_provider: FakeProvider):
    fake_provider.default = faulty(Answer(), Stall("before_head"))
    gateway = await serving(
        f"providers: {{lab: {{type: openai-compatible, base_url: '{fake_provider.url}/v1', api_key: x, "
        f"deadlines: {{first_byte: 100ms}}}}}}{ONCE}\ndeadlines: {{first_byte: 1h}}"
    )
    asks = CLIENTS["anthropic"]
    assert (await gateway.ask(asks.path, asks.question("lab/m"))).status == 504
