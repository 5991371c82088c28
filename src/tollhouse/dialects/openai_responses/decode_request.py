"""A client's request in full, for translation.

Items become turns: what the assistant did between two inputs (reasoning, words, calls) is one turn, and the answer to a call
is one of its own.  Tools in namespaces get flat names; the encoder of the answer turns them back.
"""

from typing import Final

import msgspec

from tollhouse.chat.model import (
    Extra,
    Foreign,
    ForeignTool,
    JsonObject,
    JsonSchema,
    Message,
    Part,
    Reasoning,
    Request,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tollhouse.chat.opaque import rejoin
from tollhouse.dialects.openai_chat.peek import is_null
from tollhouse.dialects.openai_chat.pieces import encoded
from tollhouse.dialects.openai_chat.reading import (
    fault,
    list_at,
    name_at,
    object_at,
    optional_count,
    optional_flag,
    optional_number,
    optional_text,
    plain,
    text_at,
)
from tollhouse.dialects.openai_chat.wire import Json
from tollhouse.dialects.openai_responses.peek import peek, refuse_kept_elsewhere
from tollhouse.dialects.openai_responses.reading import Reasoned, content_at, encoded_text, items_at, others, output_at
from tollhouse.dialects.openai_responses.wire import ENCRYPTED, LOGPROBS, NAME, flat_name
from tollhouse.errors import BadRequest

ONE_STRING: Final = msgspec.Raw(
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}'
)
"""The arguments of a free-form tool, for dialects that know only JSON."""
ECHOED: Final[tuple[str, ...]] = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)
"""What a response says of its request (platform.openai.com, "The Response object")."""

_UNDERSTOOD: Final = frozenset(
    {
        *ECHOED,
        "background",
        "conversation",
        "include",
        "input",
        "model",
        "stream",
        "stream_options",
    }
)
_ROLES: Final[dict[str, Role]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}


def decode_request(body: bytes) -> Request:
    """Raises `BadRequest`, naming the field at fault in `param`."""
    try:
        return _request(body)
    except RecursionError as error:
        raise BadRequest("The request is nested too deeply to be read: flatten it.") from error


def _request(body: bytes) -> Request:
    peeked = peek(body)
    refuse_kept_elsewhere(peeked.fields)
    fields = {name: raw for name, raw in peeked.fields.items() if not is_null(raw)}
    values = {name: plain(raw, name) for name, raw in fields.items() if name in _UNDERSTOOD and name != "tools"}
    extra = {name: raw for name, raw in fields.items() if name not in _UNDERSTOOD}
    if (truncation := values.get("truncation")) is not None and truncation != "disabled":
        extra["truncation"] = fields["truncation"]
    if values.get("background") is True:
        extra["background"] = fields["background"]
    if "max_tool_calls" in fields:
        extra["max_tool_calls"] = fields["max_tool_calls"]
    include = _include(values.get("include"), extra)
    top_logprobs = optional_count(values.get("top_logprobs"), "top_logprobs")
    echo = {name: fields[name] for name in ECHOED if name in fields}
    return Request(
        model=peeked.model,
        messages=(*_instructions(values.get("instructions")), *read_input(values.get("input"))),
        tools=_tools(fields.get("tools")),
        tool_choice=_tool_choice(values, fields, extra),
        parallel_tool_calls=optional_flag(values.get("parallel_tool_calls"), "parallel_tool_calls"),
        max_output_tokens=peeked.max_output_tokens,
        temperature=optional_number(values.get("temperature"), "temperature"),
        top_p=optional_number(values.get("top_p"), "top_p"),
        logprobs=LOGPROBS in include or bool(top_logprobs),
        top_logprobs=top_logprobs or None,
        response_format=_text(fields, values.get("text"), extra),
        reasoning=_reasoning(values.get("reasoning"), extra),
        stream=peeked.stream,
        include_usage=True,
        user=optional_text(values.get("safety_identifier"), "safety_identifier")
        or optional_text(values.get("user"), "user"),
        service_tier=optional_text(values.get("service_tier"), "service_tier"),
        prompt_cache_key=optional_text(values.get("prompt_cache_key"), "prompt_cache_key"),
        echo=Extra(NAME, echo) if echo else None,
        extra=Extra(NAME, extra) if extra else None,
    )


def _instructions(value: Json) -> tuple[Message, ...]:
    """In answers `instructions` may be a list of items; clients send those back too."""
    if isinstance(value, list):
        return read_input(value, "instructions")
    text = optional_text(value, "instructions")
    return (Message("system", (Text(text),)),) if text else ()


def _include(value: Json, extra: dict[str, msgspec.Raw]) -> set[str]:
    """What the answer shall hold; what only a provider's own tools could add is kept apart."""
    if value is None:
        return set()
    wanted = [text_at(word, f"include[{index}]") for index, word in enumerate(list_at(value, "include"))]
    others: list[Json] = [word for word in wanted if word not in {ENCRYPTED, LOGPROBS}]
    if others:
        extra["include"] = encoded(others)
    return set(wanted)


def _reasoning(value: Json, extra: dict[str, msgspec.Raw]) -> Reasoning | None:
    if value is None:
        return None
    fields = object_at(value, "reasoning")
    effort = optional_text(fields.get("effort"), "reasoning.effort")
    # How detailed a summary shall be is in `echo`: nobody else has words for it, and most show what they have unasked.
    summary = optional_text(fields.get("summary") or fields.get("generate_summary"), "reasoning.summary")
    known = {"effort", "summary", "generate_summary"}
    rest: dict[str, Json] = {name: wish for name, wish in fields.items() if name not in known and wish is not None}
    if rest:
        extra["reasoning"] = encoded(rest)
    if effort is None:
        return None  # to be shown a summary is no wish that there be reasoning
    return Reasoning(
        mode="disabled" if effort == "none" else None,
        effort=effort,
        display=None if summary is None else "summarized",
    )


def _text(fields: dict[str, msgspec.Raw], value: Json, extra: dict[str, msgspec.Raw]) -> JsonObject | JsonSchema | None:
    if value is None:
        return None
    given = object_at(value, "text")
    rest: dict[str, Json] = {
        name: setting for name, setting in given.items() if name != "format" and setting is not None
    }
    wanted = given.get("format")
    found: JsonObject | JsonSchema | None = None
    if wanted is not None:
        form = object_at(wanted, "text.format")
        match name_at(form.get("type"), "text.format.type"):
            case "text":
                pass
            case "json_object":
                found = JsonObject()
            case "json_schema":
                found = _schema(fields["text"], form)
            case _:
                rest["format"] = wanted
    if rest:
        extra["text"] = encoded(rest)
    return found


def _schema(raw: msgspec.Raw, form: dict[str, Json]) -> JsonSchema:
    path = "text.format"
    if not isinstance(form.get("schema"), dict):
        raise fault(f"{path}.schema", "is required: the JSON schema of the answer.")
    text = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    schema = msgspec.json.decode(text["format"], type=dict[str, msgspec.Raw])["schema"]
    return JsonSchema(
        schema=schema,
        name=optional_text(form.get("name"), f"{path}.name") or "answer",
        description=optional_text(form.get("description"), f"{path}.description"),
        strict=optional_flag(form.get("strict"), f"{path}.strict"),
    )


# ---------------------------------------------------------------------------------------------------------------- tools

_FUNCTION: Final = frozenset({"type", "name", "description", "parameters", "strict", "function"})
_CUSTOM: Final = frozenset({"type", "name", "description"})


def _tools(raw: msgspec.Raw | None) -> tuple[Tool | ForeignTool, ...]:
    return tuple(_all_tools(raw, "tools", None)) if raw is not None else ()


def _all_tools(raw: msgspec.Raw, path: str, namespace: str | None) -> list[Tool | ForeignTool]:
    try:
        entries = msgspec.json.decode(raw, type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise fault(path, "must be an array.") from error
    found: list[Tool | ForeignTool] = []
    for index, entry in enumerate(entries):
        found += _tool(entry, f"{path}[{index}]", namespace)
    return found


def _tool(raw: msgspec.Raw, path: str, namespace: str | None) -> list[Tool | ForeignTool]:
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise fault(path, "must be an object.") from error
    fields = {name: value for name, value in fields.items() if not is_null(value)}
    match name_at(plain(fields.get("type", msgspec.Raw(b"null")), path), f"{path}.type"):
        case "function":
            return [_function(fields, path, namespace)]
        case "custom":
            return [_custom(fields, path, namespace)]
        case "namespace" if namespace is None:
            name = name_at(_value(fields, "name", path), f"{path}.name")
            return _all_tools(fields.get("tools", msgspec.Raw(b"[]")), f"{path}.tools", name)
        case kind:
            return [ForeignTool(NAME, kind, raw)]


def _function(fields: dict[str, msgspec.Raw], path: str, namespace: str | None) -> Tool:
    if "name" not in fields and "function" in fields:
        # As in Chat Completions; some clients mix the two up (`openai/openai-responses-json-reasoning-660ff6`).
        inner = msgspec.json.decode(fields["function"], type=dict[str, msgspec.Raw])
        fields = {**fields, **{name: value for name, value in inner.items() if not is_null(value)}}
    schema = fields.get("parameters")
    if schema is not None and not bytes(schema).lstrip().startswith(b"{"):
        raise fault(f"{path}.parameters", "must be a JSON schema, that is an object.")
    rest = {name: value for name, value in fields.items() if name not in _FUNCTION}
    return Tool(
        name=flat_name(namespace, name_at(_value(fields, "name", path), f"{path}.name")),
        description=optional_text(_value(fields, "description", path), f"{path}.description"),
        schema=schema,
        strict=optional_flag(_value(fields, "strict", path), f"{path}.strict"),
        extra=Extra(NAME, rest) if rest else None,
    )


def _custom(fields: dict[str, msgspec.Raw], path: str, namespace: str | None) -> Tool:
    rest = {name: value for name, value in fields.items() if name not in _CUSTOM}
    return Tool(
        name=flat_name(namespace, name_at(_value(fields, "name", path), f"{path}.name")),
        description=optional_text(_value(fields, "description", path), f"{path}.description"),
        schema=ONE_STRING,
        custom=True,
        extra=Extra(NAME, rest) if rest else None,
    )


def _value(fields: dict[str, msgspec.Raw], name: str, path: str) -> Json:
    raw = fields.get(name)
    return None if raw is None else plain(raw, f"{path}.{name}")


def _tool_choice(
    values: dict[str, Json], fields: dict[str, msgspec.Raw], extra: dict[str, msgspec.Raw]
) -> ToolChoice | None:
    match values.get("tool_choice"):
        case None:
            return None
        case "auto":
            return ToolChoice("auto")
        case "none":
            return ToolChoice("none")
        case "required" | "any":
            return ToolChoice("required")
        case {"type": "function" | "custom", "name": str(name), **rest}:
            namespace = rest.get("namespace")
            return ToolChoice("named", flat_name(namespace if isinstance(namespace, str) else None, name))
        case {"type": "function", "function": {"name": str(name)}}:
            return ToolChoice("named", name)
        case {"type": str()}:
            # `allowed_tools`, a built-in tool, and whatever comes next: only this dialect knows them.
            extra["tool_choice"] = fields["tool_choice"]
            return None
        case _:
            raise fault("tool_choice", "must be `auto`, `none`, `required` or name a tool.")


# ---------------------------------------------------------------------------------------------------------------- items

_CALL: Final = frozenset({"type", "id", "status", "call_id", "name", "namespace", "arguments"})
_CUSTOM_CALL: Final = frozenset({"type", "id", "status", "call_id", "name", "namespace", "input"})
_OUTPUT: Final = frozenset({"type", "id", "status", "call_id", "output"})
_MESSAGE: Final = frozenset({"type", "id", "status", "role", "content"})


def read_input(value: Json, path: str = "input") -> tuple[Message, ...]:
    """The turns of a list of items, or of one string."""
    reader = _Turns()
    for index, item in enumerate(items_at(value) if path == "input" else list_at(value, path)):
        reader.add(object_at(item, f"{path}[{index}]"), f"{path}[{index}]")
    return reader.finish()


class _Turns:
    """Gathers items; those of the assistant that follow one another are one turn."""

    __slots__ = ("_done", "_parts")

    def __init__(self) -> None:
        self._done: list[Message] = []
        self._parts: list[Part] = []

    def finish(self) -> tuple[Message, ...]:
        self._close()
        return tuple(self._done)

    def _close(self) -> None:
        if self._parts:
            self._done.append(Message("assistant", rejoin(self._parts)))
            self._parts = []

    def add(self, fields: dict[str, Json], path: str) -> None:
        kind = optional_text(fields.get("type"), f"{path}.type") or ("message" if "role" in fields else None)
        match kind:
            case None:
                raise fault(f"{path}.type", "is required, or `role` for a message.")
            case "message":
                self._message(fields, path)
            case "reasoning":
                thought = Reasoned(fields, path).part
                if thought is not None:
                    self._parts.append(thought)
            case "function_call":
                self._parts.append(_call(fields, path))
            case "custom_tool_call":
                self._parts.append(_custom_call(fields, path))
            case "function_call_output" | "custom_tool_call_output":
                self._close()
                call_id = name_at(fields.get("call_id"), f"{path}.call_id")
                content = output_at(fields.get("output"), f"{path}.output")
                self._done.append(Message("tool", (ToolResult(call_id, content, extra=others(fields, _OUTPUT)),)))
            case "item_reference":
                raise fault(
                    path, "is a reference to an item that this gateway does not keep: send the item, or keep responses."
                )
            case _:
                # What a provider's own tools did, compaction, …: a part of the assistant's turn.
                self._parts.append(Foreign(NAME, kind, encoded(fields)))

    def _message(self, fields: dict[str, Json], path: str) -> None:
        word = name_at(fields.get("role"), f"{path}.role")
        role = _ROLES.get(word)
        if role is None:
            raise fault(f"{path}.role", f"is {word[:50]!r}; it must be one of {', '.join(_ROLES)}.")
        parts = content_at(fields.get("content"), f"{path}.content")
        extra = others(fields, _MESSAGE)
        if role != "assistant":
            self._close()
            self._done.append(Message(role, tuple(parts), extra=extra))
            return
        if extra is not None:
            # `phase` and the like belong to this message, which is only a piece of the turn.
            parts = [msgspec.structs.replace(part, extra=extra) if isinstance(part, Text) else part for part in parts]
        self._parts += parts


def _call(fields: dict[str, Json], path: str) -> ToolCall:
    arguments = fields.get("arguments")
    if isinstance(arguments, dict):
        arguments = encoded_text(arguments)
    namespace = optional_text(fields.get("namespace"), f"{path}.namespace")
    return ToolCall(
        name_at(fields.get("call_id"), f"{path}.call_id"),
        flat_name(namespace, name_at(fields.get("name"), f"{path}.name")),
        optional_text(arguments, f"{path}.arguments") or "",
        extra=others(fields, _CALL),
    )


def _custom_call(fields: dict[str, Json], path: str) -> ToolCall:
    namespace = optional_text(fields.get("namespace"), f"{path}.namespace")
    return ToolCall(
        name_at(fields.get("call_id"), f"{path}.call_id"),
        flat_name(namespace, name_at(fields.get("name"), f"{path}.name")),
        text_at(fields.get("input", ""), f"{path}.input"),
        custom=True,
        extra=others(fields, _CUSTOM_CALL),
    )
