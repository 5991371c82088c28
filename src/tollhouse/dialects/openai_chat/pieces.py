"""What streams and whole answers have in common: citations, opaque reasoning, invented ids, kept fields."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from tollhouse.chat.model import Citation, Extra, Opaque
from tollhouse.chat.opaque import seal, unseal
from tollhouse.dialects.openai_chat.wire import NAME, FunctionPiece, Json

_NOT_IN_AN_ID: Final = re.compile(r"[^A-Za-z0-9_-]")
HOME: Final = "openrouter"
"""The provider whose clients know `reasoning_details`: what they send unsealed is taken for its own."""
REASONING_FORMAT: Final = "anthropic-claude-v1"
"""OpenRouter's name for signed reasoning; Anthropic is the only provider whose thinking carries a signature beside its text."""


# Anthropic's `standard_only` asks for no priority capacity, as OpenAI's `default` does; its answers say `standard`.
_SERVICE_TIERS: Final = {"standard_only": "default", "standard": "default"}


def service_tier(tier: str) -> str:
    """A service tier in OpenAI's words, where it has one for it."""
    return _SERVICE_TIERS.get(tier, tier)


class ReasoningDetails(NamedTuple):
    """What `reasoning_details` hold (openrouter.ai/docs, "Reasoning tokens")."""

    text: str
    signature: Opaque | None
    encrypted: tuple[Opaque, ...]
    thoughts: tuple[tuple[str, Opaque], ...] = ()
    """The texts that are signed each for itself."""


NO_DETAILS: Final = ReasoningDetails("", None, ())


def read_details(details: list[Json] | None, home: str = HOME) -> ReasoningDetails:
    """The text, the signature and the encrypted blobs in a list of reasoning details, of a provider of type `home`."""
    if not details:
        return NO_DETAILS
    texts: list[str] = []
    encrypted: list[Opaque] = []
    signature: str | None = None
    thoughts: list[tuple[str, Opaque]] = []
    for detail in details:
        if not isinstance(detail, dict):
            continue
        match detail:
            case {"type": "reasoning.encrypted", "data": str(data)}:
                encrypted.append(unseal(data, home))
            case {"type": "reasoning.summary", "summary": str(text)}:
                texts.append(text)
            case {"type": "reasoning.text"}:
                texts.append(_text(detail.get("text")) or "")
                if signed := _text(detail.get("signature")):
                    signature = signed
                    thoughts.append((texts[-1], unseal(signed, home)))
            case _:
                pass
    last = unseal(signature, home) if signature else None
    return ReasoningDetails("".join(texts), last, tuple(encrypted), tuple(thoughts))


def signed_detail(text: str, signature: Opaque, index: int = 0, home: str = HOME) -> Json:
    """A signature as a reasoning detail, so that a client that replays details gives it back."""
    sealed = seal(signature, home)
    return {"type": "reasoning.text", "text": text, "signature": sealed, "format": REASONING_FORMAT, "index": index}


def encrypted_detail(data: Opaque, index: int = 0, home: str = HOME) -> Json:
    """Encrypted reasoning as a reasoning detail."""
    return {"type": "reasoning.encrypted", "data": seal(data, home), "format": REASONING_FORMAT, "index": index}


def read_annotations(annotations: Iterable[Json] | None) -> tuple[Citation, ...]:
    """OpenAI's `url_citation`s; other annotations keep only their original form."""
    return tuple(_annotation(entry) for entry in annotations or () if isinstance(entry, dict))


def write_annotation(citation: Citation, start: int, end: int) -> Json:
    """A citation as an annotation; `start` and `end` are where its text stands, if it does not say more exactly itself.

    `None` for a citation of something that has no address: there is no form for it.
    """
    if citation.extra is not None and citation.extra.dialect == NAME:
        return {key: decoded(raw) for key, raw in citation.extra.fields.items()}
    if citation.url is None:
        return None
    return {
        "type": "url_citation",
        "url_citation": {
            "url": citation.url,
            "title": citation.title or citation.url,
            "start_index": start if citation.start is None else citation.start,
            "end_index": end if citation.end is None else citation.end,
        },
    }


def read_sources(citations: list[Json] | None, results: list[Json] | None) -> tuple[Citation, ...]:
    """Perplexity's and xAI's lists beside the choices (`perplexity-chat-stream-citations-5f4100`)."""
    found = [
        Citation(url=url, title=_text(result.get("title")), quote=_text(result.get("snippet")))
        for result in results or ()
        if isinstance(result, dict) and (url := _text(result.get("url")))
    ]
    if not found:
        found = [Citation(url=url) for url in citations or () if isinstance(url, str)]
    return tuple(found)


def invented_id(answer_id: str, choice: int, number: int) -> str:
    """An id for a call that came without one: the same for the same answer, unlike in another, at most 40 characters."""
    return f"call_{_NOT_IN_AN_ID.sub('', answer_id)[-24:]}_{choice}_{number}"


def arguments_text(function: FunctionPiece) -> str:
    """The arguments as JSON text, also where a server sends the object itself."""
    arguments = function.arguments
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def kept(fields: Mapping[str, Json]) -> Extra | None:
    """Fields that only this dialect knows, those that are not null."""
    raws = {name: encoded(value) for name, value in fields.items() if value is not None}
    return Extra(NAME, raws) if raws else None


def encoded(value: Json) -> msgspec.Raw:
    """A value as raw JSON."""
    return msgspec.Raw(msgspec.json.encode(value))


def decoded(raw: msgspec.Raw) -> Json:
    """Raw JSON as a value."""
    value: Json = msgspec.json.decode(raw)
    return value


def _annotation(entry: dict[str, Json]) -> Citation:
    extra = kept(entry)
    match entry:
        case {"type": "url_citation", "url_citation": dict() as cited}:
            return Citation(
                url=_text(cited.get("url")),
                title=_text(cited.get("title")),
                start=_place(cited.get("start_index")),
                end=_place(cited.get("end_index")),
                extra=extra,
            )
        case _:
            return Citation(extra=extra)


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _place(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
