"""From samples to figures: medians, slopes and ratios, as plain functions on numbers."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """A figure that was measured several times."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """What a stream costs: so much for being a stream, and so much more for every event."""

    per_stream: float
    per_event: float


def spread_of(values: Sequence[float]) -> Spread:
    """Median, least and greatest.  Raises `ValueError` for no values."""
    if not values:
        raise ValueError("there is nothing to take a median of")
    return Spread(statistics.median(values), min(values), max(values))


def line_through(few: tuple[int, float], many: tuple[int, float]) -> Line:
    """The line through two points (events a stream, cost of a stream).

    Two points far apart tell the marginal cost of an event, free of what a request costs anyway.
    """
    if few[0] == many[0]:
        raise ValueError("both points have the same number of events")
    per_event = (many[1] - few[1]) / (many[0] - few[0])
    return Line(per_stream=few[1] - per_event * few[0], per_event=per_event)


def ratios(measured: Sequence[float], yardstick: Sequence[float]) -> Spread:
    """The ratio of each round's pair.  Pairs are taken minutes apart at most, so that a drift of the machine cancels."""
    return spread_of([a / b for a, b in zip(measured, yardstick, strict=True)])
