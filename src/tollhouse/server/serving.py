"""What a configuration became, for whoever answers calls."""

from dataclasses import dataclass

from tollhouse.gateway.pipeline import Gateway
from tollhouse.policy.access import Networks
from tollhouse.policy.identity import KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Swapped as a whole by a reload; calls under way keep the one they began with."""

    gateway: Gateway
    keys: KeyRing
    max_body_bytes: int
    max_concurrent_calls: int
    proxies: Networks | None = None
    """Whose `X-Forwarded-For` says who the caller is."""
