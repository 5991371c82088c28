"""The grammar of a Chat Completions stream, checked chunk by chunk.

Written from OpenAI's documentation ("The chat completion chunk object" and "Streaming responses", November 2026): every chunk
has the same `id`, `created` and `model`; a choice says its role first and its finish reason last, once; a tool call begins with
its id and name under the next free index and goes on under it; the chunk with the counts has no choices, comes once, and after
all choices are done; `[DONE]` is the last event.  A stream that fails ends in an event with `error` alone.
The checker knows nothing of the encoder.

    check_stream(body)          # the bytes of a whole stream; raises `ChatFault`
"""

import json
from typing import Any

from tollhouse.chat import sse

Json = dict[str, Any]


class ChatFault(AssertionError):
    """A chunk out of place."""


def _demand(holds: object, fault: str) -> None:
    if not holds:
        raise ChatFault(fault)


def check_stream(body: bytes) -> list[Json]:
    """Checks a whole stream; gives its chunks.  The last one is the error where it fails."""
    parser = sse.Parser()
    frames = [*parser.feed(body), *parser.close()]
    _demand(frames, "a stream without an event")
    _demand(body.endswith(b"\n\n"), "the last event is not closed")
    checker = _Checker()
    said: list[Json] = []
    for number, frame in enumerate(frames):
        _demand(not frame.event, f"an event has a name: {frame.event!r}")
        is_last = number == len(frames) - 1
        if frame.data == b"[DONE]":
            _demand(is_last, "something follows [DONE]")
            checker.end()
            return said
        chunk: Json = json.loads(frame.data)
        said.append(chunk)
        if "error" in chunk:
            _demand(is_last, "something follows an error")
            _demand(chunk.keys() == {"error"}, f"an error has other fields: {sorted(chunk)}")
            _demand(chunk["error"].get("message") and chunk["error"].get("type"), "an error without words or type")
            return said
        checker.accept(chunk)
    raise ChatFault("the stream stops without [DONE] and without an error")


class _Choice:
    def __init__(self) -> None:
        self.calls: list[Json] = []
        self.has_legacy_call = False
        self.finish: str | None = None


class _Checker:
    def __init__(self) -> None:
        self._head: tuple[object, ...] | None = None
        self._choices: dict[int, _Choice] = {}
        self._has_usage = False

    def accept(self, chunk: Json) -> None:
        _demand(chunk.get("object") == "chat.completion.chunk", f"no chunk: {chunk.get('object')!r}")
        _demand(isinstance(chunk.get("choices"), list), "a chunk without a list of choices")
        head = (chunk.get("id"), chunk.get("created"), chunk.get("model"))
        _demand(isinstance(head[0], str) and isinstance(head[1], int) and isinstance(head[2], str), f"a head: {head}")
        _demand(self._head in (None, head), f"{head} where the stream began as {self._head}")
        self._head = head
        _demand(not self._has_usage, "a chunk after the counts")
        if chunk.get("usage") is not None:
            self._usage(chunk)
        for choice in chunk["choices"]:
            self._choice(choice)

    def _usage(self, chunk: Json) -> None:
        _demand(chunk["choices"] == [], "the counts come beside choices")
        _demand(all(choice.finish for choice in self._choices.values()), "the counts come before the end of a choice")
        usage = chunk["usage"]
        total = usage["prompt_tokens"] + usage["completion_tokens"]
        _demand(usage["total_tokens"] == total, f"the total is no sum: {usage}")
        self._has_usage = True

    def _choice(self, told: Json) -> None:
        index, delta = told["index"], told["delta"]
        _demand({"index", "delta", "finish_reason"} <= told.keys(), f"a choice without {sorted(told)}")
        choice = self._choices.get(index)
        if choice is None:
            _demand(delta.get("role") == "assistant", f"choice {index} begins without a role")
            choice = self._choices[index] = _Choice()
        else:
            _demand("role" not in delta, f"choice {index} has a role again")
        _demand(choice.finish is None, f"choice {index} goes on after its end")
        for field in ("content", "refusal", "reasoning_content"):
            _demand(isinstance(delta.get(field), str | None), f"{field} is no text")
        for call in delta.get("tool_calls") or ():
            self._call(choice, call)
        if delta.get("function_call"):
            _demand(choice.has_legacy_call != bool(delta["function_call"].get("name")), "a legacy call is named once")
            choice.has_legacy_call = True
        finish = told["finish_reason"]
        if finish is not None:
            # Providers have words of their own, which are passed on as they are; the clients' types are open here.
            _demand(isinstance(finish, str) and finish, f"no finish reason: {finish!r}")
            choice.finish = finish

    def _call(self, choice: _Choice, call: Json) -> None:
        index = call["index"]
        if index == len(choice.calls):
            kind = call.get("type", "")
            _demand(call.get("id") and kind in {"function", "custom"}, f"a call begins without id or type: {call}")
            _demand(call[kind].get("name") is not None, f"a call begins without a name: {call}")
            _demand(all(call["id"] != other["id"] for other in choice.calls), f"the id {call['id']} twice")
            choice.calls.append(call)
            return
        _demand(index == len(choice.calls) - 1, f"call {index} goes on while call {len(choice.calls) - 1} is open")
        _demand(not call.get("id"), f"call {index} has an id again")
        inner = call.get("function") or call.get("custom") or {}
        _demand(isinstance(inner.get("arguments", inner.get("input")), str), f"call {index} says nothing more: {call}")

    def end(self) -> None:
        open_ones = [index for index, choice in self._choices.items() if choice.finish is None]
        _demand(self._choices, "[DONE] without an answer")
        _demand(not open_ones, f"[DONE] before the end of {open_ones}")
