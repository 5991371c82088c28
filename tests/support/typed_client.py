"""A client of the typed protocol over HTTP, made from the generated code and the library's own JSON mapping.

Nothing of our own reading and writing is in it, so that the two can be held against each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from support.serving import KEY, Running
from tollhouse.chat import sse
from tollhouse.dialects.delimited import Splitter, delimit
from tollhouse.proto.v1 import gateway_pb2 as wire

Form = Literal["json", "protobuf"]
FORMS: Final[tuple[Form, ...]] = ("json", "protobuf")
MEDIA_TYPES: Final[Mapping[Form, str]] = {"json": "application/json", "protobuf": "application/x-protobuf"}
STREAMS: Final[Mapping[Form, str]] = {
    "json": "text/event-stream; charset=utf-8",
    "protobuf": "application/x-protobuf; delimited=true",
}
MessageT = TypeVar("MessageT", bound=Message)


def question(model: str = "to-openai", **fields: Any) -> wire.ChatRequest:
    """A request with one turn of the user's."""
    request = wire.ChatRequest(model=model, **fields)
    if not request.messages:
        request.messages.add(role=wire.Message.USER).parts.add().text.text = "What stood where roads met?"
    return request


def written(message: Message, form: Form) -> bytes:
    """A message as a client of that form sends it."""
    return json_format.MessageToJson(message).encode() if form == "json" else message.SerializeToString()


def read(body: bytes, kind: type[MessageT], form: Form) -> MessageT:
    """A message as such a client reads it; unknown fields of JSON are an error."""
    return json_format.Parse(body, kind()) if form == "json" else kind.FromString(body)


def events(body: bytes, form: Form) -> list[wire.ChatEvent]:
    """The events of a stream."""
    if form == "protobuf":
        messages = Splitter().feed(body)
        assert b"".join(map(delimit, messages)) == body, "the stream ends within a message"
    else:
        parser = sse.Parser()
        messages = [frame.data for frame in [*parser.feed(body), *parser.close()]]
    return [read(message, wire.ChatEvent, form) for message in messages]


@dataclass(frozen=True)
class Streamed:
    """What came of one streamed answer, in order."""

    events: Sequence[wire.ChatEvent] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """The kinds of the events, each run of one kind once."""
        kinds = [event.WhichOneof("event") or "nothing" for event in self.events]
        return [kind for i, kind in enumerate(kinds) if i == 0 or kinds[i - 1] != kind]

    @property
    def text(self) -> str:
        return "".join(event.delta.text for event in self.events)

    @property
    def settlement(self) -> wire.Settlement:
        return self.events[-1].settled


@dataclass(frozen=True)
class Reply:
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    form: Form

    @property
    def response(self) -> wire.ChatResponse:
        return read(self.body, wire.ChatResponse, self.form)

    @property
    def failure(self) -> wire.Failure:
        return read(self.body, wire.Failure, self.form)

    @property
    def streamed(self) -> Streamed:
        return Streamed(events(self.body, self.form))

    def as_(self, kind: type[MessageT]) -> MessageT:
        return read(self.body, kind, self.form)


async def ask(
    gateway: Running,
    request: Message,
    form: Form = "protobuf",
    *,
    answer: Form | None = None,
    path: str = "/v1/chat",
    accept: str | None = None,
) -> Reply:
    """One call; the answer's form is asked for where it is given."""
    headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"content-type", MEDIA_TYPES[form].encode())]
    if answer is not None:
        accept = MEDIA_TYPES[answer]
    if accept is not None:
        headers.append((b"accept", accept.encode()))
    got = await gateway.ask(path, written(request, form), headers=headers)
    return Reply(got.status, got.headers, got.body, answer or form)
