"""The Gemini API as Google speaks it, made up from an `Answer`.

Its streams have CRLF line ends, no event names and no end marker; every chunk repeats the counts, growing; function calls come
whole with their signature beside them, and a last chunk with an empty text and the finish reason follows
(`gemini/gemini-generate-stream-tool-call-9b8c79`).  Thoughts are counted apart from the answer.
"""

import json
from collections.abc import Iterator
from typing import Any

from support.fake_replies import Answer, Failure, Piece, Rendered, Tokens, pieces

Json = dict[str, Any]

SIGNATURE = "ZmFrZSB0aG91Z2h0IHNpZ25hdHVyZQ=="
RESPONSE_ID = "fakeResponse0001"
METHODS = ("generateContent", "streamGenerateContent", "countTokens", "batchEmbedContents", "embedContent")

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_REASONS = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "refusal": "PROHIBITED_CONTENT",
}


def asked(path: str) -> tuple[str, str] | None:
    """The model and the method of a path; `None` for another path."""
    resource, _, method = path.rpartition(":")
    _, _, name = resource.removeprefix("/").partition("/")
    collection, _, model = name.partition("/")
    return (model, method) if collection in {"models", "tunedModels"} and method in METHODS else None


def render(answer: Answer, model: str, *, streamed: bool) -> Rendered:
    """The answer, streamed or whole."""
    if streamed:
        return Rendered(
            status=200,
            headers=(("content-type", "text/event-stream"), ("content-disposition", "attachment")),
            pieces=tuple(_stream(answer, model)),
            streamed=True,
            tokens=answer.spent,
        )
    candidate = {
        "content": {"parts": _parts(answer), "role": "model"},
        "finishReason": _REASONS[answer.reason],
        "index": 0,
        **({"finishMessage": "Model generated function call(s)."} if answer.calls else {}),
    }
    body = json.dumps({"candidates": [candidate], **_around(answer.spent, answer.spent.output, model)}, indent=1)
    return Rendered(
        status=200,
        headers=(("content-type", "application/json; charset=UTF-8"),),
        pieces=(Piece(body.encode(), "body", answer.spent.output),),
        streamed=False,
        tokens=answer.spent,
    )


def render_failure(failure: Failure) -> Rendered:
    """An error body; Google has the wait in it, not in a header."""
    return Rendered(
        status=200 if failure.in_ok_body else failure.status,
        headers=(("content-type", "application/json; charset=UTF-8"), *failure.headers),
        pieces=(Piece(json.dumps(_error(failure)).encode(), "body"),),
        streamed=False,
    )


def error_event(failure: Failure) -> Piece:
    """An error inside a 200 stream."""
    return Piece(_event(_error(failure)), "error")


def models(names: tuple[str, ...]) -> bytes:
    """A model list."""
    return json.dumps(
        {
            "models": [
                {
                    "name": f"models/{name}",
                    "displayName": name,
                    "inputTokenLimit": 1_048_576,
                    "outputTokenLimit": 65_536,
                    "supportedGenerationMethods": ["generateContent", "countTokens"],
                }
                for name in names
            ]
        }
    ).encode()


def count() -> bytes:
    """A token count."""
    return b'{"totalTokens": 10, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}]}'


def vectors(request: Json) -> tuple[bytes, Tokens]:
    """Four numbers for each text, made of its length, and as many tokens as it has words."""
    texts = ["".join(part["text"] for part in each["content"]["parts"]) for each in request["requests"]]
    values = [[float(len(text) * power) for power in (1, 10, 100, 1000)] for text in texts]
    tokens = sum(len(text.split()) for text in texts)
    body = {"embeddings": [{"values": each} for each in values], "usageMetadata": {"promptTokenCount": tokens}}
    return json.dumps(body).encode(), Tokens(input=tokens, output=0)


def _stream(answer: Answer, model: str) -> Iterator[Piece]:
    said: list[tuple[Json, int]] = [({"text": piece, "thought": True}, 1) for piece in pieces(answer.thinking)]
    said += [({"text": piece}, 1) for piece in pieces(answer.text or answer.refusal)]
    # Calls come whole, with all of their tokens at once.
    left = answer.spent.output - sum(count for _, count in said)
    said += [(part, left if number == 0 else 0) for number, part in enumerate(_calls(answer))]
    delivered = 0
    for part, tokens in said:
        delivered += tokens
        candidate = {"content": {"parts": [part], "role": "model"}, "index": 0}
        yield Piece(_event({"candidates": [candidate], **_around(answer.spent, delivered, model)}), "content", tokens)
    end: Json = {
        "content": {"parts": [{"text": ""}], "role": "model"},
        "finishReason": _REASONS[answer.reason],
        "index": 0,
    }
    last = {"candidates": [end], **_around(answer.spent, answer.spent.output, model)}
    yield Piece(_event(last), "finish_usage")


def _parts(answer: Answer) -> list[Json]:
    parts: list[Json] = []
    if answer.thinking:
        parts.append({"text": answer.thinking, "thought": True})
    if text := answer.text or answer.refusal:
        parts.append({"text": text})
    return [*parts, *_calls(answer)]


def _calls(answer: Answer) -> list[Json]:
    """Only the first of several has a signature, and none has an id, as with most models."""
    return [
        {
            "functionCall": {"name": call.name, "args": json.loads(call.arguments or "{}")},
            **({"thoughtSignature": SIGNATURE} if number == 0 else {}),
        }
        for number, call in enumerate(answer.calls)
    ]


def _around(tokens: Tokens, delivered: int, model: str) -> Json:
    thoughts = min(tokens.reasoning, delivered)
    counts = {
        "promptTokenCount": tokens.input,
        "candidatesTokenCount": delivered - thoughts,
        "totalTokenCount": tokens.input + delivered,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens.input}],
        "cachedContentTokenCount": tokens.cache_read,
        "thoughtsTokenCount": thoughts,
    }
    # Counts of zero are not written.
    return {
        "usageMetadata": {name: value for name, value in counts.items() if value},
        "modelVersion": model,
        "responseId": RESPONSE_ID,
    }


def _error(failure: Failure) -> Json:
    details: list[Json] = []
    if failure.code is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": failure.code})
    if failure.retry_after is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{failure.retry_after}s"})
    return {
        "error": {
            "code": failure.status,
            "message": failure.message,
            "status": failure.kind or _STATUSES.get(failure.status, "INTERNAL"),
            **({"details": details} if details else {}),
        }
    }


def _event(fields: Json) -> bytes:
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\r\n\r\n"
