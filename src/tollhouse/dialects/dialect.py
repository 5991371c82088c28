"""What a dialect is: pure functions between one wire format's bytes and the canonical conversation.

The gateway uses a dialect on two sides.  On the client's side it decodes requests and encodes answers, errors and model
lists; on the provider's side it encodes requests and decodes answers, streams and errors.  When both sides are the same
dialect, nothing is decoded: `patch` changes the few request fields that must change and an `Observer` watches the bytes of
the answer go by.

Nothing here does I/O, reads a clock or knows the configuration.  How one provider's spelling differs from another's is data:
each dialect defines its own frozen record of *traits*, made by `tollhouse.providers`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec

from tollhouse.chat.events import Event
from tollhouse.chat.model import FinishReason, Request, Response
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.sse import Frame
from tollhouse.chat.usage import Usage
from tollhouse.dialects.head_lines import HeadLines
from tollhouse.errors import ProviderRefused, Quota, TollhouseError

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""Bound on one SSE event from a provider, and on what an observer holds back."""
MAX_LARGE_EVENT_BYTES = 32 * 1024 * 1024
"""The same where one event can hold a picture (4K ones of Gemini 3 have well over 4 MiB in base64) or a whole answer."""

TraitsT_contra = TypeVar("TraitsT_contra", contravariant=True)


class Peek(msgspec.Struct, frozen=True):
    """A request body of which only the top level was read: every value is still raw JSON."""

    fields: Mapping[str, msgspec.Raw]
    """In the client's order; of repeated keys the last, so that we and the provider cannot read two different things."""
    model: str
    """Empty where the request names none."""
    stream: bool
    max_output_tokens: int | None
    """The client's own cap, for holds; `None` when not given."""
    include_usage: bool
    """Whether the client of a stream asked for a usage chunk; always true where the dialect always has one."""
    choices: int


class Glance(msgspec.Struct, frozen=True):
    """What the gateway must know of a whole JSON answer that it otherwise forwards untouched."""

    usage: Usage
    finish: FinishReason | None
    error: TollhouseError | None = None
    """Set when a 200 body is an error in disguise (`openrouter/openrouter-chat-json-error-in-200-bd1693`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One line of a model list."""

    id: str
    owner: str
    created: int = 0
    """Seconds since the epoch; 0 when not known."""
    display_name: str | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None


class StreamDecoder(Protocol):
    """Turns a provider's SSE frames into events that keep the grammar of `tollhouse.chat.events`."""

    def feed(self, frame: Frame) -> Iterable[Event]:
        """The events of one frame.  Raises `UpstreamMalformed` for what is not this dialect."""
        ...

    def close(self) -> Iterable[Event]:
        """The peer is done sending.  Yields what is left, ending in `Ended` or `Failed`; `UpstreamTruncated` if cut.

        Some providers end without their end marker; a finish reason for every choice is what makes an answer whole.
        """
        ...


class StreamEncoder(Protocol):
    """Turns events into a client's SSE bytes."""

    def encode(self, event: Event) -> bytes:
        """Bytes for the client, often empty.  The bytes for `Ended` are the stream's last; for `Failed`, an error event."""
        ...

    def ping(self) -> bytes:
        """Bytes that keep an idle connection open and that every client of the dialect ignores."""
        ...


class Observer(Protocol):
    """Watches a stream that is forwarded in its own dialect.

    `feed` gives back only whole SSE events, so that an error event can always follow; it holds back the stream's final
    event (and everything after it) until `close`, because the ledger row must exist before the last byte leaves.
    """

    @property
    def finish(self) -> FinishReason | None:
        """The finish reason seen so far (of the first choice)."""
        ...

    @property
    def failure(self) -> TollhouseError | None:
        """The error that the provider reported inside the stream, once seen; its bytes are forwarded like any others."""
        ...

    @property
    def is_final(self) -> bool:
        """Whether the stream's last event was seen: nothing more needs to be read."""
        ...

    @property
    def has_content(self) -> bool:
        """Whether anything of the answer was seen (time to first token)."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Takes one network read; gives the bytes that may go to the client now.

        Raises `UpstreamMalformed` (not SSE, an event that is not JSON) or `UpstreamTooLarge`.
        """
        ...

    def close(self) -> bytes:
        """The provider is done sending.  Gives the held-back last bytes; raises `UpstreamTruncated` if the answer is cut.

        Where the provider leaves the end marker out of a whole answer, it is added.
        """
        ...

    def usage(self) -> Usage:
        """The reported usage, or one rebuilt from the chunks that were seen (of its output only)."""
        ...


class Dialect(Protocol, Generic[TraitsT_contra]):
    """One wire format."""

    @property
    def max_event_bytes(self) -> int:
        """Bound on one event of a provider's stream."""
        ...

    @property
    def name(self) -> str:
        """`openai_chat`, `anthropic`, …"""
        ...

    # -- the client's side

    def may_have_media(self, body: bytes) -> bool:
        """Whether a request may have parts that are no text; found out without reading it, so perhaps it has none."""
        ...

    def holds_sealed(self, body: bytes) -> bool:
        """Whether a request holds what was sealed for another provider, which the dialect's own must not be sent."""
        ...

    def peek(self, body: bytes) -> Peek:
        """Reads the top level of a request.  Raises `BadRequest` with the place of the fault."""
        ...

    def decode_request(self, body: bytes) -> Request:
        """Raises `BadRequest`, naming the field at fault in `param`."""
        ...

    def encode_response(self, response: Response, request: Request, receipt: Receipt) -> bytes:
        """A whole answer for the client that sent `request`."""
        ...

    def stream_encoder(self, request: Request, receipt: Receipt) -> StreamEncoder:
        """An encoder for one answer to the client that sent `request`."""
        ...

    def encode_error(self, error: TollhouseError, request_id: str) -> bytes:
        """The JSON body for an error; its status is `error.http_status`."""
        ...

    def encode_stream_error(self, error: TollhouseError, request_id: str) -> bytes:
        """The error event that ends a broken stream."""
        ...

    def encode_quotas(self, quotas: Sequence[Quota], now_seconds: float) -> HeadLines:
        """The headers that tell a client how its rates stand; `now_seconds` is wall clock."""
        ...

    def encode_models(self, models: Sequence[ModelCard]) -> bytes:
        """A model list."""
        ...

    def encode_model(self, model: ModelCard) -> bytes:
        """One model."""
        ...

    # -- the provider's side

    def encode_request(self, request: Request, traits: TraitsT_contra, receipt: Receipt) -> bytes:
        """The request for a provider; notes in `receipt` what it cannot say.  `request.model` is the provider's name."""
        ...

    def patch(
        self,
        peek: Peek,
        model: str,
        traits: TraitsT_contra,
        receipt: Receipt,
        max_output_tokens: int | None = None,
    ) -> bytes:
        """The same-dialect lane: the client's fields with the model's name replaced and usage asked for, the rest verbatim.

        What the model is known to refuse is left out and noted in `receipt`.  `max_output_tokens` takes the place of the
        client's own limit of output tokens for each choice.
        """
        ...

    def decode_response(self, body: bytes, traits: TraitsT_contra) -> Response:
        """Raises `UpstreamMalformed`, or `StreamFailed` for an error in a 200 body."""
        ...

    def glance(self, body: bytes, traits: TraitsT_contra) -> Glance:
        """Reads usage and finish of a whole answer that is forwarded.  Raises `UpstreamMalformed`."""
        ...

    def stream_decoder(self, traits: TraitsT_contra) -> StreamDecoder:
        """A decoder for one stream."""
        ...

    def observer(self, peek: Peek, traits: TraitsT_contra) -> Observer:
        """An observer for one stream that is forwarded to the client that sent `peek`."""
        ...

    def decode_error(self, status: int, body: bytes) -> ProviderRefused:
        """Whatever came with an error status: the dialect's JSON, another one's, HTML, nothing."""
        ...

    def decode_models(self, body: bytes) -> tuple[str, ...]:
        """The names in a provider's model list."""
        ...
