"""What each worker process tells about itself, so that whoever answers `/metrics` or `/health` can speak for all of them.

A worker writes its report into a folder several times a second (a few kilobytes, replaced as a whole); a reader adds up what is
there.  A worker that ended leaves its last report, so that counts never go back while the gateway runs.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from tollhouse.server.observation import note_providers
from tollhouse.telemetry.metrics import Snapshot, added
from tollhouse.upstream.health import ProviderHealth

SEVERITY: Final = ("unknown", "healthy", "degraded", "down")
"""Of several workers' opinions of a provider the worst holds."""


class Report(msgspec.Struct):
    """One worker's counts and what it knows of the providers."""

    pid: int
    metrics: Snapshot
    providers: tuple[ProviderHealth, ...]
    chained: dict[str, str] = {}
    """How the Tollhouses behind this one are, by the name of their provider."""
    missing: dict[str, str] = {}
    """The stores that are away for this worker, by their names, and why."""


def write(folder: Path, report: Report) -> None:
    """Replaces the report of this process.  A full disk loses a report, never a call."""
    draft = folder / f"{report.pid}.part"
    with suppress(OSError):
        draft.write_bytes(msgspec.json.encode(report))
        draft.replace(folder / f"{report.pid}.json")


def read(folder: Path) -> list[Report]:
    """Every worker's last report."""
    found = []
    for file in sorted(folder.glob("*.json")):
        with suppress(OSError, msgspec.DecodeError):
            found.append(msgspec.json.decode(file.read_bytes(), type=Report))
    return found


def metrics_of(reports: Iterable[Report]) -> Snapshot:
    """All workers' counts, and how providers are; of workers that ended, without what they are no more."""
    snapshots = []
    living = []
    for report in reports:
        if _is_alive(report.pid):
            living.append(report)
        else:
            report.metrics.in_flight = 0
            report.metrics.readings = report.metrics.readings.of_the_dead()
        snapshots.append(report.metrics)
    whole = added(snapshots)
    note_providers(whole.readings, providers_of(living))
    return whole


def providers_of(reports: Iterable[Report]) -> Sequence[ProviderHealth]:
    """Each provider's worst state among the workers that live."""
    worst: dict[str, ProviderHealth] = {}
    for report in reports:
        if not _is_alive(report.pid):
            continue
        for health in report.providers:
            known = worst.get(health.provider)
            if known is None or SEVERITY.index(health.state) > SEVERITY.index(known.state):
                worst[health.provider] = health
    return list(worst.values())


def chained_of(reports: Iterable[Report]) -> dict[str, str]:
    """How the Tollhouses behind this one are.  All workers ask alike; the last report of each is as good as any."""
    return {name: state for report in reports if _is_alive(report.pid) for name, state in report.chained.items()}


def missing_of(reports: Iterable[Report]) -> dict[str, str]:
    """The stores that are away for any of the workers, and why."""
    return {name: why for report in reports if _is_alive(report.pid) for name, why in report.missing.items()}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
