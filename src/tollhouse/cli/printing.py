"""How commands put amounts, counts and names into words, and how wide they make a table."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

NOT_SAID: Final = "-"
ENDLESS_COLUMNS: Final = 1000
"""Width for pipes and files, where nothing needs to be cut or folded."""


def dollars(nano: int) -> str:
    """Nano-USD in dollars, exact: at least four decimals, and as many as there are."""
    whole, fraction = divmod(abs(nano), 10**9)
    digits = f"{fraction:09d}"
    return f"{'-' if nano < 0 else ''}${whole:,}.{digits[:4]}{digits[4:].rstrip('0')}"


def aligned_dollars(amounts: Iterable[int]) -> list[str]:
    """Amounts in dollars with as many decimals as the finest needs, so that they stand below each other."""
    texts = [dollars(nano) for nano in amounts]
    decimals = [len(text.rpartition(".")[2]) for text in texts]
    return [text + "0" * (max(decimals) - own) for text, own in zip(texts, decimals, strict=True)]


def plural(number: int, noun: str, many: str = "") -> str:
    """`1 call`, `2,000 calls`; `many` is the noun of several where an `s` does not make it."""
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"


def shown(name: str) -> str:
    """A name that came from a caller: nothing in it may move a cursor."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def widen(console: "Console") -> None:
    """Gives lines no end where no terminal has one."""
    if not console.is_terminal:
        console.width = ENDLESS_COLUMNS


def fits(console: "Console", table: "RenderableType") -> bool:
    """Whether a table can be printed without cutting or folding a cell."""
    # Measured as if there were no end to the line: within the console's own width everything "fits", cut.
    endless = console.options.update(width=ENDLESS_COLUMNS)
    return console.measure(table, options=endless).maximum <= console.width
