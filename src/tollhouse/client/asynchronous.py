"""The client for programs that run on an event loop."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, Unpack

from tollhouse.chat.embedding import EmbeddingTask
from tollhouse.chat.events import Event
from tollhouse.chat.model import Request
from tollhouse.chat.usage import Usage
from tollhouse.client.answer import Answer, Counted, Embedded, Marks, Models, ServerInfo, Texts
from tollhouse.client.conversation import Asking, Prompt, request_of
from tollhouse.client.engine import Engine, Opened
from tollhouse.client.failures import AnswerBroken
from tollhouse.client.health import INTERVAL_SECONDS, Health
from tollhouse.client.settings import Settings
from tollhouse.client.setup import Options, Providers, embedding_of, models_of, settings_of

INFO_SECONDS = 10.0


class AsyncClient:
    """Calls to models, through a gateway or straight to providers; the same either way.

    Every argument may also stand in the environment or in a profile (docs/client.md); arguments come first.  An instance
    belongs to the event loop that first uses it, and is an async context manager that closes its connections.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        profile: str | None = None,
        providers: Providers | None = None,
        environ: Mapping[str, str] | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Opens nothing.  Raises `BadSettings` with every problem at once.

        `providers` are those of direct mode beside those whose keys are in the environment; `environ` stands in for that.
        """
        settings = settings_of(url, options, profile=profile, providers=providers, environ=environ)
        self._engine = Engine(settings)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """A client of settings that are put together already.  Raises `BadSettings`."""
        client = cls.__new__(cls)
        client._engine = Engine(settings)  # noqa: SLF001  # it is one of ours
        return client

    @property
    def settings(self) -> Settings:
        """What it goes by."""
        return self._engine.settings

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes every connection; calls under way fail.  Idempotent."""
        await self._engine.aclose()

    async def chat(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        fallback_models: Sequence[str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # it bounds the tries, and is told apart from the caller's own
        **asking: Unpack[Asking],
    ) -> Answer:
        """A whole answer.  Raises `CallFailed`."""
        request, models, seconds = self._prepared(prompt, asking, model, fallback_models, timeout)
        return await self._engine.whole(request, models, seconds)

    def stream(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        fallback_models: Sequence[str] | None = None,
        timeout: float | None = None,
        **asking: Unpack[Asking],
    ) -> "AsyncStream":
        """An answer as it is made.  The call is made when the stream is entered or first read.

        async with client.stream("…") as stream:
            async for text in stream:
                print(text, end="")
        print(stream.answer.usage)
        """
        request, models, seconds = self._prepared(prompt, asking, model, fallback_models, timeout)
        return AsyncStream(self._engine, request, models, seconds)

    async def count_tokens(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
        **asking: Unpack[Asking],
    ) -> Counted:
        """How many tokens a prompt has for a model: its provider's count, or an estimate that says so."""
        request, models, seconds = self._prepared(prompt, asking, model, (), timeout)
        return await self._engine.count(request, models, seconds)

    async def embed(
        self,
        texts: str | Iterable[str],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        task: EmbeddingTask | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Embedded:
        """Texts as vectors, in their order.  Vectors of different models cannot be compared, so no other model is asked."""
        settings = self.settings
        request = embedding_of(texts, model=model, dimensions=dimensions, task=task, settings=settings)
        return await self._engine.embed(request, (request.model,), timeout or settings.timeout)

    async def models(self, *, timeout: float | None = None) -> Models:  # noqa: ASYNC109
        """What can be asked."""
        return await self._engine.models(timeout or self.settings.timeout)

    async def server_info(self, *, timeout: float = INFO_SECONDS) -> ServerInfo:  # noqa: ASYNC109
        """Who answers at the gateway's address.  Tried once."""
        return await self._engine.info(timeout)

    def watch(self, interval: float = INTERVAL_SECONDS) -> None:
        """Begins to ask the gateway for a sign of life every `interval` seconds, until the client is closed.

        Changes are logged with their cause.  Called on the client's event loop; nothing happens in direct mode.
        """
        self._engine.watch(interval)

    def health(self) -> Health:
        """How the gateway is, as far as `watch` has seen."""
        return self._engine.health()

    def _prepared(
        self,
        prompt: Prompt,
        asking: Asking,
        model: str | None,
        fallback_models: Sequence[str] | None,
        timeout: float | None,
    ) -> tuple[Request, tuple[str, ...], float]:
        settings = self.settings
        request = request_of(prompt, asking, model=model, default_model=settings.model)
        return request, models_of(request.model, fallback_models, settings), timeout or settings.timeout


class AsyncStream:
    """An answer as it is made: iterate over its texts, or over `events`.  Close it, or leave its `async with`, to end it."""

    def __init__(self, engine: Engine, request: Request, models: tuple[str, ...], timeout: float) -> None:
        """Use `AsyncClient.stream`."""
        self._engine = engine
        self._request = request
        self._models = models
        self._timeout = timeout
        self._opened: Opened | None = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # A stream that nobody reads on would keep its place in line for ever.
        if getattr(self, "_opened", None) is not None:
            self._engine.soon(self._open.close)

    async def open(self) -> None:
        """Makes the call, and returns when the answer has begun.  Raises `CallFailed`.  Idempotent."""
        if self._opened is None:
            self._opened = await self._engine.stream(self._request, self._models, self._timeout)

    async def more(self) -> Sequence[Event] | None:
        """The events that have arrived since the last time; `None` at the end.  Raises `CallFailed`."""
        await self.open()
        return await self._open.more()

    async def batches(self) -> AsyncIterator[Sequence[Event]]:
        """The canonical events, as many at a time as have arrived."""
        while (events := await self.more()) is not None:
            yield events

    async def events(self) -> AsyncIterator[Event]:
        """The canonical events, one by one."""
        async for batch in self.batches():
            for event in batch:
                yield event

    async def __aiter__(self) -> AsyncIterator[str]:
        texts = Texts()
        async for batch in self.batches():
            for text in texts.of(batch):
                yield text

    async def finished(self) -> Answer:
        """Reads what is left, and gives the whole answer."""
        async for _ in self.batches():
            pass
        return self.answer

    @property
    def answer(self) -> Answer:
        """The whole answer, once all of it was read.  Raises `AnswerBroken` before."""
        return self._open.reading.answer()

    @property
    def partial(self) -> Answer:
        """What has come so far."""
        return self._open.reading.partial()

    @property
    def marks(self) -> Marks:
        """How the answer comes; its cost is known at the end."""
        return self._open.reading.marks

    @property
    def usage(self) -> Usage:
        """Token counts, as far as they are known."""
        return self._open.reading.usage

    def close(self) -> None:
        """Ends it now; what was delivered stays.  Idempotent."""
        if self._opened is not None:
            self._opened.close()

    @property
    def _open(self) -> Opened:
        if self._opened is None:
            raise AnswerBroken("The stream was not begun.", hint="Enter it with `async with`, or iterate over it.")
        return self._opened
