"""What a way to a model can do, whichever way it is."""

from collections.abc import Sequence
from typing import Protocol

from tollhouse.chat.embedding import EmbeddingRequest
from tollhouse.chat.events import Event
from tollhouse.chat.model import Request
from tollhouse.client.answer import Answer, Counted, Embedded, Marks, Models, ServerInfo


class Live(Protocol):
    """A stream that is open.  Whoever gets it reads it to the end or closes it."""

    @property
    def marks(self) -> Marks:
        """How the answer comes; complete once `more` gave `None`."""
        ...

    async def more(self) -> Sequence[Event] | None:
        """What has arrived since the last time; `None` at the end, again and again.  Raises `CallFailed`.

        Never reads ahead of its caller.  May be cancelled: the stream is then closed.
        """
        ...

    def close(self) -> None:
        """Ends the stream now, and whoever answers hears of it.  Idempotent."""
        ...


class Door(Protocol):
    """One way: through a gateway in one protocol, or straight to providers.

    `until` is the time of the event loop at which the caller stops waiting.  All raise `CallFailed`.  Nothing is tried twice.
    """

    async def whole(self, request: Request, until: float) -> Answer:
        """A whole answer of `request.model`."""
        ...

    async def stream(self, request: Request, until: float) -> Live:
        """An answer as it is made; returns when whoever answers has begun to."""
        ...

    async def count(self, request: Request, until: float) -> Counted:
        """How many tokens the prompt has."""
        ...

    async def embed(self, request: EmbeddingRequest, until: float) -> Embedded:
        """Texts as vectors."""
        ...

    async def models(self, until: float) -> Models:
        """What can be asked."""
        ...

    async def aclose(self) -> None:
        """Closes every connection."""
        ...


class GatewayDoor(Door, Protocol):
    """A way through a gateway."""

    async def info(self, until: float) -> ServerInfo:
        """Who answers there."""
        ...

    async def version(self, until: float) -> str:
        """The version of the Tollhouse there; empty if it does not say, or is something else."""
        ...

    async def probe(self, until: float) -> float:
        """Asks for a sign of life, and gives the seconds that it took."""
        ...
