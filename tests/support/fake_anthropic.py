"""The Messages API as Anthropic speaks it, made up from an `Answer`."""

import json
from collections.abc import Iterator
from typing import Any

from support.fake_replies import Answer, Failure, Piece, Rendered, Tokens, argument_pieces, pieces

Json = dict[str, Any]

SIGNATURE = "ZmFrZSBzaWduYXR1cmU="

_HEADERS = (("request-id", "req_fake"), ("anthropic-organization-id", "fake"))
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "refusal": "refusal",
}


def render(answer: Answer, request: Json) -> Rendered:
    """The answer to a request, streamed if it asks for that."""
    model = str(request.get("model", "fake-model"))
    if request.get("stream"):
        return Rendered(
            status=200,
            headers=(("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"), *_HEADERS),
            pieces=tuple(_stream(answer, model)),
            streamed=True,
            tokens=answer.spent,
        )
    message = {
        **_message(model),
        "content": [block for block, _ in _blocks(answer)],
        "stop_reason": _REASONS[answer.reason],
        "usage": _usage(answer.spent),
    }
    return Rendered(
        status=200,
        headers=(("content-type", "application/json"), *_HEADERS),
        pieces=(Piece(json.dumps(message, ensure_ascii=False).encode(), "body", answer.spent.output),),
        streamed=False,
        tokens=answer.spent,
    )


def render_failure(failure: Failure) -> Rendered:
    """An error body."""
    retry = (("retry-after", failure.retry_after),) if failure.retry_after is not None else ()
    should_retry = "true" if failure.status >= 500 or failure.status in {408, 409, 429} else "false"
    return Rendered(
        status=200 if failure.in_ok_body else failure.status,
        headers=(
            ("content-type", "application/json"),
            ("x-should-retry", should_retry),
            *_HEADERS,
            *retry,
            *failure.headers,
        ),
        pieces=(Piece(json.dumps(_error(failure)).encode(), "body"),),
        streamed=False,
    )


def error_event(failure: Failure) -> Piece:
    """An error inside a 200 stream."""
    return Piece(_event("error", _error(failure)), "error")


def models(names: tuple[str, ...]) -> bytes:
    """A model list."""
    data = [{"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"} for name in names]
    first, last = (names[0], names[-1]) if names else (None, None)
    return json.dumps({"data": data, "has_more": False, "first_id": first, "last_id": last}).encode()


def _stream(answer: Answer, model: str) -> Iterator[Piece]:
    tokens = answer.spent
    # A small output count stands there already; the whole comes in `message_delta`.
    started = {**_usage(tokens), "output_tokens": min(1, tokens.output)}
    message = {**_message(model), "content": [], "stop_reason": None, "usage": started}
    yield Piece(_event("message_start", {"type": "message_start", "message": message}))
    for index, (block, deltas) in enumerate(_blocks(answer)):
        opened = {"type": "content_block_start", "index": index, "content_block": _emptied(block)}
        yield Piece(_event("content_block_start", opened))
        if index == 0:
            yield Piece(b'event: ping\ndata: {"type": "ping"}\n\n', "comment")
        for delta, count in deltas:
            fields = {"type": "content_block_delta", "index": index, "delta": delta}
            yield Piece(_event("content_block_delta", fields), "content", count)
        yield Piece(_event("content_block_stop", {"type": "content_block_stop", "index": index}))
    finished = {"stop_reason": _REASONS[answer.reason], "stop_sequence": None}
    usage = {key: value for key, value in _usage(tokens).items() if key.endswith("tokens")}
    fields = {"type": "message_delta", "delta": finished, "usage": usage}
    yield Piece(_event("message_delta", fields), "finish_usage")
    yield Piece(_event("message_stop", {"type": "message_stop"}), "done")


def _blocks(answer: Answer) -> Iterator[tuple[Json, list[tuple[Json, int]]]]:
    """Each content block whole, and the deltas that it streams in."""
    if answer.thinking:
        thought = [({"type": "thinking_delta", "thinking": piece}, 1) for piece in pieces(answer.thinking)]
        signed = ({"type": "signature_delta", "signature": SIGNATURE}, 0)
        yield {"type": "thinking", "thinking": answer.thinking, "signature": SIGNATURE}, [*thought, signed]
    if text := answer.text or answer.refusal:
        yield {"type": "text", "text": text}, [({"type": "text_delta", "text": piece}, 1) for piece in pieces(text)]
    for number, call in enumerate(answer.calls):
        # An empty piece comes first; a call without arguments has no other (anthropic/…-tool-call-88eafc).
        parts = [({"type": "input_json_delta", "partial_json": ""}, 0)]
        parts += [({"type": "input_json_delta", "partial_json": part}, 1) for part in argument_pieces(call.arguments)]
        block = {"type": "tool_use", "id": f"toolu_fake_{number}", "name": call.name}
        yield {**block, "input": json.loads(call.arguments or "{}")}, parts


def _emptied(block: Json) -> Json:
    empty: dict[str, Any] = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {key: empty.get(key, value) for key, value in block.items()}


def _message(model: str) -> Json:
    return {"id": "msg_fake", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}


def _usage(tokens: Tokens) -> Json:
    # What a cache gave or took is not in `input_tokens`.
    return {
        "input_tokens": tokens.input - tokens.cache_read - tokens.cache_write,
        "cache_creation_input_tokens": tokens.cache_write,
        "cache_read_input_tokens": tokens.cache_read,
        "cache_creation": {"ephemeral_5m_input_tokens": tokens.cache_write, "ephemeral_1h_input_tokens": 0},
        "output_tokens": tokens.output,
        "service_tier": "standard",
    }


def _error(failure: Failure) -> Json:
    kind = failure.kind or _KINDS.get(failure.status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": failure.message}, "request_id": "req_fake"}


def _event(name: str, fields: Json) -> bytes:
    # Data lines are padded with blanks before the closing brace (anthropic/…-redacted-thinking-f44240).
    padded = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))[:-1] + " " * (len(name) % 7) + "}"
    return f"event: {name}\ndata: {padded}\n\n".encode()
