"""The public listener: plain ASGI, one dictionary look-up from path to handler.

Doors decode what is HTTP about a call (path, credential, body), hand it to the gateway, and frame what comes back.  They know
nothing of providers, prices or routes.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tollhouse.dialects.anthropic import DIALECT as ANTHROPIC
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.gemini import DIALECT as GEMINI
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.errors import ClientLeft, GatewayError, MethodNotAllowed, NotFound, TollhouseError
from tollhouse.server.http import chat, embeddings, gemini, models, passthrough, responses, status, typed
from tollhouse.server.http.asgi import Receive, Scope, Send
from tollhouse.server.http.exchange import Exchange
from tollhouse.server.http.front import Door, Front, Handler, Route
from tollhouse.server.running_calls import RunningCalls
from tollhouse.server.serving import Serving

DOORS: tuple[Callable[[Front], Door], ...] = (
    chat.door,
    responses.door,
    embeddings.door,
    models.door,
    gemini.door,
    typed.door,
    passthrough.door,
)
"""The API families, in the order in which they are asked for a path with variables."""


class PublicApp:
    """The ASGI application of the public listener."""

    def __init__(
        self,
        serving: Serving,
        said: status.Status,
        *,
        unexpected: Callable[[str, BaseException], None],
        refused: Callable[[str, str, TollhouseError], None] = lambda _id, _address, _error: None,
        running: RunningCalls | None = None,
    ) -> None:
        """`said` is what the worker says of itself.

        `refused` hears of what never became a call (a wrong key, a body too large): request id, caller's address, error.
        `running` are the calls under way in this worker, those of its other doors among them.
        """
        self.front = Front(serving, RunningCalls() if running is None else running)
        self._unexpected = unexpected
        self._refused = refused
        doors = [*(make(self.front) for make in DOORS), status.door(self.front, said)]
        self._routes = {path: route for door in doors for path, route in door.routes.items()}
        self._prefixes = tuple(entry for door in doors for entry in door.prefixes.items())

    @property
    def serving(self) -> Serving:
        """What the configuration became; assign another to swap it."""
        return self.front.serving

    @serving.setter
    def serving(self, serving: Serving) -> None:
        self.front.serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; nothing escapes but cancellation."""
        if scope["type"] != "http":
            return
        route = self._routes.get(scope["path"]) or self._find(scope)
        exchange = Exchange(scope, receive, send, route.dialect, self.front.serving.proxies)
        try:
            handler = route.methods.get(exchange.method) or _refusing(route.methods)
            await handler(exchange)
        except ClientLeft:
            pass  # nobody is there to be told
        except TollhouseError as error:
            if exchange.is_begun:
                raise  # the server then breaks the connection: a cut answer must not end cleanly
            self._refused(exchange.id, exchange.address, error)
            await exchange.refuse(error)
        except Exception as error:
            self._unexpected(exchange.id, error)
            if exchange.is_begun:
                raise
            await exchange.refuse(
                GatewayError("Something went wrong inside the gateway.", hint="Its log has the details.")
            )

    def _find(self, scope: Scope) -> Route:
        """What is at a path with variables, which several doors may share by method."""
        path = scope["path"]
        found = [route for prefix, find in self._prefixes if path.startswith(prefix) and (route := find(path))]
        for route in found:
            if scope["method"] in route.methods:
                return route
        others = {method: handler for route in found for method, handler in route.methods.items()}
        return Route(found[0].dialect if found else _guess(scope), others)


def _guess(scope: Scope) -> Dialect[Any]:
    if scope["path"].startswith("/v1beta/"):
        return GEMINI
    is_anthropic = "/messages" in scope["path"] or any(name == b"anthropic-version" for name, _ in scope["headers"])
    return ANTHROPIC if is_anthropic else OPENAI_CHAT


def _where(path: str) -> str:
    if path.startswith(("/upload/", "/v1beta/")):
        return "Google's files and the like are below a provider's name: give the client `…/google` as the address of the API."
    return "Chat is at /v1/chat/completions, /v1/responses and /v1/messages, the models at /v1/models."


def _refusing(methods: Mapping[str, Handler]) -> Handler:
    """What is done with a method that is not among those of a path."""

    async def refuse(exchange: Exchange) -> None:
        if methods:
            raise MethodNotAllowed(exchange.method, allowed=sorted(methods))
        raise NotFound(f"There is nothing at {exchange.method} {exchange.path[:200]!r}.", hint=_where(exchange.path))

    return refuse
