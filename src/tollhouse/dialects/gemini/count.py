"""`:countTokens`: how long a prompt is, by the provider's own count.

The prompt is given as bare `contents`, or as a whole request in `generateContentRequest`; only the second counts the system's
instructions and the tools, so that is what is sent.
"""

from typing import Final

import msgspec

from tollhouse.chat.model import Request
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.counting import CountingDialect
from tollhouse.dialects.dialect import Peek
from tollhouse.dialects.fields import NULL, UNREADABLE, WireFault, bad_request, describe
from tollhouse.dialects.gemini.lane import resource_name
from tollhouse.dialects.gemini.outgoing import compose
from tollhouse.dialects.gemini.traits import GeminiTraits
from tollhouse.dialects.gemini.wire import Fields, camel, encoded
from tollhouse.errors import UpstreamMalformed

_COUNTED: Final = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "cachedContent"}
)


def patch_count(peeked: Peek, model: str) -> bytes:
    """The client's question for another model: a whole request is sent as one, bare contents as they are."""
    fields = {camel(name): raw for name, raw in peeked.fields.items() if raw != NULL}
    whole = fields.get("generateContentRequest")
    if whole is not None:
        try:
            inner = Fields(whole, "generateContentRequest")
        except WireFault as fault:
            raise bad_request(fault) from fault
        return ask(inner.left, model)
    fields.pop("model", None)
    return ask(fields, model) if fields.keys() & (_COUNTED - {"contents"}) else msgspec.json.encode(fields)


def ask(fields: dict[str, msgspec.Raw], model: str) -> bytes:
    """The question how long the prompt of a request is."""
    request = {name: raw for name, raw in fields.items() if name in _COUNTED}
    return msgspec.json.encode({"generateContentRequest": {**request, "model": encoded(resource_name(model))}})


class _Count(msgspec.Struct):
    totalTokens: int  # noqa: N815  # the wire's name


def decode_count(body: bytes) -> int:
    """The provider's count.  Raises `UpstreamMalformed`."""
    try:
        return msgspec.json.decode(body, type=_Count).totalTokens
    except UNREADABLE as error:
        raise UpstreamMalformed(f"The token count is not what Google sends: {describe(error)}.") from error


def encode_count(input_tokens: int) -> bytes:
    """The answer for a client."""
    return msgspec.json.encode(_Count(input_tokens))


class GeminiCounting:
    """`tollhouse.dialects.counting.CountingDialect` for the endpoint."""

    def encode_request(self, request: Request, traits: GeminiTraits, receipt: Receipt) -> bytes:
        """A request as the question how many tokens its prompt has."""
        fields = {name: encoded(value) for name, value in compose(request, traits, receipt).items()}
        return ask(fields, request.model)

    def patch(self, peek: Peek, model: str, traits: GeminiTraits, receipt: Receipt) -> bytes:  # noqa: ARG002
        """See `patch_count`."""
        return patch_count(peek, model)

    def decode_count(self, body: bytes) -> int:
        """See `decode_count`."""
        return decode_count(body)


COUNTING: Final[CountingDialect[GeminiTraits]] = GeminiCounting()
