"""The fields at the top of a request that access, limits and budgets go by, and how else a provider might be told of them.

What stands at the top of a request is forwarded as it came, but for what the gateway knows.  Some servers take the names of
fields in any case, and the last one counts (Go's encoding/json); some take a second list of models to fall back on
(https://openrouter.ai/docs/guides/routing/model-fallbacks, read in November 2026).  Either would go past whatever was checked.
"""

from collections.abc import Iterable
from typing import Final

from tollhouse.errors import BadRequest

GOVERNED: Final = frozenset(
    {"model", "stream", "n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens", "stream_options"}
)
OTHER_MODELS: Final = frozenset({"models", "fallbacks"})
USUAL: Final = GOVERNED | {"messages", "temperature", "top_p", "stop", "tools", "tool_choice", "response_format"}
"""Names of which most requests have no others."""


def check_governed(names: Iterable[str]) -> None:
    """Raises `BadRequest` for names of fields that could take the place of a governed one."""
    if USUAL.issuperset(names):
        return
    for name in names:
        if name in OTHER_MODELS:
            raise BadRequest(
                f"`{name}` is not passed on: which models may answer is what the gateway decides.",
                hint="An alias with several targets falls back from one to the next (`models` in the configuration).",
                param=name,
            )
        if not name.islower() and (meant := name.lower()) in GOVERNED | OTHER_MODELS:
            raise BadRequest(f"The field {name!r} has to be written `{meant}`.", param=name)
