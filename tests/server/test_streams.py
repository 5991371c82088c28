"""A stream never lies: whatever a provider does, a client reads a complete answer or an error, each in its own dialect.

Each fault waits for the test's word (`Stall(…, until=go)`), so that it always comes after the client's first byte: what had
been read before is then kept, and the stream ends with one error event and no end marker.
"""

import asyncio
from collections.abc import Callable

import pytest

from support.clients import CLIENTS, LANES, PROVIDERS, Said, settings
from support.fake_provider import FakeProvider
from support.fake_replies import (
    HTML_PAGE,
    Answer,
    Cut,
    DoubledFinish,
    ErrorAfter,
    Failure,
    Fault,
    Inserted,
    NoDone,
    NoFinish,
    NoUsage,
    Raw,
    Replay,
    Reply,
    Reset,
    Stall,
    Tokens,
    Trickle,
    faulty,
    words,
)
from support.serving import Running, Serving

TEXT = words(8)
ONCE = "\nretry: {max_attempts: 1}"
ON_OWN = pytest.mark.parametrize("server", ["own"])
"""For the wide tables: what they test does not depend on the server."""


async def asked(gateway: Running, lane: tuple[str, str], go: asyncio.Event | None = None) -> tuple[int, Said]:
    """Status and content of a streamed answer; `go` is set once its first bytes are here."""
    client = CLIENTS[lane[0]]
    incoming = await gateway.open(client.path, client.question(f"to-{lane[1]}", stream=True))
    if incoming.status != 200:
        return incoming.status, client.read_whole(await incoming.read_all(1 << 20))
    first = await incoming.read_some()
    if go is not None:
        go.set()
    return 200, client.read(first + await incoming.read_all(1 << 24))


@pytest.mark.parametrize("lane", LANES, ids="-to-".join)
async def test_a_whole_stream_arrives_whole(serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str]):
    fake_provider.default = Answer(text=words(60), tokens=Tokens(input=23, output=60))
    gateway = await serving(settings(fake_provider))
    status, said = await asked(gateway, lane)
    rows = gateway.rows()
    assert status == 200
    assert said.is_whole
    assert said.text == words(60)
    assert said.finish == {"openai": "stop", "anthropic": "end_turn"}[lane[0]]
    assert len(rows) == 1
    row = rows[0]
    assert (row["outcome"], row["status"], row["streamed"]) == ("ok", 200, 1)
    assert row["lane"] == ("same" if lane[0] == lane[1] else "translated")
    assert (row["provider"], row["model"]) == (lane[1], PROVIDERS[lane[1]])
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (23, 60, "reported")
    assert row["finish"] == "stop"
    assert 0 < row["first_byte_us"] <= row["duration_us"]


@pytest.mark.parametrize(
    ("lane", "fault"),
    [
        pytest.param(lane, fault, id=f"{type(fault).__name__} {'-to-'.join(lane)}")
        for lane in LANES
        for fault in (NoDone(), DoubledFinish(), NoUsage(), Trickle())
        if (lane[1], fault) != ("anthropic", DoubledFinish())  # no provider of that dialect was seen to do it
    ],
)
@ON_OWN
async def test_an_answer_that_is_complete_but_oddly_said_ends_cleanly(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str], fault: Fault
):
    fake_provider.default = faulty(Answer(text=TEXT), fault)
    gateway = await serving(settings(fake_provider) + ONCE)
    status, said = await asked(gateway, lane)
    assert status == 200
    assert said.is_whole
    assert said.text == TEXT
    (row,) = gateway.rows()
    assert row["outcome"] == "ok"
    assert row["output_tokens"] == 8 or fault == NoUsage(), "counted from the chunks, if the provider does not say it"
    assert row["usage_source"] == ("rebuilt" if fault == NoUsage() else "reported")


BREAKS: dict[str, tuple[Callable[[asyncio.Event], tuple[Fault, ...]], str]] = {
    "cut in an event": (lambda go: (Cut(5, when=go),), "provider_truncated"),
    "reset": (lambda go: (Reset(5, when=go),), "provider_truncated"),
    "broken JSON": (lambda go: (Inserted.broken_json(5), Stall(5, until=go)), "provider_malformed"),
    "garbage": (lambda go: (Inserted.garbage(5), Stall(5, until=go)), "provider_malformed"),
    "an oversized event": (
        lambda go: (Inserted.oversized(5, 5_000_000), Stall(5, until=go)),
        "provider_answer_too_large",
    ),
    "no finish": (lambda go: (NoFinish(), NoDone(), Stall(5, until=go)), "provider_truncated"),
    "no finish but an end marker": (lambda go: (NoFinish(), Stall(5, until=go)), "provider_truncated"),
    "an error event": (lambda go: (ErrorAfter(5), Stall(5, until=go)), "provider_stream_error"),
    "silence": (lambda _: (Stall(5),), "provider_timeout"),
}


@pytest.mark.parametrize(
    ("lane", "name"),
    [
        pytest.param(lane, name, id=f"{name} {'-to-'.join(lane)}")
        for lane in LANES
        for name in BREAKS
        # Anthropic's `message_stop` itself says that the answer is whole.
        if (lane[1], name) != ("anthropic", "no finish but an end marker")
    ],
)
@ON_OWN
async def test_a_stream_that_breaks_after_its_first_byte_ends_with_an_error_event(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str], name: str
):
    faults, outcome = BREAKS[name]
    go = asyncio.Event()
    fake_provider.default = faulty(Answer(text=TEXT), *faults(go))
    deadlines = "{between_chunks: 400ms}" if name == "silence" else "{}"
    gateway = await serving(settings(fake_provider, deadlines=deadlines))
    status, said = await asked(gateway, lane, go)
    assert status == 200
    assert said.is_broken
    assert said.text
    assert TEXT.startswith(said.text)
    assert len(fake_provider.calls) == 1, "after the first byte nobody else may answer"
    (row,) = gateway.rows()
    assert (row["outcome"], row["status"], row["usage_source"]) == (outcome, 200, "rebuilt")
    assert row["output_tokens"] > 0
    assert row["input_tokens"] > 0
    assert row["attempts"] == 1


NO_EVENTS: dict[str, Reply] = {
    "an HTML page": HTML_PAGE,
    "an HTML page with status 200": Raw(content_type="text/html", body=HTML_PAGE.body),
    "an HTML page called events": Raw(content_type="text/event-stream", body=HTML_PAGE.body),
    "nothing": Raw(content_type="text/event-stream", body=b""),
    "nothing called JSON": Raw(body=b""),
    "garbage": Raw(content_type="text/event-stream", body=bytes(range(256)) + b"\n\n"),
    "garbage of no type": Raw(content_type=None, body=bytes(range(256))),
    "broken JSON": Raw(body=b'{"id":"chatcmpl-1","choices":[{"index":0,"mess'),
    "JSON of something else": Raw(body=b'{"hello":"world"}'),
    "an error in a 200 body": Failure(status=500, in_ok_body=True),
    "an error event first": faulty(Answer(text=TEXT), ErrorAfter(0)),
    "broken JSON first": faulty(Answer(text=TEXT), Inserted.broken_json(0)),
    "a cut in the head": faulty(Answer(text=TEXT), Cut("in_head")),
    "a reset before the head": faulty(Answer(text=TEXT), Reset("before_head")),
    "a cut in the first event": faulty(Answer(text=TEXT), Cut(0)),
    "comments and an error": Replay(name="openrouter/openrouter-chat-stream-error-in-stream-322572"),
    "a greeting and an error": faulty(Answer(text=TEXT), ErrorAfter(1)),
    "a greeting and a cut": faulty(Answer(text=TEXT), Cut(1)),
    "silence before the first event": faulty(Answer(text=TEXT), Stall(0)),
}


@pytest.mark.parametrize("name", NO_EVENTS)
@ON_OWN
async def test_before_the_first_byte_the_next_candidate_takes_over_and_nothing_is_doubled(
    serving: Serving, fake_provider: FakeProvider, name: str
):
    for model in PROVIDERS.values():
        fake_provider.reply_to(model, NO_EVENTS[name])
    fake_provider.reply_to("second", Answer(text=TEXT))
    both = {f"from_{name}": f"[{name}/{model}, spare/second]" for name, model in PROVIDERS.items()}
    gateway = await serving(settings(fake_provider, deadlines="{between_chunks: 300ms}", **both))
    for client, provider in LANES:
        asks = CLIENTS[client]
        answer = await gateway.ask(asks.path, asks.question(f"from-{provider}", stream=True))
        said = asks.read(answer.body)
        assert (answer.status, said.is_whole, said.text) == (200, True, TEXT), (client, provider, answer.body)
        assert answer.headers["x-tollhouse-model"] == "spare/second"
        row = gateway.rows()[-1]
        assert (row["outcome"], row["attempts"], row["model"]) == ("ok", 2, "second")
    assert len(gateway.rows()) == 4
    assert sum(call.model == "second" for call in fake_provider.calls) == 4


@pytest.mark.parametrize("dialect", PROVIDERS)
@ON_OWN
async def test_comments_before_an_answer_are_not_held_without_bound(
    serving: Serving, fake_provider: FakeProvider, dialect: str
):
    """The head comes while the provider is still waiting to say something, and the client keeps its connection open."""
    go = asyncio.Event()
    comments = Inserted(1, b": still at it\n\n" * 6_000)
    fake_provider.default = faulty(Answer(text=TEXT), comments, Stall(2, until=go))
    gateway = await serving(settings(fake_provider))
    status, said = await asked(gateway, (dialect, dialect), go)
    assert (status, said.is_whole, said.text) == (200, True, TEXT)


@pytest.mark.parametrize("name", NO_EVENTS)
@ON_OWN
async def test_where_nobody_is_left_a_stream_that_never_began_is_an_error_with_a_status(
    serving: Serving, fake_provider: FakeProvider, name: str
):
    fake_provider.default = NO_EVENTS[name]
    gateway = await serving(settings(fake_provider, deadlines="{between_chunks: 300ms}") + ONCE)
    for lane in LANES:
        status, said = await asked(gateway, lane)
        assert status in {500, 502, 504, 529}, lane
        assert said.is_broken
        assert gateway.rows()[-1]["status"] == status
        assert gateway.rows()[-1]["outcome"].startswith("provider_")


@pytest.mark.parametrize("lane", LANES, ids="-to-".join)
@ON_OWN
async def test_a_provider_that_answers_a_stream_with_a_whole_body_is_streamed(
    serving: Serving, fake_provider: FakeProvider, lane: tuple[str, str]
):
    whole = {
        "openai": b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"Toll houses"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,'
        b'"completion_tokens":2,"total_tokens":11}}',
        "anthropic": b'{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":'
        b'"Toll houses"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":2}}',
    }
    fake_provider.default = Raw(body=whole[lane[1]])
    gateway = await serving(settings(fake_provider) + ONCE)
    status, said = await asked(gateway, lane)
    assert (status, said.is_whole, said.text) == (200, True, "Toll houses")
    (row,) = gateway.rows()
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (9, 2, "reported")
