"""Rates in response headers, as the vendors name them.

OpenAI's are listed at https://platform.openai.com/docs/guides/rate-limits (headers), Anthropic's at
https://docs.anthropic.com/en/api/rate-limits (response headers); read in November 2026.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Final

from tollhouse.errors import Quota

Headers = list[tuple[bytes, bytes]]


def openai_headers(quotas: Sequence[Quota], now_seconds: float) -> Headers:  # noqa: ARG001  # durations need no clock
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}`; a reset is a duration such as `1s`, `6m0s` or `120ms`."""
    headers: Headers = []
    for quota in quotas:
        limit, remaining, reset = _OPENAI_NAMES[quota.counts]
        headers += (
            (limit, b"%d" % quota.limit),
            (remaining, b"%d" % quota.remaining),
            (reset, _duration(quota.reset_seconds)),
        )
    return headers


_OPENAI_NAMES: Final = {
    kind: tuple(f"x-ratelimit-{what}-{kind}".encode("ascii") for what in ("limit", "remaining", "reset"))
    for kind in ("requests", "tokens")
}
_MILLISECONDS: Final = [b"%dms" % milli for milli in range(1000)]


def anthropic_headers(quotas: Sequence[Quota], now_seconds: float) -> Headers:
    """`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`; a reset is a moment in RFC 3339."""
    headers: Headers = []
    for quota in quotas:
        kind = b"anthropic-ratelimit-" + quota.counts.encode("ascii")
        reset = datetime.fromtimestamp(-(-(now_seconds + quota.reset_seconds) // 1), UTC)
        headers += (
            (kind + b"-limit", b"%d" % quota.limit),
            (kind + b"-remaining", b"%d" % quota.remaining),
            (kind + b"-reset", reset.strftime("%Y-%m-%dT%H:%M:%SZ").encode("ascii")),
        )
    return headers


def _duration(seconds: float) -> bytes:
    """As Go prints it, which is what OpenAI's clients parse."""
    milli = ceil(seconds * 1000)
    if milli <= 0:
        return b"0ms"
    if milli < 1000:
        return _MILLISECONDS[milli]
    minutes, rest = divmod(int(-(-seconds // 1)), 60)
    if not minutes:
        return b"%ds" % rest
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%ds" % (hours, minutes, rest) if hours else b"%dm%ds" % (minutes, rest)
