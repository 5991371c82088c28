"""Whether a request's body may have pictures, sounds or documents in it, found out without reading it.

A search that finds too much costs a decoding; one that finds too little takes a picture's bytes for words.  So where a body
spells letters of ASCII as escapes, which nobody has a reason to, it is taken to have some.
"""

from typing import Final

_TYPED: Final = (b'"image', b'"document"', b'"input_audio"', b'"file', b";base64,")
_FIELDS: Final = (b'"inline', b'"file')
_NAMES: Final = (b'"image"', b'"document"', b'"audio"')
_ESCAPED: Final = (b"\\u005", b"\\u006", b"\\u007")


def in_typed_parts(body: bytes) -> bool:
    """For dialects in which parts say their `type`; a body of plain words mostly has none that says it."""
    return (body.find(b'"type"') >= 0 and _has_any(body, _TYPED)) or _has_escapes(body)


def in_parts_of_messages(body: bytes) -> bool:
    """For those of them whose parts stand in an array of a message's own: most bodies have no array but that of messages."""
    # One byte is found many times as fast as a word, and brackets cannot be spelt as escapes.
    return body.find(b"[", body.find(b"[") + 1) >= 0 and in_typed_parts(body)


def in_fields(body: bytes) -> bool:
    """For dialects in which parts are known by their fields, as Gemini's are."""
    return _has_any(body, _FIELDS) or _has_escapes(body)


def in_named_parts(body: bytes) -> bool:
    """For dialects in which a part is a field of its kind's name, as in the typed protocol."""
    return _has_any(body, _NAMES) or _has_escapes(body)


def _has_escapes(body: bytes) -> bool:
    # Most bodies have line ends spelt as escapes, and few others.
    return body.find(b"\\") >= 0 and body.find(b"\\u00") >= 0 and _has_any(body, _ESCAPED)


def _has_any(body: bytes, marks: tuple[bytes, ...]) -> bool:
    # `find`, because `in` makes an exception (bytes are no integer) each time before it looks.
    for mark in marks:  # noqa: SIM110 - a generator costs as much as a search
        if body.find(mark) >= 0:
            return True
    return False
