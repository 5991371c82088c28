"""Chat Completions as each provider speaks them, made up from an `Answer`.

The table of flavours says what the recordings show (`tests/recorded`; an id stands beside what is not obvious).  Two streams of
one flavour differ only in their content: ids and times are fixed.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from support.fake_replies import Answer, Failure, Piece, Rendered, Tokens, argument_pieces, pieces

Json = dict[str, Any]

CREATED = 1_790_000_000


def _openai_usage_details(tokens: Tokens) -> Json:
    return {
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


_KINDS = {401: "invalid_request_error", 403: "permission_error", 404: "invalid_request_error", 429: "requests"}
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


def _openai_error(failure: Failure) -> Json:
    kind = _KINDS.get(failure.status, "server_error" if failure.status >= 500 else "invalid_request_error")
    code = failure.code or _CODES.get(failure.status)
    return {"error": {"message": failure.message, "type": failure.kind or kind, "param": None, "code": code}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """One provider's spelling of Chat Completions.  The defaults are OpenAI's."""

    name: str
    content_type: str = "text/event-stream; charset=utf-8"
    role: Literal["first", "every"] = "first"
    """Which chunks carry `role` in their delta."""
    finish_delta: Json = field(default_factory=dict)
    usage: Literal["own", "finish", "finish_and_own", "after"] = "own"
    """Where a stream's usage is: in a last chunk without choices, in the finish chunk, in both (Groq), or in one more
    chunk with a choice after the finish (OpenRouter)."""
    usage_asked: bool = True
    """Whether it comes only with `stream_options.include_usage`."""
    null_usage: bool = True
    """Whether the other chunks say `usage: null` when usage comes."""
    calls: Literal["pieces", "whole", "with_finish"] = "pieces"
    """Whether a tool call streams in pieces, comes whole, or comes whole together with the finish reason."""
    later_call_id: str | None = None
    """What the id is in later pieces of a call; `None`: not there."""
    text_with_finish: bool = False
    """Whether the finish reason comes with the last of the text (Mistral)."""
    reasoning: Literal["reasoning_content", "reasoning"] | None = None
    """The field that shows reasoning; `None`: it is only counted."""
    reasoning_outside_output: bool = False
    done: bool = True
    last_blank_line: bool = True
    comment: bytes = b""
    prelude: Json | None = None
    """A chunk before the first."""
    chunk_fields: Json = field(default_factory=dict)
    usage_fields: Callable[[Tokens], Json] = _openai_usage_details
    error: Callable[[Failure], Any] = _openai_error
    error_event: bytes = b""
    """The event name of an error inside a stream."""
    headers: tuple[tuple[str, str], ...] = ()


def render(flavour: Flavour, answer: Answer, request: Json) -> Rendered:
    """The answer to a request, streamed if it asks for that."""
    model = str(request.get("model", "fake-model"))
    if not request.get("stream"):
        body = json.dumps(_whole(flavour, answer, model), ensure_ascii=False).encode()
        head = (("content-type", "application/json"), *flavour.headers)
        return Rendered(
            status=200,
            headers=head,
            pieces=(Piece(body, "body", answer.spent.output),),
            streamed=False,
            tokens=answer.spent,
        )
    asked = bool((request.get("stream_options") or {}).get("include_usage"))
    stream = tuple(_stream(flavour, answer, model, wants_usage=asked or not flavour.usage_asked, asked=asked))
    if not flavour.last_blank_line:
        stream = (*stream[:-1], Piece(stream[-1].data.removesuffix(b"\n"), stream[-1].kind))
    return Rendered(
        status=200,
        headers=(("content-type", flavour.content_type), *flavour.headers),
        pieces=stream,
        streamed=True,
        tokens=answer.spent,
    )


def render_failure(flavour: Flavour, failure: Failure) -> Rendered:
    """An error as this provider words it."""
    retry = (("retry-after", failure.retry_after),) if failure.retry_after is not None else ()
    return Rendered(
        status=200 if failure.in_ok_body else failure.status,
        headers=(("content-type", "application/json"), *flavour.headers, *retry, *failure.headers),
        pieces=(Piece(json.dumps(flavour.error(failure)).encode(), "body"),),
        streamed=False,
    )


def error_event(flavour: Flavour, failure: Failure) -> Piece:
    """An error inside a 200 stream."""
    shape = flavour.error(failure)
    value = shape[0] if isinstance(shape, list) else shape
    name = b"event: " + flavour.error_event + b"\n" if flavour.error_event else b""
    return Piece(name + _event(value), "error")


def models(names: tuple[str, ...]) -> bytes:
    """A model list."""
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "fake"} for name in names]
    return json.dumps({"object": "list", "data": data}).encode()


# --------------------------------------------------------------------------------------------------------- streaming


def _stream(flavour: Flavour, answer: Answer, model: str, *, wants_usage: bool, asked: bool) -> Iterator[Piece]:
    chunk = _Chunks(flavour, model, null_usage=flavour.null_usage and wants_usage)
    usage = _usage(flavour, answer.spent)
    if flavour.comment:
        yield Piece(flavour.comment, "comment")
    if flavour.prelude is not None:
        yield Piece(_event(flavour.prelude))
    yield chunk.delta({"role": "assistant", "content": "" if not answer.calls or answer.text else None})
    for piece in pieces(answer.thinking):
        # Where reasoning is hidden, a token of it is billed but never seen.
        if flavour.reasoning is not None:
            yield chunk.delta({flavour.reasoning: piece}, tokens=1)
    held: Json = {}
    said = [("content", piece) for piece in pieces(answer.text)] + [("refusal", p) for p in pieces(answer.refusal)]
    for number, (name, piece) in enumerate(said):
        if flavour.text_with_finish and number == len(said) - 1 and not answer.calls:
            held = {name: piece}
        else:
            yield chunk.delta({name: piece}, tokens=1)
    for number, call in enumerate(answer.calls):
        opened: Json = {"index": number, "id": f"call_fake_{number}", "type": "function"}
        count = sum(1 for _ in argument_pieces(call.arguments))
        if flavour.calls == "pieces":
            yield chunk.delta({"tool_calls": [{**opened, "function": {"name": call.name, "arguments": ""}}]})
            for piece in argument_pieces(call.arguments):
                later: Json = {"index": number, "function": {"arguments": piece}}
                if flavour.later_call_id is not None:
                    later = {**later, "id": flavour.later_call_id, "type": "function"}
                yield chunk.delta({"tool_calls": [later]}, tokens=1)
            continue
        whole: Json = {"tool_calls": [{**opened, "function": {"name": call.name, "arguments": call.arguments}}]}
        if flavour.calls == "with_finish" and number == len(answer.calls) - 1:
            held = whole
        else:
            yield chunk.delta(whole, tokens=count)
    in_finish = usage if wants_usage and flavour.usage in {"finish", "finish_and_own"} else None
    yield chunk.finish(held or flavour.finish_delta, _reason(answer), in_finish, tokens=_held_tokens(held, answer))
    if wants_usage and (flavour.usage == "own" or (flavour.usage == "finish_and_own" and asked)):
        yield Piece(chunk.event({"choices": [], "usage": usage}), "usage")
    elif wants_usage and flavour.usage == "after":
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        yield Piece(chunk.event({"choices": [choice], "usage": usage}), "usage")
    if flavour.done:
        yield Piece(b"data: [DONE]\n\n", "done")


def _held_tokens(held: Json, answer: Answer) -> int:
    if "tool_calls" in held:
        return sum(1 for _ in argument_pieces(answer.calls[-1].arguments))
    return 1 if held else 0


class _Chunks:
    def __init__(self, flavour: Flavour, model: str, *, null_usage: bool) -> None:
        self._flavour = flavour
        self._model = model
        self._null_usage = null_usage

    def delta(self, delta: Json, *, tokens: int = 0) -> Piece:
        if self._flavour.role == "every":
            delta = {"role": "assistant", **delta}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        extra = {"usage": None} if self._null_usage else {}
        return Piece(self.event({"choices": [choice], **extra}), "content", tokens)

    def finish(self, delta: Json, reason: str, usage: Json | None, *, tokens: int) -> Piece:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        fields: Json = {"choices": [choice]}
        if usage is not None:
            fields["usage"] = usage
            if self._flavour.name == "groq":
                fields["x_groq"] = {"id": "req_fake", "usage": usage}
        elif self._null_usage:
            fields["usage"] = None
        return Piece(self.event(fields), "finish" if usage is None else "finish_usage", tokens)

    def event(self, fields: Json) -> bytes:
        head = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": CREATED, "model": self._model}
        return _event({**head, **self._flavour.chunk_fields, **fields})


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _reason(answer: Answer) -> str:
    # A refusal under a schema finishes as `stop` (openai/openai-chat-stream-refusal-e8ad18).
    return "stop" if answer.reason == "refusal" else answer.reason


# ------------------------------------------------------------------------------------------------------------- whole


def _whole(flavour: Flavour, answer: Answer, model: str) -> Json:
    message: Json = {"role": "assistant"}
    if flavour.name not in {"groq", "google-openai"} or not answer.calls:
        # Groq and Google leave `content` out beside tool calls (groq/groq-chat-json-tool-call-3caf83).
        message["content"] = answer.text or (None if answer.calls or answer.refusal else "")
    if answer.refusal:
        message["refusal"] = answer.refusal
    if answer.thinking and flavour.reasoning is not None:
        message[flavour.reasoning] = answer.thinking
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": f"call_fake_{number}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for number, call in enumerate(answer.calls)
        ]
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        **flavour.chunk_fields,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(answer)}],
        "usage": _usage(flavour, answer.spent),
    }


def _usage(flavour: Flavour, tokens: Tokens) -> Json:
    shown = tokens.output - tokens.reasoning if flavour.reasoning_outside_output else tokens.output
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": shown,
        "total_tokens": tokens.input + tokens.output,
        **flavour.usage_fields(tokens),
    }


def _deepseek_usage_details(tokens: Tokens) -> Json:
    return {
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "prompt_cache_hit_tokens": tokens.cache_read,
        "prompt_cache_miss_tokens": tokens.input - tokens.cache_read,
    }


def _short_usage_details(tokens: Tokens) -> Json:
    return {
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    }


def _groq_usage_details(tokens: Tokens) -> Json:
    return {
        **_short_usage_details(tokens),
        "queue_time": 0.1,
        "prompt_time": 0.1,
        "completion_time": 0.2,
        "total_time": 0.4,
    }


def _xai_usage_details(tokens: Tokens) -> Json:
    cached = {"text_tokens": tokens.input, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": tokens.cache_read}
    return {
        "prompt_tokens_details": cached,
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "audio_tokens": 0},
        "num_sources_used": 0,
    }


def _no_details(tokens: Tokens) -> Json:
    del tokens
    return {}


# ------------------------------------------------------------------------------------------------------------ errors


def _deepseek_error(failure: Failure) -> Json:
    # The type says what happened, the code does not (deepseek/deepseek-chat-json-error-401-566063).
    kind = failure.kind or {401: "authentication_error", 429: "rate_limit_error"}.get(failure.status, "server_error")
    code = failure.code or "invalid_request_error"
    return {"error": {"message": failure.message, "type": kind, "param": None, "code": code}}


def _qwen_error(failure: Failure) -> Json:
    return {**_openai_error(failure), "request_id": "3e1ae270-0000-0000-0000-000000000000"}


def _glm_error(failure: Failure) -> Json:
    # Numeric strings, no type (glm/glm-chat-json-error-429-71199e).
    code = failure.code or {401: "1000", 429: "1302", 400: "1210", 404: "1211"}.get(failure.status, "500")
    return {"error": {"code": code, "message": failure.message}}


def _groq_error(failure: Failure) -> Json:
    error = _openai_error(failure)["error"]
    return {"error": {**error, "status_code": failure.status}}


def _xai_error(failure: Failure) -> Json:
    # `error` is a string (xai/xai-chat-json-error-400-bd6f29).
    return {"code": failure.code or "The fake provider was told to fail", "error": failure.message}


def _openrouter_error(failure: Failure) -> Json:
    return {"error": {"message": failure.message, "code": failure.status}, "user_id": "user_fake"}


def _mistral_error(failure: Failure) -> Json:
    if failure.status == 401:
        return {"detail": failure.message}
    return {
        "object": "error",
        "message": failure.message,
        "type": failure.kind or "invalid_request_error",
        "param": None,
        "code": failure.code,
        "raw_status_code": failure.status,
    }


def _google_error(failure: Failure) -> list[Json]:
    # The compatible endpoint answers errors as an array of one (users' reports of 2025 and 2026).
    status = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}
    return [
        {
            "error": {
                "code": failure.status,
                "message": failure.message,
                "status": failure.kind or status.get(failure.status, "INTERNAL"),
            }
        }
    ]


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour(
            name="openai",
            chunk_fields={"service_tier": "default", "system_fingerprint": "fp_fake"},
            headers=(("x-request-id", "req_fake"), ("openai-processing-ms", "12")),
        ),
        Flavour(
            name="azure",
            # azure-openai/azure-openai-chat-stream-…: the first chunk has no choices, no id and no model.
            prelude={"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": []},
        ),
        Flavour(
            name="deepseek",
            finish_delta={"content": "", "reasoning_content": None},
            usage="finish",
            usage_asked=False,
            reasoning="reasoning_content",
            usage_fields=_deepseek_usage_details,
            error=_deepseek_error,
            headers=(("x-ds-trace-id", "fake"),),
        ),
        Flavour(
            name="qwen",
            content_type="text/event-stream;charset=UTF-8",
            finish_delta={"content": "", "role": None},
            later_call_id="",
            reasoning="reasoning_content",
            usage_fields=_short_usage_details,
            error=_qwen_error,
        ),
        Flavour(
            name="glm",
            content_type="text/event-stream;charset=UTF-8",
            role="every",
            finish_delta={"role": "assistant", "content": ""},
            usage="finish",
            usage_asked=False,
            null_usage=False,
            calls="whole",
            reasoning="reasoning_content",
            usage_fields=_short_usage_details,
            error=_glm_error,
            headers=(("x-log-id", "fake"),),
        ),
        Flavour(
            name="groq",
            content_type="text/event-stream",
            usage="finish_and_own",
            usage_asked=False,
            null_usage=False,
            calls="whole",
            reasoning="reasoning",
            usage_fields=_groq_usage_details,
            error=_groq_error,
            error_event=b"error",
            headers=(("x-groq-region", "fake"),),
        ),
        Flavour(
            name="xai",
            content_type="text/event-stream",
            null_usage=False,
            calls="with_finish",
            reasoning="reasoning_content",
            reasoning_outside_output=True,
            usage_fields=_xai_usage_details,
            error=_xai_error,
        ),
        Flavour(
            name="openrouter",
            content_type="text/event-stream",
            role="every",
            finish_delta={"role": "assistant", "content": ""},
            usage="after",
            null_usage=False,
            reasoning="reasoning",
            comment=b": OPENROUTER PROCESSING\n\n",
            chunk_fields={"provider": "Fake"},
            error=_openrouter_error,
        ),
        Flavour(
            name="mistral",
            usage="finish",
            usage_asked=False,
            null_usage=False,
            calls="with_finish",
            text_with_finish=True,
            usage_fields=_short_usage_details,
            error=_mistral_error,
        ),
        Flavour(
            name="google-openai",
            content_type="text/event-stream",
            role="every",
            usage="finish",
            null_usage=False,
            calls="whole",
            reasoning_outside_output=True,
            last_blank_line=False,
            usage_fields=_no_details,
            error=_google_error,
        ),
        Flavour(
            name="cerebras",
            usage="finish",
            usage_asked=False,
            null_usage=False,
            reasoning="reasoning",
            done=False,
            usage_fields=_short_usage_details,
        ),
        Flavour(
            name="perplexity",
            content_type="text/event-stream",
            usage="finish",
            usage_asked=False,
            null_usage=False,
            done=False,
            usage_fields=_no_details,
        ),
        Flavour(name="ollama", content_type="text/event-stream", null_usage=False, reasoning="reasoning"),
        Flavour(name="compatible"),
    )
}
"""By the name that stands in the fake provider's address."""
