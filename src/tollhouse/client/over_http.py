"""One call over HTTP, in the dialect of whoever is asked: straight to a provider, or to a gateway in Chat Completions."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Final, TypeAlias

import msgspec

from tollhouse.chat import receipt as receipts
from tollhouse.chat import sse
from tollhouse.chat.embedding import EmbeddingRequest, Embeddings
from tollhouse.chat.events import Ended, Event, Failed
from tollhouse.chat.fold import unfold
from tollhouse.chat.model import Request, Response
from tollhouse.chat.receipt import Receipt
from tollhouse.client.answer import Marks
from tollhouse.client.failures import CallFailed, NotSpoken
from tollhouse.client.messages import SETTLE_SECONDS
from tollhouse.client.translate import Scene, failure, of_refusal
from tollhouse.dialects.dialect import Dialect
from tollhouse.errors import TollhouseError, UpstreamMalformed
from tollhouse.providers.provider import Provider
from tollhouse.upstream.address import target
from tollhouse.upstream.failure import parse_retry_after
from tollhouse.upstream.transport import Address, Deadlines, Headers, Incoming, Outgoing, Transport

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
MAX_ERROR_BYTES: Final = 256 * 1024
SILENCE_SECONDS: Final = 120.0
"""The longest time between two pieces of a stream."""
MIN_SECRET_CHARACTERS: Final = 4
DRAIN_SECONDS: Final = 0.25
"""How long a finished stream's connection may take to show its end, to be used again."""
RECEIPT: Final = receipts.HEADER.encode()
CODE: Final = b"x-tollhouse-code"
"""As `tollhouse.gateway.failures` has it."""
COST: Final = b"x-tollhouse-cost-nano-usd"
"""As `tollhouse.gateway.pipeline` has it."""


Asides: TypeAlias = Mapping[bytes, Callable[[bytes, Marks], Marks]]
"""Events of a stream, by name, that are no part of the answer but say something of it; each completes the marks."""
NO_ASIDES: Final[Asides] = {}


class Place:
    """Whom HTTP calls go to, with everything computed that all of them share."""

    __slots__ = ("address", "connect_seconds", "protocol", "provider", "scene", "transport")

    def __init__(
        self,
        provider: Provider,
        address: Address,
        transport: Transport,
        scene: Scene,
        *,
        protocol: str,
        connect_seconds: float,
    ) -> None:
        self.provider = provider
        self.address = address
        self.transport = transport
        self.scene = scene
        self.protocol = protocol
        self.connect_seconds = connect_seconds

    def scene_of(self, model: str) -> Scene:
        """The scene of a call to that model."""
        return replace(self.scene, model=model)

    @staticmethod
    def wall() -> float:
        """Seconds since the epoch."""
        return time.time()

    def deadlines(self, until: float) -> Deadlines:
        """What is left of the caller's patience."""
        left = max(0.001, until - asyncio.get_running_loop().time())
        return Deadlines(
            connect=min(self.connect_seconds, left),
            first_byte=left,
            between_chunks=min(SILENCE_SECONDS, left),
            total=left,
        )

    async def send(
        self,
        method: bytes,
        path: str | bytes,
        body: bytes,
        until: float,
        extra: Sequence[tuple[bytes, bytes]] = (),
    ) -> Incoming:
        """Sends a request, and gives the answer once its head is there.  Raises `TollhouseError`; `path` as bytes is whole."""
        return await self.transport.send(
            Outgoing(
                address=self.address,
                method=method,
                target=path if isinstance(path, bytes) else target(self.address, path),
                headers=_with(self.provider.headers(time.time()), extra),
                body=body,
            ),
            self.deadlines(until),
        )

    async def ask(
        self,
        method: bytes,
        path: str | bytes,
        body: bytes,
        until: float,
        extra: Sequence[tuple[bytes, bytes]] = (),
        *,
        model: str = "",
    ) -> tuple[bytes, Headers]:
        """A whole answer's body and headers.  Raises `TollhouseError`, an error status included."""
        incoming = await self.send(method, path, body, until, extra)
        try:
            if incoming.status >= 300:
                raise await self.refusal(incoming, model)
            return await incoming.read_all(MAX_ANSWER_BYTES), incoming.headers
        finally:
            incoming.close()

    async def refusal(self, incoming: Incoming, model: str = "", dialect: Dialect[Any] | None = None) -> TollhouseError:
        """The error in an answer with an error status, without the credential that was sent.

        `dialect` is that of the answer, where it is not the provider's.
        """
        try:
            body = await incoming.read_all(MAX_ERROR_BYTES)
        except TollhouseError:
            body = b""  # the status says enough; what should explain it is cut, silent or endless
        error = (dialect or self.provider.dialect).decode_error(incoming.status, body)
        for _, value in self.provider.authenticate(time.time()):
            secret = value.rpartition(b" ")[2].decode("latin-1")
            if len(secret) >= MIN_SECRET_CHARACTERS:
                error.message = error.message.replace(secret, "***")
        error.provider = self.provider.name
        error.retry_after_seconds = parse_retry_after(incoming.headers, now_seconds=time.time(), body=body)
        code = self.code_of(incoming)
        if not code:
            return error
        found = of_refusal(error, code, self.scene_of(model))
        found.request_id = request_id_of(incoming.headers)
        return found

    def code_of(self, incoming: Incoming) -> str:
        """The stable code of a gateway's error; empty where there is none, or no gateway was asked."""
        return "" if self.scene.mode == "direct" else _text(incoming.header(CODE))

    def marks(self, requested_model: str, headers: Headers, receipt: Receipt, model: str = "") -> Marks:
        """What an answer's head says of it."""
        said = {name: value for name, value in headers if name.startswith(b"x-") or name == b"request-id"}
        lost = [entry for entry in (receipt.header(), _text(said.get(RECEIPT))) if entry]
        cost = _text(said.get(COST))
        return Marks(
            mode=self.scene.mode,
            protocol=self.protocol,
            where=self.scene.where,
            requested_model=requested_model,
            model=_text(said.get(b"x-tollhouse-model")) or model,
            request_id=_text(said.get(b"x-request-id") or said.get(b"request-id")),
            receipt="; ".join(lost),
            cost_nano=int(cost) if cost.isdecimal() else None,
            cache=_text(said.get(b"x-tollhouse-cache")),
        )


def _with(headers: Sequence[tuple[bytes, bytes]], extra: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers, with some in place of those of the same name."""
    if not extra:
        return list(headers)
    replaced = {name for name, _ in extra}
    return [*(entry for entry in headers if entry[0] not in replaced), *extra]


def _text(value: bytes | None) -> str:
    return "" if value is None else value[:4096].decode("latin-1")


def request_id_of(headers: Headers) -> str:
    """The id that the other side gave to a request."""
    return next((_text(value) for name, value in headers if name in {b"x-request-id", b"request-id"}), "")


class Talk:
    """One model at one place."""

    __slots__ = ("_model", "_name", "_place", "_provider", "_traits")

    def __init__(self, place: Place, model: str, name: str) -> None:
        """`model` is the place's own name of it, `name` the caller's."""
        self._place = place
        self._model = model
        self._name = name
        # Some models of a provider are asked in another dialect than the rest.
        self._provider = place.provider.ways(model)[0]
        self._traits: Any = self._provider.traits_for(model)

    async def whole(self, request: Request, until: float) -> tuple[Response, Marks]:
        """A whole answer.  Raises `CallFailed`."""
        place, receipt = self._place, Receipt()
        request_id = ""
        try:
            body = self._encoded(request, receipt, stream=False)
            incoming = await place.send(b"POST", self._path(self._provider.chat_path), body, until)
            try:
                request_id = request_id_of(incoming.headers)
                if incoming.status >= 300:
                    raise await place.refusal(incoming, self._name)
                data = await incoming.read_all(MAX_ANSWER_BYTES)
            finally:
                incoming.close()
            response = self._provider.dialect.decode_response(data, self._traits)
        except CallFailed:
            raise
        except TollhouseError as error:
            raise failure(error, place.scene_of(self._name), request_id=request_id) from error
        return response, place.marks(self._name, incoming.headers, receipt, self._label(response.model))

    async def count(self, request: Request, until: float) -> int | None:
        """The provider's count of a prompt's tokens; `None` where it cannot count.  Raises `CallFailed`."""
        place, provider = self._place, self._provider
        if provider.counting is None or provider.count_tokens_path is None:
            return None
        try:
            meant = msgspec.structs.replace(request, model=self._model)
            body = provider.counting.encode_request(meant, self._traits, Receipt())
            data, _ = await place.ask(b"POST", self._path(provider.count_tokens_path), body, until)
            return provider.counting.decode_count(data)
        except CallFailed:
            raise
        except TollhouseError as error:
            raise failure(error, place.scene_of(self._name)) from error

    async def stream(
        self,
        request: Request,
        until: float,
        extra: Sequence[tuple[bytes, bytes]] = (),
        asides: "Asides" = NO_ASIDES,
    ) -> "HttpLive":
        """An open stream.  Raises `CallFailed`."""
        place, receipt = self._place, Receipt()
        request_id = ""
        try:
            body = self._encoded(request, receipt, stream=True)
            path = self._provider.stream_path or self._provider.chat_path
            incoming = await place.send(b"POST", self._path(path), body, until, extra)
            request_id = request_id_of(incoming.headers)
            if incoming.status >= 300:
                with closing(incoming):
                    raise await place.refusal(incoming, self._name)
        except CallFailed:
            raise
        except TollhouseError as error:
            raise failure(error, place.scene_of(self._name), request_id=request_id) from error
        marks = place.marks(self._name, incoming.headers, receipt, self._label(self._model))
        return HttpLive(incoming, self._provider, self._traits, marks, place.scene_of(self._name), asides)

    async def embed(self, request: EmbeddingRequest, until: float) -> tuple[Embeddings, Marks]:
        """Texts as vectors.  Raises `CallFailed`."""
        place, receipt = self._place, Receipt()
        provider = self._provider
        if provider.embeddings_path is None or provider.embeddings is None:
            raise NotSpoken(
                f"Provider {provider.name!r} has no embeddings.", hint="Ask another one.", where=place.scene.where
            )
        try:
            body = provider.embeddings.encode_request(msgspec.structs.replace(request, model=self._model), receipt)
            path = self._path(provider.embeddings_path)
            data, headers = await place.ask(b"POST", path, body, until, model=self._name)
            answer = provider.embeddings.decode_response(data)
        except CallFailed:
            raise
        except TollhouseError as error:
            raise failure(error, place.scene_of(self._name)) from error
        return answer, place.marks(self._name, headers, receipt, self._label(answer.model))

    def _encoded(self, request: Request, receipt: Receipt, *, stream: bool) -> bytes:
        meant = msgspec.structs.replace(request, model=self._model, stream=stream, include_usage=stream)
        return self._provider.dialect.encode_request(meant, self._traits, receipt)

    def _path(self, path: str) -> bytes:
        return target(self._place.address, self._provider.path(path, self._model))

    def _label(self, model: str) -> str:
        """Who answers, where nobody says it: in direct mode the provider itself."""
        place = self._place
        return f"{place.provider.name}/{model}" if place.scene.mode == "direct" and model else ""


class HttpLive:
    """A stream over HTTP."""

    __slots__ = (
        "_asides",
        "_decoder",
        "_incoming",
        "_is_over",
        "_is_sse",
        "_parser",
        "_provider",
        "_scene",
        "_traits",
        "marks",
    )

    def __init__(  # noqa: PLR0917  # made in one place
        self,
        incoming: Incoming,
        provider: Provider,
        traits: Any,
        marks: Marks,
        scene: Scene,
        asides: Asides = NO_ASIDES,
    ) -> None:
        self._incoming = incoming
        self._asides = asides
        self._provider = provider
        self._traits = traits
        self._decoder = provider.dialect.stream_decoder(traits)
        self._parser = sse.Parser(max_event_bytes=provider.dialect.max_event_bytes)
        self._scene = scene
        self._is_over = False
        kind = incoming.header(b"content-type")
        self._is_sse = kind is None or kind.lstrip().lower().startswith(b"text/event-stream")
        self.marks = marks

    async def more(self) -> Sequence[Event] | None:
        """See `Live.more`."""
        if self._is_over:
            return None
        try:
            events = await self._read() if self._is_sse else await self._read_whole()
        except TollhouseError as error:
            self.close()
            raise failure(error, self._scene, request_id=self.marks.request_id, begun=True) from error
        except BaseException:
            self.close()
            raise
        if any(isinstance(event, Ended | Failed) for event in events):
            await self._finish()
        return events

    def close(self) -> None:
        """See `Live.close`."""
        self._is_over = True
        self._incoming.close()

    async def _read(self) -> list[Event]:
        while True:
            data = await self._incoming.read_some()
            if not data:
                events = self._heard(self._parser.close())
                if not any(isinstance(event, Ended | Failed) for event in events):
                    events += self._decoder.close()
                return events
            events = self._heard(self._parser.feed(data))
            if events:
                return events

    def _heard(self, frames: Iterable[sse.Frame]) -> list[Event]:
        events: list[Event] = []
        for frame in frames:
            aside = self._asides.get(frame.event)
            if aside is None:
                events += self._decoder.feed(frame)
            else:
                self.marks = aside(frame.data, self.marks)
        return events

    async def _read_whole(self) -> list[Event]:
        """Somebody who does not stream, or says an error with status 200."""
        body = await self._incoming.read_all(MAX_ANSWER_BYTES)
        if not body.lstrip().startswith(b"{"):
            raise UpstreamMalformed("what came is neither events nor JSON")
        return list(unfold(self._provider.dialect.decode_response(body, self._traits)))

    async def _finish(self) -> None:
        """Reads the end of the framing, so that the connection can be used again, and what else is said; gives up soon."""
        self._is_over = True
        try:
            async with asyncio.timeout(SETTLE_SECONDS if self._asides else DRAIN_SECONDS):
                while data := await self._incoming.read_some():
                    if self._is_sse and self._asides:
                        self._heard(frame for frame in self._parser.feed(data) if frame.event in self._asides)
        except (TollhouseError, TimeoutError):
            pass  # the answer is whole; only the connection is lost
        finally:
            self._incoming.close()
