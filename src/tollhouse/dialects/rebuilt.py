"""Counting the output of a stream that broke off before its usage came.

An estimate, and marked so (`rebuilt`).  A delta is at least one token, and a token is some four characters of Latin text:
servers that bundle tokens are caught by the characters, those that do not by the deltas.  A tool call also costs tokens for
its name and the syntax around it, which never show.

Against the 48 recorded streams that report their usage, hidden reasoning aside: without calls the median is exact, the median
error 13 % and the sum 2 % over; with calls the median is exact, the median error 12 % and the sum 11 % under.  Deltas alone
would be 37 % under in sum, characters alone 23 %.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from tollhouse.chat.usage import Usage

BYTES_PER_TOKEN: Final = 4
TOKENS_PER_CALL: Final = 14


class Tally:
    """Counts content as it goes by."""

    __slots__ = ("calls", "deltas", "text_bytes")

    def __init__(self) -> None:
        self.calls = 0
        self.deltas = 0
        self.text_bytes = 0

    def add(self, text: str) -> None:
        """One delta."""
        self.deltas += 1
        self.text_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

    def add_json(self, value: msgspec.Raw) -> None:
        """One delta that is JSON, as it stands."""
        self.deltas += 1
        self.text_bytes += len(value)

    def add_parts(self, parts: Sequence[object]) -> None:
        """One delta whose content is a list of parts (Mistral)."""
        for part in parts:
            match part:
                case {"text": str(text)}:
                    self.add(text)
                case {"thinking": list(inner)}:
                    self.add_parts(inner)
                case _:
                    pass

    @property
    def tokens(self) -> int:
        """The estimate."""
        return max(self.deltas, -(-self.text_bytes // BYTES_PER_TOKEN)) + TOKENS_PER_CALL * self.calls

    def usage(self, reported: Usage) -> Usage:
        """`reported` as far as it goes, with the output counted here; nothing if nothing was seen at all."""
        return self.rebuilt(reported) if self.tokens else reported

    def rebuilt(self, reported: Usage) -> Usage:
        """`reported` as far as it goes, with the output counted here, be it nothing."""
        return msgspec.structs.replace(
            reported, output_tokens=max(self.tokens, reported.output_tokens or 0), source="rebuilt"
        )
