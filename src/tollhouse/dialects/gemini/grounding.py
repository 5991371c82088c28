"""Citations: which stretch of an answer comes from where.

Google lists the sources (`groundingChunks`) and, apart from them, the stretches of the answer with the numbers of their sources
(`groundingSupports`); older models say `citationMetadata`.  Its positions count bytes of one part, so where the stretch itself
is given it is looked for in the text instead.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from tollhouse.chat.model import Citation
from tollhouse.dialects.fields import NULL, UNREADABLE
from tollhouse.dialects.gemini.wire import Block


class _Place(msgspec.Struct):
    uri: str | None = None
    title: str | None = None
    text: str | None = None


class _Chunk(msgspec.Struct):
    web: _Place | None = None
    retrievedContext: _Place | None = None  # noqa: N815  # the wire's name
    maps: _Place | None = None

    @property
    def place(self) -> _Place:
        return self.web or self.retrievedContext or self.maps or _Place()


class _Segment(msgspec.Struct):
    startIndex: int | None = None  # noqa: N815
    endIndex: int | None = None  # noqa: N815
    text: str | None = None


class _Support(msgspec.Struct):
    segment: _Segment | None = None
    groundingChunkIndices: list[int] | None = None  # noqa: N815


class _Grounding(msgspec.Struct):
    groundingChunks: list[_Chunk] | None = None  # noqa: N815
    groundingSupports: list[_Support] | None = None  # noqa: N815


class _Source(msgspec.Struct):
    startIndex: int | None = None  # noqa: N815
    endIndex: int | None = None  # noqa: N815
    uri: str | None = None
    title: str | None = None


class _Citations(msgspec.Struct):
    citationSources: list[_Source] | None = None  # noqa: N815
    citations: list[_Source] | None = None


_GROUNDING: Final = msgspec.json.Decoder(_Grounding)
_CITATIONS: Final = msgspec.json.Decoder(_Citations)


def read_citations(grounding: msgspec.Raw, citations: msgspec.Raw, text: str) -> tuple[Citation, ...]:
    """What a candidate's metadata says of its text; nothing where it is not what is documented."""
    found: list[Citation] = []
    try:
        if grounding != NULL:
            found += _grounded(_GROUNDING.decode(grounding), text)
        if citations != NULL:
            told = _CITATIONS.decode(citations)
            found += [
                Citation(url=source.uri, title=source.title, start=source.startIndex or 0, end=source.endIndex)
                for source in (told.citationSources or told.citations or ())
            ]
    except UNREADABLE:
        pass
    return tuple(found)


def _grounded(grounding: _Grounding, text: str) -> Iterable[Citation]:
    chunks = grounding.groundingChunks or []
    named: set[int] = set()
    for support in grounding.groundingSupports or ():
        start, end = _stretch(support.segment or _Segment(), text)
        for index in support.groundingChunkIndices or ():
            if 0 <= index < len(chunks):
                named.add(index)
                place = chunks[index].place
                yield Citation(url=place.uri, title=place.title, quote=place.text, start=start, end=end)
    for index, chunk in enumerate(chunks):
        if index not in named and (chunk.place.uri or chunk.place.title or chunk.place.text):
            yield Citation(url=chunk.place.uri, title=chunk.place.title, quote=chunk.place.text)


def _stretch(segment: _Segment, text: str) -> tuple[int | None, int | None]:
    if segment.text:
        start = text.find(segment.text)
        return (None, None) if start < 0 else (start, start + len(segment.text))
    if segment.endIndex is None:
        return None, None
    raw = text.encode()
    start = len(raw[: segment.startIndex or 0].decode("utf-8", "ignore"))
    return start, len(raw[: segment.endIndex].decode("utf-8", "ignore"))


class CitedText(msgspec.Struct, frozen=True):
    """A text of an answer and what it cites; positions count its characters."""

    text: str
    citations: Sequence[Citation]
    part: int = 0
    """Which part of the answer it is."""


def write_citations(cited: Iterable[CitedText]) -> Block:
    """`groundingMetadata` for a client, of all of an answer's texts; empty where none cites anything."""
    chunks: list[Block] = []
    numbers: dict[tuple[str | None, str | None, str | None], int] = {}
    supports: list[Block] = []
    for each in cited:
        for citation in each.citations:
            key = (citation.url, citation.title, citation.quote)
            number = numbers.get(key)
            if number is None:
                number = numbers[key] = len(chunks)
                chunks.append(_written(citation))
            if citation.start is not None and citation.end is not None:
                segment = _segment(each, citation.start, citation.end)
                supports.append({"segment": segment, "groundingChunkIndices": [number]})
    if not chunks:
        return {}
    return {"groundingChunks": chunks, **({"groundingSupports": supports} if supports else {})}


def _segment(cited: CitedText, start: int, end: int) -> Block:
    stretch = cited.text[start:end]
    first = len(cited.text[:start].encode())
    segment: Block = {"endIndex": first + len(stretch.encode()), "text": stretch}
    if first:
        segment["startIndex"] = first
    if cited.part:
        segment["partIndex"] = cited.part
    return segment


def _shifted(citation: Citation, by: int) -> Citation:
    if not by or citation.start is None or citation.end is None:
        return citation
    return msgspec.structs.replace(citation, start=citation.start + by, end=citation.end + by)


def joined(texts: Iterable[CitedText]) -> CitedText:
    """Texts that reached the client as one, as those of a stream do."""
    pieces: list[str] = []
    citations: list[Citation] = []
    length = 0
    for each in texts:
        citations += [_shifted(citation, length) for citation in each.citations]
        pieces.append(each.text)
        length += len(each.text)
    return CitedText("".join(pieces), citations)


def _written(citation: Citation) -> Block:
    place = {
        name: value
        for name, value in (("uri", citation.url), ("title", citation.title), ("text", citation.quote))
        if value is not None
    }
    if citation.quote is None:
        return {"web": place}
    return {"retrievedContext": place}
