"""Content blocks, which requests and answers share.

What is read here is kept whole: fields that only Anthropic knows go into a part's `extra` and come back with `merge_extra`;
blocks that only Anthropic knows (server-side tools and their results, search results, compaction) stay as they are.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeGuard

import msgspec

from tollhouse.chat.model import (
    CacheMarker,
    Citation,
    Document,
    Extra,
    Foreign,
    Image,
    Inline,
    Part,
    RedactedThinking,
    Remote,
    Source,
    StoredFile,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from tollhouse.chat.opaque import seal, unseal
from tollhouse.dialects.anthropic.wire import NAME, Fields
from tollhouse.dialects.fields import ARRAY, FLAG, TEXT, WireFault

EMPTY_OBJECT: Final = msgspec.Raw(b"{}")

Block = dict[str, object]

# ------------------------------------------------------------------------------------------------------------- reading


def read_block(raw: msgspec.Raw, path: str, home: str = NAME) -> Part:
    """A content block.  Raises `WireFault`; a type that we do not know is no fault.

    `home` is the type of the provider that made what is opaque in it.
    """
    block = Fields(raw, path)
    kind = block.text("type")
    read = _READERS.get(kind)
    part = None if read is None else read(block, home)
    return Foreign(NAME, kind, raw) if part is None else part


def read_content(fields: Fields, name: str) -> tuple[Part, ...] | None:
    """Content: a string, or blocks; `None` when absent or null."""
    content = fields.text_or_array(name)
    if content is None:
        return None
    if isinstance(content, str):
        return (Text(content),)
    return tuple(read_block(raw, fields.at(f"{name}.{index}")) for index, raw in enumerate(content))


def read_cache_marker(fields: Fields) -> CacheMarker | None:
    """`cache_control`: `{"type": "ephemeral", "ttl"}`."""
    control = fields.object("cache_control")
    if control is None:
        return None
    control.take("type", TEXT)
    marker = CacheMarker(control.take("ttl", TEXT))
    fields.put_back("cache_control", control)
    return marker


def read_citation(raw: msgspec.Raw, path: str) -> Citation:
    """A citation of any kind.  Its offsets are in the cited document, not in the answer, so they stay in `extra`."""
    citation = Fields(raw, path)
    whole = Extra(NAME, dict(citation.left))
    kind = citation.take("type", TEXT)
    source = citation.take("source", TEXT) if kind == "search_result_location" else None
    return Citation(
        url=citation.take("url", TEXT) or source,
        title=citation.take("title", TEXT) or citation.take("document_title", TEXT),
        quote=citation.take("cited_text", TEXT),
        # One that was written by `write_citation` for lack of the real thing means nothing to Anthropic.
        extra=None if citation.take("encrypted_index", TEXT) == "" else whole,
    )


def _read_text(block: Fields, _: str) -> Part:
    text = block.text("text")
    citations = block.take("citations", ARRAY) or ()
    return Text(
        text,
        cache=read_cache_marker(block),
        citations=tuple(read_citation(raw, block.at(f"citations.{index}")) for index, raw in enumerate(citations)),
        extra=block.rest(),
    )


def _read_source(block: Fields) -> Source | None:
    """A file's source; `None` for one that we do not know, such as a document made of blocks."""
    source = block.object("source")
    if source is None:
        raise WireFault(block.at("source"), "Field required: give the source of the file.")
    match source.text("type"):
        case "base64":
            found: Source = Inline(source.text("media_type"), source.text("data"))
        case "text":
            found = Inline(source.take("media_type", TEXT) or "text/plain", source.text("data"))
        case "url":
            found = Remote(source.text("url"))
        case "file":
            found = StoredFile(source.text("file_id"), NAME)
        case _:
            return None
    block.put_back("source", source)
    return found


def _read_image(block: Fields, _: str) -> Part | None:
    source = _read_source(block)
    if source is None:
        return None
    return Image(source, cache=read_cache_marker(block), extra=block.rest())


def _read_document(block: Fields, _: str) -> Part | None:
    source = _read_source(block)
    if source is None:
        return None
    citations = block.object("citations")
    cite = False
    if citations is not None:
        cite = citations.take("enabled", FLAG) is True
        block.put_back("citations", citations)
    return Document(
        source,
        title=block.take("title", TEXT),
        context=block.take("context", TEXT),
        cite=cite,
        cache=read_cache_marker(block),
        extra=block.rest(),
    )


def _read_thinking(block: Fields, home: str) -> Part:
    text = block.take("thinking", TEXT) or ""
    # Before its signature came, and from providers that have none, it is the empty string.
    signature = block.take("signature", TEXT)
    return Thinking(text, unseal(signature, home) if signature else None, extra=block.rest())


def _read_redacted_thinking(block: Fields, home: str) -> Part:
    return RedactedThinking(unseal(block.text("data"), home))


def _read_tool_use(block: Fields, _: str) -> Part:
    identity, name = block.text("id"), block.text("name")
    arguments = block.raw("input")
    return ToolCall(
        identity,
        name,
        "" if arguments is None else bytes(arguments).decode(),
        cache=read_cache_marker(block),
        extra=block.rest(),
    )


def _read_tool_result(block: Fields, home: str) -> Part:
    call_id = block.text("tool_use_id")
    content: list[Text | Image | Document | Foreign] = []
    given = block.text_or_array("content")
    if isinstance(given, str):
        content.append(Text(given))
    else:
        for index, raw in enumerate(given or ()):
            part = read_block(raw, block.at(f"content.{index}"), home)
            content.append(part if _fits_result(part) else Foreign(NAME, "unknown", raw))
    return ToolResult(
        call_id,
        tuple(content),
        is_error=block.take("is_error", FLAG) is True,
        cache=read_cache_marker(block),
        extra=block.rest(),
    )


def _fits_result(part: Part) -> TypeGuard[Text | Image | Document | Foreign]:
    return isinstance(part, Text | Image | Document | Foreign)


_READERS: Final[Mapping[str, Callable[[Fields, str], Part | None]]] = {
    "text": _read_text,
    "image": _read_image,
    "document": _read_document,
    "thinking": _read_thinking,
    "redacted_thinking": _read_redacted_thinking,
    "tool_use": _read_tool_use,
    "tool_result": _read_tool_result,
}
"""A reader gives `None` for a block of its type in a form that it does not know; such a block is kept whole."""


def part_name(part: Part) -> str:
    """What to call a part in a receipt."""
    match part:
        case Foreign():
            return f"{part.kind[:40]} of another dialect" if part.dialect != NAME else part.kind[:40]
        case ToolResult():
            return "a tool's result"
        case _:
            return type(part).__name__.lower()


# ------------------------------------------------------------------------------------------------------------- writing


def merge_extra(fields: Block, extra: Extra | None) -> None:
    """Gives back what only Anthropic understands; leftovers of an object that we did understand go back inside it."""
    if extra is None or extra.dialect != NAME:
        return
    for name, raw in extra.fields.items():
        present = fields.get(name)
        if isinstance(present, dict):
            fields[name] = {**present, **Fields(raw, name).left}
        elif name not in fields:
            fields[name] = raw


def write_citation(citation: Citation) -> object | None:
    """A citation for a client; `None` if there is no form for it.

    Those of other dialects point to web pages, so they become Anthropic's web citations, without the index that only
    Anthropic's own search can give.
    """
    if citation.extra is not None and citation.extra.dialect == NAME:
        return citation.extra.fields
    if citation.url is None:
        return None
    return {
        "type": "web_search_result_location",
        "cited_text": citation.quote or "",
        "encrypted_index": "",
        "title": citation.title,
        "url": citation.url,
    }


def write_thinking(part: Thinking) -> Block:
    """A thinking block; clients insist on a signature, if an empty one."""
    signature = "" if part.signature is None else seal(part.signature, NAME)
    block: Block = {"type": "thinking", "thinking": part.text, "signature": signature}
    merge_extra(block, part.extra)
    return block


def write_redacted(part: RedactedThinking) -> Block:
    """A block of encrypted thinking."""
    return {"type": "redacted_thinking", "data": seal(part.data, NAME)}


def input_object(arguments: str) -> msgspec.Raw | None:
    """A call's arguments as `input`, which must be an object; `None` if they are not one (cut off by a length limit)."""
    if not arguments.strip():
        return EMPTY_OBJECT
    try:
        msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return None
    return msgspec.Raw(arguments.encode())
