"""The Responses API as OpenAI speaks it, made up from an `Answer`.

Event by event as the recordings have it (`openai/openai-responses-stream-tool-call-b10c1c`, `…-reasoning-4c7a66`,
`…-refusal-479eef`, `…-error-in-stream-501de1`): numbers without a gap, deltas with `obfuscation`, everything repeated when it is
done, no end mark.  Reasoning has a summary where the request asks for one, and is encrypted where it asks for that.
"""

import itertools
import json
from collections.abc import Iterator
from typing import Any

from support.fake_replies import Answer, Failure, Piece, Rendered, Tokens, argument_pieces, pieces

Json = dict[str, Any]

CREATED = 1_790_000_000
_ids = itertools.count(1)
_last = [f"{0:050x}"]
"""What the ids of the last answer are made of: each has its own, as they are kept by it."""
ENCRYPTED = "gAAAAABfake-encrypted-reasoning"

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def render(answer: Answer, request: Json) -> Rendered:
    """The answer to a request, streamed if it asks for that."""
    headers = (("x-request-id", "req_fake"), ("openai-processing-ms", "12"))
    if request.get("stream"):
        return Rendered(
            status=200,
            headers=(("content-type", "text/event-stream; charset=utf-8"), *headers),
            pieces=tuple(_Stream(answer, request).events()),
            streamed=True,
            tokens=answer.spent,
        )
    stream = _Stream(answer, request)
    for _ in stream.events():
        pass
    body = json.dumps(stream.last, ensure_ascii=False).encode()
    return Rendered(
        status=200,
        headers=(("content-type", "application/json"), *headers),
        pieces=(Piece(body, "body", answer.spent.output),),
        streamed=False,
        tokens=answer.spent,
    )


def error_event(failure: Failure) -> Piece:
    """An error inside a 200 stream: the error, then the response that failed."""
    code = failure.code or "server_error"
    error = {"type": failure.kind or code, "code": code, "message": failure.message, "param": None}
    response: Json = {
        "id": f"resp_{_last[0]}",
        "object": "response",
        "status": "failed",
        "error": {"code": code, "message": failure.message},
        "output": [],
        "usage": None,
    }
    return Piece(
        _event("error", {"sequence_number": 90, "error": error})
        + _event("response.failed", {"sequence_number": 91, "response": response}),
        "error",
    )


def count() -> bytes:
    """A token count."""
    return b'{"object":"response.input_tokens","input_tokens":10}'


class _Stream:
    def __init__(self, answer: Answer, request: Json) -> None:
        self._answer = answer
        self._request = request
        self._identity = _last[0] = f"{next(_ids):050x}"
        self._number = 0
        self._output: list[Json] = []
        self.last: Json = {}

    def events(self) -> Iterator[Piece]:
        answer = self._answer
        yield self._event("response.created", {"response": self._response("in_progress")})
        yield self._event("response.in_progress", {"response": self._response("in_progress")})
        if answer.thinking:
            yield from self._reasoning(answer.thinking)
        if answer.text or answer.refusal or not answer.calls:
            yield from self._message(answer)
        for index, call in enumerate(answer.calls):
            yield from self._call(call.name, call.arguments, index)
        status = "incomplete" if answer.reason in _INCOMPLETE else "completed"
        self.last = self._response(status)
        yield Piece(self._raw(f"response.{status}", {"response": self.last}), "finish_usage")

    def _reasoning(self, text: str) -> Iterator[Piece]:
        item: Json = {"id": self._id("rs"), "type": "reasoning", "summary": []}
        if "reasoning.encrypted_content" in (self._request.get("include") or ()):
            item["encrypted_content"] = ENCRYPTED
        yield self._event("response.output_item.added", {"item": item})
        if (self._request.get("reasoning") or {}).get("summary"):
            where = {"item_id": item["id"], "summary_index": 0}
            yield self._event(
                "response.reasoning_summary_part.added", {**where, "part": {"type": "summary_text", "text": ""}}
            )
            for piece in pieces(text):
                yield self._delta("response.reasoning_summary_text.delta", piece, where)
            yield self._event("response.reasoning_summary_text.done", {**where, "text": text})
            part = {"type": "summary_text", "text": text}
            yield self._event("response.reasoning_summary_part.done", {**where, "part": part})
            item = {**item, "summary": [part]}
        yield self._done(item)

    def _message(self, answer: Answer) -> Iterator[Piece]:
        item: Json = {
            "id": self._id("msg"),
            "type": "message",
            "status": "in_progress",
            "content": [],
            "role": "assistant",
        }
        yield self._event("response.output_item.added", {"item": item})
        content: list[Json] = []
        for kind, field, text in (("output_text", "text", answer.text), ("refusal", "refusal", answer.refusal)):
            if not text and (kind == "refusal" or answer.refusal):
                continue
            where = {"item_id": item["id"], "content_index": len(content)}
            more: Json = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
            logprobs: Json = {"logprobs": []} if kind == "output_text" else {}
            yield self._event("response.content_part.added", {**where, "part": {"type": kind, field: "", **more}})
            for piece in pieces(text):
                yield self._delta(f"response.{kind}.delta", piece, {**where, **logprobs})
            yield self._event(f"response.{kind}.done", {**where, field: text, **logprobs})
            part = {"type": kind, field: text, **more}
            yield self._event("response.content_part.done", {**where, "part": part})
            content.append(part)
        yield self._done({**item, "status": "completed", "content": content})

    def _call(self, name: str, arguments: str, index: int) -> Iterator[Piece]:
        is_custom = any(
            tool.get("type") == "custom" and tool.get("name") == name for tool in self._request.get("tools") or ()
        )
        kind, field, prefix = (
            ("custom_tool_call", "input", "ctc") if is_custom else ("function_call", "arguments", "fc")
        )
        item: Json = {
            "id": self._id(prefix),
            "type": kind,
            "status": "in_progress",
            field: "",
            "call_id": f"call_fake_{index}",
            "name": name,
        }
        yield self._event("response.output_item.added", {"item": item})
        where = {"item_id": item["id"]}
        event = "custom_tool_call_input" if is_custom else "function_call_arguments"
        for piece in argument_pieces(arguments):
            yield self._delta(f"response.{event}.delta", piece, where)
        yield self._event(f"response.{event}.done", {**where, field: arguments})
        yield self._done({**item, "status": "completed", field: arguments})

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._identity[2:]}{len(self._output):02x}"

    def _delta(self, kind: str, text: str, where: Json) -> Piece:
        return Piece(self._raw(kind, {**where, "delta": text, "obfuscation": "xYz12"}), "content", 1)

    def _done(self, item: Json) -> Piece:
        piece = self._event("response.output_item.done", {"item": item})
        self._output.append(item)
        return piece

    def _event(self, kind: str, fields: Json) -> Piece:
        return Piece(self._raw(kind, fields), "content")

    def _raw(self, kind: str, fields: Json) -> bytes:
        place: Json = {} if "response" in fields else {"output_index": len(self._output)}
        number, self._number = self._number, self._number + 1
        return _event(kind, {**fields, **place, "sequence_number": number})

    def _response(self, status: str) -> Json:
        request, is_over = self._request, status != "in_progress"
        return {
            "id": f"resp_{self._identity}",
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": _INCOMPLETE[self._answer.reason]} if status == "incomplete" else None,
            "instructions": request.get("instructions"),
            "max_output_tokens": request.get("max_output_tokens"),
            "model": request.get("model", "fake-model"),
            "output": list(self._output) if is_over else [],
            "parallel_tool_calls": request.get("parallel_tool_calls", True),
            "previous_response_id": request.get("previous_response_id"),
            "reasoning": {"effort": None, "summary": None, **(request.get("reasoning") or {})},
            "service_tier": "default" if is_over else "auto",
            "store": request.get("store", True),
            "temperature": request.get("temperature", 1.0),
            "text": request.get("text", {"format": {"type": "text"}}),
            "tool_choice": request.get("tool_choice", "auto"),
            "tools": request.get("tools", []),
            "top_p": request.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": _usage(self._answer.spent) if is_over else None,
            "metadata": request.get("metadata", {}),
        }


def _usage(tokens: Tokens) -> Json:
    details: Json = {"cached_tokens": tokens.cache_read}
    if tokens.cache_write:
        details["cache_write_tokens"] = tokens.cache_write
    return {
        "input_tokens": tokens.input,
        "input_tokens_details": details,
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.input + tokens.output,
    }


def _event(kind: str, fields: Json) -> bytes:
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False, separators=(",", ":")).encode()
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
