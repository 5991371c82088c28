"""The outcome of a bench: rows of figures, and the machine that they belong to."""

from collections.abc import Iterable
from typing import Final

import msgspec

from bench.figures import Spread


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure."""

    group: str
    name: str
    measured: Spread
    unit: str
    """`x` for a ratio to nginx."""
    most: float | None = None
    """The greatest value that the design allows."""

    @property
    def verdict(self) -> str:
        """`ok`, `over`, or nothing where no target is set."""
        if self.most is None:
            return ""
        return "ok" if self.measured.median <= self.most else "over"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    cpu: str
    cores: int
    memory_mb: int
    kernel: str
    python: str
    nginx: str
    packages: dict[str, str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is written to the results."""

    measured_at: str
    """UTC, ISO 8601."""
    commit: str
    subject: str
    effort: str
    machine: Machine
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()
    """What was skipped, what disturbed, and under which load the events passed; a sentence each."""


_DECIMALS: Final = {"x": 2, "µs": 1, "ms": 2, "s": 3, "MB": 1, "": 0}


def figure(value: float, unit: str) -> str:
    """A value as it is printed, with its unit."""
    text = f"{value:.{_DECIMALS.get(unit, 2)}f}"
    return f"{text}x" if unit == "x" else f"{text} {unit}".rstrip()


def markdown(report: Report) -> str:
    """The report as a page."""
    machine = report.machine
    lines = [
        f"# {report.subject} at {report.commit}, {report.measured_at[:10]}",
        "",
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_mb} MB, Linux {machine.kernel}; Python {machine.python};"
        f" nginx {machine.nginx}; "
        + ", ".join(f"{name} {version}" for name, version in machine.packages.items())
        + ".",
        f"Effort: {report.effort}.",
        "",
    ]
    for group, rows in grouped(report.rows).items():
        lines += [f"## {group}", "", "| figure | measured | min to max | at most | |", "|---|---:|---:|---:|---|"]
        lines += [f"| {' | '.join(cells(row))} |" for row in rows]
        lines.append("")
    lines += [f"- {remark}" for remark in report.remarks]
    return "\n".join(lines).rstrip() + "\n"


def grouped(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each group, in the order in which the groups first appear."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return groups


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """Name, measured, range, target and verdict, as text."""
    spread = row.measured
    decimals = _DECIMALS.get(row.unit, 2)
    between = "" if spread.low == spread.high else f"{spread.low:.{decimals}f} to {spread.high:.{decimals}f}"
    target = "" if row.most is None else f"{row.most:g}{'x' if row.unit == 'x' else ' ' + row.unit}".rstrip()
    return row.name, figure(spread.median, row.unit), between, target, row.verdict
