"""Token counts in the Responses API's spelling.  Its totals are inclusive, as ours are."""

from collections.abc import Mapping

import msgspec

from tollhouse.chat.usage import Usage
from tollhouse.dialects.openai_chat.counts import read_usage as read_family
from tollhouse.dialects.openai_chat.wire import Json


def read_usage(value: Json) -> Usage:
    """The counts of a `usage` object; an empty `Usage` if it says nothing, or what cannot be.

    A model that ran into its limit can report negative counts (`openai/openai-responses-json-reasoning-3d7486`).
    """
    if not isinstance(value, Mapping):
        return Usage()
    usage = read_family(value, reasoning_outside_output=False)
    said = value.get("output_tokens")
    if isinstance(said, int) and said < 0:
        return msgspec.structs.replace(usage, output_tokens=None, reasoning_tokens=None, input_tokens=None)
    return usage


def write_usage(usage: Usage) -> dict[str, Json]:
    """The `usage` object.  A count that nobody said is 0 there: the object has no way to leave one out."""
    given, made = usage.input_tokens or 0, usage.output_tokens or 0
    details: dict[str, Json] = {"cached_tokens": usage.cache_read_tokens or 0}
    if usage.cache_write_tokens is not None:
        details["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "input_tokens": given,
        "input_tokens_details": details,
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": given + made,
    }
