"""A page of a list is cut down to what may be seen of it, and stays a page."""

import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from tollhouse.gateway.listings import Page, asked_size, cut, next_query, read_page


def read(page: object, kind: str = "files", *, as_paths: bool = False) -> Page:
    found = read_page(json.dumps(page).encode(), kind, as_paths=as_paths)
    assert found is not None
    return found


def items(*names: str) -> list[dict[str, str]]:
    return [{"id": name, "object": "file"} for name in names]


OPENAI: dict[str, Any] = {
    "object": "list",
    "data": items("a", "b", "c"),
    "first_id": "a",
    "last_id": "c",
    "has_more": True,
}
GOOGLE = {"files": [{"name": "files/a"}, {"name": "files/b"}], "nextPageToken": "t"}


def test_the_cursors_of_a_page_are_those_of_what_is_left():
    page = json.loads(cut(read(OPENAI), {"b"}))
    assert page == {**OPENAI, "data": items("b"), "first_id": "b", "last_id": "b"}
    assert json.loads(cut(read(OPENAI), set())) == {**OPENAI, "data": [], "first_id": None, "last_id": None}


def test_a_page_that_is_longer_than_was_asked_for_has_more_behind_it():
    page = json.loads(cut(read({**OPENAI, "has_more": False}), {"a", "b", "c"}, 2))
    assert ([item["id"] for item in page["data"]], page["last_id"], page["has_more"]) == (["a", "b"], "b", True)


def test_pages_of_google_and_bare_lists_are_read():
    assert read(GOOGLE, as_paths=True).ids == ["files/a", "files/b"]
    assert json.loads(cut(read(GOOGLE, as_paths=True), {"files/b"})) == {
        "files": [{"name": "files/b"}],
        "nextPageToken": "t",
    }
    assert json.loads(cut(read(items("a", "b")), {"a"})) == items("a")
    assert read({}, "cachedContents", as_paths=True).ids == []
    assert read({"data": [{"id": "v1_a"}]}, "interactions", as_paths=True).ids == ["interactions/v1_a"]


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"credits": 1},
        {"data": {"a": 1}},
        {"data": [1]},
        {"data": [{"x": 1}]},
        {"data": [], "more": []},
        "a",
        1,
        None,
    ],
)
def test_what_is_no_page_is_none(page: object):
    assert read_page(json.dumps(page).encode(), "files", as_paths=False) is None


@pytest.mark.parametrize(
    ("page", "query", "expected"),
    [
        (OPENAI, b"limit=2", {"limit": ["100"], "after": ["c"]}),
        (OPENAI, b"purpose=batch&after=x", {"purpose": ["batch"], "after": ["c"], "limit": ["100"]}),
        (OPENAI, b"before=x", {"before": ["a"]}),
        ({**OPENAI, "has_more": False}, b"", None),
        ({"object": "list", "data": items("a")}, b"", None),
        ({**OPENAI, "data": []}, b"", None),
        (GOOGLE, b"pageSize=5", {"pageSize": ["5"], "pageToken": ["t"]}),
        ({**OPENAI, "next_page": "p/2"}, b"", {"page": ["p/2"]}),
        ({"data": items("a"), "pagination_token": "p"}, b"", {"pagination_token": ["p"]}),
        ({"data": items("a"), "has_more": "yes"}, b"", None),
    ],
)
def test_the_next_page_is_asked_for_as_its_provider_says(
    page: dict[str, Any], query: bytes, expected: dict[str, list[str]] | None
):
    following = next_query(read(page, as_paths=page is GOOGLE), query, has_after_id=False)
    assert (following if following is None else parse_qs(following.decode())) == expected


def test_anthropic_has_cursors_of_other_names():
    following = next_query(read(OPENAI), b"before_id=x", has_after_id=True)
    assert following == b"before_id=a"
    assert next_query(read(OPENAI), b"", has_after_id=True) == b"after_id=c&limit=100"


def test_a_cursor_is_written_so_that_it_says_nothing_else():
    page = read({**OPENAI, "data": items("a&x=1#")})
    assert next_query(page, b"", has_after_id=False) == b"after=a%26x%3D1%23&limit=100"


@pytest.mark.parametrize(
    ("query", "size"), [(b"limit=5", 5), (b"", None), (b"limit=-1", None), (b"limit=999999999", None)]
)
def test_the_size_that_was_asked_for_is_a_small_number(query: bytes, size: int | None):
    assert asked_size(query) == size
