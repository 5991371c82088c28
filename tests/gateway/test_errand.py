"""Calls that are no conversation, without a network: what stands in the row and what is held, however they end."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from gateway.test_routing import candidate, provider, router
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.errors import BadRequest, ClientLeft, ProviderRefused, Quota, TollhouseError, UpstreamTimeout
from tollhouse.gateway.call import Call
from tollhouse.gateway.errand import Answered, Run, expect_success
from tollhouse.gateway.pipeline import Gateway
from tollhouse.gateway.plan import RetryPolicy
from tollhouse.gateway.routing import Candidate, Route
from tollhouse.gateway.weight import Scales
from tollhouse.ledger.prices import ModelPrice, PriceBook, Rates
from tollhouse.ledger.record import CallRecord
from tollhouse.policy.admission import Ask, Weight
from tollhouse.policy.identity import ANONYMOUS
from tollhouse.upstream.health import HealthBook
from tollhouse.upstream.transport import Deadlines, Headers, Incoming, Outgoing

LIKELY = Usage(input_tokens=100, output_tokens=0, source="estimated")
PRICES = PriceBook.load({"lab/*": Rates(input=1_000_000_000, output=0)})
COST = 100_000
"""Of what is likely, in nano-USD: a dollar for a million tokens."""


@dataclass
class Answer:
    """A provider's answer."""

    status: int = 200
    headers: Headers = ()

    def header(self, name: bytes) -> bytes | None:
        return next((value for known, value in self.headers if known == name), None)

    async def read_some(self) -> bytes:
        return b""

    async def read_all(self, limit_bytes: int) -> bytes:
        del limit_bytes
        return b"{}"

    def close(self) -> None:
        pass


@dataclass
class Scripted:
    """A transport that gives these answers, one for each request, and tells when the last was given."""

    answers: list[Answer | TollhouseError]
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, request: Outgoing, deadlines: Deadlines) -> Incoming:
        del request, deadlines
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if not self.answers:
            self.is_over.set()
        if isinstance(answer, TollhouseError):
            raise answer
        return answer

    async def aclose(self) -> None:
        raise AssertionError


@dataclass
class Errand:
    """Reads an answer as `reading` does."""

    reading: Callable[[], Answered[str]] = lambda: Answered(
        "yes", Usage(input_tokens=7, output_tokens=0, source="reported")
    )
    is_free: bool = False

    def request(self, candidate: Candidate, receipt: Receipt) -> Outgoing:
        del receipt
        return Outgoing(address=candidate.address, method=b"POST", target=b"/", headers=[], body=b"")

    def weigh(self, candidate: Candidate, price: ModelPrice | None) -> Weight:
        del candidate, price
        return Weight(1, 1, 1, 1)

    def likely(self) -> Usage:
        return LIKELY

    def flat_nano(self, candidate: Candidate) -> int | None:
        del candidate
        return None

    async def read(self, incoming: Incoming, candidate: Candidate) -> Answered[str]:
        await expect_success(incoming, candidate, 0.0)
        return self.reading()


@dataclass
class Books:
    """Keeps rows; and is an admission whose holds tell how they were settled."""

    held_nano: int = 0
    waited_seconds = 0.0
    quotas: Sequence[Quota] = ()
    rows: list[CallRecord] = field(default_factory=list)
    settled: list[int | None] = field(default_factory=list)

    def write(self, record: CallRecord) -> "asyncio.Future[None]":
        self.rows.append(record)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.set_result(None)
        return written

    async def admit(self, ask: Ask) -> "Books":
        del ask
        return self

    async def extend(self, ask: Ask) -> None:
        raise AssertionError(ask)

    async def check(self) -> None:
        raise AssertionError

    async def forget_sums(self) -> None:
        raise AssertionError

    def settle(self, *, cost_nano: int | None, input_tokens: int | None, output_tokens: int | None) -> None:
        del input_tokens, output_tokens
        self.settled.append(cost_nano)


async def settled(books: Books) -> list[int | None]:
    """With what holds were settled, once rows are safe."""
    await asyncio.sleep(0)
    return books.settled


def run(books: Books, errand: Errand, answers: Scripted, *models: str) -> Run[str]:
    """`models` are the candidates: of provider `lab`, `small` alone unless given."""
    gateway = Gateway(
        router=router(),
        books=books,
        prices=PRICES,
        admission=books,
        scales=Scales(),
        health=HealthBook(["lab"]),
        retry=RetryPolicy(max_attempts=2),
        shows_receipts=False,
        bodies=None,
        masks=None,
        shown=str,
        finished=lambda _: None,
        unexpected=lambda _, error: pytest.fail(repr(error)),
        monotonic=lambda: 0.0,
        wall=lambda: 0.0,
        random=lambda: 1.0,
    )
    call = Call(
        id="req_1",
        door="test",
        dialect=DIALECT,
        body=b"",
        headers=(),
        principal=ANONYMOUS,
        address="",
        arrived=0.0,
        arrived_at_us=0,
    )
    lab = provider("lab")
    candidates = tuple(
        replace(candidate(lab, model, None), transport=answers, price=PRICES.find(lab.kind, model, provider=lab.name))
        for model in models or ("small",)
    )
    route = Route(name=candidates[0].name, candidates=candidates)
    return Run(gateway, call, errand, route, model="small", lane="same")


async def left_while_waiting(books: Books, first: Answer | TollhouseError) -> None:
    """The client leaves while the gateway waits to ask again."""
    script = Scripted([first])
    task = asyncio.get_running_loop().create_task(run(books, Errand(), script).go())
    await script.is_over.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_who_leaves_after_a_refusal_pays_nothing():
    books = Books()
    await left_while_waiting(books, Answer(503, ((b"retry-after", b"5"),)))
    (row,) = books.rows
    assert (row.outcome, [attempt.outcome for attempt in row.attempts]) == (ClientLeft.code, [ProviderRefused.code])
    assert (row.cost_nano, row.usage, await settled(books)) == (0, Usage(), [0])


async def test_who_leaves_after_a_silence_pays_what_is_likely():
    books = Books()
    script = Scripted([])
    task = asyncio.get_running_loop().create_task(run(books, Errand(), script).go())
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(row.cost_nano, row.usage) for row in books.rows] == [(COST, LIKELY)]
    assert await settled(books) == [COST]


class Crowded(Books):
    """Has no room for a second candidate, and never will."""

    async def extend(self, ask: Ask) -> None:
        del ask
        await asyncio.Event().wait()


async def test_who_leaves_while_another_candidate_has_no_room_yet_pays_the_one_before_it():
    books = Crowded()
    script = Scripted([UpstreamTimeout("Slow.", phase="first_byte")])
    task = asyncio.get_running_loop().create_task(run(books, Errand(), script, "small", "large").go())
    await script.is_over.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(row.model, row.cost_nano, row.usage) for row in books.rows] == [("small", COST, LIKELY)]


@pytest.mark.parametrize("error", [BadRequest("No form for this."), ClientLeft("Gone."), ValueError("A defect.")])
async def test_an_answer_that_cannot_be_given_on_has_its_row(error: Exception):
    def fails() -> Answered[str]:
        raise error

    books = Books()
    with pytest.raises(type(error)):
        await run(books, Errand(fails), Scripted([Answer()])).go()
    (row,) = books.rows
    assert len(row.attempts) == 1
    assert (row.cost_nano, await settled(books)) == (COST, [COST])


@pytest.mark.parametrize(
    ("held_nano", "cost"), [(0, None), (1_000_000, COST)], ids=["without a budget", "with one that holds money"]
)
async def test_an_answer_without_usage_is_estimated_where_money_is_held(held_nano: int, cost: int | None):
    books = Books(held_nano)
    outcome = await run(books, Errand(lambda: Answered("yes", Usage())), Scripted([Answer()])).go()
    assert (outcome.answer, outcome.record.cost_nano, await settled(books)) == ("yes", cost, [cost])


async def test_a_failed_errand_is_settled_once_and_for_the_answer_that_came():
    books = Books()
    outcome = await run(books, Errand(), Scripted([UpstreamTimeout("Slow.", phase="connect"), Answer()])).go()
    assert [attempt.was_sent for attempt in outcome.record.attempts] == [False, True]
    assert (len(books.rows), await settled(books)) == (1, [7_000])


async def test_the_first_byte_is_counted_when_it_went_to_the_client():
    reading = Answered("yes", Usage(input_tokens=7, output_tokens=0, source="reported"), began_at=0.25)
    outcome = await run(Books(), Errand(lambda: reading), Scripted([Answer()])).go()
    assert outcome.record.first_byte_us == 250_000
