"""Tool calls for models whose chat template knows nothing of tools.

llama.cpp hands `tools` to the model's own template.  The template of SmolLM2 ignores them, and even with
`tool_choice: "required"` prose comes back (llama.cpp of November 2026).  What does work is a grammar: an answer forced into
`{"name": …, "arguments": …}` is a call by construction.  So a request that *demands* a call is rewritten into one for that
JSON, and the JSON is folded back into `tool_calls`, as a whole or while it streams.  With `auto` the tools are left out:
a model that was never taught to choose would call always or never, and prose is the honest answer.

Only for models whose `LocalModel.supports_tools` is false.  Everything here takes bytes and gives bytes; there is no I/O.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from tollhouse.dialects.openai_chat.tool_choice import demands_call
from tollhouse.dialects.openai_chat.wire import Json
from tollhouse.errors import BadRequest
from tollhouse.local.past_calls import told_in_words

MAX_SCHEMA_DEPTH: Final = 64
_NO_ARGUMENTS: Final[Mapping[str, Json]] = {"type": "object", "properties": {}, "additionalProperties": False}
_MAX_HEAD_CHARACTERS: Final = 4096
"""More than a name and what stands around it; an answer that has not begun with a call by then is none."""
_NULL: Final = msgspec.Raw(b"null")
_FIELDS: Final = ("tools", "tool_choice", "parallel_tool_calls")
_ANY: Final = frozenset({"required", "any"})  # Mistral's clients say `any`
_PAST: Final = (b'"tool_calls"', b'"tool"')
"""What stands in messages that hold earlier calls or their results."""
# The grammar lets whitespace stand between tokens.
_HEAD: Final = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\S)', re.DOTALL)


class _Function(msgspec.Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(msgspec.Struct, frozen=True):
    type: str = "function"
    function: _Function | None = None


class _Named(msgspec.Struct, frozen=True):
    name: str


class _AllowedTool(msgspec.Struct, frozen=True):
    function: _Named | None = None


class _Allowed(msgspec.Struct, frozen=True):
    mode: Literal["auto", "required"] = "auto"
    tools: tuple[_AllowedTool, ...] = ()


class _Choice(msgspec.Struct, frozen=True):
    """A choice that is an object; with other clients its tool's name stands at the top."""

    type: str = "function"
    name: str | None = None
    function: _Named | None = None
    allowed_tools: _Allowed | None = None


def rewrite_request(body: bytes) -> tuple[bytes, "Fold | None"]:
    """Rewrites an OpenAI chat request so that a model without tools can answer it.

    With a `Fold` the answer must go through it.  Without one the answer is as it should be: the body is unchanged, or it
    lost the tools that the model was free not to use.  Earlier calls and their results become text either way: such a
    template leaves them out.  Raises `BadRequest` when the demanded tool is not among the tools.
    """
    try:
        request = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        messages = request.get("messages", msgspec.Raw(b"[]"))
        has_past = any(mark in bytes(messages) for mark in _PAST)
        if not has_past and request.keys().isdisjoint(_FIELDS):
            return body, None
        tools = msgspec.json.decode(request.get("tools", _NULL), type=tuple[_Tool, ...] | None) or ()
        choice = request.get("tool_choice", _NULL)
        demanded = _demanded([tool.function for tool in tools if tool.function], choice)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The tools cannot be read: {error}.", param="tools") from error
    for name in _FIELDS:
        request.pop(name, None)
    try:
        turns: list[Json] = msgspec.json.decode(messages, type=list[Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # llama.cpp says what is wrong with them
    else:
        turns = told_in_words(turns) if has_past else turns
        request["messages"] = _raw(_explained(turns, demanded) if demanded else turns)
    if not demanded:
        return msgspec.json.encode(request), None
    schema: dict[str, Json] = {"name": "call", "strict": True, "schema": _call_schema(demanded)}
    request["response_format"] = _raw({"type": "json_schema", "json_schema": schema})
    return msgspec.json.encode(request), Fold()


def _demanded(functions: list[_Function], raw: msgspec.Raw) -> list[_Function]:
    """The functions of which the answer must call one; none when it need not call any."""
    if not demands_call(raw):
        return []
    choice = msgspec.json.decode(raw, type=str | _Choice)
    names: tuple[str, ...] | None
    if isinstance(choice, str):
        if choice not in _ANY:
            raise BadRequest("`tool_choice` must be `auto`, `none`, `required` or name a tool.", param="tool_choice")
        names = None
    elif choice.type in _ANY:
        names = None
    elif choice.allowed_tools:
        names = tuple(tool.function.name for tool in choice.allowed_tools.tools if tool.function)
    else:
        names = (choice.function.name if choice.function else choice.name or "",)
    wanted = functions if names is None else [function for function in functions if function.name in names]
    if not wanted:
        missing = (
            f"no function is named {names[0][:100]!r}" if names and names[0] else "there is none that this model knows"
        )
        raise BadRequest(f"`tool_choice` demands a call of one of the tools, but {missing}.", param="tool_choice")
    return wanted


def _call_schema(functions: list[_Function]) -> Json:
    if len(functions) == 1:
        return _one_call(functions[0], "#/properties/arguments")
    return {"anyOf": [_one_call(function, f"#/anyOf/{i}/properties/arguments") for i, function in enumerate(functions)]}


def _one_call(function: _Function, place: str) -> dict[str, Json]:
    parameters: dict[str, Json] | None = function.parameters
    if not parameters or parameters == {"type": "object"}:
        parameters = dict(_NO_ARGUMENTS)  # a bare object would mean any JSON at all
    return {
        "type": "object",
        "properties": {"name": {"const": function.name}, "arguments": _moved(parameters, place, 0)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Json, place: str, depth: int) -> Json:
    """The schema with its local references pointing into `place`, where it now stands."""
    if depth > MAX_SCHEMA_DEPTH:
        raise BadRequest(f"A tool's parameters are nested more than {MAX_SCHEMA_DEPTH} deep.", param="tools")
    if isinstance(schema, list):
        return [_moved(item, place, depth + 1) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, place, depth + 1)
        for key, value in schema.items()
    }


def _explained(turns: list[Json], functions: list[_Function]) -> list[Json]:
    """The messages, with the functions described in front: the grammar forces the form, only words give it a sense."""
    lines = ["Call one of these functions. Answer with its name and its arguments as JSON only."]
    lines += [f"- {function.name}: {function.description or 'no description'}" for function in functions]
    words = "\n".join(lines)
    first = turns[0] if turns else None
    if isinstance(first, dict) and first.get("role") == "system":
        content = first.get("content")
        if isinstance(content, str):
            return [{**first, "content": f"{content}\n\n{words}"}, *turns[1:]]
        if isinstance(content, list):
            return [{**first, "content": [*content, {"type": "text", "text": words}]}, *turns[1:]]
    return [{"role": "system", "content": words}, *turns]


def _raw(value: Json) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


# ----------------------------------------------------------------------------------------------------------- the way back


class CallScanner:
    """Reads `{"name": …, "arguments": …}` as it comes, in pieces of any size."""

    __slots__ = ("_depth", "_escaped", "_head", "_in_string", "is_complete", "is_text", "name")

    def __init__(self) -> None:
        self.name: str | None = None
        """The function's name once it is known; arguments come after it."""
        self.is_complete = False
        """Whether the arguments' closing brace was seen."""
        self.is_text = False
        """Whether too much came without making a call: then none is to come."""
        self._head = ""
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def take_unread(self) -> str:
        """What came without making a call, once: of an answer that was cut, or that is no call at all."""
        unread, self._head = self._head, ""
        return unread

    def feed(self, text: str) -> str:
        """Takes more of the answer and gives the part of it that belongs to the arguments."""
        if self.is_complete:
            return ""
        if self.name is None:
            self._head += text
            match = None if self.is_text else _HEAD.match(self._head[:_MAX_HEAD_CHARACTERS])
            if match is None:
                self.is_text = self.is_text or len(self._head) > _MAX_HEAD_CHARACTERS
                return ""
            self.name = msgspec.json.decode(match[1], type=str)
            text = self._head[match.end() :]
            self._head = ""
        return text[: self._end_of_arguments(text)]

    def _end_of_arguments(self, text: str) -> int:
        for at, character in enumerate(text):
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._in_string = False
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                # At depth 0 it closes the call itself, behind arguments that are a bare value.
                end = at if self._depth == 0 else at + 1
                self._depth = max(0, self._depth - 1)
                if self._depth == 0:
                    self.is_complete = True
                    return end
        return len(text)


class Fold:
    """Turns the forced JSON back into tool calls: `response` for a whole answer, `stream` for a streamed one."""

    def response(self, body: bytes) -> bytes:
        """The answer with its call in `message.tool_calls`.  Errors and answers cut before a call pass unchanged."""
        answer = _object(body)
        choices = answer.get("choices")
        if not isinstance(choices, list):
            return body
        for choice in choices:
            message = choice.get("message") if isinstance(choice, dict) else None
            if not isinstance(choice, dict) or not isinstance(message, dict):
                continue
            content = message.get("content")
            scanner = CallScanner()
            arguments = scanner.feed(content) if isinstance(content, str) else ""
            if scanner.name is None:
                continue
            function: dict[str, Json] = {"name": scanner.name, "arguments": arguments}
            message["content"] = None
            message["tool_calls"] = [{"id": _call_id(answer, choice), "type": "function", "function": function}]
            choice["finish_reason"] = _finish(choice.get("finish_reason"), scanner)
        return msgspec.json.encode(answer)

    def stream(self) -> "StreamFold":
        """A fold for one streamed answer."""
        return StreamFold()


class StreamFold:
    """Turns the chunks of one streamed answer into chunks with tool calls."""

    def __init__(self) -> None:
        self._scanners: dict[object, CallScanner] = {}

    def feed(self, payload: bytes) -> Iterable[bytes]:
        """Takes the data of one SSE event and gives that of none, one or two; `[DONE]`, usage and errors pass."""
        if payload == b"[DONE]":
            return (payload,)
        chunk = _object(payload)
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None  # llama.cpp sends one a chunk
        if not isinstance(choice, dict):
            return (payload,)
        scanner = self._scanners.setdefault(choice.get("index"), CallScanner())
        delta = choice.get("delta")
        content = delta.get("content") if isinstance(delta, dict) else None
        finish = choice.get("finish_reason")
        out: list[bytes] = []
        if isinstance(content, str) and isinstance(delta, dict):
            was_open = scanner.name is not None
            arguments = scanner.feed(content)
            choice["delta"] = _call_delta(delta, scanner, arguments, None if was_open else _call_id(chunk, choice))
        if finish is not None:
            if unread := scanner.take_unread():
                out.append(_with(chunk, choice, {"content": unread}, None))
            choice["finish_reason"] = _finish(finish, scanner)
        elif isinstance(content, str) and not choice["delta"]:
            return out
        out.append(msgspec.json.encode(chunk))
        return out


def _call_delta(delta: dict[str, Json], scanner: CallScanner, arguments: str, call_id: str | None) -> dict[str, Json]:
    rest = {key: value for key, value in delta.items() if key != "content"}
    if scanner.is_text:
        return {**rest, "content": scanner.take_unread()}
    if scanner.name is None:
        return rest
    if call_id is not None:
        function: dict[str, Json] = {"name": scanner.name, "arguments": arguments}
        return {**rest, "tool_calls": [{"index": 0, "id": call_id, "type": "function", "function": function}]}
    if not arguments:
        return rest
    return {**rest, "tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}


def _with(chunk: dict[str, Json], choice: dict[str, Json], delta: dict[str, Json], finish: Json) -> bytes:
    return msgspec.json.encode({**chunk, "choices": [{**choice, "delta": delta, "finish_reason": finish}]})


def _finish(reason: Json, scanner: CallScanner) -> Json:
    return "tool_calls" if reason == "stop" and scanner.is_complete else reason


def _call_id(answer: Mapping[str, Json], choice: Mapping[str, Json]) -> str:
    """An id of the call that is as unique as the answer's."""
    return f"call_{str(answer.get('id', '')).removeprefix('chatcmpl-')}_{choice.get('index', 0)}"


def _object(body: bytes) -> dict[str, Json]:
    try:
        answer: dict[str, Json] = msgspec.json.decode(body, type=dict[str, Any])
        return answer
    except msgspec.DecodeError:
        return {}  # not ours to judge: it passes unchanged, and whoever decodes it says what is wrong
