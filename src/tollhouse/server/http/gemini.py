"""The door of Google's Gemini API, under `/v1beta` and, as newer SDKs call it, under `/v1`.

The path names the model and the method (`/v1beta/models/{model}:streamGenerateContent`), the query how a stream is framed
(`alt=sse`) and, with old clients, the caller's key (`key=…`).  A model's own name may have slashes and colons in it: the method
is what follows the last colon.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final
from urllib.parse import parse_qs

from tollhouse.dialects.embedding import EmbeddingDialect
from tollhouse.dialects.gemini import DIALECT, encode_count
from tollhouse.dialects.gemini.array import ArrayFraming
from tollhouse.dialects.gemini.embed import EMBEDDING, EMBEDDINGS
from tollhouse.errors import BadRequest, NotFound
from tollhouse.gateway.call import Call
from tollhouse.gateway.count import count_tokens
from tollhouse.gateway.pipeline import Gateway
from tollhouse.server.http.embeddings import give_vectors
from tollhouse.server.http.exchange import JSON, Exchange
from tollhouse.server.http.front import Door, Front, Handler, Route, answer

VERSIONS: Final = ("/v1beta", "/v1")
COLLECTIONS: Final = ("models", "tunedModels")
MAX_QUERY_BYTES: Final = 4_096

Method = Callable[[Exchange, str], Awaitable[None]]
"""What is done at a model's method; told the model."""

_METHOD: Final = re.compile(r"(?P<resource>.+):(?P<method>[A-Za-z]+)", re.DOTALL)


def door(front: Front) -> Door:
    """`/v1beta/models`, `/v1beta/models/{model}` and the methods below it, and those under `/v1`.

    The lists under `/v1` are another door's, which several dialects share.
    """

    async def every(exchange: Exchange) -> None:
        exchange.query_key = query_key(exchange)
        principal = front.identify(exchange)
        cards = front.serving.gateway.router.cards(principal.access)
        await exchange.reply(200, DIALECT.encode_models(cards))

    async def one(exchange: Exchange) -> None:
        exchange.query_key = query_key(exchange)
        principal = front.identify(exchange)
        model = _model_of(exchange.path.split("/", 2)[2])
        await exchange.reply(200, DIALECT.encode_model(front.serving.gateway.router.card(model, principal)))

    def find(path: str) -> Route | None:
        """What is at a path below a collection of models."""
        _, version, resource = path.split("/", 2)
        called = route(front, resource)
        handlers: dict[str, Handler] = {} if called is None else dict(called.methods)
        if version == "v1beta":
            handlers |= {"GET": one, "HEAD": one}
        return Route(DIALECT, handlers) if handlers else None

    return Door(
        routes={"/v1beta/models": Route(DIALECT, {"GET": every, "HEAD": every})},
        prefixes={f"{version}/{collection}/": find for version in VERSIONS for collection in COLLECTIONS},
    )


def route(front: Front, resource: str, *, provider: str | None = None) -> Route | None:
    """What is at a method of a model (`models/{model}:generateContent`); `None` for what is no method's path.

    With a `provider`, that one alone may answer.
    """
    found = _METHOD.fullmatch(resource)
    if found is None or not resource.startswith(tuple(f"{collection}/" for collection in COLLECTIONS)):
        return None

    async def generate(exchange: Exchange, model: str, *, stream: bool) -> None:
        if stream and not _wants_events(exchange):
            exchange.reframe = ArrayFraming()
        await front.carry(exchange, "gemini", answer, model=model, stream=stream, provider=provider)

    async def count(exchange: Exchange, model: str) -> None:
        await front.carry(exchange, "gemini_count_tokens", _count, model=model, provider=provider)

    async def make(exchange: Exchange, model: str, *, wire: EmbeddingDialect) -> None:
        await front.carry(exchange, "gemini_embeddings", partial(give_vectors, wire), model=model, provider=provider)

    methods: Mapping[str, Method] = {
        "generateContent": partial(generate, stream=False),
        "streamGenerateContent": partial(generate, stream=True),
        "countTokens": count,
        "embedContent": partial(make, wire=EMBEDDING),
        "batchEmbedContents": partial(make, wire=EMBEDDINGS),
    }
    method = methods.get(found["method"])
    if method is None and provider is not None:
        return None
    return Route(DIALECT, {"POST": partial(_called, method, found["method"], _model_of(found["resource"]))})


async def _called(handler: Method | None, method: str, model: str, exchange: Exchange) -> None:
    """One method of a model's."""
    exchange.query_key = query_key(exchange)
    if handler is None:
        raise NotFound(
            f"Models have no method {method[:60]!r} here.",
            hint="There are generateContent, streamGenerateContent, countTokens, embedContent and batchEmbedContents.",
        )
    if not model:
        raise BadRequest("The path names no model.", param="model", hint=f"POST /v1beta/models/{{model}}:{method}.")
    await handler(exchange, model)


def _model_of(resource: str) -> str:
    """The name of a model: without Google's collection of models, but with another collection."""
    return resource.removeprefix("models/")


def query_key(exchange: Exchange) -> bytes | None:
    """The caller's key where an old client has it in the query.  It is read here and goes nowhere else."""
    values = _query(exchange).get("key")
    return values[0].encode("latin-1", "replace") if values else None


def _wants_events(exchange: Exchange) -> bool:
    return "sse" in _query(exchange).get("alt", [])


def _query(exchange: Exchange) -> dict[str, list[str]]:
    raw: bytes = exchange.scope.get("query_string", b"")
    try:
        return parse_qs(raw[:MAX_QUERY_BYTES].decode("latin-1"), max_num_fields=50)
    except ValueError:
        return {}


async def _count(gateway: Gateway, call: Call, exchange: Exchange) -> None:
    counted = await count_tokens(gateway, call)
    estimated = [(b"x-tollhouse-count", b"estimated")] if counted.is_estimate else []
    await exchange.head(200, [(b"content-type", JSON), *estimated])
    await exchange.body(encode_count(counted.input_tokens), more=False)
