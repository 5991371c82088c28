"""The receipt: what a translation dropped or changed.

Encoders note each loss once, with the path in the caller's request and why.  The gateway sends the receipt as the header
`x-tollhouse-receipt`, keeps it in the ledger row, and refuses instead on a `strict` model.
"""

from typing import Final

import msgspec

HEADER: Final = "x-tollhouse-receipt"
MAX_ENTRIES: Final = 50
MAX_HEADER_CHARACTERS: Final = 1_000


class Receipt(msgspec.Struct, eq=False):
    """Collects losses in order, each once; past `MAX_ENTRIES` only counts them."""

    losses: dict[str, None] = {}  # each receipt gets one of its own
    """What was noted; to be looked at only."""
    more: int = 0
    """How many losses are not among them."""

    def dropped(self, path: str, why: str) -> None:
        """Something at `path` does not reach the provider (or the client)."""
        self._add(f"dropped {path}: {why}")

    def changed(self, path: str, how: str) -> None:
        """Something at `path` arrives in another form that does not mean quite the same."""
        self._add(f"changed {path}: {how}")

    def _add(self, entry: str) -> None:
        if entry in self.losses:
            return
        if len(self.losses) < MAX_ENTRIES:
            self.losses[entry] = None
        else:
            self.more += 1

    def __bool__(self) -> bool:
        return bool(self.losses)

    @property
    def entries(self) -> tuple[str, ...]:
        """The losses, in the order in which they were met."""
        return tuple(self.losses)

    def header(self) -> str:
        """One line of printable ASCII, bounded, fit for a header and for the ledger; empty when nothing was lost."""
        line = "; ".join(self.losses)
        if self.more:
            line += f"; and {self.more} more"
        line = "".join(c if " " <= c <= "~" else "?" for c in line)
        if len(line) > MAX_HEADER_CHARACTERS:
            line = line[: MAX_HEADER_CHARACTERS - 1] + "~"
        return line
