"""The typed protocol's messages over HTTP, in protobuf."""

from collections.abc import Mapping, Sequence
from typing import Final

from tollhouse.client.failures import CallFailed, NotSpoken
from tollhouse.client.over_http import MAX_ANSWER_BYTES, MAX_ERROR_BYTES, Place, request_id_of
from tollhouse.client.over_json import JsonDoor
from tollhouse.client.over_typed import Method, of_trouble
from tollhouse.client.translate import Scene, failure, of_refusal
from tollhouse.dialects.protobuf import Typed
from tollhouse.dialects.protobuf.messages import FAILURE
from tollhouse.dialects.protobuf.shapes import Fault
from tollhouse.errors import TollhouseError
from tollhouse.upstream.failure import parse_retry_after
from tollhouse.upstream.transport import Incoming

_PATHS: Final[Mapping[Method, tuple[bytes, str]]] = {
    "Chat": (b"POST", "/v1/chat"),
    "CountTokens": (b"POST", "/v1/chat/count_tokens"),
    "Embed": (b"POST", "/v1/embed"),
    "GetServerInfo": (b"GET", "/v1/server"),
}
_NOT_SPOKEN: Final = frozenset({404, 405, 406, 415, 501})
"""Statuses with which a server that knows nothing of all this answers."""


class HttpLine:
    """See `Line`."""

    protocol: Final = "protobuf"

    def __init__(self, place: Place, dialect: Typed) -> None:
        self._place = place
        self._dialect = dialect
        form = dialect.writes
        self._headers = ((b"content-type", form.media_type), (b"accept", form.media_type))
        self._plain = JsonDoor(place)

    def scene(self, model: str) -> Scene:
        """See `Line.scene`."""
        return self._place.scene_of(model)

    async def ask(self, method: Method, message: bytes, model: str, until: float) -> bytes:
        """See `Line.ask`."""
        incoming = await self._send(method, message, model, until)
        try:
            return await incoming.read_all(MAX_ANSWER_BYTES)
        except TollhouseError as error:
            raise failure(error, self.scene(model), request_id=request_id_of(incoming.headers)) from error
        finally:
            incoming.close()

    async def stream(self, message: bytes, model: str, until: float) -> "HttpMessages":
        """See `Line.stream`."""
        incoming = await self._send("Chat", message, model, until)
        return HttpMessages(incoming, self._dialect, self.scene(model))

    async def version(self, until: float) -> str:
        """See `Line.version`."""
        return await self._plain.version(until)

    async def probe(self, until: float) -> float:
        """See `Line.probe`."""
        return await self._plain.probe(until)

    async def aclose(self) -> None:
        """See `Line.aclose`."""
        await self._place.transport.aclose()

    async def _send(self, method: Method, message: bytes, model: str, until: float) -> Incoming:
        """The head of a good answer.  Raises `CallFailed`."""
        verb, path = _PATHS[method]
        try:
            incoming = await self._place.send(verb, path, message, until, self._headers)
            if incoming.status < 300 and self._is_ours(incoming):
                return incoming
            try:
                raise await self._refusal(incoming, model)
            finally:
                incoming.close()
        except CallFailed:
            raise
        except TollhouseError as error:
            raise failure(error, self.scene(model)) from error

    def _is_ours(self, incoming: Incoming) -> bool:
        kind = incoming.header(b"content-type") or b""
        return kind.partition(b";")[0].strip().lower() == self._dialect.writes.media_type

    async def _refusal(self, incoming: Incoming, model: str) -> CallFailed:
        scene, status = self.scene(model), incoming.status
        request_id = request_id_of(incoming.headers)
        if not self._is_ours(incoming) and (status in _NOT_SPOKEN or status < 300):
            return NotSpoken(
                f"{scene.address} does not speak protobuf: it answered {status}.",
                hint="Say `protocol=json` (PROXY_PROTOCOL=json), or `auto`.",
                where=scene.where,
                status=status,
                request_id=request_id,
            )
        try:
            body = await incoming.read_all(MAX_ERROR_BYTES)
        except TollhouseError:
            body = b""  # the status says enough
        try:
            trouble = self._dialect.writes.unpack(FAILURE, body).error if self._is_ours(incoming) else None
        except Fault:
            trouble = None
        if trouble is not None and trouble.message:
            found = of_trouble(trouble, status, scene)
        elif code := self._place.code_of(incoming):
            found = of_refusal(self._dialect.decode_error(status, body), code, scene)
        else:
            found = failure(self._dialect.decode_error(status, body), scene)
        found.request_id = found.request_id or request_id
        if found.retry_after_seconds is None:
            found.retry_after_seconds = parse_retry_after(incoming.headers, now_seconds=self._place.wall())
        return found


class HttpMessages:
    """See `Messages`."""

    __slots__ = ("_incoming", "_scene", "_splitter")

    def __init__(self, incoming: Incoming, dialect: Typed, scene: Scene) -> None:
        self._incoming = incoming
        self._splitter = dialect.writes.splitter()
        self._scene = scene

    async def some(self) -> Sequence[bytes] | None:
        """See `Messages.some`."""
        try:
            while data := await self._incoming.read_some():
                if messages := self._splitter.feed(data):
                    return messages
        except TollhouseError as error:
            request_id = request_id_of(self._incoming.headers)
            raise failure(error, self._scene, request_id=request_id, begun=True) from error
        return None

    def close(self) -> None:
        """See `Messages.close`."""
        self._incoming.close()
