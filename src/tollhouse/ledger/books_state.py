"""How workers learn that what calls cost was changed: a revision that every such change raises, in its own transaction."""

from typing import Final

from tollhouse.ledger.reading import Reader, Statement

_REVISION: Final = Statement("SELECT revision FROM books_state WHERE id = 1")


class BooksWatch:
    """Remembers the revision.  Belongs to one event loop; asking costs one row."""

    def __init__(self, reader: Reader) -> None:
        """`reader` stays the caller's."""
        self._reader = reader
        self._seen: int | None = None

    async def has_changed(self) -> bool:
        """Whether calls were rated again since this was asked last; false the first time.  Raises `StoreUnavailable`.

        After a true answer the sums of all budgets are to be read anew: `Counters.forget`.
        """
        ((revision,),) = (await self._reader.read([_REVISION]))[0]
        before, self._seen = self._seen, revision
        return before is not None and before != revision
