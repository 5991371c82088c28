"""What is read at a scrape: named as Prometheus would have it, bounded, and added up as it can be."""

import re

import msgspec
import pytest

from support.scrape import Scrape
from tollhouse.telemetry import readings
from tollhouse.telemetry.exposition import render
from tollhouse.telemetry.metrics import Metrics, Snapshot, added
from tollhouse.telemetry.readings import FAMILIES, Family, Readings, Sample, joined

UNITS = ("_seconds", "_bytes", "_usd", "_info")
"""Units, and what has none is a count of things that the name says (https://prometheus.io/docs/practices/naming/)."""
LABELS = {
    "budget": "MAX_BUDGETS of the configuration",
    "code": "codes of errors",
    "failed": "configured providers",
    "fate": "a list of ours",
    "kind": "hard, soft",
    "limit": "requests, tokens, concurrent",
    "outcome": "codes of errors",
    "provider": "configured providers",
    "python": "one",
    "result": "a list of ours",
    "scope": "kinds of scope",
    "state": "a list of ours",
    "store": "a list of ours",
    "version": "one",
    "what": "a list of ours",
}
"""Every label that a family may have, and what bounds it."""


def test_every_family_of_the_module_is_shown_once():
    declared = {name for name, value in vars(readings).items() if isinstance(value, Family)}
    assert len(declared) == len(FAMILIES) == len({family.name for family in FAMILIES})


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_are_as_prometheus_would_have_them(family: Family):
    assert re.fullmatch(r"tollhouse(_[a-z]+)+", family.name)
    assert family.name.endswith("_total") == (family.kind == "counter")
    for unit in UNITS:
        assert unit not in family.name.removesuffix("_total").removesuffix(unit), "a unit is the last word"
    assert not re.search("milli|micro|nano|_(ms|us|kb|mb)(_|$)", family.name), "base units only"
    assert set(family.labels) <= LABELS.keys()
    assert family.meaning.endswith(".")


def test_a_family_without_samples_is_still_named_so_that_no_rule_is_about_nothing():
    text = render(Snapshot()).decode()
    for family in FAMILIES:
        assert f"# TYPE {family.name} {family.kind}\n" in text


def test_processes_are_added_up_as_each_family_says():
    one, other = Readings(), Readings()
    for each, up, owed, last in ((one, 1, 2, 100.0), (other, 0, 3, 90.0)):
        each.put(readings.STORE_UP, up, "state")
        each.put(readings.OWED, owed)
        each.put(readings.PROVIDER_SUCCESS, last, "p")
    other.put(readings.STORE_UP, 1, "ledger")
    # They travel between processes as JSON.
    several = [msgspec.json.decode(msgspec.json.encode(each), type=Readings) for each in (one, other)]
    assert joined(several).samples == {
        readings.STORE_UP.name: [Sample(("state",), 0), Sample(("ledger",), 1)],
        readings.OWED.name: [Sample((), 5)],
        readings.PROVIDER_SUCCESS.name: [Sample(("p",), 100.0)],
    }


def test_of_a_process_that_ended_only_what_it_counted_is_left():
    metrics = Metrics()
    metrics.refused("r", "body_too_large")
    snapshot = metrics.snapshot()
    snapshot.readings.put(readings.WAITING, 3)
    snapshot.readings = snapshot.readings.of_the_dead()
    scrape = Scrape(render(added([snapshot, metrics.snapshot()])).decode())
    assert scrape.value("tollhouse_refused_total", code="body_too_large") == 2
    assert scrape.value("tollhouse_calls_waiting") is None
