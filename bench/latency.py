"""Added latency: what a call takes longer than one made to the provider directly, at a low fixed rate."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from bench.compiled import Load, LoadResult, run_load
from bench.figures import spread_of
from bench.report import Row

RATE: Final = 50.0
"""Requests a second: far from busy, so that nothing waits in line."""
ROUNDS: Final = 3

_PERCENTILES: Final[tuple[tuple[str, Callable[[LoadResult], int]], ...]] = (
    ("p50", lambda result: result.total_p50_us),
    ("p99", lambda result: result.total_p99_us),
)


def added_latency(plain: Load, provider_port: int, servers: Mapping[str, int], cores: frozenset[int]) -> list[Row]:
    """Rows for each server, by name and port; `plain` is the request.  Direct calls are measured in every round anew."""
    seen: dict[str, list[LoadResult]] = {name: [] for name in servers}
    direct: list[LoadResult] = []
    paced = replace(plain, rate=RATE)
    for _ in range(ROUNDS):
        direct.append(run_load(replace(paced, port=provider_port), cores))
        for name, port in servers.items():
            seen[name].append(run_load(replace(paced, port=port), cores))
    return [
        Row(
            group=f"Added latency of a JSON chat at {RATE:.0f} a second",
            name=f"{label}, {name}",
            measured=spread_of([(pick(a) - pick(b)) / 1000 for a, b in zip(results, direct, strict=True)]),
            unit="ms",
        )
        for name, results in seen.items()
        for label, pick in _PERCENTILES
    ]
