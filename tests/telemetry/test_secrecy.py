"""A whole gateway with a credential planted in every place that a caller or a provider can write to: no log or trace has it."""

import io
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.collector import Collector
from support.fake_provider import FakeProvider
from support.fake_replies import HTML_PAGE, Answer, ErrorAfter, Failure, Raw, Reply, faulty
from support.serving import KEY, SERVERS, Running, start

PLANTED = "sk-proj-pl4ntedPl4ntedPl4ntedPl4nted0123456789"
"""What a caller writes where it does not belong."""
OURS = "gsk_0urs0urs0urs0urs0urs0urs0urs0urs0123"
"""The gateway's own key for its provider."""


class Witness:
    """A gateway, and after it everything that it wrote."""

    def __init__(self, folder: Path, log: io.StringIO) -> None:
        self._folder = folder
        self._log = log
        self.spans = 0
        """How many its collector was sent."""

    @asynccontextmanager
    async def gateway(self, provider: FakeProvider) -> AsyncIterator[Running]:
        logging.getLogger("tollhouse").setLevel(logging.DEBUG)
        base = provider.base_url("openai")
        async with Collector() as collector:
            running = await start(
                f"providers: {{lab: {{type: openai-compatible, base_url: '{base}', api_key: {OURS}}}}}\n"
                "models: {fast: lab/small}\nretry: {max_attempts: 2, backoff_base: 1ms}\n"
                f"telemetry: {{traces: {{endpoint: '{collector.url}', sample: 1}}}}",
                self._folder,
                SERVERS["granian"],
            )
            try:
                yield running
                # A receipt says which of the caller's own fields were dropped; it is not looked at here.
                self._rows = repr([{**row, "receipt": ""} for row in running.rows()])
            finally:
                await running.close()
            self.spans = len(collector.spans)
            self._traces = b"".join(collector.bodies).decode("latin-1")

    def said(self) -> str:
        """What it said of itself and of its calls, its ledger's rows, and what its collector was sent."""
        calls = (self._folder / "calls.log").read_text()
        return self._log.getvalue() + calls + self._rows + self._traces


@pytest.fixture
def witness(tmp_path: Path, telemetry_log: io.StringIO) -> Witness:
    return Witness(tmp_path, telemetry_log)


def question(**fields: object) -> dict[str, object]:
    return {"model": "fast", "messages": [{"role": "user", "content": "hello"}], **fields}


AS_US: Sequence[tuple[bytes, bytes]] = [(b"authorization", b"Bearer " + KEY.encode())]
SPOILT: Sequence[tuple[str, Sequence[tuple[bytes, bytes]], object]] = [
    ("/v1/chat/completions", [(b"authorization", b"Bearer " + PLANTED.encode())], question()),
    ("/v1/chat/completions", [(b"authorization", b"Basic " + PLANTED.encode())], question()),
    ("/v1/messages", [(b"x-api-key", PLANTED.encode())], question(max_tokens=5)),
    ("/v1/chat/completions", [*AS_US, (b"user-agent", PLANTED.encode()), (b"x-other", PLANTED.encode())], question()),
    ("/v1/chat/completions", [*AS_US, (b"cookie", PLANTED.encode()), (b"x-request-id", PLANTED.encode())], question()),
    ("/v1/chat/completions", [*AS_US, (b"x-forwarded-for", PLANTED.encode())], question()),
    ("/v1/chat/completions", [*AS_US, (b"content-type", PLANTED.encode())], question()),
    (
        "/v1/chat/completions",
        [*AS_US, (b"traceparent", PLANTED.encode()), (b"tracestate", PLANTED.encode())],
        question(),
    ),
    ("/v1/chat/completions", [*AS_US, (b"baggage", b"key=" + PLANTED.encode())], question()),
    (f"/v1/chat/completions?key={PLANTED}", AS_US, question()),
    (f"/v1/{PLANTED}", AS_US, question()),
    (f"/v1/models/{PLANTED}", AS_US, question()),
    ("/v1/chat/completions", AS_US, question(model=PLANTED)),
    ("/v1/chat/completions", AS_US, question(model=f"nowhere/{PLANTED}")),
    ("/v1/chat/completions", AS_US, question(messages=[{"role": "user", "content": PLANTED}])),
    ("/v1/chat/completions", AS_US, question(messages=[{"role": PLANTED, "content": "x"}])),
    ("/v1/chat/completions", AS_US, question(user=PLANTED, metadata={PLANTED: PLANTED})),
    ("/v1/chat/completions", AS_US, question(tools=[{"type": "function", "function": {"name": PLANTED}}])),
    ("/v1/chat/completions", AS_US, question(tools=[{"type": PLANTED}])),
    ("/v1/chat/completions", AS_US, question(stop=PLANTED, stream=True)),
    ("/v1/chat/completions", AS_US, question(stream=PLANTED)),
    ("/v1/chat/completions", AS_US, question(max_tokens=PLANTED, **{PLANTED: 1})),
    ("/v1/chat/completions", AS_US, PLANTED.encode()),
    ("/v1/chat/completions", AS_US, b'{"model": "' + PLANTED.encode()),
    ("/v1/messages", AS_US, question(max_tokens=5, system=PLANTED)),
    ("/v1/messages", AS_US, question(max_tokens=5, model=PLANTED)),
    ("/v1/messages", AS_US, question(max_tokens=5, **{PLANTED: {}})),
    ("/v1/messages", AS_US, question(max_tokens=5, messages=[{"role": "user", "content": [{"type": PLANTED}]}])),
    ("/v1/messages/count_tokens", AS_US, question(messages=[{"role": "user", "content": PLANTED}])),
]


@pytest.mark.parametrize(("path", "headers", "body"), SPOILT, ids=range(len(SPOILT)))
async def test_what_a_caller_plants_reaches_no_log(witness, fake_provider, path, headers, body):
    async with witness.gateway(fake_provider) as gateway:
        await gateway.ask(path, body, headers=headers)
    for secret in (PLANTED, KEY, OURS):
        assert secret not in witness.said()


async def test_a_name_that_is_a_credential_is_logged_as_one(witness, fake_provider):
    async with witness.gateway(fake_provider) as gateway:
        await gateway.ask("/v1/chat/completions", question(model=PLANTED), headers=AS_US)
    assert '"requested_model":"[secret]"' in witness.said()
    assert witness.spans == 1


REPLIES: Sequence[Reply] = [
    Answer(text=PLANTED),
    Failure(status=400, message=f"Your message {PLANTED!r} is too long."),
    Failure(status=401, message=f"Incorrect API key provided: {OURS}."),
    Failure(status=429, message=f"Too many: {PLANTED} {OURS}"),
    Failure(status=500, message=PLANTED),
    Raw(status=500, body=PLANTED.encode()),
    Raw(status=200, body=PLANTED.encode()),
    HTML_PAGE,
    faulty(Answer(text=PLANTED), ErrorAfter(1, Failure(status=500, message=f"lost {PLANTED} {OURS}"))),
]


@pytest.mark.parametrize("reply", REPLIES, ids=range(len(REPLIES)))
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_provider_says_reaches_no_log(witness, fake_provider, reply, path, stream):
    fake_provider.default = reply
    async with witness.gateway(fake_provider) as gateway:
        answer = await gateway.ask(path, question(max_tokens=5, stream=stream), headers=AS_US)
    assert witness.spans >= 2
    for secret in (PLANTED, KEY, OURS):
        assert secret not in witness.said()
    assert OURS not in answer.body.decode(), "nor does the gateway's own key reach the caller"
