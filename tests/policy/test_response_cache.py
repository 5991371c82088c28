"""What is kept, for how long, and what the caller has to say about it."""

import random
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.conversations import responses
from support.recordings import Recording, by_id, everything
from tollhouse.chat.fold import fold
from tollhouse.chat.model import Choice, Extra, FinishReason, Message, Request, Response, Text, TokenLogprob
from tollhouse.chat.sse import Parser
from tollhouse.chat.usage import Usage
from tollhouse.dialects import anthropic, openai_chat
from tollhouse.dialects.dialect import Dialect
from tollhouse.errors import ProviderError
from tollhouse.policy.identity import Principal
from tollhouse.policy.response_cache import (
    COMPRESSED_FROM_BYTES,
    KEPT_FINISHES,
    MAX_ENTRY_BYTES,
    SILENT,
    Directives,
    Kept,
    MemoryAnswers,
    ResponseCache,
    ScopeKind,
    Target,
    directives_of,
    may_be_kept,
    pack,
    unpack,
)

KEY = b"k" * 32
TARGET = Target(provider="p", base_url="https://p.example", model="m")
ASKED = Request(model="m", messages=(Message("user", (Text("Hello"),)),))
DIALECTS: dict[str, tuple[Dialect[Any], Any]] = {
    "openai-chat": (openai_chat.DIALECT, openai_chat.OPENAI),
    "anthropic-messages": (anthropic.DIALECT, anthropic.AnthropicTraits()),
}


def answer(text: str = "Hi", finish: FinishReason | None = "stop") -> Response:
    return Response(
        id="a1",
        model="m",
        created=5,
        choices=(Choice(parts=(Text(text),), finish=finish),),
        usage=Usage(input_tokens=3, output_tokens=1, source="reported"),
    )


class Wall:
    """A wall clock that is set."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


class Store:
    """Keeps everything for ever."""

    is_away = False

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.is_closed = False

    async def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    async def put(self, key: bytes, entry: bytes) -> None:
        self.entries[key] = entry

    async def aclose(self) -> None:
        self.is_closed = True


def cache(
    store: Store | MemoryAnswers | None = None, *, scope: ScopeKind = "tenant", wall: Wall | None = None
) -> ResponseCache:
    return ResponseCache(store or Store(), ttl_seconds=600, scope=scope, wall=wall or Wall())


# ------------------------------------------------------------------------------------------------------- find and keep


async def test_what_was_kept_is_found():
    one = cache()
    assert await one.find(KEY, SILENT) is None
    assert await one.keep(KEY, answer(), lost="dropped seed: not known")
    hit = await one.find(KEY, SILENT)
    assert hit is not None
    assert (hit.response, hit.age_seconds, hit.lost) == (answer(), 0, "dropped seed: not known")


async def test_a_tenant_is_never_given_another_tenants_answer():
    one = cache(MemoryAnswers(max_bytes=1_000_000, ttl_seconds=600, monotonic=Wall()))
    mine = one.key(ASKED, TARGET, Principal(key="a", tenant="research"))
    assert await one.keep(mine, answer("of research"))
    for other in (
        Principal(key="a", tenant="sales"),
        Principal(key="research", tenant=""),
        Principal(key="a"),
        Principal(key="", subject="research"),
    ):
        assert await one.find(one.key(ASKED, TARGET, other), SILENT) is None
    colleague = one.key(ASKED, TARGET, Principal(key="b", tenant="research", project="p"))
    hit = await one.find(colleague, SILENT)
    assert hit is not None
    assert hit.response == answer("of research")


async def test_callers_without_a_tenant_are_not_one_tenant():
    one = cache()
    assert await one.keep(one.key(ASKED, TARGET, Principal(key="a")), answer())
    assert await one.find(one.key(ASKED, TARGET, Principal(key="b")), SILENT) is None
    assert await one.find(one.key(ASKED, TARGET, Principal(key="a")), SILENT) is not None


async def test_an_answer_grows_older_and_ends():
    wall = Wall()
    one = cache(wall=wall)
    await one.keep(KEY, answer())
    ages = []
    start = wall.now
    for wall.now in (start, start + 1.9, start + 599.9, start + 600, start + 5000):
        hit = await one.find(KEY, SILENT)
        ages.append(None if hit is None else hit.age_seconds)
    assert ages == [0, 1, 599, None, None]


async def test_a_clock_that_was_set_back_makes_no_negative_age():
    wall = Wall()
    one = cache(wall=wall)
    await one.keep(KEY, answer())
    wall.now -= 100
    hit = await one.find(KEY, SILENT)
    assert hit is not None
    assert hit.age_seconds == 0


async def test_who_asks_anew_is_not_given_what_is_kept():
    one = cache()
    await one.keep(KEY, answer())
    assert await one.find(KEY, Directives(reads=False)) is None


async def test_who_limits_the_age_is_given_nothing_older():
    wall = Wall()
    one = cache(wall=wall)
    await one.keep(KEY, answer())
    wall.now += 30
    assert await one.find(KEY, Directives(max_age_seconds=29)) is None
    assert await one.find(KEY, Directives(max_age_seconds=30)) is not None


async def test_who_takes_no_age_at_all_is_given_nothing_kept():
    one = cache()
    await one.keep(KEY, answer())
    assert await one.find(KEY, Directives(max_age_seconds=0)) is None


async def test_an_answer_without_a_time_gets_the_one_at_which_it_was_kept():
    """So that every hit says the same."""
    wall = Wall()
    one = cache(wall=wall)
    await one.keep(KEY, msgspec.structs.replace(answer(), created=None))
    wall.now += 10
    hit = await one.find(KEY, SILENT)
    assert hit is not None
    assert hit.response.created == 1_790_000_000


async def test_a_newer_answer_takes_the_place_of_an_older_one():
    one = cache()
    await one.keep(KEY, answer("old"))
    await one.keep(KEY, answer("new"))
    hit = await one.find(KEY, SILENT)
    assert hit is not None
    assert hit.response == answer("new")


async def test_closing_closes_the_store():
    store = Store()
    await cache(store).aclose()
    assert store.is_closed


# ----------------------------------------------------------------------------------------------------- what may be kept


@pytest.mark.parametrize("finish", [*FinishReason.__args__, None])  # type: ignore[attr-defined]  # a Literal has them
async def test_only_answers_that_came_to_their_end_are_kept(finish: FinishReason | None):
    one = cache()
    expected = finish in {"stop", "stop_sequence", "tool_calls", "length"}
    assert await one.keep(KEY, answer(finish=finish)) == expected
    assert (await one.find(KEY, SILENT) is not None) == expected


def test_every_choice_must_have_come_to_its_end():
    whole, filtered = answer().choices[0], Choice(index=1, finish="content_filter")
    assert may_be_kept(msgspec.structs.replace(answer(), choices=(whole, whole)))
    assert not may_be_kept(msgspec.structs.replace(answer(), choices=(whole, filtered)))
    assert not may_be_kept(msgspec.structs.replace(answer(), choices=()))


async def test_an_answer_that_is_too_large_is_not_kept():
    one = cache()
    assert not await one.keep(KEY, answer("x" * MAX_ENTRY_BYTES))
    assert await one.find(KEY, SILENT) is None


async def test_an_answer_that_json_cannot_say_is_not_kept():
    assert not await cache().keep(KEY, answer("half of a pair: \ud800"))


# -------------------------------------------------------------------------------------------------------------- entries


def kept(response: Response) -> Kept:
    return Kept(response=response, kept_at=1.5, lost="")


@given(responses())
def test_an_entry_is_what_was_packed(response: Response):
    entry = pack(kept(response))
    assert entry is not None
    assert unpack(entry) == kept(response)


@pytest.mark.parametrize(
    "recording",
    [one for one in everything().values() if one.dialect in DIALECTS and not one.is_error],
    ids=by_id,
)
def test_every_recorded_answer_survives_being_kept(recording: Recording):
    dialect, traits = DIALECTS[recording.dialect]
    try:
        if recording.is_stream:
            decoder = dialect.stream_decoder(traits)
            parser = Parser()
            frames = [*parser.feed(recording.response.body), *parser.close()]
            response = fold([event for frame in frames for event in decoder.feed(frame)] + [*decoder.close()])
        else:
            response = dialect.decode_response(recording.response.body, traits)
    except ProviderError:
        pytest.skip("it is an error in disguise, which is never kept")
    entry = pack(kept(response))
    assert entry is not None
    back = unpack(entry)
    assert back is not None
    # Answers that carry raw JSON lose its blanks.
    assert back == kept(response) or plainly(back.response) == plainly(response)


def plainly(response: Response) -> Any:
    return msgspec.json.decode(msgspec.json.encode(response))


def test_what_one_dialect_alone_knows_is_kept_but_for_the_blanks():
    """Numbers stay as they were spelled and keys in their order; line breaks would tear an event of a stream apart."""
    extra = Extra("openai_chat", {"b": msgspec.Raw(b'{"z":1,\n  "a": 2.50, "c": "x\\n y"}'), "a": msgspec.Raw(b"1e2")})
    entry = pack(kept(msgspec.structs.replace(answer(), extra=extra)))
    assert entry is not None
    back = unpack(entry)
    assert back is not None
    assert back.response.extra == Extra(
        "openai_chat", {"b": msgspec.Raw(b'{"z":1,"a":2.50,"c":"x\\n y"}'), "a": msgspec.Raw(b"1e2")}
    )


def test_a_large_entry_is_compressed_and_a_small_one_is_not():
    small, large = pack(kept(answer("a" * 100))), pack(kept(answer("a" * COMPRESSED_FROM_BYTES)))
    assert small is not None
    assert small.startswith(b"{")
    assert large is not None
    assert len(large) < 1000
    assert unpack(large) == kept(answer("a" * COMPRESSED_FROM_BYTES))


def test_what_is_no_entry_is_a_miss():
    """A shared store holds what others write; nothing in it may fail a call."""
    entry = pack(kept(answer("a" * COMPRESSED_FROM_BYTES)))
    assert entry is not None
    source = random.Random(7)
    strange = [
        b"",
        b"{",
        b"{}",
        b"null",
        b"z",
        b"zzzz",
        b'{"response":7}',
        b"\xff\xfe",
        entry[:-1],
        entry[:20],
        b"z" + zlib.compress(b" " * (MAX_ENTRY_BYTES + 1)),
        b"z" + zlib.compress(b"[" * 200_000),
        b'{"response":' + b'{"a":' * 5000,
        *(source.randbytes(50) for _ in range(50)),
    ]
    assert [unpack(one) for one in strange] == [None] * len(strange)


async def test_a_damaged_entry_is_asked_for_anew():
    store = Store()
    one = cache(store)
    store.entries[KEY] = b"{"
    assert await one.find(KEY, SILENT) is None
    await one.keep(KEY, answer())
    assert await one.find(KEY, SILENT) is not None


async def test_an_infinite_number_in_an_answer_is_at_worst_a_miss():
    """JSON has no word for it, and what it has instead is not read as a number."""
    odd = Choice(parts=(Text("Hi"),), finish="stop", logprobs=(TokenLogprob("Hi", float("-inf")),))
    one = cache()
    await one.keep(KEY, msgspec.structs.replace(answer(), choices=(odd,)))
    assert await one.find(KEY, SILENT) is None


# ----------------------------------------------------------------------------------------------------------- directives


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((), Directives()),
        ((b"",), Directives()),
        ((b"no-store",), Directives(reads=False, keeps=False)),
        ((b"no-cache",), Directives(reads=False)),
        ((b"No-Cache",), Directives(reads=False)),
        ((b"no-cache, no-store",), Directives(reads=False, keeps=False)),
        ((b"no-cache", b"no-store"), Directives(reads=False, keeps=False)),
        ((b"max-age=60",), Directives(max_age_seconds=60)),
        ((b" max-age = 60 ",), Directives(max_age_seconds=60)),
        ((b'max-age="60"',), Directives(max_age_seconds=60)),
        ((b"max-age=60, max-age=5",), Directives(max_age_seconds=5)),
        ((b"max-age=0",), Directives(max_age_seconds=0)),
        ((b"max-age=-1",), Directives(max_age_seconds=0)),
        ((b"max-age=soon",), Directives(max_age_seconds=0)),
        ((b"max-age=99999999999999999999",), Directives(max_age_seconds=0)),
        ((b"max-age",), Directives(max_age_seconds=0)),
        ((b"max-age=\xb2",), Directives(max_age_seconds=0)),
        ((b"min-fresh=5, only-if-cached, x-no-store, no-store-please",), Directives()),
        ((b"\xff\xfe,,;=,", b",no-cache,"), Directives(reads=False)),
    ],
)
def test_the_caller_is_understood(fields: tuple[bytes, ...], expected: Directives):
    headers = [(b"accept", b"no-store"), *((b"cache-control", field) for field in fields)]
    assert directives_of(headers) == expected


@given(st.lists(st.binary(max_size=30), max_size=4))
def test_no_header_is_too_strange(fields: list[bytes]):
    directives_of([(b"cache-control", field) for field in fields])


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        (Directives(), True),
        (Directives(reads=False), False),
        (Directives(reads=False, keeps=False), False),
        (Directives(max_age_seconds=0), False),
        (Directives(max_age_seconds=5), True),
    ],
)
def test_who_wants_an_answer_of_their_own_shares_no_call(directives: Directives, expected: bool):
    assert directives.shares is expected


def test_the_words_for_a_finish_that_is_kept_are_known_ones():
    assert set(FinishReason.__args__) >= KEPT_FINISHES  # type: ignore[attr-defined]  # a Literal has them
