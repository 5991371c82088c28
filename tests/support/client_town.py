"""Everything that a client can talk to, running beside a test that need not be asynchronous itself.

    @pytest.fixture(scope="module")
    def town():
        with Town() as town:
            yield town

A fake provider that plays all providers, and a real `tollhouse serve` in a process of its own in front of it.  Both live on an
event loop in a thread, so that one of each serves a whole module of tests, synchronous ones included.
"""

import asyncio
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Reply, words
from support.processes import Process, started
from support.serving import KEY
from tollhouse.client.settings import Protocol
from tollhouse.providers.registry import PROVIDER_TYPES

T = TypeVar("T")

PATIENCE_SECONDS: Final = 60.0

MODELS: Final[Mapping[str, str]] = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-sonnet-4-5",
    "google": "gemini-2.5-flash",
    "deepseek": "deepseek-chat",
    "qwen": "qwen-plus",
    "cursor": "cursor-large",
    "glm": "glm-4.6",
    "groq": "llama-3.3-70b-versatile",
    "xai": "grok-3",
}
"""A model of each type of provider that a client asks in either mode."""
_FLAVOURS: Final = {"cursor": "compatible"}
"""Flavours of the fake provider that have another name than the type."""
UPSTREAM_KEYS: Final = {name: f"sk-of-{name}-0123456789" for name in MODELS}


class Town:
    """See the module."""

    def __init__(self, *, more: str = "") -> None:
        """`more` goes into the gateway's configuration."""
        self._more = more
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="town", daemon=True)
        self._stack = AsyncExitStack()
        self._folder = tempfile.TemporaryDirectory()
        self.fake = FakeProvider()
        self.gateway: Process
        self.grpc_port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.run(self._open())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run(self._stack.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._folder.cleanup()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs something on the town's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    def do(self, work: Callable[[], T]) -> T:
        """The same of what does not wait, so that nothing on that loop sees it half done."""

        async def done() -> T:
            return work()

        return self.run(done())

    async def _open(self) -> None:
        await self._stack.enter_async_context(self.fake)
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            self.grpc_port = held.getsockname()[1]
        self.gateway = await self._stack.enter_async_context(
            started(Path(self._folder.name), self.configuration(), "--grpc-port", str(self.grpc_port))
        )

    def configuration(self) -> str:
        """The gateway's: every provider, each with an alias of its name."""
        entries = "\n".join(
            f"  {name}: {{type: {name}, base_url: '{self.base_url(name)}', api_key: {UPSTREAM_KEYS[name]},"
            f" models: [{{name: {model}}}]}}"
            for name, model in MODELS.items()
        )
        aliases = "\n".join(f"  any-{name}: {{route: ['{name}/{model}']}}" for name, model in MODELS.items())
        return f"providers:\n{entries}\nmodels:\n{aliases}\n  default: openai/gpt-4o-mini\nretry: {{max_attempts: 1}}\n{self._more}"

    def base_url(self, name: str) -> str:
        """The address of the fake that plays a type of provider."""
        flavour = _FLAVOURS.get(name, name)
        return f"{self.fake.url}/v1" if flavour == "compatible" else self.fake.base_url(flavour)

    # -- what a client's environment is

    def direct_environ(self) -> dict[str, str]:
        """A person's own keys, and no gateway."""
        environ = self.bare_environ()
        for name in MODELS:
            variable = PROVIDER_TYPES[name].key_variable
            assert variable is not None
            environ[variable] = UPSTREAM_KEYS[name]
            environ[f"{variable.removesuffix('_API_KEY')}_BASE_URL"] = self.base_url(name)
        return environ

    def proxy_environ(self, protocol: Protocol = "json") -> dict[str, str]:
        """A gateway, and no keys."""
        grpc = f"tollhouse+insecure://127.0.0.1:{self.grpc_port}"
        return {
            **self.bare_environ(),
            "PROXY_SERVER_URL": grpc if protocol == "grpc" else self.gateway.url,
            "PROXY_PROTOCOL": protocol,
            "TOLLHOUSE_TOKEN": KEY,
        }

    def bare_environ(self) -> dict[str, str]:
        """Nothing but a home without profiles."""
        return {"HOME": self._folder.name}

    @contextmanager
    def saying(self, *replies: Reply, model: str | None = None) -> Iterator[FakeProvider]:
        """The provider says this, as long as the block lasts; its calls are counted from here."""
        fake = self.fake

        def begin() -> None:
            fake.calls.clear()
            fake.other_calls.clear()
            if model is not None:
                fake.reply_to(model, *replies)
            elif len(replies) == 1:
                fake.default = replies[0]
            else:
                fake.reply(*replies)

        def end() -> None:
            fake.default = Answer(text=words(8))
            fake._next.clear()
            fake._by_model.clear()

        self.do(begin)
        try:
            yield fake
        finally:
            self.do(end)
