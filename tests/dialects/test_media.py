"""What is no text is found in a body of every dialect, however the body spells it, and plain bodies pass."""

from typing import Any

import msgspec
import pytest

from tollhouse.chat.model import Image, Inline, Message, Request
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects import anthropic, gemini, openai_chat, openai_responses
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.protobuf.dialect import TypedTraits, typed

PICTURE = "iVBORw0KGgo="
INLINE = {"media_type": "image/png", "data": PICTURE}
BODIES: dict[str, tuple[Dialect[Any], list[object]]] = {
    "openai_chat": (
        openai_chat.DIALECT,
        [{"content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}]}],
    ),
    "openai_chat's files": (openai_chat.DIALECT, [{"content": [{"type": "file", "file": {"file_id": "file-1"}}]}]),
    "openai_responses": (openai_responses.DIALECT, [{"type": "input_image", "image_url": "https://pictures.test/a"}]),
    "anthropic": (anthropic.DIALECT, [{"content": [{"type": "document", "source": {"type": "base64", **INLINE}}]}]),
    "gemini": (gemini.DIALECT, [{"parts": [{"fileData": {"fileUri": "gs://pictures/a"}}]}]),
    "the typed protocol": (typed("json", "json"), [{"parts": [{"image": {"source": {"inline": INLINE}}}]}]),
    "the typed protocol's sounds": (
        typed("json", "json"),
        [{"parts": [{"audio": {"data": PICTURE, "format": "wav"}}]}],
    ),
    "the typed protocol's addresses": (
        typed("json", "json"),
        [{"parts": [{"image": {"source": {"remote": {"url": "https://pictures.test/a"}}}}]}],
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_media_are_found(name: str):
    dialect, content = BODIES[name]
    body = msgspec.json.encode({"model": "m", "messages": content})
    assert dialect.may_have_media(body)
    for letter in ("e", "i"):
        escaped = body.replace(letter.encode(), b"\\u%04x" % ord(letter))
        assert msgspec.json.decode(escaped) == msgspec.json.decode(body)
        assert dialect.may_have_media(escaped)


@pytest.mark.parametrize("dialect", [openai_chat.DIALECT, anthropic.DIALECT])
@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{"content":%b}]}',
        b'[ {"messages" : [ { "content" :\n%b } ] } ]',
        b'{"stop":"[","messages":[{"role":"user","content":"[1] is"},{"content":%b}]}',
    ],
)
def test_a_picture_is_found_whatever_else_is_in_brackets(dialect: Dialect[Any], body: bytes):
    assert dialect.may_have_media(body % b'[{"type":"image","source":{"type":"url","url":"https://pictures.test/a"}}]')
    assert not dialect.may_have_media(body % b'"[ {\\"type\\": \\"image\\"}, [] ]"')


@pytest.mark.parametrize("name", BODIES)
def test_plain_words_are_not_taken_for_media(name: str):
    dialect, _ = BODIES[name]
    said = [{"role": "user", "content": 'My type of "image":\n a document, inline; file it.'}]
    assert not dialect.may_have_media(msgspec.json.encode({"model": "m", "messages": said}))


def test_media_are_found_in_what_has_no_names():
    """Bytes of a picture, taken for words, would be held for at a hundred times what it costs."""
    dialect = typed("protobuf")
    asked = Request(model="m", messages=(Message("user", (Image(Inline("image/png", PICTURE)),)),))
    assert dialect.may_have_media(dialect.encode_request(asked, TypedTraits(), Receipt()))
