"""The client for programs without an event loop: `AsyncClient`, driven from any thread."""

import os
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, Unpack

from tollhouse.chat.embedding import EmbeddingTask
from tollhouse.chat.events import Event
from tollhouse.chat.usage import Usage
from tollhouse.client.answer import Answer, Counted, Embedded, Marks, Models, ServerInfo, Texts
from tollhouse.client.asynchronous import INFO_SECONDS, AsyncClient, AsyncStream
from tollhouse.client.conversation import Asking, Prompt
from tollhouse.client.failures import NotForThisLoop
from tollhouse.client.health import INTERVAL_SECONDS, Health
from tollhouse.client.portal import Portal
from tollhouse.client.settings import Settings
from tollhouse.client.setup import Options, Providers, settings_of


class _Life:
    """A client in one process: a loop, and what runs on it."""

    __slots__ = ("client", "portal")

    def __init__(self, settings: Settings) -> None:
        self.portal = Portal()
        self.client = AsyncClient.of(settings)

    def close(self) -> None:
        """Ends both.  Idempotent."""
        self.portal.close(self.client.aclose)


class Client:
    """Calls to models, through a gateway or straight to providers; the same either way.

    Every argument may also stand in the environment or in a profile (docs/client.md); arguments come first.  May be used from
    several threads at the same time, and after a fork: the child gets connections of its own.  A context manager.
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
        self._begin(settings)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """A client of settings that are put together already.  Raises `BadSettings`."""
        client = cls.__new__(cls)
        client._begin(settings)  # noqa: SLF001  # it is one of ours
        return client

    def _begin(self, settings: Settings) -> None:
        self._settings = settings
        life = _Life(settings)
        # What an earlier process left stays here untouched: to close its sockets or its loop would disturb that process.
        self._lives = {os.getpid(): life}
        self._finalizer = weakref.finalize(self, life.close)

    @property
    def settings(self) -> Settings:
        """What it goes by."""
        return self._settings

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes every connection; calls under way in other threads fail.  Idempotent."""
        self._life.close()
        self._finalizer.detach()

    def chat(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        fallback_models: Sequence[str] | None = None,
        timeout: float | None = None,
        **asking: Unpack[Asking],
    ) -> Answer:
        """A whole answer.  Raises `CallFailed`."""
        life = self._life
        return life.portal.call(
            lambda: life.client.chat(prompt, model=model, fallback_models=fallback_models, timeout=timeout, **asking)
        )

    def stream(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        fallback_models: Sequence[str] | None = None,
        timeout: float | None = None,
        **asking: Unpack[Asking],
    ) -> "Stream":
        """An answer as it is made.  The call is made when the stream is entered or first read.

        with client.stream("…") as stream:
            for text in stream:
                print(text, end="")
        print(stream.answer.usage)
        """
        life = self._life
        inner = life.client.stream(prompt, model=model, fallback_models=fallback_models, timeout=timeout, **asking)
        return Stream(life.portal, inner)

    def count_tokens(
        self, prompt: Prompt, *, model: str | None = None, timeout: float | None = None, **asking: Unpack[Asking]
    ) -> Counted:
        """How many tokens a prompt has for a model: its provider's count, or an estimate that says so."""
        life = self._life
        return life.portal.call(lambda: life.client.count_tokens(prompt, model=model, timeout=timeout, **asking))

    def embed(
        self,
        texts: str | Iterable[str],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        task: EmbeddingTask | None = None,
        timeout: float | None = None,
    ) -> Embedded:
        """Texts as vectors, in their order."""
        life = self._life
        return life.portal.call(
            lambda: life.client.embed(texts, model=model, dimensions=dimensions, task=task, timeout=timeout)
        )

    def models(self, *, timeout: float | None = None) -> Models:
        """What can be asked."""
        life = self._life
        return life.portal.call(lambda: life.client.models(timeout=timeout))

    def server_info(self, *, timeout: float = INFO_SECONDS) -> ServerInfo:
        """Who answers at the gateway's address.  Tried once."""
        life = self._life
        return life.portal.call(lambda: life.client.server_info(timeout=timeout))

    def watch(self, interval: float = INTERVAL_SECONDS) -> None:
        """Begins to ask the gateway for a sign of life every `interval` seconds, until the client is closed.

        Changes are logged with their cause.  Nothing happens in direct mode.
        """
        life = self._life

        async def begin() -> None:
            life.client.watch(interval)

        life.portal.call(begin)

    def health(self) -> Health:
        """How the gateway is, as far as `watch` has seen."""
        return self._life.client.health()

    @property
    def _life(self) -> _Life:
        """This process's own; setting it in the dictionary is one step, also for several threads."""
        pid = os.getpid()
        life = self._lives.get(pid)
        if life is None:
            if (
                self._settings.mode == "proxy"
                and self._settings.speaks_grpc
                and any(each.portal.is_begun for each in self._lives.values())
            ):
                raise NotForThisLoop(
                    "gRPC does not survive a fork, and this client was used before it.",
                    hint="Fork before its first call, or say `protocol=protobuf` with the gateway's https:// address.",
                )
            life = self._lives.setdefault(pid, _Life(self._settings))
            self._finalizer = weakref.finalize(self, life.close)
        return life


class Stream:
    """An answer as it is made: iterate over its texts, or over `events`.  Close it, or leave its `with`, to end it.

    Not for several threads at the same time.
    """

    def __init__(self, portal: Portal, inner: AsyncStream) -> None:
        """Use `Client.stream`."""
        self._portal = portal
        self._inner = inner

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # What the stream holds belongs to the loop, so it is let go there.
        if hasattr(self, "_inner"):
            self.close()

    def open(self) -> None:
        """Makes the call, and returns when the answer has begun.  Raises `CallFailed`.  Idempotent."""
        self._portal.call(self._inner.open)

    def batches(self) -> Iterator[Sequence[Event]]:
        """The canonical events, as many at a time as have arrived."""
        self.open()
        while (events := self._portal.call(self._inner.more)) is not None:
            yield events

    def events(self) -> Iterator[Event]:
        """The canonical events, one by one."""
        for batch in self.batches():
            yield from batch

    def __iter__(self) -> Iterator[str]:
        texts = Texts()
        for batch in self.batches():
            yield from texts.of(batch)

    def finished(self) -> Answer:
        """Reads what is left, and gives the whole answer."""
        for _ in self.batches():
            pass
        return self.answer

    @property
    def answer(self) -> Answer:
        """The whole answer, once all of it was read.  Raises `AnswerBroken` before."""
        return self._inner.answer

    @property
    def partial(self) -> Answer:
        """What has come so far."""
        return self._inner.partial

    @property
    def marks(self) -> Marks:
        """How the answer comes; its cost is known at the end."""
        return self._inner.marks

    @property
    def usage(self) -> Usage:
        """Token counts, as far as they are known."""
        return self._inner.usage

    def close(self) -> None:
        """Ends it now; what was delivered stays.  Idempotent."""
        self._portal.soon(self._inner.close)
