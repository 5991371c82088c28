"""Every recorded exchange, through the running gateway: what the client's SDK reads means what the provider's own SDK reads.

The provider's SDK reads the recording from the fake provider without a gateway between; that is what the answer means.  The
gateway then gives the same recording to a client of the same dialect and to one of the other dialect.  The tables below name
every difference there may be, and the recordings in which it is met: neither more nor fewer.
"""

import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, Literal

import msgspec
import pytest
import pytest_asyncio

from support.fake_provider import FakeProvider
from support.fake_replies import Raw, Replay, Trickle, faulty
from support.recordings import Recording, by_id, load, recordings
from support.sdk_views import MESSAGES, Counts, Readers, Refused, Said, Seen, View, readers
from support.serving import KEY, Running, start
from tollhouse.providers.registry import PROVIDER_TYPES
from tollhouse.server.http1.listener import Http1Listener

pytestmark = pytest.mark.asyncio(loop_scope="module")

Side = Literal["openai", "anthropic"]

EVERY: Final = [*recordings("openai-chat"), *recordings("anthropic-messages")]
ANSWERS: Final = [recording for recording in EVERY if not recording.is_error]
STREAMS: Final = [recording for recording in EVERY if recording.is_stream]
ERRORS: Final = [recording for recording in EVERY if recording.is_error]

# ---------------------------------------------------------------------------------------------- the known differences

UNREADABLE: Final = {
    "openrouter-chat-json-error-in-200-bd1693": "an error in a 200 body: the SDK reads an answer of nothing"
}
"""Recordings of which the provider's own SDK makes no sense, so that it cannot say what they mean."""

ERRORS_IN_STREAMS: Final = {
    "groq-chat-stream-error-in-stream-4f5f57": 400,
    "groq-chat-stream-error-in-stream-b75f85": None,
    "openrouter-chat-stream-error-in-stream-322572": 502,
}
"""Streams in which the provider reports an error, and the status that the client gets instead of 200 where nothing of the
answer had come before it."""

LOST_TO_ANTHROPIC: Final[Mapping[str, frozenset[str]]] = {
    "more than one answer": frozenset(
        {
            "llamacpp-chat-stream-n-choices-feb4ad",
            "openai-chat-stream-n-choices-6be670",
            "qwen-chat-stream-n-choices-99e916",
        }
    ),
    "log-probabilities": frozenset(
        {"openai-chat-stream-finish-length-69a62d", "openrouter-chat-stream-finish-length-eafb11"}
    ),
    "foreign parts": frozenset({"openai-chat-json-misc-3c38c8"}),
    "a field for refusals": frozenset({"openai-chat-stream-refusal-e8ad18"}),
    "calls without ids": frozenset({"openai-chat-json-misc-454e7f"}),
    "no word on usage": frozenset({"gemini-chat-stream-text-5acf78", "vllm-chat-stream-finish-length-3bd4ef"}),
    "more cached than was sent": frozenset({"azure-openai-chat-stream-tool-result-c0ac2b"}),
}
LOST_TO_OPENAI: Final[Mapping[str, frozenset[str]]] = {
    "foreign parts": frozenset(
        {
            "anthropic-messages-json-emoji-fd1487",
            "anthropic-messages-json-reasoning-b9bcb4",
            "anthropic-messages-stream-reasoning-89297c",
            "anthropic-messages-stream-reasoning-f086ff",
            "anthropic-messages-stream-reasoning-fef81c",
            "anthropic-messages-stream-text-469976",
            "anthropic-messages-stream-tool-call-2d1725",
        }
    ),
    "the stop sequence": frozenset({"anthropic-messages-stream-finish-stop-sequence-685382"}),
}
"""What a dialect has no form for, and the recordings that have it."""

RECEIPTS: Final[Mapping[str, str]] = {
    "more than one answer": "choices[1:]",
    "log-probabilities": "logprobs",
    "foreign parts": "dropped",
}
"""What the receipt says of a loss.  The others are told in another way, or are the provider's own: a refusal becomes text
with a stop reason, an id is made up, a count that nobody said is 0 because the dialect insists on a number."""


def without_more_answers(view: View) -> View:
    return replace(view, choices=view.choices[:1])


def each(change: Callable[[Said], Said]) -> Callable[[View], View]:
    return lambda view: replace(view, choices=tuple(change(said) for said in view.choices))


def with_possible_counts(view: View) -> View:
    usage = view.usage
    return view if usage is None else replace(view, usage=replace(usage, cache_read=min(usage.cache_read, usage.input)))


LOSSES: Final[Mapping[str, Callable[[View], View]]] = {
    "more than one answer": without_more_answers,
    "log-probabilities": each(lambda said: replace(said, logprobs=())),
    "foreign parts": each(lambda said: replace(said, others=())),
    "a field for refusals": each(lambda said: replace(said, text=said.text + said.refusal, refusal="")),
    "calls without ids": each(
        lambda said: replace(said, calls=tuple(replace(call, id=call.id or "made up") for call in said.calls))
    ),
    "no word on usage": lambda view: replace(view, usage=view.usage or Counts(input=0, output=0)),
    "more cached than was sent": with_possible_counts,
    "the stop sequence": each(
        lambda said: replace(said, stop_sequence=None, finish="stop") if said.stop_sequence else said
    ),
}
"""What is left of an answer's meaning after each loss."""


# ------------------------------------------------------------------------------------------------------------- the stage

TYPES: Final = {"gemini": "google-openai", "azure-openai": "openai"}


def own(recording: Recording) -> Side:
    """The dialect in which the provider answered."""
    return "openai" if recording.dialect == "openai-chat" else "anthropic"


def other(recording: Recording) -> Side:
    return "anthropic" if own(recording) == "openai" else "openai"


def name_of(recording: Recording) -> str:
    return f"{recording.provider}/{recording.id}"


def provider_of(recording: Recording) -> str:
    """Its name in the gateway's configuration.  Anthropic also has an endpoint that speaks OpenAI's dialect."""
    both = recording.provider == "anthropic" and recording.dialect == "openai-chat"
    return "anthropic-chat" if both else recording.provider


def asks_stream(recording: Recording) -> bool:
    return "stream" in recording.features


def configuration(fake: FakeProvider) -> str:
    """A provider for each that was recorded, of its own type where there is one."""
    lines = ["retry: {max_attempts: 1}", "providers:"]
    for name in sorted({provider_of(recording) for recording in EVERY} - {"anthropic"}):
        kind = TYPES.get(name, name)
        kind = kind if kind in PROVIDER_TYPES else "openai-compatible"
        lines.append(f"  {name}: {{type: {kind}, base_url: '{fake.url}/v1', api_key: x}}")
    lines.append(f"  anthropic: {{base_url: '{fake.base_url('anthropic')}', api_key: x}}")
    return "\n".join(lines)


@dataclass
class Stage:
    """The fake provider, the gateway in front of it, and both SDKs at both."""

    fake: FakeProvider
    gateway: Running
    straight: Readers
    through: Readers
    meanings: dict[str, Seen] = field(default_factory=dict)

    async def means(self, recording: Recording) -> Seen:
        """What the provider's own SDK reads without a gateway."""
        if recording.id not in self.meanings:
            reader = getattr(self.straight, own(recording))
            seen = await reader.read(f"replay:{name_of(recording)}", stream=asks_stream(recording))
            self.meanings[recording.id] = seen
        return self.meanings[recording.id]

    async def reads(self, recording: Recording, side: Side, cuts: int | tuple[int, ...] | None = None) -> Seen:
        """What a client of one side reads through the gateway, the recording being cut on its way into it."""
        model = f"replay:{name_of(recording)}"
        if cuts is not None:
            model = f"{recording.id} cut"
            self.fake.reply_to(model, Replay(name=name_of(recording), cuts=cuts))
        return await self.ask(recording, side, model)

    async def ask(self, recording: Recording, side: Side, model: str) -> Seen:
        seen: Seen = await getattr(self.through, side).read(
            f"{provider_of(recording)}/{model}", stream=asks_stream(recording)
        )
        return seen

    def receipt(self, seen: Seen) -> str:
        """What the ledger's row of a call says of losses."""
        with closing(sqlite3.connect(f"file:{self.gateway.ledger}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT receipt FROM calls WHERE id = ?", (seen.request_id,)).fetchone()
        return str(row[0])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeProvider())
        gateway = await start(configuration(fake), tmp_path_factory.mktemp("recordings"), Http1Listener)
        stack.push_async_callback(gateway.close)
        straight = await stack.enter_async_context(readers(f"{fake.url}/v1", fake.base_url("anthropic"), "x"))
        through = await stack.enter_async_context(readers(f"{gateway.url}/v1", gateway.url, KEY))
        yield Stage(fake, gateway, straight, through)


def losses(recording: Recording) -> list[str]:
    """The names of what the other side cannot be told of a recording."""
    table = LOST_TO_ANTHROPIC if own(recording) == "openai" else LOST_TO_OPENAI
    return [name for name, ids in table.items() if recording.id in ids]


def after(view: View, names: list[str]) -> View:
    for name in names:
        view = LOSSES[name](view)
    return view


def made_up_ids_hidden(view: View, names: list[str]) -> View:
    """Ids that the gateway had to make up count as such; they are there, and unlike each other."""
    if "calls without ids" not in names:
        return view
    ids = [call.id for said in view.choices for call in said.calls]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    return each(lambda said: replace(said, calls=tuple(replace(call, id="made up") for call in said.calls)))(view)


def assert_same(seen: Seen, meant: Seen, recording: Recording, side: Side) -> None:
    """What the client saw is what the provider meant, less what is known to be lost."""
    if recording.id in ERRORS_IN_STREAMS:
        assert isinstance(meant, Refused)
        assert isinstance(seen, Refused)
        assert_error_in_stream(seen, meant, recording, side)
    elif recording.id in UNREADABLE:
        assert isinstance(seen, Refused)
        assert seen.status == 502
        assert "AiError: Internal server error" in seen.message
    elif isinstance(meant, Refused):
        assert isinstance(seen, Refused)
        assert_error(seen, meant)
    else:
        assert isinstance(seen, View)
        names = losses(recording) if side != own(recording) else []
        assert made_up_ids_hidden(seen, names) == after(meant, names)


def assert_error(seen: Refused, meant: Refused) -> None:
    """The same class of exception; but a provider's 401 or 403 speaks of the gateway's key, which is not the caller's."""
    if meant.status in {401, 403}:
        assert (seen.kind, seen.status) == ("InternalServerError", 502)
    else:
        assert seen == meant
    assert seen.request_id is not None
    assert seen.request_id.startswith("req_")


def assert_error_in_stream(seen: Refused, meant: Refused, recording: Recording, side: Side) -> None:
    status = ERRORS_IN_STREAMS[recording.id]
    assert meant.message in seen.message
    if status is not None:
        assert seen.status == status
    elif side == "openai":
        assert (seen.kind, seen.status) == ("APIError", None)
    else:
        # Anthropic's SDK takes the class from the head's status, which was sent long before.
        assert (seen.kind, seen.status, seen.type) == ("APIStatusError", 200, "invalid_request_error")


# ----------------------------------------------------------------------------------------------------------- both lanes


@pytest.mark.parametrize("recording", EVERY, ids=by_id)
async def test_a_client_of_the_providers_dialect_reads_what_the_provider_meant(stage: Stage, recording: Recording):
    meant = await stage.means(recording)
    seen = await stage.reads(recording, own(recording))
    assert_same(seen, meant, recording, own(recording))
    if isinstance(seen, View) and isinstance(meant, View):
        assert seen.raw == meant.raw, "every field, also those that nobody knows"


@pytest.mark.parametrize("recording", EVERY, ids=by_id)
async def test_a_client_of_the_other_dialect_reads_what_the_provider_meant(stage: Stage, recording: Recording):
    meant = await stage.means(recording)
    seen = await stage.reads(recording, other(recording))
    assert_same(seen, meant, recording, other(recording))
    if isinstance(seen, View):
        expected = [RECEIPTS[name] for name in losses(recording) if name in RECEIPTS]
        receipt = stage.receipt(seen)
        assert all(words in receipt for words in expected), receipt
        if not expected:
            assert "choices" not in receipt
            assert "content" not in receipt


@pytest.mark.parametrize("recording", EVERY, ids=by_id)
async def test_where_the_network_cuts_a_recording_changes_nothing(stage: Stage, recording: Recording):
    meant = await stage.means(recording)
    for side in ("openai", "anthropic"):
        for cuts in (len(recording.id), tuple(places_inside_characters(recording.response.body))):
            if cuts:
                assert_same(await stage.reads(recording, side, cuts), meant, recording, side)


def places_inside_characters(body: bytes) -> Iterator[int]:
    """Up to 20 places in the middle of a UTF-8 character."""
    return islice((at for at, byte in enumerate(body) if byte & 0xC0 == 0x80), 20)


async def test_the_table_of_losses_names_exactly_what_the_recordings_have(stage: Stage):
    """An answer is in a loss's row if, and only if, losing it would change what the answer means."""
    for side, table in (("openai", LOST_TO_ANTHROPIC), ("anthropic", LOST_TO_OPENAI)):
        for name, ids in table.items():
            found = set()
            for recording in ANSWERS:
                meant = await stage.means(recording)
                if own(recording) == side and isinstance(meant, View) and recording.id not in UNREADABLE:
                    found |= {recording.id} if LOSSES[name](meant) != meant else set()
            assert found == ids, name


async def test_a_recording_counts_as_unreadable_only_while_its_own_sdk_finds_nothing_in_it(stage: Stage):
    for name in UNREADABLE:
        meant = await stage.means(next(recording for recording in EVERY if recording.id == name))
        assert isinstance(meant, View)
        assert meant.choices == ()


async def test_a_recorded_error_has_the_type_of_its_dialect(stage: Stage):
    kinds = set()
    for recording in ERRORS:
        for side in ("openai", "anthropic"):
            seen = await stage.reads(recording, side)
            assert isinstance(seen, Refused)
            kinds.add((side, seen.status, seen.type))
    assert kinds == {
        ("openai", 400, "invalid_request_error"),
        ("openai", 404, "invalid_request_error"),
        ("openai", 429, "rate_limit_exceeded"),
        ("openai", 502, "server_error"),
        ("anthropic", 400, "invalid_request_error"),
        ("anthropic", 404, "not_found_error"),
        ("anthropic", 429, "rate_limit_error"),
        ("anthropic", 502, "api_error"),
    }


# -------------------------------------------------------------------------------------------- bytes of the same dialect

DONE: Final = b"data: [DONE]\n\n"
WHOLE: Final = [recording for recording in STREAMS if recording.id not in ERRORS_IN_STREAMS]


async def forwarded(stage: Stage, recording: Recording, **asked: Any) -> bytes:
    """The bytes that a client of the provider's own dialect gets."""
    body = {"model": f"{provider_of(recording)}/replay:{name_of(recording)}", "messages": MESSAGES, "stream": True}
    path = "/v1/chat/completions" if own(recording) == "openai" else "/v1/messages"
    return (await stage.gateway.ask(path, {**body, "max_tokens": 1000, **asked})).body


def ended(recording: Recording, body: bytes) -> bytes:
    """A stream as it should have ended: with an empty line, and with its dialect's end marker."""
    body = body.rstrip(b"\r\n") + b"\n\n"
    return body if own(recording) == "anthropic" or body.endswith(DONE) else body + DONE


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
async def test_a_stream_is_forwarded_byte_for_byte(stage: Stage, recording: Recording):
    """All that may be added is what the end lacked."""
    sent = recording.response.body
    expected = sent if sent.endswith(b"\n\n") else sent.rstrip(b"\r\n") + b"\n\n"
    assert await forwarded(stage, recording, stream_options={"include_usage": True}) == ended(recording, expected)


@pytest.mark.parametrize("recording", [r for r in WHOLE if own(r) == "openai"], ids=by_id)
async def test_a_usage_chunk_that_the_client_did_not_ask_for_is_all_that_is_left_out(
    stage: Stage, recording: Recording
):
    def is_unasked(event: bytes) -> bool:
        data = event.partition(b"data:")[2].strip()
        chunk = msgspec.json.decode(data) if data.startswith(b"{") else {}
        return chunk.get("choices") == [] and bool(chunk.get("usage"))

    events = re.split(rb"(?<=\n\n)", ended(recording, recording.response.body))
    assert await forwarded(stage, recording) == b"".join(event for event in events if not is_unasked(event))


@pytest.mark.parametrize("recording", [r for r in EVERY if not r.is_stream and not r.is_error], ids=by_id)
async def test_a_whole_answer_is_forwarded_byte_for_byte(stage: Stage, recording: Recording):
    if recording.id not in UNREADABLE:
        assert await forwarded(stage, recording, stream=False) == recording.response.body


# ------------------------------------------------------------------------------------------------- other network habits

SHORT: Final = [
    load(name)
    for name in (
        "openai/openai-chat-stream-finish-length-1b7350",
        "qwen/qwen-chat-stream-tool-result-44f36a",
        "xai/xai-chat-stream-tool-call-97078a",
        "anthropic/anthropic-messages-stream-finish-stop-sequence-685382",
        "anthropic/anthropic-messages-stream-json-schema-e42f9e",
    )
]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("recording", SHORT, ids=by_id)
async def test_every_line_end_is_read_though_each_byte_comes_alone(stage: Stage, recording: Recording, line_end: bytes):
    """A network read may then end between CR and LF, inside an event, and inside a character."""
    body = recording.response.body.replace(b"\n", line_end)
    model = f"{recording.id} {line_end!r}"
    stage.fake.reply_to(model, faulty(Raw(body=body, content_type="text/event-stream"), Trickle()))
    meant = await stage.means(recording)
    for side in ("openai", "anthropic"):
        assert_same(await stage.ask(recording, side, model), meant, recording, side)
