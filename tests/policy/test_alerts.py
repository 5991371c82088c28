"""Alerts reach their webhook or are given up with a line in the log, and no line ever has the webhook's address."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from support.peer import HTML_ERROR, Peer, Visit, answering, resetting, response, stalling
from tollhouse.config.schema import BudgetSettings, LimitSettings, Period, Scope
from tollhouse.config.secret import Secret
from tollhouse.policy.alerts import FIRST_WAIT_SECONDS, MAX_WAITING, TRIES, Alert, Alerts, alert_of
from tollhouse.policy.gate import Crossing
from tollhouse.policy.identity import Principal
from tollhouse.policy.rules import Rules
from tollhouse.upstream.wire import WireTransport

NOON_US = 1_795_262_400_000_000
SECRET = "T0k3nXyZzy"


def crossing(
    webhook: str | None = None,
    *,
    period: Period = "month",
    hard: bool = True,
    fraction: float = 0.5,
    spent: int = 250_100_000_000,
) -> Crossing:
    settings = BudgetSettings(
        scope=Scope("tenant", "research"),
        period=period,
        limit_nano=500_000_000_000,
        is_hard=hard,
        alert_at=(fraction,),
        webhook=None if webhook is None else Secret(webhook),
    )
    bound = Rules(LimitSettings(), [settings]).bound(Principal(key="dev", tenant="research"), "smart", "lab/m", NOON_US)
    (budget,) = bound.budgets.values()
    return Crossing(budget, fraction, spent)


class Waits:
    """Sleeps not at all, and remembers how long it was told to."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


@asynccontextmanager
async def posting(waits: Waits | None = None, *, close_seconds: float = 30.0) -> AsyncIterator[Alerts]:
    """Alerts, which have posted all that waits when the block ends."""
    transport = WireTransport()
    alerts = Alerts(transport, sleep=waits or Waits(), close_seconds=close_seconds)
    try:
        yield alerts
    finally:
        await alerts.aclose()
        await transport.aclose()


def said(caplog: pytest.LogCaptureFixture) -> str:
    """All that the log has, extra fields included."""
    return "\n".join(str(record.__dict__) for record in caplog.records)


def outcomes(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Why alerts were not posted."""
    return [str(record.__dict__["why"]) for record in caplog.records if record.message == "an alert was not posted"]


def answers(*statuses: int) -> Sequence[bytes]:
    return [response(b"{}", status=status) for status in statuses]


# ------------------------------------------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("period", "window", "resets"),
    [
        ("hour", "2026-11-21T12", "2026-11-21T13:00:00Z"),
        ("day", "2026-11-21", "2026-11-22T00:00:00Z"),
        ("week", "2026-W47", "2026-11-23T00:00:00Z"),
        ("month", "2026-11", "2026-12-01T00:00:00Z"),
        ("total", "ever", None),
    ],
)
@pytest.mark.parametrize("hard", [True, False])
def test_an_alert_says_which_budget_how_much_and_until_when(
    period: Period, window: str, resets: str | None, hard: bool
):
    assert alert_of(crossing(period=period, hard=hard)) == Alert(
        budget=f"tenant:research/{period}",
        scope="tenant:research",
        period=period,
        window=window,
        fraction=0.5,
        spent_nano=250_100_000_000,
        limit_nano=500_000_000_000,
        spent_dollars="250.10",
        limit_dollars="500.00",
        hard=hard,
        resets_at=resets,
    )


@pytest.mark.parametrize(
    ("nano", "dollars"),
    [(0, "0.00"), (1, "0.000000001"), (125_000, "0.000125"), (12_500_000_000, "12.50"), (10**18, "1000000000.00")],
)
def test_dollars_are_exact(nano: int, dollars: str):
    assert alert_of(crossing(spent=nano)).spent_dollars == dollars


async def test_a_webhook_gets_it_as_json_at_the_very_address_that_was_written():
    async with Peer(answering(*answers(204))) as peer:
        async with posting() as alerts:
            alerts.crossed(crossing(f"{peer.url}/hooks/{SECRET}/?to=a&b=%20c"))
        (request,) = peer.requests
    assert (request.method, request.target) == ("POST", f"/hooks/{SECRET}/?to=a&b=%20c")
    assert request.header("content-type") == "application/json"
    assert msgspec.json.decode(request.body, type=Alert) == alert_of(crossing())
    assert msgspec.json.decode(request.body)["event"] == "budget_alert"


async def test_without_a_webhook_it_is_logged(caplog: pytest.LogCaptureFixture):
    async with posting() as alerts:
        alerts.crossed(crossing())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert (record.__dict__["budget"], record.__dict__["fraction"]) == ("tenant:research/month", 0.5)
    assert (record.__dict__["spent_dollars"], record.__dict__["limit_dollars"]) == ("250.10", "500.00")


# -------------------------------------------------------------------------------------------------- when it goes wrong


@pytest.mark.parametrize("status", [500, 502, 503, 408, 425, 429])
async def test_what_may_pass_is_tried_again_after_longer_and_longer_waits(status: int):
    waits = Waits()
    async with Peer(answering(*answers(status, status, 200))) as peer:
        async with posting(waits) as alerts:
            alerts.crossed(crossing(peer.url))
        assert len(peer.requests) == 3
    assert waits.seconds == [FIRST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 4]


async def test_in_the_end_it_is_given_up(caplog: pytest.LogCaptureFixture):
    async with Peer(answering(*answers(503))) as peer:
        async with posting() as alerts:
            alerts.crossed(crossing(f"{peer.url}/{SECRET}"))
        assert len(peer.requests) == TRIES
    assert outcomes(caplog) == ["status 503"]


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 410])
async def test_what_will_not_pass_is_not_tried_again_nor_followed_elsewhere(
    status: int, caplog: pytest.LogCaptureFixture
):
    async with Peer(answering(response(b"{}", status=status, headers=[("location", "/elsewhere")]))) as peer:
        async with posting() as alerts:
            alerts.crossed(crossing(peer.url))
        assert len(peer.requests) == 1
    assert outcomes(caplog) == [f"status {status}"]


async def test_an_answer_that_breaks_off_is_an_answer():
    broken = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"
    async with Peer(answering(broken, then_close=True)) as peer:
        async with posting() as alerts:
            alerts.crossed(crossing(peer.url))
        assert len(peer.requests) == 1


async def test_a_connection_that_breaks_is_tried_again():
    async with Peer(resetting(), answering(*answers(200))) as peer:
        async with posting() as alerts:
            alerts.crossed(crossing(peer.url))
        assert len(peer.requests) == 2


async def test_one_bad_webhook_does_not_silence_the_others(caplog: pytest.LogCaptureFixture):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{held.getsockname()[1]}/{SECRET}"
        async with Peer(answering(*answers(200))) as peer:
            async with posting() as alerts:
                for bad in (closed, f"ftp://{SECRET}@x", f"http://{SECRET}:99999/", f"http://127.0.0.1/{SECRET}é", ""):
                    alerts.crossed(crossing(bad))
                alerts.crossed(crossing(f"{peer.url}/{SECRET}"))
            assert len(peer.requests) == 1
    assert len(outcomes(caplog)) == 5


async def test_no_line_of_the_log_has_an_address(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with (
        Peer(answering(response(HTML_ERROR, status=500), response(f"{SECRET} is wrong".encode(), status=403))) as peer,
        posting() as alerts,
    ):
        hook = f"{peer.url}/{SECRET}?key={SECRET}"
        assert SECRET not in repr(crossing(hook))
        for bad in (hook, f"http://{SECRET}:99999/", f"nonsense {SECRET}", f"http://127.0.0.1:1/{SECRET}é"):
            alerts.crossed(crossing(bad))
    assert len(outcomes(caplog)) == 4
    assert SECRET not in said(caplog)
    assert str(peer.port) not in said(caplog)


async def test_only_so_many_wait_and_more_are_only_logged(caplog: pytest.LogCaptureFixture):
    go = asyncio.Event()

    async def slow(visit: Visit) -> None:
        while True:
            await visit.request()
            await visit.wait(go)
            await visit.answer(b"{}")

    async with Peer(slow) as peer, posting() as alerts:
        alerts.crossed(crossing(peer.url))
        await peer.visit(0)
        for _ in range(MAX_WAITING + 3):
            alerts.crossed(crossing(peer.url))
        lost = [record for record in caplog.records if "too many wait" in record.message]
        assert len(lost) == 3
        go.set()
    assert len(peer.requests) == MAX_WAITING + 1


async def test_the_end_of_the_gateway_does_not_wait_for_a_webhook_for_ever(caplog: pytest.LogCaptureFixture):
    async with Peer(stalling()) as peer:
        async with posting(close_seconds=0.01) as alerts:
            for _ in range(3):
                alerts.crossed(crossing(peer.url))
            visit = await peer.visit(0)
        await visit.client_closed.wait()
    (record,) = [record for record in caplog.records if "before the end" in record.message]
    assert record.__dict__["alerts"] == 2
