"""The same-dialect lane: what the gateway peeks at in a request, patches, and glances at in a whole answer."""

from collections.abc import Iterable
from typing import Final

import msgspec

from tollhouse.chat.model import FinishReason
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.dialect import Glance, Peek
from tollhouse.dialects.fields import (
    LAX_COUNT,
    NULL,
    OBJECT,
    TEXT,
    UNREADABLE,
    WireFault,
    bad_request,
    describe,
    read_object,
)
from tollhouse.dialects.gemini.failure import decode_failure
from tollhouse.dialects.gemini.finish import PROMPT_BLOCKED, finish_of, finish_word
from tollhouse.dialects.gemini.traits import GeminiTraits
from tollhouse.dialects.gemini.usage import WireUsage, usage_of
from tollhouse.dialects.gemini.wire import Fields, camel, encoded
from tollhouse.errors import BadRequest, UpstreamMalformed

_ABSENT: Final = msgspec.Raw(b"null")


def top_level(body: bytes) -> dict[str, msgspec.Raw]:
    """A request's fields, still raw, spelled as the client spells them.  Raises `BadRequest`."""
    return read_object(body, "`contents`")


def peek(body: bytes) -> Peek:
    """Reads the top level only; the model is the path's to say, unless the body repeats it."""
    fields = top_level(body)
    _check_spelled_once(fields, "")
    try:
        top = Fields(body, "")
        model = top.take("model", TEXT) or ""
        raw_config = top.raw("generationConfig")
        config = None if raw_config is None else Fields(raw_config, "generationConfig")
        if raw_config is not None:
            _check_spelled_once(OBJECT.decode(raw_config), "generationConfig.")
        limit = None if config is None else config.take("maxOutputTokens", LAX_COUNT)
        choices = None if config is None else config.take("candidateCount", LAX_COUNT)
    except WireFault as fault:
        raise bad_request(fault) from fault
    if limit is not None and limit < 0:
        raise BadRequest(
            "generationConfig.maxOutputTokens: This must be 0 or more.", param="generationConfig.maxOutputTokens"
        )
    return Peek(
        fields=fields,
        model=model.removeprefix("models/"),
        stream=False,
        max_output_tokens=limit or None,  # protobuf's way to say that there is none
        include_usage=True,
        choices=max(1, choices or 1),
    )


def _check_spelled_once(names: Iterable[str], path: str) -> None:
    """Raises `BadRequest` for a field in both spellings: limits would go by one of them, and the provider by the other."""
    seen: set[str] = set()
    for name in names:
        usual = camel(name)
        if usual in seen:
            raise BadRequest(f"{path}{usual}: This is given in two spellings; keep one.", param=f"{path}{usual}")
        seen.add(usual)


def patch(
    peeked: Peek, model: str, traits: GeminiTraits, receipt: Receipt, max_output_tokens: int | None = None
) -> bytes:
    """The same request; other fields verbatim, unless the provider is known to refuse them.

    The model goes into the path, and into the body only where the client has it there too.  `max_output_tokens` replaces the
    client's own.
    """
    fields = dict(peeked.fields)
    for name in traits.drop_fields:
        if bytes(fields.pop(name, _ABSENT)) != b"null":
            receipt.dropped(name, "this model refuses it")
    if fields.get("model", NULL) != NULL:
        fields["model"] = encoded(resource_name(model))
    if max_output_tokens is not None:
        name = "generation_config" if "generation_config" in fields else "generationConfig"
        config = dict(OBJECT.decode(fields[name])) if fields.get(name, NULL) != NULL else {}
        config.pop("max_output_tokens", None)
        config["maxOutputTokens"] = msgspec.Raw(b"%d" % max_output_tokens)
        fields[name] = encoded(config)
    return msgspec.json.encode(fields)


def resource_name(model: str) -> str:
    """A model's full name: in Google's collection of models, unless it names another one itself."""
    return model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"


# --------------------------------------------------------------------------------------------------------- the answer


class _Candidate(msgspec.Struct):
    finishReason: str | int | None = None  # noqa: N815  # the wire's name
    content: msgspec.Raw = NULL


class _Feedback(msgspec.Struct):
    blockReason: str | int | None = None  # noqa: N815


class _Answer(msgspec.Struct):
    candidates: list[_Candidate] | None = None
    usageMetadata: WireUsage | None = None  # noqa: N815
    promptFeedback: _Feedback | None = None  # noqa: N815
    error: msgspec.Raw = NULL


_ANSWER: Final = msgspec.json.Decoder(_Answer)


def glance(body: bytes) -> Glance:
    """Usage and finish of a whole answer.  Raises `UpstreamMalformed`."""
    try:
        answer = _ANSWER.decode(body)
    except UNREADABLE as error:
        raise UpstreamMalformed(f"The answer is not what Gemini sends: {describe(error)}.") from error
    if answer.error != NULL:
        return Glance(usage=Usage(), finish=None, error=decode_failure(body))
    if answer.candidates is None and answer.promptFeedback is None and answer.usageMetadata is None:
        raise UpstreamMalformed("The answer is JSON, but none of Gemini's dialect.")
    return Glance(usage=usage_of(answer.usageMetadata), finish=_finish(answer))


def _finish(answer: _Answer) -> FinishReason | None:
    if not answer.candidates:
        return "content_filter" if answer.promptFeedback and answer.promptFeedback.blockReason else None
    first = answer.candidates[0]
    if first.finishReason is None:
        return None
    has_calls = b'"functionCall"' in bytes(first.content)
    return finish_of(finish_word(first.finishReason), has_calls=has_calls)[0]


def blocked(reason: str | int | None) -> str:
    """The detail of the finish of an answer that is none, as its prompt was blocked."""
    word = _BLOCKS.get(reason, str(reason)) if isinstance(reason, int) else (reason or "OTHER")
    return f"{PROMPT_BLOCKED}{word}"


_BLOCKS: Final[dict[int, str]] = {
    1: "SAFETY",
    2: "OTHER",
    3: "BLOCKLIST",
    4: "PROHIBITED_CONTENT",
    5: "IMAGE_SAFETY",
}
