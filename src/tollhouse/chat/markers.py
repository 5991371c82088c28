"""Cache markers on their way to a provider that knows Anthropic's `cache_control`.

Such a provider takes few of them, and those of an hour only before those of five minutes, in the order in which it reads a
prompt: tools, system, messages (platform.claude.com/docs, "Prompt caching", November 2026).  A client of another dialect, or a
conversation that was put together here, may have more, and in any order.
"""

from collections.abc import MutableMapping
from typing import Any, Final, Literal

import msgspec

from tollhouse.chat.model import CacheMarker
from tollhouse.chat.receipt import Receipt

Place = Literal["tools", "system", "messages", "top"]
"""Where a marker stands; `top` marks the whole prompt."""

Block = MutableMapping[str, Any]
"""Something that can be marked.  (`Any`: what else stands in it is each dialect's own.)"""

_FIELD: Final = "cache_control"
_ORDER: Final[tuple[Place, ...]] = ("tools", "system", "messages", "top")
_HEAD: Final = frozenset({"tools", "system"})
_HOUR: Final = "1h"


def write_marker(marker: CacheMarker) -> dict[str, str]:
    """`cache_control` for a marker."""
    return {"type": "ephemeral"} if marker.ttl is None else {"type": "ephemeral", "ttl": marker.ttl}


class Markers:
    """The markers of one request."""

    __slots__ = ("_fixed", "_marked", "_most")

    def __init__(self, most: int | None) -> None:
        """`most` is how many the provider takes; `None` where it has no bound, and then no rule for their order either."""
        self._most = most
        self._marked: list[tuple[Place, Block]] = []
        self._fixed = 0

    def mark(self, block: Block, marker: CacheMarker | None, place: Place) -> None:
        """Puts a marker on a block, if there is one."""
        if marker is None:
            return
        if _FIELD not in block:  # what holds a tool's result and its last text has one block for both
            self._marked.append((place, block))
        block[_FIELD] = write_marker(marker)

    def count_fixed(self, raw: msgspec.Raw) -> None:
        """Counts a marker inside something that is passed on as it is."""
        self._fixed += b'"cache_control"' in bytes(raw)

    def settle(self, receipt: Receipt) -> None:
        """Takes away what is too much, and puts the lifetimes in order.

        Kept are the last marker of what many conversations share, the tools and the system prompt, and else the last ones:
        they cover the longest prompts, and what earlier ones had cached is still found behind them.
        """
        if self._most is None:
            return
        marked = sorted(self._marked, key=lambda each: _ORDER.index(each[0]))
        room = max(0, self._most - self._fixed)
        kept = marked[max(0, len(marked) - room) :]
        if room > 1 and len(kept) < len(marked) and not any(place in _HEAD for place, _ in kept):
            shared = next((each for each in reversed(marked) if each[0] in _HEAD), None)
            if shared is not None:
                kept = [shared, *kept[1:]]
        if len(kept) < len(marked):
            receipt.dropped(_FIELD, f"{len(marked) - len(kept)} of {len(marked)} markers, as no more fit")
            left = {id(block) for _, block in kept}
            for _, block in marked:
                if id(block) not in left:
                    del block[_FIELD]
        self._put_in_order(kept, receipt)

    def _put_in_order(self, marked: list[tuple[Place, Block]], receipt: Receipt) -> None:
        is_short = False
        for _, block in marked:
            control = block[_FIELD]
            if not isinstance(control, dict) or control.get("ttl") != _HOUR:
                is_short = True
            elif is_short:
                # Rather this one shorter than those before it longer: what is kept for an hour costs twice as much to write.
                block[_FIELD] = {name: value for name, value in control.items() if name != "ttl"}
                receipt.changed(
                    _FIELD, "an hour is said as five minutes behind a marker of five, as longer ones come first"
                )
