"""The requests that the bench sends: ordinary ones, about 1.7 KB long, in both dialects."""

import enum
import json
from dataclasses import dataclass
from typing import Final

SYSTEM: Final = (
    "You are the assistant of a small library in a harbour town. Answer in the language of the question, in plain words,"
    " without headings. When you do not know, say so, and say who might. Opening hours: Tuesday to Saturday from ten to"
    " six, Thursday until eight. Cards are free for those who live in the county and cost five a year for others."
)
GREETING: Final = (
    "Hello! My daughter (9) has read everything about lighthouses that you have on the shelf. Is there anything else?"
)
REPLY: Final = (
    "How nice! There is a book of letters by a lighthouse keeper's family, and a box of old charts that she may look"
    " through with one of us; children like to find their own street on them."
)
QUESTION: Final = (
    "The charts sound wonderful. Could we come on Thursday after school, at about four? And would it be possible for her"
    " to copy a part of one by hand, for a project about how the coast has changed? She would bring her own paper and"
    " pencils, of course. Please also tell me whether there is anything to know about parking, because her grandfather"
    " comes along and does not walk well; and whether someone could read the older handwriting to us, or if there is a"
    " printed version. Thank you very much for your trouble."
)


class Dialect(enum.Enum):
    """A wire format that the bench can speak."""

    OPENAI = "OpenAI"
    ANTHROPIC = "Anthropic"


@dataclass(frozen=True, slots=True)
class Stream:
    """How the fake provider paces a stream."""

    events: int
    """Text events; the format's own opening and closing ones come on top."""
    gap_us: int
    """Least microseconds between the events of one stream; 0 for as fast as the socket takes them."""


PATHS: Final = {Dialect.OPENAI: "/v1/chat/completions", Dialect.ANTHROPIC: "/v1/messages"}
_JSON_ENDS: Final = {Dialect.OPENAI: "}", Dialect.ANTHROPIC: "}"}
_STREAM_ENDS: Final = {Dialect.OPENAI: "data: [DONE]", Dialect.ANTHROPIC: '{"type":"message_stop"}'}


def end_of(dialect: Dialect, stream: Stream | None) -> str:
    """How a complete answer in this dialect ends."""
    return (_STREAM_ENDS if stream else _JSON_ENDS)[dialect]


def http_request(dialect: Dialect, *, model: str, key: str, stream: Stream | None) -> bytes:
    """A whole HTTP/1.1 request.

    The pacing stands in the prompt's last line, where the fake provider finds it after any translation.
    """
    question = QUESTION + (f"\nevents={stream.events} gap_us={stream.gap_us}" if stream else "")
    build = _openai_body if dialect is Dialect.OPENAI else _anthropic_body
    body = json.dumps(build(model, question, streams=stream is not None), separators=(",", ":")).encode()
    head = [
        f"POST {PATHS[dialect]} HTTP/1.1",
        "host: gateway.test",
        "accept: application/json",
        "accept-encoding: identity",
        "user-agent: tollhouse-bench/1",
        f"authorization: Bearer {key}" if dialect is Dialect.OPENAI else f"x-api-key: {key}",
        *(["anthropic-version: 2023-06-01"] if dialect is Dialect.ANTHROPIC else []),
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def _turns(question: str) -> list[dict[str, object]]:
    return [
        {"role": "user", "content": GREETING},
        {"role": "assistant", "content": REPLY},
        {"role": "user", "content": question},
    ]


def _openai_body(model: str, question: str, *, streams: bool) -> dict[str, object]:
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": "system", "content": SYSTEM}, *_turns(question)],
        "temperature": 0.7,
        "max_tokens": 512,
    }
    return body | ({"stream": True, "stream_options": {"include_usage": True}} if streams else {})


def _anthropic_body(model: str, question: str, *, streams: bool) -> dict[str, object]:
    body: dict[str, object] = {
        "model": model,
        "max_tokens": 512,
        "system": SYSTEM,
        "messages": _turns(question),
        "temperature": 0.7,
    }
    return body | ({"stream": True} if streams else {})
