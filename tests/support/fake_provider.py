"""A provider that says what it is told to, in the form of a real one, and fails as it is told to.

A real server on 127.0.0.1.  One instance plays all providers at once; the address says which:

    async with FakeProvider() as fake:
        fake.base_url("groq")           # http://127.0.0.1:…/groq/v1
        fake.base_url("anthropic")      # http://127.0.0.1:…/anthropic     (…/v1/messages below it)
    fake.base_url("google")         # http://127.0.0.1:…/gemini/v1beta (…/models/{model}:generateContent below it)

`FLAVOURS` in `fake_openai` has the names; each frames its streams, counts its tokens and words its errors as the recordings
show (where the role, the usage and the finish reason stand, whether tool calls come whole, whether `[DONE]` comes, …).
The fixture `fake_provider` (`support.fixtures`) gives a running one.

**What it says.**  Without a word from the test, every call is answered with eight words.  Otherwise:

    fake.reply(Answer(text="Hello"), Failure(status=429, retry_after="2"))      # the next calls, one each, in order
    fake.reply_to("gpt-x", Answer(calls=(Call("add", '{"a":1}'),)))             # calls for that model; the last one repeats
    fake.default = Replay(name="openai/openai-chat-stream-tool-call-7a4b7c")    # all other calls
    fake.chooses = function_of_the_exchange                                     # or by what stands in a call

A request for the model `replay:openai/openai-chat-stream-…` gets that recording without any preparation.  `Answer` makes text
(`words(200)` is handy), thinking, tool calls, a refusal, any finish reason and any usage; `Failure` is an error of any
status; `Raw`, `HTML_PAGE`, `EMPTY`, `GARBAGE`, `BROKEN_JSON` and `redirect(…)` are what no provider should say.
Model lists hold `fake.models`; `fake.failing_models` makes a flavour's list an error.

**What goes wrong.**  `faulty(reply, …)` with, in any combination:

    NoDone() NoUsage() NoFinish() DoubledFinish()          # the end of a stream is not as it should be
    ErrorAfter(3, Failure(…)) Inserted.garbage(2) Inserted.broken_json(2) Inserted.oversized(2, 5_000_000)
    Cut(at) Reset(at, when=event) Stall(at, until=event) Trickle()

where `at` is `"before_head"`, `"in_head"`, or a number of events after which half of the next one is sent.  Nothing sleeps:
`Stall` waits for its event or for the client to leave, `Reset` and `Cut` for theirs.

**What it saw.**  `fake.calls` has every call in order, `await fake.call(0)` waits for one to arrive:

    call.json["model"], call.headers["authorization"], call.key     # what was asked, with which credential
    await call.done.wait(); call.left_early, call.is_complete       # whether the client left, whether all was sent
    await call.client_left.wait()                                   # the client closed that connection

**What it bills.**  `call.tokens` is what the provider counts for a call (nothing for a failure or a replay) and
`call.delivered_tokens` how many generated tokens were really sent; `fake.totals(key=…, model=…)` adds up, to be compared with
a ledger.
"""

import asyncio
import random
import struct
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never
from urllib.parse import unquote

import msgspec

from support import fake_anthropic, fake_gemini, fake_openai, fake_responses
from support.fake_openai import FLAVOURS, Flavour
from support.fake_replies import (
    NO_TOKENS,
    Answer,
    Cut,
    DoubledFinish,
    ErrorAfter,
    Failure,
    Fault,
    Faulty,
    Inserted,
    NoDone,
    NoFinish,
    NoUsage,
    Piece,
    Plain,
    Position,
    Raw,
    Rendered,
    Replay,
    Reply,
    Reset,
    Stall,
    Tokens,
    Trickle,
    words,
)
from support.peer import OnPeer, Peer, Request, Visit, chunk
from support.recordings import Recording, load

REPLAY_PREFIX = "replay:"
GEMINI = "gemini"
"""The flavour that speaks Google's own dialect; `google-openai` is its compatible endpoint."""

_TRANSFER_HEADERS = frozenset(
    {"content-length", "content-encoding", "transfer-encoding", "connection", "keep-alive", "date"}
)


@dataclass(slots=True, kw_only=True, eq=False)
class Exchange:
    """One call as the provider saw it."""

    flavour: str
    method: str
    path: str
    """Below the flavour: `/v1/chat/completions`."""
    query: str = ""
    headers: dict[str, str]
    """Names in lower case; of repeated fields the last."""
    body: bytes
    json: Any
    """The decoded body; `None` if it is not JSON."""
    client_left: asyncio.Event
    """Set when the client's connection is gone, be it during this call or later."""
    done: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the provider has nothing more to do with this call."""
    status: int | None = None
    """The status that was sent; `None` if no head was."""
    tokens: Tokens = NO_TOKENS
    delivered_tokens: int = 0
    is_complete: bool = False
    """Whether all of the reply was sent."""
    left_early: bool = False
    """Whether the client left before all was sent."""

    @property
    def model(self) -> str | None:
        """The model that was asked for."""
        if self.flavour == GEMINI:
            found = fake_gemini.asked(self.path)
            return None if found is None else found[0]
        return self.json.get("model") if isinstance(self.json, dict) else None

    @property
    def streamed(self) -> bool:
        """Whether a stream was asked for."""
        if self.flavour == GEMINI:
            return self.path.endswith(":streamGenerateContent")
        return isinstance(self.json, dict) and bool(self.json.get("stream"))

    @property
    def asks_responses(self) -> bool:
        """Whether OpenAI's Responses API was asked."""
        return self.path.endswith("/responses")

    @property
    def key(self) -> str | None:
        """The credential, wherever it stood."""
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        return self.headers.get("x-api-key") or self.headers.get("x-goog-api-key") or bearer or None


@dataclass(frozen=True, slots=True)
class Totals:
    """What a number of calls add up to."""

    calls: int
    tokens: Tokens
    delivered_tokens: int


class FakeProvider(OnPeer):
    """See the module.  An async context manager; usable on the loop that entered it."""

    def __init__(self, default: Reply | None = None) -> None:
        self.default: Reply = default or Answer(text=words(8))
        """The reply to calls that nothing else was said for."""
        self.chooses: Callable[[Exchange], Reply | None] = _nothing
        """What is said to a call, by what stands in it; `None` leaves it to `default`.  Comes after `reply`."""
        self.models: tuple[str, ...] = ("fake-large", "fake-small")
        """What the model lists hold."""
        self.failing_models: Mapping[str, Failure] = {}
        """Flavours whose model list is an error."""
        self.calls: list[Exchange] = []
        """Every call to an endpoint that answers; model lists and token counts are in `other_calls`."""
        self.other_calls: list[Exchange] = []
        self._next: deque[Reply] = deque()
        self._by_model: dict[str, deque[Reply]] = {}
        self._peer = Peer(self._serve)
        self._arrived = asyncio.Condition()

    @property
    def url(self) -> str:
        """The server's root.  Below it, without a flavour, it is a compatible server: `/v1/chat/completions`, `/v1/messages`."""
        return self._peer.url

    def base_url(self, flavour: str) -> str:
        """What a configuration would have as `base_url` of a provider of this flavour."""
        if flavour == "anthropic":
            return f"{self._peer.url}/anthropic"
        if flavour == "google":
            return f"{self._peer.url}/{GEMINI}/v1beta"
        return f"{self._peer.url}/{FLAVOURS[flavour].name}/v1"

    def reply(self, *replies: Reply) -> None:
        """The replies to the next calls, one each, after those that are already waiting."""
        self._next.extend(replies)

    def reply_to(self, model: str, *replies: Reply) -> None:
        """The replies to calls for a model, one each; the last one again and again.  Comes before `reply`."""
        self._by_model[model] = deque(replies)

    async def call(self, number: int = 0) -> Exchange:
        """Waits for the call of that number (from 0)."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.calls) > number)
        return self.calls[number]

    def totals(self, *, key: str | None = None, model: str | None = None) -> Totals:
        """What was billed, of one credential or one model if given."""
        chosen = [
            call for call in self.calls if (key is None or call.key == key) and (model is None or call.model == model)
        ]
        tokens = sum((call.tokens for call in chosen), NO_TOKENS)
        return Totals(len(chosen), tokens, sum(call.delivered_tokens for call in chosen))

    @property
    def connections(self) -> int:
        """How many connections were ever opened."""
        return len(self._peer.visits)

    # -- one connection

    async def _serve(self, visit: Visit) -> None:
        while True:
            exchange = _exchange(await visit.request(), visit)
            try:
                if not await self._answer(exchange, visit):
                    return
            except ConnectionError:
                exchange.left_early = True
                raise
            finally:
                exchange.done.set()

    async def _answer(self, exchange: Exchange, visit: Visit) -> bool:
        """Whether the connection can take another request."""
        side = self._side_answer(exchange)
        if side is not None:
            self.other_calls.append(exchange)
            return await _send(side, (), exchange, visit)
        self.calls.append(exchange)
        async with self._arrived:
            self._arrived.notify_all()
        reply = self._choose(exchange)
        plain, faults = (reply.reply, reply.faults) if isinstance(reply, Faulty) else (reply, ())
        makes_vectors = exchange.path.endswith(("/embeddings", ":batchEmbedContents")) and isinstance(plain, Answer)
        said = _vectors(exchange) if makes_vectors else _render(plain, exchange)
        rendered = _with_faults(said, faults, exchange)
        # A provider bills what it generates, whether or not anybody is left to read it.
        exchange.tokens = rendered.tokens
        return await _send(rendered, faults, exchange, visit)

    def _choose(self, exchange: Exchange) -> Reply:
        model = exchange.model or ""
        if model.startswith(REPLAY_PREFIX):
            return Replay(name=model.removeprefix(REPLAY_PREFIX))
        waiting = self._by_model.get(model)
        if waiting:
            return waiting.popleft() if len(waiting) > 1 else waiting[0]
        if self._next:
            return self._next.popleft()
        return self.chooses(exchange) or self.default

    def _side_answer(self, exchange: Exchange) -> Rendered | None:
        is_anthropic = exchange.flavour == "anthropic"
        if exchange.method == "GET" and exchange.path.endswith("/models"):
            if (failure := self.failing_models.get(exchange.flavour)) is not None:
                return _render(failure, exchange)
            render = {"anthropic": fake_anthropic.models, GEMINI: fake_gemini.models}.get(
                exchange.flavour, fake_openai.models
            )
            return _json(render(self.models))
        if exchange.flavour == GEMINI:
            if exchange.path.endswith(":countTokens"):
                return _json(fake_gemini.count())
            if fake_gemini.asked(exchange.path) is None:
                return _render(Failure(status=404, message=f"There is no {exchange.path}."), exchange)
            return None
        if exchange.path.endswith("/count_tokens"):
            return _json(b'{"input_tokens":10}')
        if exchange.path.endswith("/responses/input_tokens"):
            return _json(fake_responses.count())
        if not exchange.path.endswith(
            ("/messages",) if is_anthropic else ("/chat/completions", "/embeddings", "/responses")
        ):
            return _render(Failure(status=404, message=f"There is no {exchange.path}."), exchange)
        return None


# ------------------------------------------------------------------------------------------------------------ saying


def _nothing(exchange: Exchange) -> Reply | None:
    """Says nothing of any call."""
    return None


def _exchange(request: Request, visit: Visit) -> Exchange:
    path, _, query = request.target.partition("?")
    path = unquote(path.rstrip("/"))
    flavour, _, below = path.removeprefix("/").partition("/")
    if flavour in FLAVOURS or flavour in {"anthropic", GEMINI}:
        path = "/" + below
    else:
        flavour = "anthropic" if "/messages" in path else "compatible"
    try:
        decoded = msgspec.json.decode(request.body)
    except msgspec.DecodeError:
        decoded = None
    return Exchange(
        flavour=flavour,
        method=request.method,
        path=path,
        query=query,
        headers=dict(request.headers),
        body=request.body,
        json=decoded,
        client_left=visit.client_closed,
    )


def _flavour(exchange: Exchange) -> Flavour:
    return FLAVOURS.get(exchange.flavour, FLAVOURS["compatible"])


def _render(reply: Plain, exchange: Exchange) -> Rendered:
    request = exchange.json if isinstance(exchange.json, dict) else {}
    is_anthropic = exchange.flavour == "anthropic"
    match reply:
        case Answer():
            if is_anthropic:
                return fake_anthropic.render(reply, request)
            if exchange.flavour == GEMINI:
                return fake_gemini.render(reply, exchange.model or "", streamed=exchange.streamed)
            if exchange.asks_responses:
                return fake_responses.render(reply, request)
            return fake_openai.render(_flavour(exchange), reply, request)
        case Failure():
            if is_anthropic:
                return fake_anthropic.render_failure(reply)
            if exchange.flavour == GEMINI:
                return fake_gemini.render_failure(reply)
            return fake_openai.render_failure(_flavour(exchange), reply)
        case Raw():
            kind = () if reply.content_type is None else (("content-type", reply.content_type),)
            return Rendered(
                status=reply.status,
                headers=(*kind, *reply.headers),
                pieces=(Piece(reply.body, "body"),),
                streamed=False,
            )
        case Replay():
            return _replayed(load(reply.name), reply)
        case _:
            assert_never(reply)


def _replayed(recording: Recording, replay: Replay) -> Rendered:
    headers = tuple(
        (name, value) for name, value in recording.response.headers.items() if name not in _TRANSFER_HEADERS
    )
    if not any(name == "content-type" for name, _ in headers):
        headers = (*headers, ("content-type", "text/event-stream" if recording.is_stream else "application/json"))
    return Rendered(
        status=recording.response.status,
        headers=headers,
        pieces=tuple(Piece(part) for part in _cut(recording, replay)),
        streamed=recording.is_stream,
    )


def _cut(recording: Recording, replay: Replay) -> Iterable[bytes]:
    body = recording.response.body
    match replay.cuts:
        case "recorded":
            return recording.reads()
        case "whole":
            return [body]
        case "bytes":
            return [body[at : at + 1] for at in range(len(body))]
        case int(seed):
            chosen = random.Random(seed)
            offsets = sorted(chosen.sample(range(1, len(body)), min(len(body) - 1, 40))) if len(body) > 1 else []
        case offsets_given:
            offsets = sorted({at for at in offsets_given if 0 < at < len(body)})
    ends = [*offsets, len(body)]
    return [body[start:end] for start, end in zip([0, *offsets], ends, strict=True)]


def _vectors(exchange: Exchange) -> Rendered:
    """Four numbers for each input, made of its length, as many tokens as it has words; in the form that was asked for."""
    asked = exchange.json
    if exchange.flavour == GEMINI:
        body, spent = fake_gemini.vectors(asked)
        return replace(_json(body), tokens=spent)
    inputs = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    if isinstance(inputs[0], int):
        inputs = [inputs]
    vectors = [tuple(float(len(text) * power) for power in (1, 10, 100, 1000)) for text in inputs]
    tokens = sum(len(text.split()) if isinstance(text, str) else len(text) for text in inputs)
    pack = struct.Struct("<4f").pack
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": b64encode(pack(*vector)).decode() if asked.get("encoding_format") == "base64" else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    rendered = _json(msgspec.json.encode({"object": "list", "data": data, "model": asked["model"], "usage": usage}))
    return replace(rendered, tokens=Tokens(input=tokens, output=0))


def _json(body: bytes) -> Rendered:
    return Rendered(
        status=200, headers=(("content-type", "application/json"),), pieces=(Piece(body, "body"),), streamed=False
    )


# ----------------------------------------------------------------------------------------------- saying it wrongly


def _with_faults(rendered: Rendered, faults: Iterable[Fault], exchange: Exchange) -> Rendered:
    said = list(rendered.pieces)
    for fault in faults:
        match fault:
            case NoDone():
                said = [piece for piece in said if piece.kind != "done"]
            case NoUsage():
                said = [_without(piece, "usage") for piece in said if piece.kind != "usage"]
            case NoFinish():
                said = [piece for piece in said if piece.kind not in {"finish", "finish_usage"}]
            case DoubledFinish():
                said = [twice for piece in said for twice in ([piece, piece] if "finish" in piece.kind else [piece])]
            case ErrorAfter():
                said = [*said[: fault.events], _error_event(fault.error, exchange)]
            case Inserted():
                said.insert(fault.events, Piece(fault.data))
            case Cut() | Reset() | Stall() | Trickle():
                pass
            case _:
                assert_never(fault)
    return Rendered(
        status=rendered.status,
        headers=rendered.headers,
        pieces=tuple(said),
        streamed=rendered.streamed,
        tokens=rendered.tokens,
    )


def _error_event(failure: Failure, exchange: Exchange) -> Piece:
    if exchange.flavour == "anthropic":
        return fake_anthropic.error_event(failure)
    if exchange.flavour == GEMINI:
        return fake_gemini.error_event(failure)
    if exchange.asks_responses:
        return fake_responses.error_event(failure)
    return fake_openai.error_event(_flavour(exchange), failure)


def _without(piece: Piece, name: str) -> Piece:
    """The piece with a top-level field (and Groq's copy of it) taken out of its JSON."""
    start = piece.data.find(b"{")
    if start < 0:
        return piece
    before, line, after = piece.data[:start], *_split_line(piece.data[start:])
    value = msgspec.json.decode(line)
    if name not in value and "x_groq" not in value:
        return piece
    value.pop(name, None)
    value.get("x_groq", {}).pop(name, None)
    return Piece(before + msgspec.json.encode(value) + after, piece.kind, piece.tokens)


def _split_line(data: bytes) -> tuple[bytes, bytes]:
    line, newline, rest = data.partition(b"\n")
    return line, newline + rest


# ------------------------------------------------------------------------------------------------------------ sending


async def _send(rendered: Rendered, faults: Iterable[Fault], exchange: Exchange, visit: Visit) -> bool:
    """Sends a reply; whether the connection is still good.  Raises `ConnectionError` if the client left."""
    sender = _Sender(visit, tuple(faults))
    frames = [
        (chunk(piece.data) if rendered.streamed else piece.data, piece) for piece in rendered.pieces if piece.data
    ]
    length = sum(len(piece.data) for piece in rendered.pieces)
    if not await sender.passes("before_head", b""):
        return False
    if not await sender.sends("in_head", _head(rendered, length)):
        return False
    exchange.status = rendered.status
    for number, (frame, piece) in enumerate(frames):
        if not await sender.sends(number, frame):
            return False
        exchange.delivered_tokens += piece.tokens
    if not await sender.sends(len(frames), chunk(b"") if rendered.streamed else b""):
        return False
    exchange.is_complete = True
    return True


class _Sender:
    """Writes what it is given, unless a fault stands at that position."""

    def __init__(self, visit: Visit, faults: tuple[Fault, ...]) -> None:
        self._visit = visit
        self._trickles = any(isinstance(fault, Trickle) for fault in faults)
        self._at: dict[Position, Cut | Reset | Stall] = {
            fault.at: fault for fault in faults if isinstance(fault, Cut | Reset | Stall)
        }

    async def passes(self, position: Position, half: bytes) -> bool:
        """Whether sending goes on past a position; before a fault, half of what was due is sent."""
        fault = self._at.get(position)
        if fault is None:
            return True
        if half:
            await self._visit.send(half)
        match fault:
            case Stall():
                await self._wait(fault.until)
                return True
            case Cut():
                if fault.when is not None:
                    await self._wait(fault.when)
                self._visit.cut()
            case Reset():
                if fault.when is not None:
                    await self._wait(fault.when)
                self._visit.reset()
        return False

    async def sends(self, position: Position, data: bytes) -> bool:
        """Sends the data with whatever stands at the position; whether sending goes on."""
        half = data[: len(data) // 2] if position in self._at else b""
        if not await self.passes(position, half):
            return False
        rest = data[len(half) :]
        if self._visit.client_closed.is_set():
            raise ConnectionResetError("the client left")
        if self._trickles:
            await self._visit.trickle(rest)
        elif rest:
            await self._visit.send(rest)
        return True

    async def _wait(self, event: asyncio.Event | None) -> None:
        """Waits for the test's word; raises `ConnectionError` if the client leaves first."""
        left = self._visit.client_closed
        if event is None:
            await left.wait()
            raise ConnectionResetError("the client left")
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(event.wait()), group.create_task(left.wait())]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
        if not event.is_set():
            raise ConnectionResetError("the client left")


def _head(rendered: Rendered, length: int) -> bytes:
    lines = [f"HTTP/1.1 {rendered.status} Fake"]
    lines += [f"{name}: {value}" for name, value in rendered.headers]
    lines.append("transfer-encoding: chunked" if rendered.streamed else f"content-length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
