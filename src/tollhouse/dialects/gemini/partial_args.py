"""Function arguments that stream, as Vertex has them: pieces of values, each with its place (`$.city`, `$.rows[2].name`).

`gemini/gemini-generate-stream-parallel-tool-calls-c2fc21` shows it: a call begins with its name and `willContinue`, pieces of
strings follow, and an empty `functionCall` closes it.  Pieces of different values may come in turn, so the JSON text is known
only at the end.
"""

import re
from typing import Final, TypeAlias

import msgspec

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d{1,6})\]|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]")
MAX_INDEX: Final = 10_000
"""The longest array that is built; what is placed further is left out."""


class PartialArg(msgspec.Struct):
    """A piece of a value."""

    jsonPath: str = "$"  # noqa: N815  # the wire's name
    stringValue: str | None = None  # noqa: N815
    numberValue: int | float | None = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815
    nullValue: str | int | None = None  # noqa: N815

    @property
    def value(self) -> Json:
        if self.stringValue is not None:
            return self.stringValue
        return self.boolValue if self.boolValue is not None else self.numberValue


class Arguments:
    """The arguments of one call as they grow."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: dict[str, Json] = {}

    def add(self, piece: PartialArg) -> None:
        """Puts a piece into its place; text is appended to the text that is there."""
        steps: list[str | int] = [
            int(found[2]) if found[2] else found[1] or found[3] or found[4] or ""
            for found in _STEP.finditer(piece.jsonPath)
        ]
        if not steps or any(isinstance(step, int) and step >= MAX_INDEX for step in steps):
            return
        place: Json = self._root
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            empty: Json = [] if isinstance(following, int) else {}
            if isinstance(place, list) and isinstance(step, int):
                place.extend([None] * (step + 1 - len(place)))
                if following is None:
                    place[step] = _grown(place[step], piece.value)
                elif place[step] is None:
                    place[step] = empty
                place = place[step]
            elif isinstance(place, dict) and isinstance(step, str):
                if following is None:
                    place[step] = _grown(place.get(step), piece.value)
                else:
                    place.setdefault(step, empty)
                place = place[step]
            else:
                return  # two pieces that contradict each other

    def text(self) -> str:
        """The JSON of what has come so far."""
        return msgspec.json.encode(self._root).decode()


def _grown(before: Json, more: Json) -> Json:
    return before + more if isinstance(before, str) and isinstance(more, str) else more
