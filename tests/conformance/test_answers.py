"""Every recorded answer, through the running gateway, to the SDKs of all four dialects: each reads what the provider meant.

The provider's own SDK reads the recording from the fake provider without a gateway between; that is what the answer means.  The
gateway then gives the same recording to a client of the same dialect and to those of the three others.  The table below names
every difference there may be, and the recordings in which it is met: neither more nor fewer.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import msgspec
import pytest

from support.fake_replies import Raw, Trickle, faulty
from support.four_sides import EVERY, SIDES, Side, Stage, asks_stream, others, own, provider_of, type_of
from support.matrix import Matrix
from support.recordings import Recording, by_id, load
from support.sdk_gemini import IGNORED
from support.sdk_views import MESSAGES, Counts, Refused, Said, Seen, View

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.filterwarnings(IGNORED)]

# ---------------------------------------------------------------------------------------------- the known differences


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A recording of which the provider's own SDK makes no sense, so that it cannot say what it means."""

    why: str
    refused: str = ""
    """Words of the error that clients get in its place."""
    meant: View | None = None
    """What clients of other dialects read all the same."""


UNREADABLE: Final[Mapping[str, Unreadable]] = {
    "openrouter-chat-json-error-in-200-bd1693": Unreadable(
        why="an error in the body of a 200: told as the error that it is", refused="AiError: Internal server error"
    ),
    "openai-responses-json-misc-6cfc25": Unreadable(
        why="the head of an answer that is made in the background: the gateway waits for answers, and refuses it",
        refused="a response that is queued",
    ),
    "gemini-generate-stream-text-21b513": Unreadable(
        why="a stream as one JSON array, for which the gateway never asks: refused", refused="neither events nor JSON"
    ),
    "gemini-generate-json-misc-60e2cd": Unreadable(
        why="enumerations as numbers, for which the gateway never asks: Google's SDK fails over them, the others read it",
        meant=View(
            id="05WkaM3FEaGSmecPxYzosQM",
            choices=(Said(finish="length"),),
            usage=Counts(input=5, output=4, reasoning=4),
        ),
    ),
}

ERRORS_IN_STREAMS: Final = {
    "groq-chat-stream-error-in-stream-4f5f57": 400,
    "groq-chat-stream-error-in-stream-b75f85": None,
    "openai-responses-stream-error-in-stream-501de1": 429,
    "openrouter-chat-stream-error-in-stream-322572": 502,
}
"""Streams in which the provider reports an error, and the status that the client gets instead of 200 where nothing of the
answer had come before it."""

NOT_ANTHROPIC: Final[frozenset[Side]] = frozenset({"openai_chat", "openai_responses", "gemini"})


@dataclass(frozen=True, kw_only=True)
class Loss:
    """An idea that some dialects have no form for."""

    sides: frozenset[Side]
    """Those dialects, on the client's side."""
    without: Callable[[View], View]
    """What is left of an answer's meaning."""
    feature: str | None
    """The column of the matrix that it touches."""
    ids: frozenset[str]
    """The recordings that have the idea, of providers of other dialects."""
    receipt: str | None = None
    """What the receipt says.  The others are told in another way, or are the provider's own fault."""
    also_own: bool = False
    """Whether a client of the provider's own dialect loses it too when its answer had to be made anew."""


def each(change: Callable[[Said], Said]) -> Callable[[View], View]:
    return lambda view: replace(view, choices=tuple(change(said) for said in view.choices))


def with_possible_counts(view: View) -> View:
    usage = view.usage
    return view if usage is None else replace(view, usage=replace(usage, cache_read=min(usage.cache_read, usage.input)))


def without_impossible_counts(view: View) -> View:
    usage = view.usage
    return replace(view, usage=None) if usage is not None and usage.output < 0 else view


def without_cache_writes(view: View) -> View:
    return view if view.usage is None else replace(view, usage=replace(view.usage, cache_write=0))


def in_an_object(said: Said) -> Said:
    calls = (
        replace(call, arguments={"input": call.arguments}) if isinstance(call.arguments, str) else call
        for call in said.calls
    )
    return replace(said, calls=tuple(calls))


LOSSES: Final[Mapping[str, Loss]] = {
    "more than one answer": Loss(
        sides=frozenset({"openai_responses", "anthropic"}),
        without=lambda view: replace(view, choices=view.choices[:1]),
        feature="answers",
        receipt="choices[1:]",
        ids=frozenset(
            {
                "llamacpp-chat-stream-n-choices-feb4ad",
                "openai-chat-stream-n-choices-6be670",
                "qwen-chat-stream-n-choices-99e916",
                "gemini-generate-json-reasoning-a15489",
            }
        ),
    ),
    "log-probabilities": Loss(
        sides=frozenset({"anthropic"}),
        without=each(lambda said: replace(said, logprobs=())),
        feature="logprobs",
        receipt="logprobs",
        ids=frozenset(
            {
                "openai-chat-stream-finish-length-69a62d",
                "openrouter-chat-stream-finish-length-eafb11",
                "gemini-generate-json-logprobs-57d727",
            }
        ),
    ),
    "parts of the provider's own": Loss(
        sides=frozenset(SIDES),
        without=each(lambda said: replace(said, others=())),
        feature="own parts",
        receipt="dropped",
        ids=frozenset(
            {
                "openai-chat-json-misc-3c38c8",
                "deepseek-responses-json-reasoning-70d29c",
                "openai-responses-json-misc-0040ae",
                "openai-responses-json-reasoning-4f8e9d",
                "openai-responses-json-reasoning-b6a040",
                "openai-responses-json-text-215279",
                "openai-responses-stream-citations-b0f182",
                "openai-responses-stream-reasoning-4c7a66",
                "openai-responses-stream-tool-call-b10c1c",
                "xai-responses-json-citations-13e037",
                "xai-responses-json-reasoning-69475b",
                "xai-responses-json-text-46dc9f",
                "gemini-generate-stream-text-8bd6e8",
                "anthropic-messages-json-emoji-fd1487",
                "anthropic-messages-json-reasoning-b9bcb4",
                "anthropic-messages-stream-reasoning-89297c",
                "anthropic-messages-stream-reasoning-f086ff",
                "anthropic-messages-stream-reasoning-fef81c",
                "anthropic-messages-stream-text-469976",
                "anthropic-messages-stream-tool-call-2d1725",
            }
        ),
    ),
    "a field for refusals": Loss(
        sides=frozenset({"anthropic", "gemini"}),
        without=each(lambda said: replace(said, text=said.text + said.refusal, refusal="")),
        feature="refusal",
        ids=frozenset({"openai-chat-stream-refusal-e8ad18", "openai-responses-stream-refusal-479eef"}),
    ),
    "the stop string that was hit": Loss(
        sides=NOT_ANTHROPIC,
        without=each(lambda said: replace(said, stop_sequence=None, finish="stop") if said.stop_sequence else said),
        feature="stop string",
        ids=frozenset({"anthropic-messages-stream-finish-stop-sequence-685382"}),
    ),
    "counts of cache writes": Loss(
        sides=frozenset({"gemini"}),
        without=without_cache_writes,
        feature="cached",
        ids=frozenset(
            {
                "openai-chat-json-text-d8aefd",
                "openai-responses-json-text-be623f",
                "anthropic-messages-json-reasoning-b9bcb4",
            }
        ),
    ),
    "free-form calls": Loss(
        sides=frozenset({"anthropic", "gemini"}),
        without=each(in_an_object),
        feature=None,
        ids=frozenset({"openai-responses-stream-misc-e6349e"}),
    ),
    "calls without ids": Loss(
        sides=frozenset(SIDES),
        without=each(
            lambda said: replace(said, calls=tuple(replace(call, id=call.id or "made up") for call in said.calls))
        ),
        feature=None,
        also_own=True,
        ids=frozenset(
            {
                "openai-chat-json-misc-454e7f",
                "gemini-generate-json-tool-call-17edc8",
                "gemini-generate-json-tool-call-79cde3",
                "gemini-generate-stream-parallel-tool-calls-c2fc21",
                "gemini-generate-stream-tool-call-547d30",
            }
        ),
    ),
    "no word on usage": Loss(
        sides=frozenset({"anthropic"}),
        without=lambda view: replace(view, usage=view.usage or Counts(input=0, output=0)),
        feature=None,
        ids=frozenset(
            {
                "gemini-chat-stream-text-5acf78",
                "gemini-generate-json-prompt-blocked-f9bb79",
                "vllm-chat-stream-finish-length-3bd4ef",
            }
        ),
    ),
    "more cached than was sent": Loss(
        sides=frozenset(SIDES),
        without=with_possible_counts,
        feature=None,
        ids=frozenset({"azure-openai-chat-stream-tool-result-c0ac2b"}),
    ),
    "counts that cannot be": Loss(
        sides=NOT_ANTHROPIC,
        without=without_impossible_counts,
        feature=None,
        also_own=True,
        ids=frozenset({"openai-responses-json-reasoning-3d7486"}),
    ),
    "counts that cannot be, where there must be some": Loss(
        sides=frozenset({"anthropic"}),
        without=lambda view: (
            view if without_impossible_counts(view) == view else replace(view, usage=Counts(input=0, output=0))
        ),
        feature=None,
        ids=frozenset({"openai-responses-json-reasoning-3d7486"}),
    ),
    "a word of Google's own for the end": Loss(
        sides=frozenset(SIDES),
        without=each(
            lambda said: replace(said, finish="tool_calls") if said.finish == "UNEXPECTED_TOOL_CALL" else said
        ),
        feature=None,
        ids=frozenset({"gemini-generate-json-tool-call-79cde3"}),
    ),
}
"""The order is the one in which they are taken away."""

REASONS: Final[Mapping[str, str]] = {
    "more than one answer": "the dialect has one answer; the receipt says that the others were dropped",
    "log-probabilities": "the dialect has none; the receipt says so",
    "parts of the provider's own": "only the provider's own dialect has a form for them; the receipt names each",
    "a field for refusals": "the dialect has no such field: the words are its text, and the stop reason says that it is one",
    "the stop string that was hit": "the dialect says `stop`",
    "counts of cache writes": "the dialect counts reads only",
}
"""Why a cell of the matrix is not green."""


def losses(recording: Recording, side: Side, *, is_made_anew: bool = False) -> list[str]:
    """The names of what a client cannot be told of a recording."""
    return [
        name
        for name, loss in LOSSES.items()
        if recording.id in loss.ids
        and side in loss.sides
        and (side != own(recording) or (is_made_anew and loss.also_own))
    ]


def after(view: View, names: list[str]) -> View:
    for name in LOSSES:
        view = LOSSES[name].without(view) if name in names else view
    return view


def with_made_up_hidden(view: View, meant: View, names: list[str], side: Side) -> View:
    """Ids that the gateway had to make up count as such; they are there, and unlike each other."""
    if side == "openai_responses" and view.id != meant.id:
        assert view.id.startswith("resp_"), "as every id of this dialect"
        view = replace(view, id=meant.id)
    if "calls without ids" not in names:
        return view
    ids = [call.id for said in view.choices for call in said.calls]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    return each(lambda said: replace(said, calls=tuple(replace(call, id="made up") for call in said.calls)))(view)


def assert_same(seen: Seen, meant: Seen, recording: Recording, side: Side, *, is_made_anew: bool = False) -> None:
    """What the client saw is what the provider meant, less what is known to be lost."""
    if recording.id in ERRORS_IN_STREAMS:
        assert isinstance(meant, Refused)
        assert isinstance(seen, Refused)
        assert_error_in_stream(seen, meant, recording, side)
    elif recording.id in UNREADABLE and UNREADABLE[recording.id].refused:
        assert isinstance(seen, Refused)
        assert seen.status == 502
        assert UNREADABLE[recording.id].refused in seen.message
    elif isinstance(meant, Refused):
        assert isinstance(seen, Refused)
        assert_error(seen, meant)
    else:
        assert isinstance(seen, View)
        names = losses(recording, side, is_made_anew=is_made_anew)
        assert with_made_up_hidden(seen, meant, names, side) == after(meant, names)


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
    elif side == "anthropic":
        # Anthropic's SDK takes the class from the head's status, which was sent long before.
        assert (seen.kind, seen.status, seen.type) == ("APIStatusError", 200, "invalid_request_error")
    elif side == "gemini":
        # Google's takes it from the error's own code.
        assert (seen.kind, seen.status, seen.type) == ("BadRequestError", 400, "INVALID_ARGUMENT")
    else:
        assert (seen.kind, seen.status) == ("APIError", None)


async def meaning(stage: Stage, recording: Recording) -> Seen:
    """What the recording means; of an unreadable one, what is written in the table."""
    known = UNREADABLE.get(recording.id)
    if known is None:
        return await stage.means(recording)
    return known.meant or Refused(kind="", status=None, message="")


def is_forwarded(recording: Recording) -> bool:
    """Whether a client of its own dialect gets the very bytes.  The Responses API's clients are at home with OpenAI: what
    another company's models encrypted is sealed for them, so those answers are made anew."""
    return own(recording) != "openai_responses" or type_of(recording) == "openai"


def features(meant: Seen, recording: Recording) -> set[str]:
    """The columns of the matrix in which the recording stands."""
    if recording.id in ERRORS_IN_STREAMS:
        return {"error in stream"}
    if isinstance(meant, Refused):
        return {"error"}
    first, usage = meant.choices[0], meant.usage or Counts(input=0, output=0)
    facts = {
        "text": first.text,
        "stream": asks_stream(recording),
        "tool call": first.calls,
        "parallel calls": len(first.calls) > 1,
        "reasoning": first.reasoning,
        "sealed": first.sealed,
        "citations": first.sources,
        "logprobs": first.logprobs,
        "answers": len(meant.choices) > 1,
        "length": first.finish == "length",
        "stop string": first.stop_sequence,
        "filtered": first.finish == "filtered" and not first.refusal,
        "refusal": first.refusal,
        "cached": usage.cache_read or usage.cache_write,
        "reasoned": usage.reasoning > 0,
        "own parts": first.others,
    }
    return {name for name, holds in facts.items() if holds}


# ---------------------------------------------------------------------------------------------------------- all four sides


def readable_by(recording: Recording) -> list[Side]:
    """The sides whose SDK can read the recording at all."""
    known = UNREADABLE.get(recording.id)
    return others(recording) if known is not None and not known.refused else list(SIDES)


@pytest.mark.parametrize("recording", EVERY, ids=by_id)
async def test_clients_of_all_dialects_read_what_the_provider_meant(stage: Stage, matrix: Matrix, recording: Recording):
    meant = await meaning(stage, recording)
    read: dict[Side, View] = {}
    for side in readable_by(recording):
        seen = await stage.reads(recording, side)
        assert_same(seen, meant, recording, side)
        if isinstance(seen, View) and isinstance(meant, View):
            read[side] = seen
            if side == own(recording) and is_forwarded(recording):
                assert seen.raw == meant.raw, "every field, also those that nobody knows"
    for side, receipt in zip(read, stage.receipts(read.values()), strict=True):
        expected = [words for name in losses(recording, side) if (words := LOSSES[name].receipt)]
        assert all(words in receipt for words in expected), receipt
        if not expected:
            assert "choices" not in receipt
            assert "content" not in receipt
    if recording.id in UNREADABLE:
        matrix.apart[recording.id] = UNREADABLE[recording.id].why
        return
    for side in SIDES:
        lost = {LOSSES[name].feature: REASONS[name] for name in losses(recording, side) if LOSSES[name].feature}
        found = features(meant, recording)
        matrix.prove(side, "answers", provider_of(recording), recording.id, found, {str(k): v for k, v in lost.items()})


@pytest.mark.parametrize("recording", EVERY, ids=by_id)
async def test_where_the_network_cuts_a_recording_changes_nothing(stage: Stage, recording: Recording):
    """For a client of the provider's own dialect, and for one of another: which one differs from recording to recording."""
    meant = await meaning(stage, recording)
    readable = readable_by(recording)
    foreign = others(recording)[len(recording.id) % 3]
    ways: list[tuple[Side, int | tuple[int, ...]]] = [
        (own(recording), len(recording.id)),
        (foreign, len(recording.id)),
        (foreign, tuple(places_inside_characters(recording.response.body))),
    ]
    for side, cuts in ways:
        if cuts and side in readable:
            assert_same(await stage.reads(recording, side, cuts=cuts), meant, recording, side)


def places_inside_characters(body: bytes) -> Iterator[int]:
    """Up to 20 places in the middle of a UTF-8 character."""
    return islice((at for at, byte in enumerate(body) if byte & 0xC0 == 0x80), 20)


WHOLE: Final = [r for r in EVERY if not r.is_stream and not r.is_error and not asks_stream(r)]


@pytest.mark.parametrize("recording", WHOLE, ids=by_id)
async def test_a_whole_answer_to_a_client_that_asked_for_a_stream_means_the_same(stage: Stage, recording: Recording):
    """Some providers cannot stream; the stream is made of their answer then."""
    meant = await meaning(stage, recording)
    for side in readable_by(recording):
        seen = await stage.reads(recording, side, stream=True)
        assert_same(seen, meant, recording, side, is_made_anew=True)


async def test_the_table_of_losses_names_exactly_what_the_recordings_have(stage: Stage):
    """An answer is in a loss's row if, and only if, losing it would change what the answer means."""
    meanings = {each.id: await meaning(stage, each) for each in EVERY if not each.is_error}
    for name, loss in LOSSES.items():
        found = set()
        for recording in EVERY:
            meant = meanings.get(recording.id)
            if loss.sides - {own(recording)} and isinstance(meant, View):
                found |= {recording.id} if loss.without(meant) != meant else set()
        assert found == loss.ids, name


async def test_a_recording_counts_as_unreadable_only_while_its_own_sdk_finds_nothing_in_it(stage: Stage):
    for recording in EVERY:
        if recording.id in UNREADABLE:
            try:
                meant = await stage.means(recording)
            except (ValueError, AttributeError):  # Google's SDK fails over what it did not expect
                continue
            assert isinstance(meant, View)
            assert not meant.choices or meant.first == Said(finish="queued")


async def test_a_recorded_error_has_the_type_of_its_dialect(stage: Stage):
    kinds = set()
    for recording in EVERY:
        if recording.is_error:
            for side in SIDES:
                seen = await stage.reads(recording, side)
                assert isinstance(seen, Refused)
                kinds.add((side, seen.status, seen.type))
    openai = {
        (400, "invalid_request_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_exceeded"),
        (502, "server_error"),
    }
    assert kinds == {
        *(("openai_chat", *each) for each in openai),
        *(("openai_responses", *each) for each in openai),
        ("anthropic", 400, "invalid_request_error"),
        ("anthropic", 404, "not_found_error"),
        ("anthropic", 429, "rate_limit_error"),
        ("anthropic", 502, "api_error"),
        ("gemini", 400, "INVALID_ARGUMENT"),
        ("gemini", 404, "NOT_FOUND"),
        ("gemini", 429, "RESOURCE_EXHAUSTED"),
        ("gemini", 502, "UNAVAILABLE"),
    }


# -------------------------------------------------------------------------------------------- bytes of the same dialect

DONE: Final = b"data: [DONE]\n\n"
ALIKE: Final = [each for each in EVERY if not each.is_error and is_forwarded(each)]
STREAMS: Final = [each for each in ALIKE if each.is_stream and each.id not in ERRORS_IN_STREAMS]
BODIES: Final = [each for each in ALIKE if not each.is_stream and each.id not in UNREADABLE]
QUESTIONS: Final[Mapping[Side, tuple[str, dict[str, Any]]]] = {
    "openai_chat": ("/v1/chat/completions", {"messages": MESSAGES}),
    "openai_responses": ("/v1/responses", {"input": "Where?"}),
    "anthropic": ("/v1/messages", {"messages": MESSAGES, "max_tokens": 1000}),
    "gemini": ("/v1beta/models/{model}:{method}", {"contents": [{"parts": [{"text": "Where?"}]}]}),
}
METHODS: Final = {True: "streamGenerateContent?alt=sse", False: "generateContent"}


async def forwarded(stage: Stage, recording: Recording, *, stream: bool = True, **asked: Any) -> bytes:
    """The bytes that a client of the provider's own dialect gets."""
    stage.replay(recording)
    path, body = QUESTIONS[own(recording)]
    model = f"{provider_of(recording)}/{recording.id}"
    if own(recording) != "gemini":
        body = {**body, "model": model, "stream": stream, **asked}
    return (await stage.gateway.ask(path.format(model=model, method=METHODS[stream]), body)).body


def ended(recording: Recording, body: bytes) -> bytes:
    """A stream as it should have ended: with an empty line, and with its dialect's end marker."""
    body = body.rstrip(b"\r\n") + b"\n\n"
    return body if own(recording) != "openai_chat" or body.endswith(DONE) else body + DONE


@pytest.mark.parametrize("recording", STREAMS, ids=by_id)
async def test_a_stream_is_forwarded_byte_for_byte(stage: Stage, recording: Recording):
    """All that may be added is what the end lacked."""
    asked: dict[str, Any] = {"stream_options": {"include_usage": True}} if own(recording) == "openai_chat" else {}
    sent = recording.response.body
    whole = sent if sent.endswith((b"\n\n", b"\r\n\r\n")) else sent.rstrip(b"\r\n") + b"\n\n"
    expected = whole if own(recording) == "gemini" else ended(recording, whole)
    assert await forwarded(stage, recording, **asked) == expected


@pytest.mark.parametrize("recording", [r for r in STREAMS if own(r) == "openai_chat"], ids=by_id)
async def test_a_usage_chunk_that_the_client_did_not_ask_for_is_all_that_is_left_out(
    stage: Stage, recording: Recording
):
    def is_unasked(event: bytes) -> bool:
        data = event.partition(b"data:")[2].strip()
        chunk = msgspec.json.decode(data) if data.startswith(b"{") else {}
        return chunk.get("choices") == [] and bool(chunk.get("usage"))

    events = re.split(rb"(?<=\n\n)", ended(recording, recording.response.body))
    assert await forwarded(stage, recording) == b"".join(event for event in events if not is_unasked(event))


@pytest.mark.parametrize("recording", BODIES, ids=by_id)
async def test_a_whole_answer_is_forwarded_byte_for_byte(stage: Stage, recording: Recording):
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
        "openai/openai-responses-stream-response-incomplete-40bd8c",
        "gemini/gemini-generate-stream-reasoning-882168",
    )
]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("recording", SHORT, ids=by_id)
async def test_every_line_end_is_read_though_each_byte_comes_alone(stage: Stage, recording: Recording, line_end: bytes):
    """A network read may then end between CR and LF, inside an event, and inside a character."""
    body = recording.response.body.replace(b"\r\n", b"\n").replace(b"\n", line_end)
    meant = await stage.means(recording)
    stage.fake.reply_to(recording.id, faulty(Raw(body=body, content_type="text/event-stream"), Trickle()))
    for side in ("openai_chat", "anthropic"):
        assert_same(await stage.ask(recording, side), meant, recording, side)
