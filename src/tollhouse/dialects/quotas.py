"""Rates in response headers, as the vendors name them.

OpenAI's are listed at https://platform.openai.com/docs/guides/rate-limits (headers), Anthropic's at
https://docs.anthropic.com/en/api/rate-limits (response headers); read in November 2026.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Final

from tollhouse.dialects.head_lines import HeadLines
from tollhouse.errors import Quota


def openai_headers(quotas: Sequence[Quota], now_seconds: float) -> HeadLines:  # noqa: ARG001  # durations need no clock
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}`; a reset is a duration such as `1s`, `6m0s` or `120ms`."""
    lines = b""
    for quota in quotas:
        lines += _OPENAI_LINES[quota.counts] % (quota.limit, quota.remaining, _duration(quota.reset_seconds))
    return HeadLines(lines)


_OPENAI_LINES: Final = {
    kind: f"x-ratelimit-limit-{kind}: %d\r\nx-ratelimit-remaining-{kind}: %d\r\nx-ratelimit-reset-{kind}: %b\r\n".encode(
        "ascii"
    )
    for kind in ("requests", "tokens")
}
_MILLISECONDS: Final = [b"%dms" % milli for milli in range(1000)]


def anthropic_headers(quotas: Sequence[Quota], now_seconds: float) -> HeadLines:
    """`anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`; a reset is a moment in RFC 3339."""
    lines = b""
    for quota in quotas:
        reset = datetime.fromtimestamp(-(-(now_seconds + quota.reset_seconds) // 1), UTC)
        lines += _ANTHROPIC_LINES[quota.counts] % (
            quota.limit,
            quota.remaining,
            reset.strftime("%Y-%m-%dT%H:%M:%SZ").encode("ascii"),
        )
    return HeadLines(lines)


_ANTHROPIC_LINES: Final = {
    kind: (
        f"anthropic-ratelimit-{kind}-limit: %d\r\n"
        f"anthropic-ratelimit-{kind}-remaining: %d\r\n"
        f"anthropic-ratelimit-{kind}-reset: %b\r\n"
    ).encode("ascii")
    for kind in ("requests", "tokens")
}


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
