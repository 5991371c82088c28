"""The door of OpenAI's Responses API, and of the answers that it keeps.

Answers are kept for their tenant unless the client or the configuration says otherwise, so that a client can go on from one by
its id, look at it again, or delete it.  What is kept was written before the answer's last byte leaves; a store that is away
costs the answer nothing but that it cannot be found again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final
from urllib.parse import parse_qs

import msgspec

from tollhouse.chat.model import Extra
from tollhouse.dialects.openai_responses import DIALECT, encode_count
from tollhouse.dialects.openai_responses import history as conversation
from tollhouse.dialects.openai_responses.history import Asked, Turn
from tollhouse.dialects.openai_responses.numbering import Numbering
from tollhouse.dialects.openai_responses.wire import NAME
from tollhouse.errors import (
    BadRequest,
    BodyTooLarge,
    MethodNotAllowed,
    NotFound,
    ResponseNotFound,
    StoreUnavailable,
    UpgradeRefused,
)
from tollhouse.gateway.call import Call, Headers
from tollhouse.gateway.count import count_tokens
from tollhouse.gateway.pipeline import Gateway
from tollhouse.ledger.kept_responses import KeptResponse
from tollhouse.server.http.exchange import JSON, Exchange
from tollhouse.server.http.front import Door, Front, Handler, Route
from tollhouse.server.serving import Keeping, Serving

PATHS: Final = ("/v1/responses", "/responses", "/openai/v1/responses")
KEEP_SECONDS: Final = 2.0
"""How long an answer's end may wait for the answer to be kept; the writing goes on after that."""
DEFAULT_PAGE: Final = 20
LARGEST_PAGE: Final = 100

_NOT_KEPT: Final = Extra(NAME, {"store": msgspec.Raw(b"false")})
"""What an answer says that the gateway writes itself.  One of OpenAI's own says what is kept there."""

log = logging.getLogger("tollhouse.server")


def door(front: Front) -> Door:
    """`/v1/responses` and what is below it."""

    def find(prefix: str, path: str) -> Route | None:
        return route(front, path.removeprefix(prefix))

    return Door(
        routes={path: found for path in PATHS if (found := route(front, "")) is not None},
        prefixes={f"{path}/": partial(find, f"{path}/") for path in PATHS},
    )


def route(front: Front, below: str, *, provider: str | None = None) -> Route | None:
    """What there is at a path `below` the responses; `provider` is the one that may answer, where the path names it."""

    async def create(exchange: Exchange) -> None:
        exchange.reframe = Numbering()
        work = partial(_create, front.serving)
        await front.carry(exchange, "openai_responses", work, provider=provider)

    async def count(exchange: Exchange) -> None:
        work = partial(_count, front.serving)
        await front.carry(exchange, "openai_responses_count_tokens", work, provider=provider)

    async def listen(exchange: Exchange) -> None:
        """Codex first tries a WebSocket here, and goes on over HTTP at once when it reads 426."""
        if exchange.has_header(b"upgrade"):
            raise UpgradeRefused("Responses are streamed over plain HTTP here: POST with `stream: true`.")
        raise MethodNotAllowed(exchange.method, allowed=["POST"])

    async def compact(exchange: Exchange) -> None:
        front.identify(exchange)
        raise NotFound(
            "Conversations are not compacted here: what OpenAI makes of one can be read by OpenAI alone.",
            hint="Have the client compact them itself. Codex does so when the gateway is one of its `model_providers` "
            "(`tollhouse setup codex`); `context_management` in a request goes to OpenAI's own models.",
        )

    async def show(exchange: Exchange) -> None:
        await _show(front, exchange, response_id)

    async def delete(exchange: Exchange) -> None:
        await _delete(front, exchange, response_id)

    async def list_input(exchange: Exchange) -> None:
        await _list_input(front, exchange, response_id)

    async def cancel(exchange: Exchange) -> None:
        front.identify(exchange)
        raise BadRequest("Only responses that run in the background can be cancelled, and none does here.")

    response_id, _, rest = below.partition("/")
    methods: Mapping[str, Handler]
    match response_id, rest:
        case "", "":
            methods = {"POST": create, "GET": listen}
        case "input_tokens", "":
            methods = {"POST": count}
        case "compact", "":
            methods = {"POST": compact}
        case _, "":
            methods = {"GET": show, "DELETE": delete}
        case _, "input_items":
            methods = {"GET": list_input}
        case _, "cancel":
            methods = {"POST": cancel}
        case _:
            return None
    return Route(DIALECT, methods)


# ---------------------------------------------------------------------------------------------------------------- calls


async def _create(serving: Serving, gateway: Gateway, call: Call, exchange: Exchange) -> None:
    asked = conversation.asked(call.body)
    added: bytes | None = None
    if not asked.is_whole:
        call, added = await _whole(serving, call, asked)
    keeping = serving.responses
    if keeping is None or not keeping.is_on:
        await gateway.answer(msgspec.structs.replace(call, echo=_NOT_KEPT), exchange)
        return
    if not asked.keeps:
        await gateway.answer(call, exchange)
        return
    await gateway.answer(call, _Keeper(exchange, partial(_keep, keeping, call, asked, added)))


async def _count(serving: Serving, gateway: Gateway, call: Call, exchange: Exchange) -> None:
    asked = conversation.asked(call.body)
    if not asked.is_whole:
        call, _ = await _whole(serving, call, asked)
    counted = await count_tokens(gateway, call)
    estimated = [(b"x-tollhouse-count", b"estimated")] if counted.is_estimate else []
    await exchange.head(200, [(b"content-type", JSON), *estimated])
    await exchange.body(encode_count(counted.input_tokens), more=False)


async def _whole(serving: Serving, call: Call, asked: Asked) -> tuple[Call, bytes]:
    """The call with its whole conversation, and what it adds to it.  Raises `ResponseNotFound` and `BodyTooLarge`."""
    keeping, limit = serving.responses, serving.max_body_bytes
    if keeping is None or not keeping.is_on:
        raise BadRequest(
            "This gateway keeps no responses, so there is nothing to go on from.",
            hint="Send the whole conversation in `input`.",
            param="previous_response_id" if asked.previous_id is not None else "input",
        )
    tenant = call.principal.tenant
    found: dict[str, msgspec.Raw] = {}
    if asked.references:
        holders = await keeping.shelf.with_items(tenant, list(dict.fromkeys(asked.references)), limit)
        found = conversation.items_by_id([_turn(kept) for kept in holders], asked.references)
        missing = next((name for name in asked.references if name not in found), None)
        if missing is not None:
            raise ResponseNotFound(f"Item with id {missing!r} not found.", param="input")
    turns: Sequence[Turn] = ()
    if asked.previous_id is not None:
        chain = await keeping.shelf.chain(tenant, asked.previous_id, limit)
        if not chain:
            raise ResponseNotFound(
                f"Previous response with id {asked.previous_id!r} not found.", param="previous_response_id"
            )
        if chain[0].previous_id is not None:
            raise ResponseNotFound(
                f"The conversation before response {asked.previous_id!r} is not kept any more.",
                hint="Send it in `input`.",
                param="previous_response_id",
            )
        turns = [_turn(kept) for kept in chain]
    added = conversation.own_input(asked.fields, found)
    body = conversation.whole_request(asked.fields, turns, added)
    if len(body) > limit:
        raise BodyTooLarge(limit_bytes=limit)
    return msgspec.structs.replace(call, body=body), added


async def _keep(keeping: Keeping, call: Call, asked: Asked, added: bytes | None, last: bytes) -> None:
    """Keeps the answer that ends with these bytes, if it is one."""
    answer = conversation.kept_answer(last)
    if answer is None:
        return
    if added is None:
        added = conversation.own_input(asked.fields, {})
    if len(added) + len(answer.body) > keeping.bounds.max_response_bytes:
        log.info("a response is too large to be kept", extra={"request_id": call.id, "response_id": answer.id})
        return
    written = keeping.shelf.keep(
        call.principal.tenant,
        KeptResponse(answer.id, asked.previous_id, call.arrived_at_us, added, answer.body),
        answer.item_ids,
    )
    try:
        async with asyncio.timeout(KEEP_SECONDS):
            await asyncio.shield(written)
    except (StoreUnavailable, TimeoutError) as error:
        # That the database is away was said once, in a warning.
        log.info(
            "a response could not be kept in time; the client cannot go on from it",
            extra={"request_id": call.id, "response_id": answer.id, "why": str(error) or "it took too long"},
        )


class _Keeper:
    """A client's end on whose way an answer is kept; a `Sink`."""

    __slots__ = ("_exchange", "_is_answer", "_keep")

    def __init__(self, exchange: Exchange, keep: Callable[[bytes], Awaitable[None]]) -> None:
        self._exchange = exchange
        self._keep = keep
        self._is_answer = False

    async def head(self, status: int, headers: Headers) -> None:
        self._is_answer = status == 200
        await self._exchange.head(status, headers)

    async def body(self, data: bytes, *, more: bool) -> None:
        # The last piece of a stream holds its last event, which repeats the whole answer.
        if not more and self._is_answer:
            await self._keep(data)
        await self._exchange.body(data, more=more)


# ---------------------------------------------------------------------------------------------------------- kept answers


async def _show(front: Front, exchange: Exchange, response_id: str) -> None:
    if _query(exchange).get("stream", ["false"])[-1] == "true":
        front.identify(exchange)
        raise BadRequest("A response that was given before is not streamed again; leave `stream` out.", param="stream")
    kept = await _kept(front, exchange, response_id)
    await exchange.reply(200, conversation.with_previous(kept.body, kept.previous_id))


async def _delete(front: Front, exchange: Exchange, response_id: str) -> None:
    principal = front.identify(exchange)
    keeping = front.serving.responses
    if (
        keeping is None
        or not conversation.is_id(response_id)
        or not await keeping.shelf.remove(principal.tenant, response_id)
    ):
        raise _not_found(response_id)
    body = {"id": response_id, "object": "response", "deleted": True}
    await exchange.reply(200, msgspec.json.encode(body))


async def _list_input(front: Front, exchange: Exchange, response_id: str) -> None:
    query = _query(exchange)
    limit = query.get("limit", [str(DEFAULT_PAGE)])[-1]
    order = query.get("order", ["desc"])[-1]
    kept = await _kept(front, exchange, response_id)
    # Python does not read a number of thousands of digits.
    if not limit.isdecimal() or len(limit) > len(str(LARGEST_PAGE)) or not 1 <= int(limit) <= LARGEST_PAGE:
        raise BadRequest(f"`limit` must be a whole number from 1 to {LARGEST_PAGE}.", param="limit")
    if order not in {"asc", "desc"}:
        raise BadRequest("`order` must be `asc` or `desc`.", param="order")
    page = conversation.input_page(
        _turn(kept), limit=int(limit), after=query.get("after", [None])[-1], newest_first=order == "desc"
    )
    await exchange.reply(200, page)


async def _kept(front: Front, exchange: Exchange, response_id: str) -> KeptResponse:
    principal = front.identify(exchange)
    keeping = front.serving.responses
    if keeping is not None and conversation.is_id(response_id):
        kept = await keeping.shelf.one(principal.tenant, response_id)
        if kept is not None:
            return kept
    raise _not_found(response_id)


def _not_found(response_id: str) -> ResponseNotFound:
    return ResponseNotFound(f"Response with id {response_id[:100]!r} not found.")


def _turn(kept: KeptResponse) -> Turn:
    return Turn(kept.id, kept.input, kept.body)


def _query(exchange: Exchange) -> dict[str, list[str]]:
    raw: bytes = exchange.scope["query_string"]
    return parse_qs(raw.decode("latin-1"))
