"""What was asked and answered as plain JSON, for whoever keeps prompts and answers: protobuf cannot be read or redacted."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from tollhouse.chat.events import Failed
from tollhouse.chat.fold import Folder
from tollhouse.chat.sse import Frame
from tollhouse.dialects.protobuf.dialect import Form, Typed, TypedTraits, name_of, typed
from tollhouse.dialects.protobuf.messages import FAILURE, REQUEST, RESPONSE
from tollhouse.errors import TollhouseError

_FORMS: Final[tuple[Form, ...]] = ("json", "protobuf")


class TypedReadable:
    """See `telemetry.bodies.Readable`.  Raises `Fault`, or an error of ours, for what is no message."""

    def __init__(self, dialect: Typed) -> None:
        self._dialect = dialect

    def request(self, body: bytes) -> bytes:
        """A `ChatRequest`."""
        return _json(self._dialect.reads.plain(REQUEST, body))

    def answer(self, body: bytes, *, is_stream: bool, is_error: bool) -> bytes:
        """Whatever the dialect wrote.  A stream is the answer that its events make, also where it was cut."""
        form = self._dialect.writes
        if not is_stream:
            return _json(form.plain(FAILURE if is_error else RESPONSE, body))
        splitter, decoder, folder = form.splitter(), self._dialect.stream_decoder(TypedTraits()), Folder()
        failed: Failed | None = None
        is_complete = True
        try:
            for message in [*splitter.feed(body), *splitter.close()]:
                for event in decoder.feed(Frame(message)):
                    folder.feed(event)
                    failed = event if isinstance(event, Failed) else failed
            decoder.close()
        except TollhouseError:
            is_complete = False  # cut
        document: dict[str, object] = {
            "complete": is_complete and failed is None,
            "answer": RESPONSE.write(folder.partial()),
        }
        if failed is not None:
            document["error"] = failed.message
        return _json(document)


def _json(plain: object) -> bytes:
    return msgspec.json.encode(plain)


def _made(reads: Form, writes: Form) -> TypedReadable:
    return TypedReadable(typed(reads, writes))


READABLES: Final[Mapping[str, Callable[[], TypedReadable]]] = {
    name_of(reads, writes): partial(_made, reads, writes) for reads in _FORMS for writes in _FORMS
}
"""By the dialect's name; a form's library is loaded when somebody speaks it."""
