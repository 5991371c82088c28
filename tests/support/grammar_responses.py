"""The grammar of a Responses stream, checked event by event.

Written from OpenAI's documentation ("Streaming events" of the Responses API, November 2026) and from what its clients insist
on: openai-node compares the response's id across events and wants `response.created` first; Codex reads `output_item.done` and
`response.completed`.  The checker knows nothing of the encoder.

    check(body)                 # the bytes of a whole stream; raises `ResponsesFault`
    check(body, fails=True)     # one that ends in an error
"""

import json
from typing import Any

from tollhouse.chat import sse

Json = dict[str, Any]

TERMINAL = {"response.completed", "response.incomplete", "response.failed"}

# What may be said inside an item of each type, beside its beginning and end.
PART_EVENTS = {
    "message": {
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.delta",
        "response.output_text.done",
        "response.output_text.annotation.added",
        "response.refusal.delta",
        "response.refusal.done",
    },
    "reasoning": {
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.content_part.added",
        "response.content_part.done",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
    },
    "function_call": {"response.function_call_arguments.delta", "response.function_call_arguments.done"},
    "custom_tool_call": {"response.custom_tool_call_input.delta", "response.custom_tool_call_input.done"},
}
# The field of each growing thing that its `done` repeats.
WHOLE = {
    "response.output_text": "text",
    "response.refusal": "refusal",
    "response.reasoning_summary_text": "text",
    "response.reasoning_text": "text",
    "response.function_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
}


class ResponsesFault(AssertionError):
    """An event out of place, or one that does not repeat what was said."""


def check(body: bytes, *, fails: bool = False) -> Json:
    """Checks a whole stream; gives the response that its last event holds.  `fails`: whether it has to end in an error."""
    checker = _Checker()
    for event in events(body):
        checker.accept(event)
    return checker.end(fails=fails)


def events(body: bytes) -> list[Json]:
    """The events of a stream, each with its type from the data; the `event:` line has to say the same."""
    parser = sse.Parser()
    found = []
    for frame in [*parser.feed(body), *parser.close()]:
        event: Json = json.loads(frame.data)
        _demand(frame.event.decode() == event["type"], f"event line {frame.event!r} of {event['type']}")
        found.append(event)
    return found


def _demand(holds: object, fault: str) -> None:
    if not holds:
        raise ResponsesFault(fault)


class _Open:
    """The item that is open."""

    def __init__(self, item: Json) -> None:
        self.item = item
        self.parts: list[Json] = []
        self.part: Json | None = None
        self.text = ""
        self.is_text_done = False
        self.annotations: list[Json] = []
        self.logprobs: list[Json] = []


class _Checker:
    def __init__(self) -> None:
        self._number = 0
        self._id: str | None = None
        self._output: list[Json] = []
        self._open: _Open | None = None
        self._last: Json | None = None
        self._has_error = False
        self._kinds: list[str] = []

    def accept(self, event: Json) -> None:
        kind = event["type"]
        _demand(self._last is None, f"{kind} after the end")
        _demand(event.get("sequence_number") == self._number, f"{kind} is numbered {event.get('sequence_number')}")
        self._number += 1
        self._kinds.append(kind)
        if len(self._kinds) == 1:
            _demand(kind == "response.created", f"{kind} comes first")
        if kind == "error":
            self._has_error = True
            _demand(isinstance(event["error"]["message"], str), "an error without a message")
        elif "response" in event:
            self._lifecycle(kind, event["response"])
        else:
            _demand(not self._has_error, f"{kind} after an error")
            self._about_output(kind, event)

    def _lifecycle(self, kind: str, response: Json) -> None:
        self._id = self._id or response["id"]
        _demand(response["id"] == self._id, f"{kind} has the id {response['id']}, the response is {self._id}")
        _demand(response["object"] == "response", f"{kind} holds no response")
        _demand(self._kinds.count(kind) == 1, f"{kind} twice")
        status = response["status"]
        if kind in {"response.created", "response.in_progress"}:
            _demand(status == "in_progress" and response["output"] == [], f"{kind} is {status}")
            return
        _demand(kind in TERMINAL, f"{kind} is no event that is known")
        _demand(status == kind.removeprefix("response."), f"{kind} is {status}")
        _demand(status == "failed" or self._open is None, f"{kind} while an item is open")
        _demand((status == "failed") == self._has_error, f"{kind}, but error: {self._has_error}")
        _demand((status == "incomplete") == (response["incomplete_details"] is not None), f"{kind} without why")
        _demand((status == "failed") == (response["error"] is not None), f"{kind} with error {response['error']}")
        _demand(response["output"] == self._output, f"{kind} does not repeat the output")
        self._last = response

    def _about_output(self, kind: str, event: Json) -> None:
        index = event["output_index"]
        _demand(index == len(self._output), f"{kind} for item {index} where {len(self._output)} is next")
        if kind == "response.output_item.added":
            _demand(self._open is None, "an item begins while one is open")
            item = event["item"]
            _demand(item.get("status", "in_progress") != "incomplete", "an item begins incomplete")
            _demand(all(item["id"] != done["id"] for done in self._output), f"item id {item['id']} twice")
            self._open = _Open(item)
            return
        if self._open is None:
            raise ResponsesFault(f"{kind} while no item is open")
        if kind == "response.output_item.done":
            self._item_done(self._open, event["item"])
            return
        item = self._open.item
        _demand(kind in PART_EVENTS.get(item["type"], ()), f"{kind} inside a {item['type']}")
        _demand(event["item_id"] == item["id"], f"{kind} for item {event['item_id']}, not {item['id']}")
        self._inside(self._open, kind, event)

    def _inside(self, opened: _Open, kind: str, event: Json) -> None:
        if kind.endswith("_part.added"):
            _demand(opened.part is None, "a part begins while one is open")
            self._check_place(opened, event)
            opened.part = event["part"]
            opened.text, opened.is_text_done, opened.annotations, opened.logprobs = "", False, [], []
        elif kind.endswith("_part.done"):
            self._check_place(opened, event)
            _demand(opened.part is not None and opened.is_text_done, f"{kind} before its text is done")
            self._part_done(opened, event["part"])
        elif kind == "response.output_text.annotation.added":
            self._check_place(opened, event)
            _demand(event["annotation_index"] == len(opened.annotations), "an annotation out of order")
            opened.annotations.append(event["annotation"])
        elif kind.endswith(".delta"):
            self._check_growing(opened, kind, event)
            _demand(not opened.is_text_done, f"{kind} after its end")
            opened.text += event["delta"]
            opened.logprobs += event.get("logprobs", [])
        else:
            self._check_growing(opened, kind, event)
            field = WHOLE[kind.removesuffix(".done")]
            _demand(event[field] == opened.text, f"{kind} does not repeat the text")
            opened.is_text_done = True
            if opened.item["type"] in {"function_call", "custom_tool_call"}:
                opened.parts.append({field: opened.text})

    def _check_growing(self, opened: _Open, kind: str, event: Json) -> None:
        if opened.item["type"] in {"function_call", "custom_tool_call"}:
            return
        self._check_place(opened, event)
        if opened.part is None:
            raise ResponsesFault(f"{kind} while no part is open")
        wanted = {
            "output_text": "response.output_text",
            "refusal": "response.refusal",
            "summary_text": "response.reasoning_summary_text",
            "reasoning_text": "response.reasoning_text",
        }[opened.part["type"]]
        _demand(kind.rpartition(".")[0] == wanted, f"{kind} in a part of type {opened.part['type']}")

    def _check_place(self, opened: _Open, event: Json) -> None:
        index = event.get("content_index", event.get("summary_index"))
        _demand(index == len(opened.parts), f"{event['type']} for part {index} where {len(opened.parts)} is next")

    def _part_done(self, opened: _Open, part: Json) -> None:
        field = "refusal" if part["type"] == "refusal" else "text"
        _demand(part[field] == opened.text, "a part that does not repeat its text")
        _demand(part.get("annotations", []) == opened.annotations, "a part that does not repeat its annotations")
        logprobs = part.get("logprobs", [])
        _demand(
            logprobs[: len(opened.logprobs)] == opened.logprobs, "a part that does not repeat its log-probabilities"
        )
        opened.parts.append(part)
        opened.part = None

    def _item_done(self, opened: _Open, item: Json) -> None:
        begun = opened.item
        _demand(opened.part is None, "an item ends while a part of it is open")
        for name in ("id", "type", "call_id", "name", "namespace"):
            _demand(item.get(name) == begun.get(name), f"an item ends with another {name}")
        match item["type"]:
            case "message":
                _demand(item["content"] == opened.parts, "a message that does not repeat its content")
                _demand(item["status"] in {"completed", "incomplete"}, f"a message ends {item['status']}")
            case "reasoning":
                _demand([*item["summary"], *item.get("content", [])] == opened.parts, "reasoning that does not repeat")
            case "function_call" | "custom_tool_call":
                _demand(len(opened.parts) == 1, "a call that does not say when its arguments are done")
                _demand(opened.parts[0].items() <= item.items(), "a call that does not repeat its arguments")
                _demand(item["status"] in {"completed", "incomplete"}, f"a call ends {item['status']}")
            case _:
                pass
        self._output.append(item)
        self._open = None

    def end(self, *, fails: bool) -> Json:
        if self._last is None:
            raise ResponsesFault(f"the stream stops without its last event, after {self._kinds[-1:]}")
        _demand(fails == (self._last["status"] == "failed"), f"the response is {self._last['status']}")
        return self._last
