"""Processor time of the measured server and of nginx, in turn, round by round, as rows of the table."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench.figures import ratios, spread_of
from bench.neighbour import neighbour_on, quietest
from bench.procs import Cores
from bench.report import Row
from bench.scenarios import Effort, Scenario, StreamSample, measure_json, measure_stream
from bench.subject import Running

SATURATED: Final = 0.9
"""Share of a core above which events wait for each other, and then cost less than they would alone."""
COALESCED: Final = 1.2
"""Events a read above which the same is true, of whatever cause: mostly other work on the machine."""
YARDSTICK_REQUESTS: Final = 5
"""For each of the gateway's where both are as fast as they can, so that nginx is looked at for about as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The server that is measured and, where there is nginx, the yardstick."""

    server: Running
    server_translates: bool
    yardstick: Running | None
    effort: Effort
    cores: Cores


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rows for the table, and sentences to stand below it."""

    rows: list[Row]
    remarks: list[str]


def compare(scenario: Scenario, pair: Pair) -> Outcome:
    """Measures one kind of call."""
    return _compare_json(scenario, pair) if scenario.gap_us is None else _compare_streams(scenario, pair)


def _compare_json(scenario: Scenario, pair: Pair) -> Outcome:
    mine: list[float] = []
    theirs: list[float] = []
    disturbances: list[float] = []
    busy: list[float] = []
    theirs_effort = pair.effort
    if not scenario.rate:
        theirs_effort = replace(pair.effort, requests=pair.effort.requests * YARDSTICK_REQUESTS)
    with neighbour_on(pair.cores.server) as neighbour:
        for _ in range(pair.effort.rounds * pair.effort.slices):
            neighbour.lap()
            sample = measure_json(pair.server, scenario, pair.effort, pair.cores, translating=pair.server_translates)
            mine.append(sample.cpu_us_per_request)
            busy.append(sample.busy_share)
            disturbance = neighbour.lap()
            if pair.yardstick:
                sample = measure_json(pair.yardstick, scenario, theirs_effort, pair.cores, translating=False)
                theirs.append(sample.cpu_us_per_request)
                disturbance = max(disturbance, neighbour.lap())
            disturbances.append(disturbance)
    quiet = quietest(disturbances)
    group = "CPU time of a JSON chat"
    rows = _rows(group, scenario, pair, [mine[i] for i in quiet], [theirs[i] for i in quiet] if theirs else [])
    if theirs:
        everywhere = Row(group=group, name="  in all slices", measured=ratios(mine, theirs), unit="x")
        rows.append(everywhere)
    remarks = [_company(scenario, disturbances, quiet)]
    if scenario.rate and (share := statistics.median(busy)) > SATURATED:
        remarks.append(
            f"{scenario.name}: the core was {share:.0%} busy, too slow for this rate: take the ratio with a grain of salt."
        )
    return Outcome(rows, remarks)


def _company(scenario: Scenario, disturbances: Sequence[float], quiet: Sequence[int]) -> str:
    """How quiet the machine was: without it, a figure cannot be compared with another day's."""
    least = min(disturbances)
    worst_kept = max(disturbances[i] for i in quiet)
    return (
        f"{scenario.name}: {len(quiet)} of {len(disturbances)} slices count, those in which others slowed the core least:"
        f" by up to {worst_kept / least - 1:.0%} of what it can do at its best; in all slices by up to"
        f" {max(disturbances) / least - 1:.0%} ({statistics.median(disturbances) / least - 1:.0%} in the middle one)."
    )


def _compare_streams(scenario: Scenario, pair: Pair) -> Outcome:
    mine: list[StreamSample] = []
    theirs: list[StreamSample] = []
    for _ in range(pair.effort.rounds):
        mine.append(
            measure_stream(pair.server, scenario, pair.effort, pair.cores, translating=pair.server_translates),
        )
        if pair.yardstick:
            theirs.append(measure_stream(pair.yardstick, scenario, pair.effort, pair.cores, translating=False))
    per_event = _rows(
        "CPU time of one more event in a stream",
        scenario,
        pair,
        [sample.cost.per_event for sample in mine],
        [sample.cost.per_event for sample in theirs],
    )
    per_stream = Row(
        group="CPU time of a stream apart from its text events",
        name=f"{scenario.title}, {pair.server.subject.name}",
        measured=spread_of([sample.cost.per_stream for sample in mine]),
        unit="µs",
    )
    return Outcome([*per_event, per_stream], [_traffic(scenario, pair, mine, theirs)])


def _rows(group: str, scenario: Scenario, pair: Pair, mine: Sequence[float], theirs: Sequence[float]) -> list[Row]:
    name = pair.server.subject.name
    if not theirs:
        return [Row(group=group, name=f"{scenario.title}, {name}", measured=spread_of(mine), unit="µs")]
    return [
        Row(group=group, name=scenario.title, measured=ratios(mine, theirs), unit="x", most=scenario.most),
        Row(group=group, name=f"  {name}", measured=spread_of(mine), unit="µs"),
        Row(group=group, name="  nginx", measured=spread_of(theirs), unit="µs"),
    ]


def _traffic(scenario: Scenario, pair: Pair, mine: Sequence[StreamSample], theirs: Sequence[StreamSample]) -> str:
    """How the events passed: without it, the cost of an event cannot be read."""
    said = [_passage(pair.server.subject.name, mine)] + ([_passage("nginx", theirs)] if theirs else [])
    warning = ""
    if scenario.gap_us and any(_flatters(samples) for samples in (mine, theirs) if samples):
        warning = " Events waited for each other and passed together: take the ratio with a grain of salt."
    return f"{scenario.name}: {'; '.join(said)}.{warning}"


def _flatters(samples: Sequence[StreamSample]) -> bool:
    busy = statistics.median(sample.busy_share for sample in samples)
    return busy > SATURATED or statistics.median(sample.events_per_read for sample in samples) > COALESCED


def _passage(name: str, samples: Sequence[StreamSample]) -> str:
    events = statistics.median(sample.events_per_read for sample in samples)
    busy = statistics.median(sample.busy_share for sample in samples)
    return f"{name} kept its core {busy:.0%} busy, and clients read {events:.1f} events at a time"
