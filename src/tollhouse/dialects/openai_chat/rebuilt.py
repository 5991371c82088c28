"""Counting the output of a stream that broke off before its usage came.

An estimate, and marked so (`rebuilt`): a delta is at least one token, and a token is at most about four characters of Latin
text or about one of Chinese, Japanese or Korean.  Servers that bundle tokens are caught by the characters, those that do not
by the deltas.
"""

from typing import Final

import msgspec

from tollhouse.chat.usage import Usage
from tollhouse.dialects.openai_chat.wire import Json

BYTES_PER_TOKEN: Final = 4


class Tally:
    """Counts content as it goes by."""

    __slots__ = ("characters", "deltas")

    def __init__(self) -> None:
        self.characters = 0
        self.deltas = 0

    def add(self, text: str) -> None:
        """One delta."""
        self.characters += len(text)
        self.deltas += 1

    def add_parts(self, parts: list[Json]) -> None:
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
        return max(self.deltas, -(-self.characters // BYTES_PER_TOKEN))

    def usage(self, reported: Usage) -> Usage:
        """`reported` as far as it goes, with the output counted here; nothing if nothing was seen at all."""
        if not self.deltas:
            return reported
        return msgspec.structs.replace(
            reported, output_tokens=max(self.tokens, reported.output_tokens or 0), source="rebuilt"
        )
