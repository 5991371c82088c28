"""What a configuration became, for whoever answers calls."""

from collections.abc import Callable
from dataclasses import dataclass

from tollhouse.config.schema import RateSettings
from tollhouse.gateway.pipeline import Gateway
from tollhouse.policy.access import Networks
from tollhouse.policy.identity import NO_RATES, KeyRing, Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Swapped as a whole by a reload; calls under way keep the one they began with."""

    gateway: Gateway
    keys: KeyRing
    max_body_bytes: int
    max_concurrent_calls: int
    proxies: Networks | None = None
    """Whose `X-Forwarded-For` says who the caller is."""
    rates_of: Callable[[Principal], RateSettings] = lambda _: NO_RATES
    """What a caller may do, for telling its client."""
