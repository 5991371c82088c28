"""Rating calls again: rows, totals and old amounts stay in step, whatever happens in between."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from support.books import BOOK, MTOK, USED, ask, costs, everything, keep, priced, write
from support.call_records import NOON_US, make_call
from tollhouse.chat.usage import Usage
from tollhouse.errors import CallLost, StoreUnavailable
from tollhouse.ledger import rerate as module
from tollhouse.ledger import store
from tollhouse.ledger.audit_store import Filter, open_audit
from tollhouse.ledger.price_books import KeptBook, Shelf
from tollhouse.ledger.prices import PriceBook, Rates
from tollhouse.ledger.rerate import Order, Outcome, Tally, rerate
from tollhouse.ledger.rows import row_of
from tollhouse.ledger.stored_calls import PAGE_ROWS, Wanted
from tollhouse.ledger.verify import Question, verify

DEARER = PriceBook.load({"openai/*": Rates(input=4 * MTOK, cache_read=MTOK, output=20 * MTOK)})
"""`USED` costs 4.80 dollars instead of 2.60; of claude it says nothing."""
LIST = PriceBook(
    b'{"version":"ours-1","source":"us","providers":{"openai":{"models":[["all",["^gpt"],[[[1000000000,5000000000]]]]]}}}'
)
"""A compiled book that knows one provider: `USED` costs 1.50 dollars."""
SECOND_US = 1_000_000


@pytest.fixture
def url(url: str) -> str:
    """Three calls of two providers, and their prices."""
    return _filled(url)


@pytest.fixture
def any_url(any_url: str) -> str:
    """The same in both databases."""
    return _filled(any_url)


def _filled(address: str) -> str:
    keep(address)
    write(
        address,
        [priced("a"), priced("b", at=60, model="gpt-5.2"), priced("c", at=120, provider="claude", model="opus")],
    )
    return address


def order(prices: PriceBook = DEARER, *, is_list: bool = False, **wanted: Any) -> Order:
    return Order(
        wanted=Wanted()._replace(**wanted),
        book=KeptBook(prices, {"openai": ("openai",), "claude": ("anthropic",)}),
        only_overrides=not is_list,
        actor="cli:ann",
    )


def rate(url: str, what: Order | None = None, *, is_dry: bool = False) -> Outcome:
    return rerate(url, what or order(), now_us=lambda: NOON_US, pause=lambda seconds: None, is_dry=is_dry)


def still_adds_up(url: str) -> bool:
    return verify(url, Shelf(), Question()).adds_up


def test_only_calls_that_the_file_has_a_price_for_are_rated_again(any_url: str):
    outcome = rate(any_url)

    assert costs(any_url) == {
        "a": (4_800_000_000, DEARER.version),
        "b": (4_800_000_000, DEARER.version),
        "c": (4_500_000_000, BOOK.version),
    }
    assert outcome.models["openai/gpt-5.2"] == Tally(1, 1, 0, 0, 2_600_000_000, 4_800_000_000)
    assert outcome.models["claude/opus"] == Tally(1, 0, 1, 0, 4_500_000_000, 4_500_000_000)
    assert outcome.total.now_nano - outcome.total.was_nano == 2 * 2_200_000_000


def test_a_compiled_book_rates_all_that_it_knows(url: str):
    rate(url, order(LIST, is_list=True))

    assert costs(url)["a"] == (1_500_000_000, "ours-1")
    assert costs(url)["c"] == (4_500_000_000, BOOK.version)


def test_totals_follow_and_old_amounts_are_kept(any_url: str):
    outcome = rate(any_url)

    assert still_adds_up(any_url)
    assert ask(any_url, "SELECT CAST(sum(cost_nano) AS bigint) FROM spend_hours") == [(14_100_000_000,)]
    assert outcome.rerate == 1
    assert ask(
        any_url,
        "SELECT calls.id, rerate, was_nano, was_version, now_nano FROM rerated_calls JOIN calls USING (seq) ORDER BY id",
    ) == [(name, 1, 2_600_000_000, BOOK.version, 4_800_000_000) for name in ("a", "b")]
    assert ask(any_url, "SELECT changed, was_nano, now_nano, actor, version FROM rerates") == [
        (2, 5_200_000_000, 9_600_000_000, "cli:ann", DEARER.version)
    ]


def test_a_second_run_changes_nothing(any_url: str):
    rate(any_url)
    before = everything(any_url)
    outcome = rate(any_url)

    assert everything(any_url) == before
    assert (outcome.total.changed, outcome.rerate) == (0, None)


def test_a_dry_run_changes_nothing_and_says_what_the_run_does(url: str):
    before = everything(url)
    dry = rate(url, is_dry=True)

    assert everything(url) == before
    assert dry.rerate is None
    assert rate(url).models == dry.models


def test_rating_back_restores_what_calls_cost(url: str):
    before = ask(url, "SELECT * FROM spend_hours ORDER BY 1, 2, 3, 4, 5, 6, 7")
    rate(url)
    rate(url, order(BOOK))

    assert costs(url)["a"] == (2_600_000_000, BOOK.version)
    assert ask(url, "SELECT * FROM spend_hours ORDER BY 1, 2, 3, 4, 5, 6, 7") == before
    assert ask(url, "SELECT count(*) FROM rerated_calls") == [(4,)]


def test_workers_are_told_with_each_change_and_only_then(url: str):
    rate(url)
    assert ask(url, "SELECT revision FROM books_state") == [(1,)]
    rate(url)
    assert ask(url, "SELECT revision FROM books_state") == [(1,)]


def test_the_audit_log_says_who_rated_what_again(any_url: str):
    rate(any_url, order(from_us=NOON_US, model="gpt-5.2"))
    log = open_audit(any_url)
    end, begin = log.newest(Filter(), 10)

    assert log.verify().is_whole
    log.close()
    assert (begin.actor, begin.action, begin.object) == ("cli:ann", "ledger.rerate", "rerate:1")
    assert begin.changes == (f'{{"from":"2026-11-21T12:00:00+00:00","model":"gpt-5.2","prices":"{DEARER.version}"}}')
    assert (end.action, end.changes) == (
        "ledger.rerate_end",
        '{"changed":1,"now_nano":4800000000,"was_nano":2600000000}',
    )


@pytest.mark.parametrize(
    ("wanted", "changed"),
    [
        ({"from_us": NOON_US + 60 * SECOND_US}, ["b"]),
        ({"before_us": NOON_US + 60 * SECOND_US}, ["a"]),
        ({"model": "gpt-5.2"}, ["b"]),
        ({"model": "openai/gpt-5.2"}, ["b"]),
        ({"model": "claude/gpt-5.2"}, []),
        ({"provider": "openai"}, ["a", "b"]),
        ({"provider": "claude"}, []),
    ],
)
def test_times_models_and_providers_choose_calls(url: str, wanted: dict[str, Any], changed: list[str]):
    rate(url, order(**wanted))

    assert sorted(name for name, (_, version) in costs(url).items() if version == DEARER.version) == changed


def test_a_cost_that_was_not_known_becomes_known(any_url: str):
    write(any_url, [make_call("d", at=180, provider="lab", model="m", usage=USED, cost_nano=None)])
    outcome = rate(any_url, order(PriceBook.load({"lab/*": Rates(input=MTOK, output=0)})))

    assert costs(any_url)["d"][0] == MTOK
    assert outcome.models["lab/m"] == Tally(1, 1, 0, 1, 0, MTOK)
    assert ask(any_url, "SELECT CAST(sum(unknown_cost_calls) AS bigint) FROM spend_hours") == [(0,)]
    assert ask(any_url, "SELECT was_nano FROM rerated_calls") == [(None,)]


@pytest.mark.parametrize(
    "call",
    [
        make_call("d", usage=Usage(), cost_nano=0, outcome="provider_refused"),
        make_call("d", usage=Usage(), cost_nano=None),
        make_call("d", usage=USED, cost_nano=0, attempts=()),
        make_call("d", usage=Usage(input_tokens=9, source="estimated"), cost_nano=77, outcome=CallLost.code),
        make_call("d", usage=Usage(input_tokens=9), cost_nano=None),
    ],
    ids=["refused", "no counts", "a copied answer", "its process died", "half of the counts"],
)
def test_what_prices_say_nothing_about_is_left_alone(url: str, call):
    write(url, [call])
    rate(url)

    assert costs(url)["d"] == (call.cost_nano, call.price_version)


def test_many_calls_are_rated_again_in_batches_and_pages(any_url: str, monkeypatch: pytest.MonkeyPatch):
    assert PAGE_ROWS > module.BATCH_ROWS > 100
    write(any_url, [priced(f"x{number:05}", at=number % 7) for number in range(1200)])
    seen: list[int] = []
    rerate(any_url, order(), now_us=lambda: NOON_US, pause=lambda seconds: None, progress=seen.append)

    assert sum(seen) == 1203
    assert ask(any_url, "SELECT changed FROM rerates") == [(1202,)]
    assert ask(any_url, "SELECT revision FROM books_state") == [(-(-1202 // module.BATCH_ROWS),)]
    assert still_adds_up(any_url)


class Interrupted(Exception):
    """Somebody pressed Ctrl-C."""


def interrupt_after(batches: int) -> Callable[[float], None]:
    left = iter(range(batches - 1))

    def pause(seconds: float) -> None:
        if next(left, None) is None:
            raise Interrupted

    return pause


def test_an_interrupted_run_is_gone_on_with(any_url: str):
    write(any_url, [priced(f"x{number:05}", at=number % 7) for number in range(1200)])
    with pytest.raises(Interrupted):
        rerate(any_url, order(from_us=NOON_US), now_us=lambda: NOON_US, pause=interrupt_after(1))
    assert ask(any_url, "SELECT changed, ended_at_us FROM rerates") == [(module.BATCH_ROWS, None)]
    assert still_adds_up(any_url) is False  # it is said that a run did not end

    # "Seven days ago" is another moment by now: what the first run was to see is seen all the same.
    outcome = rate(any_url, order(from_us=NOON_US + 3600 * SECOND_US))

    assert outcome.continued
    assert outcome.rerate == 1
    assert ask(any_url, "SELECT changed, was_nano, now_nano FROM rerates") == [
        (1202, 1202 * 2_600_000_000, 1202 * 4_800_000_000)
    ]
    assert still_adds_up(any_url)
    assert len([nano for nano, _ in costs(any_url).values() if nano == 4_800_000_000]) == 1202


def test_a_run_that_meets_a_call_again_keeps_what_it_first_cost(any_url: str):
    """Somebody changed it while the run lay interrupted; what the run itself replaced must not be forgotten."""
    with pytest.raises(Interrupted):
        rerate(any_url, order(), now_us=lambda: NOON_US, pause=interrupt_after(1))
    ask(any_url, "UPDATE calls SET cost_nano = 7 WHERE id = 'a'")

    assert rate(any_url).continued
    assert costs(any_url)["a"] == (4_800_000_000, DEARER.version)
    assert ask(any_url, "SELECT was_nano, now_nano FROM rerated_calls JOIN calls USING (seq) WHERE id = 'a'") == [
        (2_600_000_000, 4_800_000_000)
    ]


def test_an_interrupted_run_that_had_done_everything_is_closed(url: str):
    with pytest.raises(Interrupted):
        rerate(url, order(), now_us=lambda: NOON_US, pause=interrupt_after(1))
    outcome = rate(url)

    assert (outcome.continued, outcome.total.changed) == (True, 0)
    assert still_adds_up(url)


def test_another_order_does_not_go_on_with_an_interrupted_one(url: str):
    with pytest.raises(Interrupted):
        rerate(url, order(), now_us=lambda: NOON_US, pause=interrupt_after(1))
    outcome = rate(url, order(LIST, is_list=True))

    assert (outcome.continued, outcome.rerate) == (False, 2)


def test_a_call_that_somebody_changed_meanwhile_is_not_overwritten(any_url: str):
    """Prices are looked up between the reading of a page and the writing of its changes."""

    class Meddler(PriceBook):
        has_meddled = False

        def find(self, kind: str, model: str, *, provider: str = ""):
            if not self.has_meddled:
                self.has_meddled = True
                ask(any_url, "UPDATE calls SET cost_nano = 1 WHERE id = 'a'")
            return super().find(kind, model, provider=provider)

    outcome = rate(any_url, order(Meddler(DEARER.data, DEARER.overrides)))

    assert outcome.overtaken == 1
    assert costs(any_url)["a"] == (1, BOOK.version)
    assert costs(any_url)["b"] == (4_800_000_000, DEARER.version)


def test_pruned_calls_take_their_old_amounts_with_them(any_url: str):
    rate(any_url)
    storage = store.storage_of(any_url)
    storage.open()
    assert storage.prune(NOON_US + 30 * SECOND_US, 100) == 1
    storage.close()

    assert ask(any_url, "SELECT calls.id FROM rerated_calls LEFT JOIN calls USING (seq)") == [("b",)]


def test_a_gateway_goes_on_writing_into_the_same_hours(any_url: str):
    """Both add to the same hourly totals, in PostgreSQL row by row: neither may fail, and the sums must be right."""
    write(any_url, [priced(f"x{number:05}", key=f"k{number % 40}", at=number % 7) for number in range(1500)])
    is_over = threading.Event()
    written: list[int] = []
    failures: list[StoreUnavailable] = []

    def serve() -> None:
        storage = store.storage_of(any_url, busy_timeout_ms=5000)
        storage.open()
        number = 0
        try:
            while not is_over.is_set() or number < 5:
                batch = [priced(f"y{number:04}-{each}", key=f"k{(each * 7) % 40}", at=each % 7) for each in range(40)]
                storage.insert([row_of(call) for call in batch])
                number += 1
        except StoreUnavailable as error:
            failures.append(error)
        finally:
            written.append(number * 40)
            storage.close()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        rerate(any_url, order(before_us=NOON_US + 3600 * SECOND_US), now_us=lambda: NOON_US)
    finally:
        is_over.set()
        serving.join()

    assert failures == []
    assert ask(any_url, "SELECT count(*) FROM calls") == [(1503 + written[0],)]
    assert verify(any_url, Shelf(), Question()).adds_up
