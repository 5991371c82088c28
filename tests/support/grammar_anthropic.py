"""The grammar of a Messages stream, checked event by event.

Written from Anthropic's documentation ("Streaming Messages", November 2026): `message_start`; then content blocks, numbered from
0, each opened, grown by deltas of its own kind, and closed, one at a time; then `message_delta` with the stop reason, and
`message_stop`.  `ping` may come anywhere, `error` is the last event of a stream that fails.  The SDK goes by the event's name,
which has to be the type.  The checker knows nothing of the encoder.

    check_stream(body)          # the bytes of a whole stream; raises `MessagesFault`
"""

import json
from typing import Any

from tollhouse.chat import sse

Json = dict[str, Any]

DELTAS = {
    "text": {"text_delta", "citations_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
    "server_tool_use": {"input_json_delta"},
    "mcp_tool_use": {"input_json_delta"},
    "compaction": {"compaction_delta"},
}
"""What each kind of block grows by; the others come whole."""
FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
    "citations_delta": "citation",
    "compaction_delta": "content",
}
STOPS = {
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
}
COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class MessagesFault(AssertionError):
    """An event out of place."""


def _demand(holds: object, fault: str) -> None:
    if not holds:
        raise MessagesFault(fault)


def check_stream(body: bytes) -> list[Json]:
    """Checks a whole stream; gives its events.  The last one is the error where it fails."""
    parser = sse.Parser()
    checker = _Checker()
    said: list[Json] = []
    for frame in [*parser.feed(body), *parser.close()]:
        event: Json = json.loads(frame.data)
        _demand(frame.event.decode() == event["type"], f"event line {frame.event!r} of {event['type']}")
        said.append(event)
        checker.accept(event)
    _demand(body.endswith(b"\n\n"), "the last event is not closed")
    _demand(checker.is_over, f"the stream stops after {said[-1]['type'] if said else 'nothing'}")
    return said


class _Checker:
    def __init__(self) -> None:
        self.is_over = False
        self._has_begun = False
        self._open: Json | None = None
        self._json = ""
        self._count = 0
        self._stop: str | None = None

    def accept(self, event: Json) -> None:
        kind = event["type"]
        _demand(not self.is_over, f"{kind} after the end")
        if kind == "ping":
            return
        if kind == "error":
            _demand(event["error"].get("type") and event["error"].get("message"), "an error without words or type")
            self.is_over = True
            return
        _demand(self._has_begun != (kind == "message_start"), f"{kind} {'twice' if self._has_begun else 'comes first'}")
        match kind:
            case "message_start":
                self._start(event["message"])
            case "content_block_start":
                _demand(self._open is None and self._stop is None, "a block begins out of place")
                _demand(event["index"] == self._count, f"block {event['index']} where {self._count} is next")
                self._open, self._json = event["content_block"], ""
                _demand(event["content_block"].get("type"), "a block without a type")
            case "content_block_delta":
                self._delta(event)
            case "content_block_stop":
                self._close(event)
            case "message_delta":
                _demand(self._open is None, "a message ends while a block is open")
                _demand(self._stop is None, "message_delta twice")
                self._stop = event["delta"]["stop_reason"]
                _demand(self._stop in STOPS, f"no stop reason: {self._stop!r}")
                has_sequence = event["delta"].get("stop_sequence") is not None
                _demand(not has_sequence or self._stop == "stop_sequence", "a stop sequence that stopped nothing")
                _check_counts(event["usage"])
            case "message_stop":
                _demand(self._stop is not None, "message_stop without a stop reason")
                self.is_over = True
            case _:
                raise MessagesFault(f"{kind} is no event that is known")

    def _start(self, message: Json) -> None:
        self._has_begun = True
        _demand(message["type"] == "message" and message["role"] == "assistant", "a message begins as something else")
        _demand(isinstance(message["id"], str) and isinstance(message["model"], str), "a message without id or model")
        _demand(message["content"] == [], "a message begins with content")
        _demand(message["stop_reason"] is None and message["stop_sequence"] is None, "a message begins with its end")
        _check_counts(message["usage"])

    def _delta(self, event: Json) -> None:
        delta = event["delta"]
        if self._open is None:
            raise MessagesFault("a delta while no block is open")
        _demand(event["index"] == self._count, f"a delta of block {event['index']}, and {self._count} is open")
        kind = self._open["type"]
        _demand(delta["type"] in DELTAS.get(kind, ()), f"a {delta['type']} in a block of type {kind}")
        _demand(delta.get(FIELDS[delta["type"]]) is not None, f"a {delta['type']} without its field")
        self._json += delta.get("partial_json", "")

    def _close(self, event: Json) -> None:
        _demand(self._open is not None, "a block ends that did not begin")
        _demand(event["index"] == self._count, f"block {event['index']} ends, and {self._count} is open")
        self._open = None
        self._count += 1


def _check_counts(usage: Json) -> None:
    for name in COUNTS:
        count = usage.get(name)
        _demand(count is None or (isinstance(count, int) and count >= 0), f"{name} is {count!r}")
    _demand(isinstance(usage.get("output_tokens"), int), "counts without output")
