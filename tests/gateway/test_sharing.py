"""Which calls are answered from the cache, with others, or alone; without a gateway behind it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.holds import Holds
from tollhouse.chat.model import Choice, Response, Text
from tollhouse.chat.usage import Usage
from tollhouse.config.schema import ProviderSettings
from tollhouse.config.secret import Secret
from tollhouse.dialects import anthropic, openai_chat
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.head_lines import Field
from tollhouse.errors import ModelNotFound, RateLimited, UpstreamTruncated
from tollhouse.gateway.call import Call, Headers, Sink, Tracing
from tollhouse.gateway.coalesce import Coalescer, Flight
from tollhouse.gateway.routing import Candidate, Route
from tollhouse.gateway.sharing import Asked, Keeper, Sharing, answer
from tollhouse.ledger.record import CallRecord
from tollhouse.policy.admission import Admission, Ask, Hold
from tollhouse.policy.identity import Principal
from tollhouse.policy.response_cache import MemoryAnswers, ResponseCache
from tollhouse.providers.registry import build
from tollhouse.upstream.address import parse_address
from tollhouse.upstream.transport import Deadlines, Incoming, Outgoing

SAID = Response(
    id="a",
    model="m",
    created=1,
    choices=(Choice(parts=(Text("Toll."),), finish="stop"),),
    usage=Usage(input_tokens=3, output_tokens=1, source="reported"),
)


class NoTransport:
    """Nothing is opened here."""

    async def send(self, request: Outgoing, deadlines: Deadlines) -> Incoming:
        raise AssertionError

    async def aclose(self) -> None:
        raise AssertionError


def candidate(name: str, model: str = "m", kind: str = "openai-compatible", url: str | None = None) -> Candidate:
    provider = build(
        ProviderSettings(name=name, type=kind, api_key=Secret("x"), base_url=url or f"http://{name}.test/v1")
    )
    return Candidate(
        provider=provider,
        model=model,
        traits=provider.traits_for(model),
        transport=NoTransport(),
        address=parse_address(provider.base_url),
        target=b"/",
        stream_target=b"/",
        embeddings_target=None,
        deadlines=Deadlines(),
        where="",
        price=None,
        label=f"{name}/{model}".encode(),
        name=f"{name}/{model}",
    )


LAB, DEN = candidate("lab"), candidate("den")


class Wire:
    """A client's end."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.got = b""
        self.is_whole = False

    async def head(self, status: int, headers: Headers) -> None:
        self.status, self.headers = status, dict(headers)

    async def body(self, data: bytes, *, more: bool) -> None:
        self.got += data
        self.is_whole = not more

    @property
    def word(self) -> str:
        return self.headers.get(b"x-tollhouse-cache", b"").decode()


@dataclass
class House:
    """What a gateway would be to `sharing`, and a run that says `SAID`."""

    caches: bool = True
    coalesces: bool = False
    route: Route = field(default_factory=lambda: Route(name="smart", candidates=(LAB, DEN)))
    answers_with: Candidate = LAB
    response: Response | None = SAID
    shows_receipts: bool = True
    tracing: Tracing | None = None
    admission: Admission = field(default_factory=Holds)
    now: float = 100.0

    def __post_init__(self) -> None:
        self.rows: list[CallRecord] = []
        self.runs = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.lost = ""
        store = MemoryAnswers(max_bytes=1_000_000, ttl_seconds=600, monotonic=self.monotonic)
        self.sharing = Sharing(
            cache=ResponseCache(store, ttl_seconds=600, scope="tenant", wall=self.wall) if self.caches else None,
            coalescer=Coalescer(unexpected=self._unexpected) if self.coalesces else None,
        )

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_790_000_000.0 + self.now

    def _unexpected(self, error: BaseException) -> None:
        raise error

    def write(self, record: CallRecord) -> "asyncio.Future[None]":
        self.rows.append(record)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.set_result(None)
        return written

    async def carry(self, call: Call, sink: Sink, asked: Asked | None, keeper: Keeper | None) -> None:
        del call, asked
        self.runs += 1
        await self.may_end.wait()
        await sink.head(200, ((b"x-tollhouse-model", self.answers_with.label),))
        if keeper is not None:
            await keeper.keep(self.answers_with, self.response, self.lost)
        await sink.body(b"from the run", more=False)

    def resolve(self, model: str) -> Route:
        if model == "nobody":
            raise ModelNotFound(model)
        return self.route

    async def ask(
        self,
        *,
        dialect: Dialect[Any] = openai_chat.DIALECT,
        headers: Sequence[Field] = (),
        tenant: str = "research",
        body: bytes | None = None,
        **fields: object,
    ) -> Wire:
        question = {"model": "smart", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}], **fields}
        call = Call(
            id="req_1",
            door="door",
            dialect=dialect,
            body=msgspec.json.encode(question) if body is None else body,
            headers=headers,
            principal=Principal(key="dev", tenant=tenant),
            address="",
            arrived=self.now,
            arrived_at_us=7,
        )
        wire = Wire()
        await answer(self.sharing, self, call, wire, route=self.resolve, carry=self.carry)
        return wire


# ------------------------------------------------------------------------------------------------------------------- hits


async def test_a_hit_makes_no_call_and_has_a_row_at_no_cost():
    house = House()
    first = await house.ask()
    house.now += 5
    again = await house.ask()
    assert (first.word, again.word, house.runs) == ("miss", "hit", 1)
    assert (again.status, again.is_whole, again.headers[b"age"]) == (200, True, b"5")
    assert again.headers[b"content-type"] == b"application/json"
    assert again.headers[b"x-tollhouse-model"] == b"lab/m"
    assert msgspec.json.decode(again.got)["choices"][0]["message"]["content"] == "Toll."
    (row,) = house.rows
    assert (row.lane, row.cache, row.cost_nano, row.usage, row.attempts) == ("hit", "hit", 0, Usage(), ())
    assert (row.id, row.key, row.tenant, row.provider, row.model) == ("req_1", "dev", "research", "lab", "m")
    assert (row.status, row.outcome, row.finish, row.requested_model) == (200, "ok", "stop", "smart")


async def test_a_hit_is_given_in_the_form_and_the_dialect_that_is_asked_for():
    house = House()
    await house.ask()
    stream = await house.ask(stream=True)
    other = await house.ask(dialect=anthropic.DIALECT)
    assert (stream.word, other.word, house.runs) == ("hit", "hit", 1)
    assert stream.got.endswith(b"data: [DONE]\n\n")
    assert stream.headers[b"content-type"].startswith(b"text/event-stream")
    assert msgspec.json.decode(other.got)["content"][0]["text"] == "Toll."


async def test_what_was_lost_on_the_way_there_is_said_with_every_hit():
    house = House()
    house.lost = "dropped seed: not known"
    await house.ask()
    hit = await house.ask()
    assert hit.headers[b"x-tollhouse-receipt"] == b"dropped seed: not known"
    assert house.rows[0].receipt == "dropped seed: not known"
    house.shows_receipts = False
    assert b"x-tollhouse-receipt" not in (await house.ask()).headers


async def test_another_tenant_is_not_given_it():
    house = House()
    await house.ask()
    assert (await house.ask(tenant="sales")).word == "miss"
    assert (await house.ask(tenant="")).word == "miss"


async def test_an_answer_is_kept_for_those_whose_first_choice_gave_it():
    """After a failover it is the other candidate's answer, and no hit for who would be answered by the first again."""
    house = House(answers_with=DEN)
    await house.ask()
    assert (await house.ask()).word == "miss"
    house.route = Route(name="other", candidates=(DEN,))
    assert (await house.ask()).word == "hit"


async def test_a_strict_model_is_not_given_what_a_lenient_one_lost():
    house = House()
    await house.ask()
    house.route = replace(house.route, strict=True)
    assert (await house.ask()).word == "miss"


async def test_another_address_of_the_same_name_is_another_provider():
    house = House()
    await house.ask()
    house.route = Route(name="smart", candidates=(candidate("lab", url="http://elsewhere.test/v1"),))
    assert (await house.ask()).word == "miss"


async def test_headers_that_travel_to_the_provider_are_part_of_the_question():
    claude = candidate("claude", kind="anthropic", url="http://claude.test")
    house = House(route=Route(name="smart", candidates=(claude,)), answers_with=claude)
    beta: Sequence[Field] = ((b"anthropic-beta", b"one"),)
    words = [
        (await house.ask(dialect=anthropic.DIALECT, headers=headers)).word
        for headers in ((), beta, beta, ((b"anthropic-beta", b"two"),), ((b"user-agent", b"whoever"),))
    ]
    assert words == ["miss", "miss", "hit", "miss", "hit"]
    # An OpenAI client's headers stay here.
    assert [(await house.ask(headers=headers)).word for headers in ((), beta)] == ["hit", "hit"]


async def test_an_answer_that_could_not_be_read_is_not_kept():
    house = House(response=None)
    assert [(await house.ask()).word for _ in range(2)] == ["miss", "miss"]


# --------------------------------------------------------------------------------------------------------------- the say


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (b"no-store", ["off", "off"]),
        (b"no-cache", ["miss", "miss"]),
        (b"max-age=3", ["miss", "hit"]),
    ],
)
async def test_the_caller_has_a_say(says: bytes, words: list[str]):
    house = House()
    headers: Sequence[Field] = ((b"cache-control", says),)
    assert [(await house.ask(headers=headers)).word for _ in words] == words
    assert (await house.ask()).word == ("miss" if says == b"no-store" else "hit")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model":"nobody","messages":[]}', b'{"model":"smart","messages":7}']
)
async def test_what_cannot_be_read_goes_its_way(body: bytes):
    house = House(coalesces=True)
    assert (await house.ask(body=body)).got == b"from the run"
    assert house.runs == 1


@given(st.binary(max_size=60))
async def test_no_body_is_too_strange_to_be_looked_at(body: bytes):
    assert (await House().ask(body=body)).got == b"from the run"


# ---------------------------------------------------------------------------------------------------------------- flights


async def together(house: House, *asks: dict[str, Any]) -> list[Wire]:
    """All at once: the run ends when all have come."""
    house.may_end.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(house.ask(**fields)) for fields in asks]
        for _ in range(10):
            await asyncio.sleep(0)
        house.may_end.set()
    return [task.result() for task in tasks]


async def test_identical_calls_are_made_once_for_all():
    house = House(caches=False, coalesces=True)
    wires = await together(house, {}, {}, {})
    assert house.runs == 1
    assert [wire.got for wire in wires] == [b"from the run"] * 3
    assert [wire.word for wire in wires] == ["", "shared", "shared"]
    assert [(row.lane, row.cost_nano) for row in house.rows] == [("shared", 0)] * 2


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "sales"},
        {"tenant": ""},
        {"stream": True},
        {"seed": 7},
        {"dialect": anthropic.DIALECT},
        {"headers": ((b"cache-control", b"no-cache"),)},
        {"headers": ((b"cache-control", b"no-store"),)},
        {"headers": ((b"cache-control", b"max-age=0"),)},
    ],
    ids=["another tenant", "no tenant", "streamed", "seed", "dialect", "no-cache", "no-store", "max-age"],
)
async def test_what_differs_is_made_apart(other: dict[str, Any]):
    house = House(coalesces=True)
    wires = await together(house, {}, other)
    assert house.runs == 2
    assert "shared" not in {wire.word for wire in wires}


async def test_callers_who_may_use_different_providers_share_no_flight():
    """The one with more rights could be answered, after a failure, by a provider that the other may not use."""
    house = House(caches=False, coalesces=True)
    house.may_end.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(house.ask())
        for _ in range(5):
            await asyncio.sleep(0)
        house.route = replace(house.route, candidates=(LAB,))
        group.create_task(house.ask())
        for _ in range(5):
            await asyncio.sleep(0)
        house.may_end.set()
    assert house.runs == 2


async def test_a_shared_call_is_kept_too():
    house = House(coalesces=True)
    wires = await together(house, {}, {})
    assert [wire.word for wire in wires] == ["miss", "shared"]
    assert (await house.ask()).word == "hit"


async def test_a_shared_error_is_said_in_each_callers_words():
    house = House(caches=False, coalesces=True)

    async def carry(call: Call, sink: Sink, asked: Asked | None, keeper: Keeper | None) -> None:
        del call, asked, keeper
        assert isinstance(sink, Flight)
        await house.may_end.wait()
        sink.fail(UpstreamTruncated("It was cut."))

    house.carry = carry  # type: ignore[method-assign]  # another run
    for wire in await together(house, {}, {}):
        assert (wire.status, wire.headers[b"content-type"]) == (502, b"application/json")
        assert b"provider_truncated" in wire.got


class Shut:
    """An admission that lets nobody in."""

    async def admit(self, ask: Ask) -> Hold:
        del ask
        raise RateLimited("Too fast.", retry_after_seconds=1)

    async def check(self) -> None:
        pass

    async def forget_sums(self) -> None:
        pass


async def test_a_kept_answer_takes_a_request_from_the_rates() -> None:
    """Where there is none left, the run refuses in the caller's own words."""
    house = House()
    await house.ask()
    assert (await house.ask()).word == "hit"
    runs = house.runs
    house.admission = Shut()
    assert (await house.ask()).word != "hit"
    assert house.runs == runs + 1
