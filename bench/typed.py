"""Bytes and CPU time of the typed protocol in protobuf, against the same in JSON, on recorded conversations.

    python -m bench.typed               # prints a table and writes it to bench/results/
    python -m bench.typed --no-write

Every recorded exchange with OpenAI's, Anthropic's and their imitators' APIs is decoded into the canonical conversation once.
Then each form writes and reads all of them, as a gateway does: `writes` is canonical value to bytes, `reads` is bytes to
canonical value.  The client's own form of OpenAI's API stands beside, for it is what a typed client would use otherwise.

The CPU time is that of this thread, the least of several rounds, divided by the number of messages.
"""

import argparse
import datetime as dt
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from bench.machine import machine, short_commit
from bench.report import Machine
from tollhouse.chat import sse
from tollhouse.chat.events import Event
from tollhouse.chat.model import Request, Response
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.sse import Frame
from tollhouse.dialects.anthropic import DIALECT as ANTHROPIC
from tollhouse.dialects.anthropic import AnthropicTraits
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.dialects.openai_chat.traits import OPENAI
from tollhouse.dialects.protobuf import TypedTraits, typed
from tollhouse.errors import TollhouseError

RECORDED: Final = Path(__file__).parents[1] / "tests" / "recorded"
RESULTS: Final = Path(__file__).parent / "results"
ROUNDS: Final = 7
LEAST_SECONDS: Final = 0.05
"""A round repeats its work until it takes this long."""
DIALECTS: Final[dict[str, tuple[Dialect[Any], Any]]] = {
    "openai-chat": (OPENAI_CHAT, OPENAI),
    "anthropic-messages": (ANTHROPIC, AnthropicTraits()),
}


class _Request(msgspec.Struct):
    json: msgspec.Raw


class _Response(msgspec.Struct):
    status: int
    body_text: str


class _Recording(msgspec.Struct):
    dialect: str
    request: _Request
    response: _Response


@dataclass(frozen=True, slots=True)
class Conversations:
    """What was recorded, in the canonical form."""

    requests: list[Request]
    responses: list[Response]
    streams: list[list[Event]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One form's figures for one kind of message; times in microseconds."""

    kind: str
    count: int
    form: str
    median_bytes: float
    all_bytes: int
    writes_us: float
    reads_us: float


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.typed", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    figures = measure(recorded())
    page = markdown(figures, machine(None))
    console = Console()
    console.print(_table(figures))
    if not given.no_write:
        RESULTS.mkdir(exist_ok=True)
        day = dt.datetime.now(dt.UTC).date().isoformat()
        path = RESULTS / f"{day}-{short_commit().rstrip('+')}-typed.md"
        path.write_text(page)
        console.print(f"Written to {path}.", highlight=False)
    return 0


def recorded() -> Conversations:
    """All exchanges that can be read."""
    found = Conversations([], [], [])
    for path in sorted(RECORDED.glob("*/*.json")):
        recording = msgspec.json.decode(path.read_bytes(), type=_Recording)
        spoken = DIALECTS.get(recording.dialect)
        if spoken is None:
            continue
        dialect, traits = spoken
        body = recording.response.body_text.encode()
        with suppress(TollhouseError):  # the source kept no request, or one that was meant to be refused
            found.requests.append(dialect.decode_request(bytes(recording.request.json)))
        if recording.response.status != 200:
            continue
        with suppress(TollhouseError):  # an error under a good status, or a stream that was cut
            if body.lstrip(b"\xef\xbb\xbf\r\n").startswith((b"data:", b"event:", b":")):
                found.streams.append(_events(body, dialect, traits))
            else:
                found.responses.append(dialect.decode_response(body, traits))
    return found


def _events(body: bytes, dialect: Dialect[Any], traits: Any) -> list[Event]:
    parser, decoder = sse.Parser(), dialect.stream_decoder(traits)
    frames = [*parser.feed(body), *parser.close()]
    return [*(event for frame in frames for event in decoder.feed(frame)), *decoder.close()]


def measure(conversations: Conversations) -> list[Figures]:
    """Every kind of message in every form."""
    forms: list[tuple[str, Dialect[Any], Any]] = [
        ("protobuf", typed("protobuf"), TypedTraits()),
        ("JSON", typed("json"), TypedTraits()),
        ("OpenAI's JSON", OPENAI_CHAT, OPENAI),
    ]
    requests = [request for request in conversations.requests if _is_sayable(request, forms)]
    return [
        *(_requests(requests, *form) for form in forms),
        *(_responses(conversations.responses, *form) for form in forms),
        *(_streams(conversations.streams, *form) for form in forms),
    ]


def _is_sayable(request: Request, forms: Sequence[tuple[str, Dialect[Any], Any]]) -> bool:
    """Whether every form reads what it writes of a request."""
    try:
        for _, dialect, traits in forms:
            dialect.decode_request(dialect.encode_request(request, traits, Receipt()))
    except TollhouseError:
        return False
    return True


def _requests(requests: list[Request], name: str, dialect: Dialect[Any], traits: Any) -> Figures:
    bodies = [dialect.encode_request(request, traits, Receipt()) for request in requests]
    return _figures(
        "request",
        name,
        bodies,
        lambda: [dialect.encode_request(request, traits, Receipt()) for request in requests],
        lambda: [dialect.decode_request(body) for body in bodies],
    )


def _responses(responses: list[Response], name: str, dialect: Dialect[Any], traits: Any) -> Figures:
    asked = Request(model="m", messages=())
    bodies = [dialect.encode_response(response, asked, Receipt()) for response in responses]
    return _figures(
        "whole answer",
        name,
        bodies,
        lambda: [dialect.encode_response(response, asked, Receipt()) for response in responses],
        lambda: [dialect.decode_response(body, traits) for body in bodies],
    )


def _streams(streams: list[list[Event]], name: str, dialect: Dialect[Any], traits: Any) -> Figures:
    asked = Request(model="m", messages=(), stream=True, include_usage=True)

    def write() -> list[bytes]:
        pieces: list[bytes] = []
        for events in streams:
            encoder = dialect.stream_encoder(asked, Receipt())
            pieces += [encoder.encode(event) for event in events]
        return pieces

    pieces = [piece for piece in write() if piece]
    messages = [
        list(_messages(b"".join(map(encoder.encode, events)), name))
        for events, encoder in ((events, dialect.stream_encoder(asked, Receipt())) for events in streams)
    ]

    def read() -> list[Event]:
        heard: list[Event] = []
        for stream in messages:
            decoder = dialect.stream_decoder(traits)
            heard += [event for message in stream for event in decoder.feed(Frame(message))]
        return heard

    return _figures("event of a stream", name, pieces, write, read)


def _messages(stream: bytes, name: str) -> Iterator[bytes]:
    """The events of an encoded stream.  Cutting it into them is not measured: both ways of it are a few slices."""
    if name == "protobuf":
        yield from typed("protobuf").writes.splitter().feed(stream)
    else:
        parser = sse.Parser()
        yield from (frame.data for frame in [*parser.feed(stream), *parser.close()])


def _figures(
    kind: str, form: str, pieces: list[bytes], write: Callable[[], object], read: Callable[[], object]
) -> Figures:
    sizes = [len(piece) for piece in pieces]
    return Figures(
        kind=kind,
        count=len(sizes),
        form=form,
        median_bytes=statistics.median(sizes),
        all_bytes=sum(sizes),
        writes_us=_seconds(write) / len(sizes) * 1e6,
        reads_us=_seconds(read) / len(sizes) * 1e6,
    )


def _seconds(work: Callable[[], object]) -> float:
    """CPU time of one turn."""
    best = float("inf")
    for _ in range(ROUNDS):
        turns, began = 0, time.thread_time()
        while (spent := time.thread_time() - began) < LEAST_SECONDS:
            work()
            turns += 1
        best = min(best, spent / turns)
    return best


HEADINGS: Final = ("", "form", "median bytes", "all bytes", "writes", "reads")


def _rows(figures: Sequence[Figures]) -> Iterator[tuple[str, ...]]:
    kind = ""
    for one in figures:
        title = f"{one.kind} ({one.count:,})" if one.kind != kind else ""
        kind = one.kind
        yield (
            title,
            one.form,
            f"{one.median_bytes:,.0f}",
            f"{one.all_bytes:,}",
            f"{one.writes_us:,.1f} µs",
            f"{one.reads_us:,.1f} µs",
        )


def _table(figures: Sequence[Figures]) -> Table:
    table = Table()
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in {"", "form"} else "right")
    for row in _rows(figures):
        table.add_row(*row)
    return table


def markdown(figures: Sequence[Figures], on: Machine) -> str:
    """The page for `bench/results/`."""
    lines = [
        "# The typed protocol: protobuf against JSON",
        "",
        f"`python -m bench.typed` on {on.cpu}, Python {on.python}. CPU time a message, the least of {ROUNDS} rounds; all",
        "recorded conversations under `tests/recorded` that OpenAI's and Anthropic's dialects can read.",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---|---|--:|--:|--:|--:|",
        *("| " + " | ".join(row) + " |" for row in _rows(figures)),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
