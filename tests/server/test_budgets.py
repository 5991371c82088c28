"""Budgets as clients meet them: nothing is sent that could exceed one, and the purse is what the ledger adds up to."""

import asyncio
import itertools
import re
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import pytest

from support.clients import CLIENTS, LANES, PROVIDERS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Cut, ErrorAfter, Failure, Raw, Reply, Reset, Stall, Tokens, faulty, words
from support.peer import Peer, answering, response
from support.serving import Answer as Told
from support.serving import Running, Serving
from tollhouse.errors import ProviderError
from tollhouse.policy.counters import PurseState

pytestmark = pytest.mark.parametrize("server", ["own"])
"""What these tests look at does not depend on the server."""
PRICES = "\nprices: {openai/*: RATES, anthropic/*: RATES, openai-compatible/*: RATES}".replace(
    "RATES", "{input: 1, output: 2}"
)
"""1,000 nano-USD for a token of input, 2,000 for one of output."""
COST = 10 * 1_000 + 8 * 2_000
"""What the fake provider's usual answer costs."""
ASKED = 100
"""Output tokens that a call asks for, if nothing else is said."""
ONCE = "\nretry: {max_attempts: 1}"


async def ask(
    gateway: Running, model: str = "to-openai", client: str = "openai", *, stream: bool = False, tokens: int = ASKED
) -> Told:
    asks = CLIENTS[client]
    return await gateway.ask(asks.path, asks.question(model, stream=stream, max_tokens=tokens))


def question(client: str = "openai", *, tokens: int = ASKED, stream: bool = False) -> int:
    """What a usual call can cost at worst, about, from below: its output, and half a token for each byte."""
    return len(msgspec.json.encode(CLIENTS[client].question("to-openai", stream=stream))) * 500 + tokens * 2_000


async def purse(gateway: Running, name: str = "global/total/ever") -> PurseState:
    (found,) = await gateway.worker.stores.counters.purses([name])
    return found


async def until(fact: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await fact():  # noqa: ASYNC110  # counters have no event to wait on
            await asyncio.sleep(0.01)


async def at_rest(gateway: Running, name: str = "global/total/ever") -> PurseState:
    """The purse once nothing is held in it."""

    async def is_empty() -> bool:
        return (await purse(gateway, name)).held_nano == 0

    await until(is_empty)
    return await purse(gateway, name)


def booked(gateway: Running) -> int:
    """What the ledger adds up to."""
    return sum(row["cost_nano"] or 0 for row in gateway.rows())


# ---------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("lane", LANES, ids="-to-".join)
async def test_what_could_exceed_a_budget_is_refused_before_it_is_sent(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str], stream: bool
):
    limit = question() + COST + 60_000
    gateway = await serving(settings(fake_provider) + PRICES + f"\nbudgets: {{total: {limit / 1e9:.9f}}}")
    client, model = lane[0], f"to-{lane[1]}"
    answers = [await ask(gateway, model, client, stream=stream) for _ in range(5)]
    let_in = [answer.status for answer in answers].index(402)
    assert 1 <= let_in <= 4
    assert {answer.status for answer in answers[let_in:]} == {402}
    assert len(fake_provider.calls) == len(gateway.rows()) == let_in
    state = await purse(gateway)
    assert (state.spent_nano, state.held_nano) == (let_in * COST, 0) == (booked(gateway), 0)
    said = CLIENTS[client].read_whole(answers[-1].body)
    assert said.error is not None
    told = re.search(
        r"'global/total' has \$(\d+\.\d+) left of \$(\d+\.\d+), and this call can cost \$(\d+\.\d+)\.", said.error
    )
    assert told is not None
    left, of, needed = (float(part) for part in told.groups())
    assert of == pytest.approx(limit / 1e9, abs=1e-6)
    assert left == pytest.approx((limit - state.spent_nano) / 1e9, abs=1e-6)
    assert left < needed
    assert "never resets" in said.error
    assert "retry-after" not in answers[-1].headers


@pytest.mark.parametrize("client", list(CLIENTS))
async def test_a_refusal_says_when_the_window_ends(serving: Serving, fake_provider: FakeProvider, client: str):
    gateway = await serving(settings(fake_provider) + PRICES + "\nbudgets: {daily: 0.000001}")
    before = time.time()
    refused = await ask(gateway, client=client)
    assert refused.status == 402
    said = CLIENTS[client].read_whole(refused.body)
    assert said.error is not None
    told = re.search(r"It resets at (\S+ 00:00) UTC", said.error)
    assert told is not None
    midnight = datetime.fromisoformat(told[1]).replace(tzinfo=UTC).timestamp()
    # A day may have begun while it was asked.
    assert 0 < midnight - before <= 2 * 86_400
    assert abs(int(refused.headers["retry-after"]) - (midnight - before)) < 60
    assert fake_provider.calls == []


@pytest.mark.parametrize(
    "budget",
    [
        "[{scope: 'key:test', total: AMOUNT}]",
        "[{scope: 'provider:openai', total: AMOUNT}]",
        "[{scope: 'model:to-openai', total: AMOUNT}]",
        "[{scope: 'model:openai/gpt-4o-mini', total: AMOUNT}]",
        "[{scope: global, total: 1000}, {scope: 'key:test', total: AMOUNT}]",
    ],
)
async def test_each_scope_has_its_purse(serving: Serving, fake_provider: FakeProvider, budget: str):
    gateway = await serving(
        settings(fake_provider)
        + PRICES
        + "\nbudgets: "
        + budget.replace("AMOUNT", f"{(question() + 60_000) / 1e9:.9f}")
    )
    statuses = [(await ask(gateway)).status for _ in range(5)]
    assert statuses[0] == 200
    assert statuses[-1] == 402
    assert (await ask(gateway, "spare/x")).status == (402 if "key:test" in budget else 200)


async def test_a_keys_own_budget_is_its_alone(serving: Serving, fake_provider: FakeProvider):
    own = "\nauth: {keys: [{name: test, key: th-test-key-0123456789, budget: {total: 0.000001}}, {name: b, key: other-key-9876543210}]}"
    gateway = await serving(settings(fake_provider) + PRICES + own)
    assert (await ask(gateway)).status == 402
    asks = CLIENTS["openai"]
    other = [(b"authorization", b"Bearer other-key-9876543210")]
    assert (await gateway.ask(asks.path, asks.question("to-openai"), headers=other)).status == 200


@pytest.mark.parametrize("client", list(CLIENTS))
async def test_a_model_without_a_price_is_refused_by_a_hard_budget_only(
    serving: Serving, fake_provider: FakeProvider, client: str
):
    gateway = await serving(settings(fake_provider) + "\nbudgets: [{scope: 'key:test', total: 5, mode: soft}]")
    assert (await ask(gateway, "spare/never-heard-of", client)).status == 200
    file = gateway.ledger.parent / "tollhouse.yaml"
    file.write_text(file.read_text().replace("mode: soft", "mode: hard"))
    gateway.worker.reload()
    refused = await ask(gateway, "spare/never-heard-of", client)
    assert refused.status == 402
    error = CLIENTS[client].read_whole(refused.body).error
    assert error is not None
    assert "'spare/never-heard-of'" in error
    assert "key:test/total" in error
    assert len(fake_provider.calls) == len(gateway.rows()) == 1
    assert (await ask(gateway, client=client)).status == 200


async def test_a_default_model_is_paid_from_the_purse_of_what_it_stands_for(
    serving: Serving, fake_provider: FakeProvider
):
    """And from the ledger's sum of it too, which the purse is made from when the gateway begins anew."""
    gateway = await serving(
        settings(fake_provider, default="to-openai") + PRICES + "\nbudgets: [{scope: 'model:to-openai', total: 5}]"
    )
    assert (await ask(gateway, "default")).status == 200
    name = "model:to-openai/total/ever"
    assert (await at_rest(gateway, name)).spent_nano == COST
    await gateway.worker.stores.counters.forget([name])
    assert (await ask(gateway)).status == 200
    assert (await at_rest(gateway, name)).spent_nano == 2 * COST == booked(gateway)


async def test_a_call_beyond_all_counting_is_refused_and_no_error_of_ours(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(
        settings(fake_provider) + PRICES + "\nbudgets: {total: 5}\nlimits: {tokens_per_minute: 100}"
    )
    for tokens in (10**9, 10**15, 2**62):
        assert (await ask(gateway, tokens=tokens)).status == 402
    long_name = "spare/" + "🌉" * 400
    assert (await ask(gateway, long_name)).status in {402, 429, 200}
    assert fake_provider.calls == []


# ------------------------------------------------------------------------------------------------------------ clamped


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("lane", LANES, ids="-to-".join)
async def test_an_answer_is_shortened_to_what_is_left(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str], stream: bool
):
    limit = 300_000
    gateway = await serving(
        settings(fake_provider) + PRICES + f"\nbudgets: {{total: {limit / 1e9:.9f}, clamp_output: true}}"
    )
    client, model = lane[0], f"to-{lane[1]}"
    assert (await ask(gateway, model, client, stream=stream, tokens=5_000)).status == 200
    sent = fake_provider.calls[0].json
    clamped = sent.get("max_completion_tokens") or sent["max_tokens"]
    assert 16 <= clamped <= (limit - 20_000) // 2_000
    assert clamped * 2_000 + len(fake_provider.calls[0].body) * 500 >= limit - 120_000, (
        "and not much shorter than need be"
    )
    assert (await ask(gateway, model, client, stream=stream, tokens=20)).status == 200
    sent = fake_provider.calls[1].json
    assert (sent.get("max_completion_tokens") or sent["max_tokens"]) == 20, "what fits is left as it is"
    assert (await at_rest(gateway)).spent_nano == 2 * COST == booked(gateway)


async def test_what_would_be_cut_to_a_stub_is_refused(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + PRICES + "\nbudgets: {total: 0.00008, clamp_output: true}")
    assert (await ask(gateway, tokens=5_000)).status == 402
    assert fake_provider.calls == []


async def test_several_choices_share_what_is_left(serving: Serving, fake_provider: FakeProvider):
    gateway = await serving(settings(fake_provider) + PRICES + "\nbudgets: {total: 0.0004, clamp_output: true}")
    asks = CLIENTS["openai"]
    await gateway.ask(asks.path, asks.question("to-openai", n=3, max_tokens=5_000))
    sent = fake_provider.calls[0].json
    assert 3 * 16 * 2_000 <= 3 * sent["max_tokens"] * 2_000 <= 400_000


# ------------------------------------------------------------------------------------------------------------- alerts


async def test_a_soft_budget_tells_a_webhook_at_each_fraction_and_refuses_nothing(
    serving: Serving, fake_provider: FakeProvider
):
    async with Peer(answering(response(b"{}"))) as peer:
        budget = f"[{{scope: 'tenant:acme', total: {4 * COST / 1e9:.9f}, mode: soft, alert_at: [0.5, 1.0], webhook: '{peer.url}/x'}}]"
        auth = "\nauth: {keys: [{name: test, key: th-test-key-0123456789, tenant: acme}]}"
        gateway = await serving(settings(fake_provider) + PRICES + auth + f"\nbudgets: {budget}")
        assert [(await ask(gateway)).status for _ in range(6)] == [200] * 6

        async def both_told() -> bool:
            return len(peer.requests) == 2

        await until(both_told)
        told = [msgspec.json.decode(request.body) for request in peer.requests]
        assert [(each["fraction"], each["spent_nano"]) for each in told] == [(0.5, 2 * COST), (1.0, 4 * COST)]
        assert {each["budget"] for each in told} == {"tenant:acme/total"}
        assert not told[0]["hard"]
    assert len(peer.requests) == 2


# ---------------------------------------------------------------------------------------------------------- failover


async def test_another_candidate_is_held_for_too_and_all_is_given_back(serving: Serving, fake_provider: FakeProvider):
    go = asyncio.Event()
    fake_provider.reply_to(PROVIDERS["openai"], Failure(status=500))
    fake_provider.reply_to("second", faulty(Answer(text=words(8)), Stall("before_head", until=go)))
    gateway = await serving(
        settings(fake_provider, both="[openai/gpt-4o-mini, spare/second]")
        + PRICES
        + "\nbudgets: [{scope: global, total: 1}, {scope: 'provider:spare', total: 1}]"
    )
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask(gateway, "both"))
        await fake_provider.call(1)
        spare = (await purse(gateway, "provider:spare/total/ever")).held_nano
        assert spare > ASKED * 2_000
        assert (await purse(gateway)).held_nano == 2 * spare
        go.set()
    assert asking.result().status == 200
    for name in ("global/total/ever", "provider:spare/total/ever"):
        state = await at_rest(gateway, name)
        assert state.spent_nano == COST == booked(gateway)


async def test_a_candidate_that_its_budget_refuses_leaves_the_call_to_the_next(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(
        settings(fake_provider, both="[openai/gpt-4o-mini, spare/second]")
        + PRICES
        + "\nbudgets: [{scope: 'provider:openai', total: 0.000001}, {scope: global, total: 1}]"
    )
    answer = await ask(gateway, "both")
    assert (answer.status, answer.headers["x-tollhouse-model"]) == (200, "spare/second")
    (row,) = gateway.rows()
    assert (row["provider"], row["attempts"], row["cost_nano"]) == ("spare", 1, COST)
    assert (await at_rest(gateway)).spent_nano == COST


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_answer_that_says_no_usage_is_paid_for_all_the_same(
    serving: Serving, fake_provider: FakeProvider, stream: bool
):
    """Or a hard budget could be spent without end where a provider does not report."""
    words_of_it = "word " * 40
    said = {"role": "assistant", "content": words_of_it}
    if stream:
        chunks = [
            {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            for choice in (
                {"index": 0, "delta": said, "finish_reason": None},
                {"index": 0, "delta": {}, "finish_reason": "stop"},
            )
        ]
        body = b"".join(b"data: %b\n\n" % msgspec.json.encode(chunk) for chunk in chunks) + b"data: [DONE]\n\n"
        fake_provider.default = Raw(body=body, content_type="text/event-stream")
    else:
        choice = {"index": 0, "message": said, "finish_reason": "stop"}
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        fake_provider.default = Raw(body=msgspec.json.encode(whole), content_type="application/json")
    gateway = await serving(settings(fake_provider) + PRICES + "\nbudgets: {total: 0.0006}")
    statuses = [(await ask(gateway, stream=stream, tokens=50)).status for _ in range(8)]
    assert statuses[0] == 200
    assert statuses[-1] == 402
    assert all(row["cost_nano"] > 0 and row["usage_source"] in {"estimated", "rebuilt"} for row in gateway.rows())
    assert (await at_rest(gateway)).spent_nano == booked(gateway) <= 600_000


async def test_a_candidate_refused_after_another_failed_is_not_in_the_row(
    serving: Serving, fake_provider: FakeProvider
):
    """What was used was the first one's."""
    gateway = await serving(
        settings(fake_provider, both="[openai/gpt-4o-mini, spare/second]")
        + PRICES
        + ONCE.replace("1", "2")
        + "\nbudgets: [{scope: 'provider:spare', total: 0.000001}]"
    )
    fake_provider.default = faulty(Answer(text="never"), Reset("before_head"))
    assert (await ask(gateway, "both")).status == 402
    (row,) = gateway.rows()
    assert (row["provider"], row["model"]) == ("openai", "gpt-4o-mini")


async def test_the_tightest_of_several_budgets_decides_how_short_an_answer_is(
    serving: Serving, fake_provider: FakeProvider
):
    gateway = await serving(
        settings(fake_provider)
        + PRICES
        + "\nbudgets: [{scope: global, total: 0.0006, clamp_output: true},"
        + " {scope: 'key:test', total: 0.0003, clamp_output: true}]"
    )
    answer = await ask(gateway, tokens=5_000)
    assert answer.status == 200
    assert "lowered to" in answer.headers["x-tollhouse-receipt"]


# --------------------------------------------------------------------------------------- however a call comes to its end


async def leaves_before_the_first_byte(gateway: Running, fake: FakeProvider, client: str) -> None:
    seen = len(fake.calls)
    asks = CLIENTS[client]
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(
            gateway.open(asks.path, asks.question("openai/silent", stream=True, max_tokens=ASKED))
        )
        call = await fake.call(seen)
        assert (await purse(gateway)).held_nano > 0
        asking.cancel()
    await call.client_left.wait()


async def leaves_in_the_middle(gateway: Running, fake: FakeProvider, client: str) -> None:
    asks = CLIENTS[client]
    stream = await gateway.open(asks.path, asks.question("openai/stuck", stream=True, max_tokens=ASKED))
    await stream.read_some()
    assert (await purse(gateway)).held_nano > 0
    stream.close()


async def is_cut(gateway: Running, fake: FakeProvider, client: str) -> None:
    """The gateway ends it: at the end of a drain, or because its key was revoked."""
    del fake
    for cut in (gateway.worker.running.cut, lambda: gateway.worker.running.cut_keys(frozenset({"test"}))):
        asks = CLIENTS[client]
        stream = await gateway.open(asks.path, asks.question("openai/stuck", stream=True, max_tokens=ASKED))
        first = await stream.read_some()
        cut()
        assert asks.read(first + await stream.read_all(1 << 20)).is_broken
        await at_rest(gateway)


def answered(model: str, status: int = 200, *, stream: bool = False) -> "Ending":
    async def ending(gateway: Running, fake: FakeProvider, client: str) -> None:
        del fake
        with suppress(ProviderError):  # a connection that breaks is the cut answer that the test wants
            told = await ask(gateway, f"openai/{model}", client, stream=stream)
            assert told.status == status

    return ending


Ending = Callable[[Running, FakeProvider, str], Awaitable[None]]
ANSWER = Answer(text=words(8))
REPLIES: dict[str, Reply] = {
    "fine": ANSWER,
    "costly": Answer(text=words(8), tokens=Tokens(input=60, cache_read=20, output=90, reasoning=10)),
    "refused": Failure(status=400),
    "failing": Failure(status=500),
    "busy": Failure(status=429),
    "garbled": Raw(body=b"<html>"),
    "cut": faulty(ANSWER, Cut(5)),
    "lost": faulty(ANSWER, Reset("before_head")),
    "broken": faulty(ANSWER, ErrorAfter(4)),
    "silent": faulty(ANSWER, Stall("before_head")),
    "stuck": faulty(ANSWER, Stall(5)),
}
ENDINGS: dict[str, Ending] = {
    "answered": answered("fine"),
    "streamed": answered("fine", stream=True),
    "costly": answered("costly", stream=True),
    "refused": answered("refused", 400),
    "failed": answered("failing", 500, stream=True),
    "busy": answered("busy", 429),
    "garbled": answered("garbled", 502),
    "cut": answered("cut", stream=True),
    "lost": answered("lost", 502),
    "broken": answered("broken", stream=True),
    "left before the first byte": leaves_before_the_first_byte,
    "left in the middle": leaves_in_the_middle,
    "cut by the gateway": is_cut,
    "not found": answered("", 404),
}


@pytest.mark.parametrize("client", list(CLIENTS))
@pytest.mark.parametrize("kind", list(ENDINGS))
async def test_nothing_stays_held_and_the_purse_is_what_the_ledger_adds_up_to(
    serving: Serving, fake_provider: FakeProvider, client: str, kind: str
):
    for model, reply in REPLIES.items():
        fake_provider.reply_to(model, reply)
    gateway = await serving(
        settings(fake_provider)
        + PRICES
        + "\nbudgets: [{scope: global, total: 1}, {scope: 'provider:openai', total: 1, mode: soft}]"
        + "\nlimits: {concurrent: 1, tokens_per_minute: 1000000}"
        + ONCE
    )
    assert (await ask(gateway)).status == 200
    await ENDINGS[kind](gateway, fake_provider, client)
    state = await at_rest(gateway)
    await gateway.worker.stores.books.flush()
    if kind != "lost":  # a request on a used connection that closes is sent once more
        assert len(gateway.rows()) == len(fake_provider.calls)
    assert state.spent_nano == booked(gateway)
    assert (await at_rest(gateway, "provider:openai/total/ever/soft")).spent_nano == booked(gateway)
    if kind != "cut by the gateway":
        assert (await ask(gateway)).status == 200, "its seat is free"


async def test_a_call_that_reaches_nobody_costs_nothing_and_leaves_nothing_held(
    serving: Serving, fake_provider: FakeProvider
):
    with socket.socket() as closed:  # the port is held, and nobody listens
        closed.bind(("127.0.0.1", 0))
        away = (
            f"away: {{type: openai-compatible, base_url: 'http://127.0.0.1:{closed.getsockname()[1]}/v1', api_key: x}}"
        )
        gateway = await serving(
            settings(fake_provider).replace("spare: ", f"{away}, spare: ", 1)
            + PRICES
            + "\nbudgets: {total: 1}\nlimits: {concurrent: 1}"
            + ONCE
        )
        for client, stream in itertools.product(CLIENTS, (False, True)):
            assert (await ask(gateway, "away/x", client, stream=stream)).status == 502
    assert (await at_rest(gateway)).spent_nano == 0
    assert gateway.rows() == []
    assert (await ask(gateway)).status == 200, "the seat is free"


@pytest.mark.parametrize("phase", ["first_byte", "between_chunks"])
async def test_a_provider_that_takes_too_long_leaves_nothing_held(
    serving: Serving, fake_provider: FakeProvider, phase: str
):
    stall = "before_head" if phase == "first_byte" else 5
    fake_provider.default = faulty(ANSWER, Stall(stall))  # type: ignore[arg-type]  # both are positions
    gateway = await serving(
        settings(fake_provider, deadlines=f"{{{phase}: 30ms}}") + PRICES + "\nbudgets: {total: 1}" + ONCE
    )
    for _ in range(2):
        with suppress(ProviderError):
            await ask(gateway, stream=True)
    state = await at_rest(gateway)
    assert state.spent_nano == booked(gateway) > 0
    assert [row["outcome"] for row in gateway.rows()] == ["provider_timeout"] * 2
