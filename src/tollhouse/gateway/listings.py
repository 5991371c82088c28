"""Pages of what there is at a provider, cut down to what a caller may see.

Three forms are known: `{"data": […]}` with `has_more` and ids as cursors (OpenAI, Anthropic and all who do as they), an object
with a list under the collection's own name and `nextPageToken` (Google), and a bare list.  A page in another form is not
given on, for whose is what in it nobody knows.

A page of which nothing is left would end a client's loop, so the gateway goes on to the next one itself.
"""

from collections.abc import Set as AbstractSet
from typing import Any, Final
from urllib.parse import parse_qsl, quote_plus

import msgspec

MAX_PAGE_BYTES: Final = 32 * 1024 * 1024
MAX_PAGES: Final = 100
"""Of a provider, for one of a caller's."""
LARGEST_PAGE: Final = 100
"""Items that all providers give at once."""

_ITEM_IDS: Final = ("id", "name", "file_id", "task_id", "batch_id")
_TOKENS: Final = (
    ("nextPageToken", "pageToken"),
    ("next_page_token", "page_token"),
    ("next_page", "page"),
    ("pagination_token", "pagination_token"),
)
"""What says where the next page is, and the parameter that asks for it."""

_decoder: Final = msgspec.json.Decoder()


class Page(msgspec.Struct, frozen=True):
    """One page as a provider gave it."""

    fields: dict[str, Any] | None
    """All of it without the items; `None` for a bare list."""
    key: str
    """Where the items are."""
    items: list[dict[str, Any]]
    ids: list[str]
    """Theirs, in their order."""


def read_page(body: bytes, kind: str, *, as_paths: bool) -> Page | None:
    """A page of the collection `kind`; `None` for what is none, or is in a form that is not known."""
    try:
        page = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(page, list):
        return _page(None, "", page, kind, as_paths=as_paths)
    if not isinstance(page, dict):
        return None
    lists = [key for key, value in page.items() if isinstance(value, list)]
    if any(isinstance(value, dict) for value in page.values()) or len(lists) > 1:
        return None
    if not lists:
        # Google leaves out a list that is empty.
        is_end = as_paths and all(key in {"nextPageToken", "totalSize"} for key in page)
        return Page(page, kind.rpartition("/")[2], [], []) if is_end else None
    key = lists[0]
    return _page({**page, key: []}, key, page[key], kind, as_paths=as_paths)


def _page(fields: dict[str, Any] | None, key: str, items: list[Any], kind: str, *, as_paths: bool) -> Page | None:
    ids = []
    for item in items:
        name = next((item[field] for field in _ITEM_IDS if item.get(field)), None) if isinstance(item, dict) else None
        if not isinstance(name, str):
            return None
        ids.append(f"{kind}/{name}" if as_paths and "/" not in name else name)
    return Page(fields, key, items, ids)


def cut(page: Page, visible: AbstractSet[str], at_most: int | None = None) -> bytes:
    """The page with what is visible of it, or the first so many of that, and its cursors at these."""
    items = [item for item, name in zip(page.items, page.ids, strict=True) if name in visible]
    is_cut = at_most is not None and len(items) > at_most
    items = items[:at_most] if is_cut else items
    if page.fields is None:
        return msgspec.json.encode(items)
    fields = dict(page.fields)
    for field, item in (("first_id", items[:1]), ("last_id", items[-1:])):
        if field in fields:
            fields[field] = item[0].get("id") if item else None
    if is_cut:
        fields["has_more"] = True
    return msgspec.json.encode({**fields, page.key: items})


def next_query(page: Page, query: bytes, *, has_after_id: bool) -> bytes | None:
    """The query for the page behind this one; `None` where there is none.  `has_after_id` is Anthropic's way."""
    fields = page.fields or {}
    parameters = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    if fields.get("has_more") is True and page.items:
        after, before = ("after_id", "before_id") if has_after_id else ("after", "before")
        token = fields.get("next_page")
        if isinstance(token, str) and token:
            parameters["page"] = token
        elif before in parameters:
            parameters[before] = page.items[0].get("id", page.ids[0])
        else:
            parameters[after] = page.items[-1].get("id", page.ids[-1])
            parameters["limit"] = str(LARGEST_PAGE)
        return _query(parameters)
    for field, parameter in _TOKENS:
        token = fields.get(field)
        if isinstance(token, str) and token:
            parameters[parameter] = token
            return _query(parameters)
    return None


def asked_size(query: bytes) -> int | None:
    """How many items a caller wants on a page, if it says so."""
    said = dict(parse_qsl(query.decode("latin-1"))).get("limit", "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 6 else None


def _query(parameters: dict[str, Any]) -> bytes:
    return "&".join(f"{quote_plus(name)}={quote_plus(str(value))}" for name, value in parameters.items()).encode(
        "ascii"
    )
