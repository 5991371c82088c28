"""What a request to either of OpenAI's APIs says in the same way: for whom, with which service, and where its media are."""

import hashlib
from collections.abc import Collection
from typing import Final, Protocol, assert_never

from tollhouse.chat.model import Document, Inline, Remote, Request, Source, StoredFile
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.openai_chat.pieces import service_tier

MAX_USER_CHARACTERS: Final = 64
"""OpenAI's bound on `user`; Claude Code's id of its user is longer."""


class ServiceTraits(Protocol):
    """Which of these a provider knows."""

    @property
    def user(self) -> bool:
        """Whom the request is for."""
        ...

    @property
    def service_tier(self) -> bool:
        """How quickly it is wanted."""
        ...

    @property
    def prompt_cache_key(self) -> bool:
        """Which requests share their beginning."""
        ...


def service_fields(
    request: Request, traits: ServiceTraits, receipt: Receipt, *, user_field: str, tiers: Collection[str]
) -> dict[str, str]:
    """For whom the request is, under the name `user_field`, and how it is to be served; `tiers` are those that are known."""
    body: dict[str, str] = {}
    if request.user is not None:
        if not traits.user:
            receipt.dropped("user", "the provider does not know it")
        elif len(request.user) > MAX_USER_CHARACTERS:
            body[user_field] = hashlib.sha256(request.user.encode()).hexdigest()
            receipt.changed("user", f"longer than {MAX_USER_CHARACTERS} characters, sent as its SHA-256")
        else:
            body[user_field] = request.user
    if request.service_tier is not None:
        tier = service_tier(request.service_tier)
        if traits.service_tier and tier in tiers:
            body["service_tier"] = tier
        elif tier not in {"auto", "default"}:
            receipt.dropped("service_tier", f"the provider has none named {tier[:40]!r}")
    if request.prompt_cache_key is not None:
        if traits.prompt_cache_key:
            body["prompt_cache_key"] = request.prompt_cache_key
        else:
            receipt.dropped("prompt_cache_key", "the provider does not know it")
    return body


def url_of(source: Source, path: str, receipt: Receipt) -> str | None:
    """A URL of what a part holds; `None`, and noted under `path`, where only its own provider could read it."""
    match source:
        case Inline():
            return f"data:{source.media_type};base64,{source.data}"
        case Remote():
            return source.url
        case StoredFile():
            receipt.dropped(path, f"the file was uploaded to {source.dialect}; this provider cannot read it")
            return None
        case _:
            assert_never(source)


def document_text(part: Document, text: str) -> str:
    """A document of plain `text` as a text of its own, under its title and what is said about it."""
    about = [line for line in (part.title, part.context) if line]
    return "\n".join([*about, "", text]) if about else text
