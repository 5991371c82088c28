"""The alert rules in docs/metrics.md are about metrics and labels that there are."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tollhouse.errors import TollhouseError
from tollhouse.telemetry.exposition import render
from tollhouse.telemetry.metrics import Snapshot
from tollhouse.telemetry.readings import MODEL_STATES, PROVIDER_STATES

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
_NAME = re.compile(r"\btollhouse_[a-z_]+")
_ROW = re.compile(r"^\| `(tollhouse_[a-z_]+)` \| (\w+) \| (.*?) \|", re.MULTILINE)
_SELECTED = re.compile(r"(tollhouse_[a-z_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)(=~?|!~|!=)"([^"]*)"')
_GROUPED = re.compile(r"\bby \(([a-z_, ]+)\)")
_TEMPLATE = re.compile(r"\$labels\.(\w+)")
STATES = {*MODEL_STATES, *PROVIDER_STATES, "busy", "idle"}


def _rules() -> list[dict[str, Any]]:
    (block,) = re.findall(r"^```yaml\n(groups:.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (group,) = yaml.safe_load(block)["groups"]
    return list(group["rules"])


def _labels() -> dict[str, set[str]]:
    """The labels of every sample that there can be, by its name."""
    found: dict[str, set[str]] = {}
    for name, kind, labels in _ROW.findall(PAGE):
        named = set(re.findall(r"`(\w+)`", labels))
        if kind == "histogram":
            found |= {f"{name}_bucket": named | {"le"}, f"{name}_count": named, f"{name}_sum": named}
        else:
            found[name] = named
    return found


def _codes(error: type[TollhouseError] = TollhouseError) -> set[str]:
    return {error.code}.union(*(_codes(each) for each in error.__subclasses__()))


RULES = _rules()
LABELS = _labels()
each_rule = pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])


def test_the_page_has_what_is_exposed_and_nothing_else() -> None:
    exposed = re.findall(r"^# TYPE (tollhouse_\w+) ", render(Snapshot()).decode(), re.MULTILINE)
    assert [name for name, _, _ in _ROW.findall(PAGE)] == exposed


def test_every_metric_that_the_page_speaks_of_is_one() -> None:
    exposed = {name for name, _, _ in _ROW.findall(PAGE)} | LABELS.keys()
    spoken = {name for name in _NAME.findall(PAGE) if not name.endswith("_")}  # `tollhouse_cache_…` is several
    assert spoken <= exposed


def test_every_label_that_a_metric_has_is_explained() -> None:
    (table,) = re.findall(r"^\| label \| holds .*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    explained = {name for row in table.splitlines()[2:-1] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert explained == set().union(*LABELS.values()) - {"le"}


@each_rule
def test_a_rule_is_about_samples_and_labels_that_there_are(rule: dict[str, Any]) -> None:
    expression = rule["expr"]
    names = set(_NAME.findall(expression))
    assert names
    assert names <= LABELS.keys()
    for name, matchers in _SELECTED.findall(expression):
        assert {label for label, _, _ in _MATCHER.findall(matchers)} <= LABELS[name]
    grouped = {label.strip() for labels in _GROUPED.findall(expression) for label in labels.split(",")}
    for name in names:
        assert grouped <= LABELS[name]
    left = grouped or set.intersection(*(LABELS[name] for name in names))
    assert set(_TEMPLATE.findall(rule["annotations"]["summary"])) <= left


@each_rule
def test_a_rule_looks_for_values_that_a_label_can_have(rule: dict[str, Any]) -> None:
    known = {
        "outcome": _codes(),
        "code": _codes(),
        "state": STATES,
        "fate": {"written", "journaled", "replayed", "failed"},
    }
    for _, matchers in _SELECTED.findall(rule["expr"]):
        for label, how, value in _MATCHER.findall(matchers):
            for part in value.split("|") if how.endswith("~") else [value]:
                assert any(re.fullmatch(part, each) for each in known[label]), f"nothing is ever {label}={part!r}"


@each_rule
def test_counts_are_only_looked_at_as_they_grow(rule: dict[str, Any]) -> None:
    """A bare count says how long a process has lived."""
    expression = rule["expr"]
    for name in _NAME.findall(expression):
        is_count = name.endswith(("_total", "_bucket", "_count", "_sum"))
        assert bool(re.search(rf"(rate|increase)\({name}(\{{[^}}]*\}})?\[\d+m\]\)", expression)) == is_count


@each_rule
def test_a_rule_is_whole(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "annotations"}
    assert re.fullmatch(r"Tollhouse([A-Z][a-z]+)+", rule["alert"])
    assert rule["expr"].count("(") == rule["expr"].count(")")
    assert rule["annotations"]["summary"]


def test_no_two_rules_have_one_name() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
