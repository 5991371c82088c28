"""The recorded provider traffic under `tests/recorded`: what is in a file, and which files a test wants.

`tests/recorded/README.md` tells where the exchanges come from and how close to the wire each of them is.
"""

import random
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from tollhouse.chat import sse

ROOT = Path(__file__).parents[1] / "recorded"


class RecordedRequest(msgspec.Struct, frozen=True):
    """What the client sent, as far as the source kept it."""

    method: str
    url: str
    headers: dict[str, str]
    json: msgspec.Raw

    @property
    def body(self) -> bytes | None:
        """The request's JSON, printed without blanks; `None` where the source kept none, and for GET."""
        value = msgspec.json.decode(self.json)
        return None if value is None else msgspec.json.encode(value)


class RecordedResponse(msgspec.Struct, frozen=True):
    """What the provider answered."""

    status: int
    headers: dict[str, str]
    body_text: str
    chunk_lengths: tuple[int, ...] | None = None
    """Byte lengths of the network reads, where the source kept them."""

    @property
    def body(self) -> bytes:
        """The body's bytes, decompressed."""
        return self.body_text.encode()


class Recording(msgspec.Struct, frozen=True):
    """One exchange."""

    id: str
    provider: str
    dialect: str
    """As the README spells it: `openai-chat`, `anthropic-messages`, `models-list`, …"""
    features: frozenset[str]
    fidelity: dict[str, str]
    request: RecordedRequest
    response: RecordedResponse

    @property
    def is_stream(self) -> bool:
        """Whether the answer is an SSE body (an error to a streamed request is not)."""
        body = self.response.body_text.lstrip("\ufeff\r\n")
        return body.startswith(("data:", "event:", "id:", ":"))

    @property
    def is_error(self) -> bool:
        """Whether the provider answered with an error status."""
        return self.response.status >= 400

    @property
    def json(self) -> Any:
        """The body of an answer that is not a stream, as plain values."""
        return msgspec.json.decode(self.response.body)

    @property
    def request_json(self) -> Any:
        """The request as plain values; `None` where the source kept none."""
        return msgspec.json.decode(self.request.json)

    def frames(self) -> list[sse.Frame]:
        """The SSE frames of a stream."""
        parser = sse.Parser()
        return [*parser.feed(self.response.body), *parser.close()]

    def reads(self) -> list[bytes]:
        """The body as the network brought it; in one piece where the source did not keep that."""
        body, lengths = self.response.body, self.response.chunk_lengths
        if not lengths:
            return [body]
        ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
        return [body[end - length : end] for end, length in zip(ends, lengths, strict=True)]


@cache
def load(name: str) -> Recording:
    """The exchange `<provider>/<id>`."""
    return msgspec.json.decode((ROOT / f"{name}.json").read_bytes(), type=Recording)


@cache
def everything() -> Mapping[str, Recording]:
    """Every exchange by `<provider>/<id>`, sorted."""
    paths = sorted(ROOT.glob("*/*.json"))
    return {name: load(name) for path in paths for name in [f"{path.parent.name}/{path.stem}"]}


def recordings(
    dialect: str,
    *,
    provider: str | None = None,
    stream: bool | None = None,
    error: bool | None = None,
    feature: str | None = None,
) -> list[Recording]:
    """The exchanges of a dialect; each further argument narrows, `None` does not care."""
    return [
        recording
        for recording in everything().values()
        if recording.dialect == dialect
        and (provider is None or recording.provider == provider)
        and (stream is None or recording.is_stream == stream)
        and (error is None or recording.is_error == error)
        and (feature is None or feature in recording.features)
    ]


def by_id(recording: Recording) -> str:
    """For `pytest.mark.parametrize(..., ids=by_id)`."""
    return recording.id


def cuts(body: bytes, *, seed: int, ways: int = 4) -> Iterator[list[bytes]]:
    """The same bytes cut into network reads in several ways: byte by byte if short, else at seeded random places."""
    if len(body) <= 6_000:
        yield [body[i : i + 1] for i in range(len(body))]
    source = random.Random(seed)
    for way in range(ways):
        longest = (3, 40, 700, 9_000)[way % 4]
        pieces, at = [], 0
        while at < len(body):
            step = source.randint(1, longest)
            pieces.append(body[at : at + step])
            at += step
        yield pieces
