"""What a configuration became, for whoever answers calls."""

from collections.abc import Callable
from dataclasses import dataclass

from tollhouse.config.schema import RateSettings
from tollhouse.gateway.pipeline import Gateway
from tollhouse.ledger.kept_responses import KeepingBounds, ResponseShelf
from tollhouse.policy.access import Networks
from tollhouse.policy.identity import NO_RATES, KeyRing, Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Where answers are kept for clients to go on from, and within which bounds."""

    shelf: ResponseShelf
    bounds: KeepingBounds
    is_on: bool
    """Whether new ones are kept; old ones are there until they are too old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Swapped as a whole by a reload; calls under way keep the one they began with."""

    gateway: Gateway
    keys: KeyRing
    max_body_bytes: int
    max_concurrent_calls: int
    responses: Keeping | None = None
    """How answers of the Responses API are kept; `None` where nothing could keep them."""
    proxies: Networks | None = None
    """Whose `X-Forwarded-For` says who the caller is."""
    rates_of: Callable[[Principal], RateSettings] = lambda _: NO_RATES
    """What a caller may do, for telling its client."""
