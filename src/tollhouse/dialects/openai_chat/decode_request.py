"""A client's request in full, for translation."""

from typing import Final, Literal, TypeAlias

import msgspec

from tollhouse.chat.model import (
    Audio,
    CacheMarker,
    Document,
    Extra,
    Foreign,
    ForeignTool,
    Image,
    Inline,
    JsonObject,
    JsonSchema,
    Message,
    Part,
    Reasoning,
    RedactedThinking,
    Refusal,
    Remote,
    Request,
    Role,
    StoredFile,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tollhouse.chat.opaque import carried, read_id, rejoin
from tollhouse.dialects.openai_chat import peek as top
from tollhouse.dialects.openai_chat.pieces import encoded, read_details
from tollhouse.dialects.openai_chat.reading import (
    breakpoint_at,
    cache_marker,
    content_at,
    decoded_text,
    fault,
    inline_at,
    list_at,
    name_at,
    object_at,
    optional_count,
    optional_flag,
    optional_int,
    optional_number,
    optional_text,
    plain,
    rest_of,
    source_at,
    text_at,
)
from tollhouse.dialects.openai_chat.wire import NAME, Json
from tollhouse.errors import BadRequest

MAX_STOPS: Final = 64

_Mode: TypeAlias = Literal["enabled", "disabled", "adaptive"]

_KNOWN: Final = frozenset(
    {
        "model",
        "messages",
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "parallel_tool_calls",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "logprobs",
        "top_logprobs",
        "response_format",
        "reasoning_effort",
        "reasoning",
        "thinking",
        "enable_thinking",
        "thinking_budget",
        "stream",
        "stream_options",
        "user",
        "service_tier",
        "prompt_cache_key",
        "cache_control",
    }
)
_ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_MESSAGE: Final = frozenset(
    {
        "role",
        "content",
        "name",
        "refusal",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "reasoning_content",
        "reasoning",
        "reasoning_details",
        "cache_control",
        "audio",
    }
)


def decode_request(body: bytes) -> Request:
    """Raises `BadRequest`, naming the field at fault in `param`."""
    try:
        return _request(body)
    except RecursionError as error:
        raise BadRequest("The request is nested too deeply to be read: flatten it.") from error


def _request(body: bytes) -> Request:
    peek = top.peek(body)
    fields = {name: raw for name, raw in peek.fields.items() if not top.is_null(raw)}
    values = {name: plain(raw, name) for name, raw in fields.items() if name in _KNOWN and name not in _KEPT_RAW}
    extra = {name: raw for name, raw in fields.items() if name not in _KNOWN}
    tools, is_legacy = _tools(fields)
    return Request(
        model=peek.model,
        messages=_messages(values.get("messages")),
        tools=tools,
        tool_choice=_tool_choice(values, fields, extra),
        parallel_tool_calls=optional_flag(values.get("parallel_tool_calls"), "parallel_tool_calls"),
        max_output_tokens=peek.max_output_tokens,
        temperature=optional_number(values.get("temperature"), "temperature"),
        top_p=optional_number(values.get("top_p"), "top_p"),
        top_k=optional_int(values.get("top_k"), "top_k"),
        stop=_stop(values.get("stop")),
        seed=optional_int(values.get("seed"), "seed"),
        presence_penalty=optional_number(values.get("presence_penalty"), "presence_penalty"),
        frequency_penalty=optional_number(values.get("frequency_penalty"), "frequency_penalty"),
        choices=peek.choices,
        logprobs=optional_flag(values.get("logprobs"), "logprobs") or False,
        top_logprobs=optional_count(values.get("top_logprobs"), "top_logprobs"),
        response_format=_response_format(fields, extra),
        reasoning=_reasoning(values),
        stream=peek.stream,
        include_usage=peek.include_usage,
        user=optional_text(values.get("user"), "user"),
        service_tier=optional_text(values.get("service_tier"), "service_tier"),
        prompt_cache_key=optional_text(values.get("prompt_cache_key"), "prompt_cache_key"),
        cache=cache_marker(values.get("cache_control")),
        legacy_functions=is_legacy,
        extra=_rest(values, extra),
    )


_KEPT_RAW: Final = frozenset({"tools", "functions", "response_format"})
"""They hold schemas, which are passed on byte for byte."""


def _rest(values: dict[str, Json], extra: dict[str, msgspec.Raw]) -> Extra | None:
    options = values.get("stream_options")
    if isinstance(options, dict):
        others: Json = {name: value for name, value in options.items() if name != "include_usage" and value is not None}
        if others:
            extra["stream_options"] = encoded(others)
    return Extra(NAME, extra) if extra else None


def _stop(value: Json) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise fault("stop", "must be a string or an array.")
    if len(value) > MAX_STOPS:
        raise fault("stop", f"must not have more than {MAX_STOPS} strings.")
    return tuple(text_at(stop, f"stop[{index}]") for index, stop in enumerate(value))


def _reasoning(values: dict[str, Json]) -> Reasoning | None:
    """Of the several spellings, those that were used; OpenAI's own word for the effort comes first."""
    effort = optional_text(values.get("reasoning_effort"), "reasoning_effort")
    budget = optional_count(values.get("thinking_budget"), "thinking_budget")
    mode = _thinking_mode(values)
    wanted = values.get("reasoning")
    if wanted is not None:
        # OpenRouter (openrouter.ai/docs, "Reasoning tokens").
        fields = object_at(wanted, "reasoning")
        effort = effort or optional_text(fields.get("effort"), "reasoning.effort")
        if budget is None:
            budget = optional_count(fields.get("max_tokens"), "reasoning.max_tokens")
        enabled = optional_flag(fields.get("enabled"), "reasoning.enabled")
        if enabled is not None:
            mode = "enabled" if enabled else "disabled"
    thinking = values.get("thinking")
    if isinstance(thinking, dict) and budget is None:
        budget = optional_count(thinking.get("budget_tokens"), "thinking.budget_tokens")
    if effort is None and budget is None and mode is None:
        return None
    if mode is None and effort is not None:
        mode = "disabled" if effort == "none" else None
    return Reasoning(mode=mode, effort=effort, budget_tokens=budget)


def _thinking_mode(values: dict[str, Json]) -> _Mode | None:
    flag = optional_flag(values.get("enable_thinking"), "enable_thinking")
    if flag is not None:
        return "enabled" if flag else "disabled"
    thinking = values.get("thinking")
    if thinking is None:
        return None
    match object_at(thinking, "thinking").get("type"):
        case "enabled":
            return "enabled"
        case "disabled":
            return "disabled"
        case "adaptive" | "auto":
            return "adaptive"
        case _:
            raise fault("thinking.type", "must be `enabled`, `disabled` or `adaptive`.")


# ---------------------------------------------------------------------------------------------------------------- tools


def _tools(fields: dict[str, msgspec.Raw]) -> tuple[tuple[Tool | ForeignTool, ...], bool]:
    tools: list[Tool | ForeignTool] = []
    for index, raw in enumerate(_raws(fields.get("tools"), "tools")):
        tools.append(_tool(raw, f"tools[{index}]"))
    functions = _raws(fields.get("functions"), "functions")
    tools += (_function(_object(raw, path), path, {}) for path, raw in _numbered(functions, "functions"))
    return tuple(tools), bool(functions)


def _tool(raw: msgspec.Raw, path: str) -> Tool | ForeignTool:
    fields = _object(raw, path)
    kind = optional_text(_value(fields, "type", path), f"{path}.type")
    if kind is None and "function" not in fields:
        raise fault(f"{path}.type", "is required: `function` or `custom`.")
    if kind is not None and kind != "function":
        return ForeignTool(NAME, kind, raw)
    if "function" not in fields and "name" not in fields:
        raise fault(f"{path}.function", "is required: an object with the function's `name` and `parameters`.")
    if "function" not in fields:
        # The Responses API has the function's fields beside its type; clients mix the two up.
        return _function({name: value for name, value in fields.items() if name != "type"}, path, fields)
    return _function(_object(fields["function"], f"{path}.function"), f"{path}.function", fields)


def _function(fields: dict[str, msgspec.Raw], path: str, around: dict[str, msgspec.Raw]) -> Tool:
    schema = fields.get("parameters")
    if schema is not None and top.is_null(schema):
        schema = None
    if schema is not None and not bytes(schema).lstrip().startswith(b"{"):
        raise fault(f"{path}.parameters", "must be a JSON schema, that is an object.")
    extra = {
        name: raw
        for name, raw in fields.items()
        if name not in {"name", "description", "parameters", "strict", "cache_control"} and not top.is_null(raw)
    }
    marker = around.get("cache_control", fields.get("cache_control"))
    return Tool(
        name=name_at(_value(fields, "name", path), f"{path}.name"),
        description=optional_text(_value(fields, "description", path), f"{path}.description"),
        schema=schema,
        strict=optional_flag(_value(fields, "strict", path), f"{path}.strict"),
        cache=None if marker is None else cache_marker(plain(marker, path)),
        extra=Extra(NAME, extra) if extra else None,
    )


def _tool_choice(
    values: dict[str, Json], fields: dict[str, msgspec.Raw], extra: dict[str, msgspec.Raw]
) -> ToolChoice | None:
    path = "tool_choice" if "tool_choice" in values else "function_call"
    match values.get(path):
        case None:
            return None
        case "auto" | {"type": "auto"}:
            return ToolChoice("auto")
        case "none" | {"type": "none"}:
            return ToolChoice("none")
        case "required" | "any" | {"type": "required"} | {"type": "any"}:
            # Mistral says `any`.
            return ToolChoice("required")
        case {"type": "function", "function": {"name": str(name)}} | {"type": "custom", "custom": {"name": str(name)}}:
            return ToolChoice("named", name)
        case {"type": "function", "name": str(name)} | {"type": "tool", "name": str(name)}:
            return ToolChoice("named", name)
        case {"name": str(name)} if path == "function_call":
            return ToolChoice("named", name)
        case {"type": str()}:
            # `allowed_tools` and whatever comes next: only this dialect knows them.
            extra[path] = fields[path]
            return None
        case _:
            raise fault(path, "must be `auto`, `none`, `required` or name a function.")


def _response_format(fields: dict[str, msgspec.Raw], extra: dict[str, msgspec.Raw]) -> JsonObject | JsonSchema | None:
    raw = fields.get("response_format")
    if raw is None:
        return None
    path = "response_format"
    wire = _object(raw, path)
    match name_at(_value(wire, "type", path), f"{path}.type"):
        case "text":
            return None
        case "json_object":
            return JsonObject()
        case "json_schema":
            pass
        case _:
            extra[path] = raw
            return None
    path = f"{path}.json_schema"
    inner = _object(wire.get("json_schema", msgspec.Raw(b"null")), path)
    schema = inner.get("schema")
    if schema is None or top.is_null(schema):
        raise fault(f"{path}.schema", "is required: the JSON schema of the answer.")
    return JsonSchema(
        schema=schema,
        name=optional_text(_value(inner, "name", path), f"{path}.name") or "answer",
        description=optional_text(_value(inner, "description", path), f"{path}.description"),
        strict=optional_flag(_value(inner, "strict", path), f"{path}.strict"),
    )


def _raws(raw: msgspec.Raw | None, path: str) -> list[msgspec.Raw]:
    if raw is None:
        return []
    try:
        return msgspec.json.decode(raw, type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        raise fault(path, "must be an array.") from error


def _numbered(raws: list[msgspec.Raw], path: str) -> list[tuple[str, msgspec.Raw]]:
    return [(f"{path}[{index}]", raw) for index, raw in enumerate(raws)]


def _object(raw: msgspec.Raw, path: str) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise fault(path, "must be an object.") from error


def _value(fields: dict[str, msgspec.Raw], name: str, path: str) -> Json:
    raw = fields.get(name)
    return None if raw is None else plain(raw, f"{path}.{name}")


# ------------------------------------------------------------------------------------------------------------- messages


def _messages(value: Json) -> tuple[Message, ...]:
    if value is None:
        raise fault("messages", "is required: the conversation so far.")
    entries = list_at(value, "messages")
    if not entries:
        raise fault("messages", "must have at least one message.")
    reader = _Conversation()
    return tuple(reader.message(entry, f"messages[{index}]", index) for index, entry in enumerate(entries))


class _Conversation:
    """Reads messages in order; the old `function` messages refer to the call before them by name only."""

    def __init__(self) -> None:
        self._legacy: list[ToolCall] = []

    def message(self, value: Json, path: str, index: int) -> Message:
        fields = object_at(value, path)
        word = name_at(fields.get("role"), f"{path}.role")
        role = _ROLES.get(word)
        if role is None:
            raise fault(f"{path}.role", f"is {word[:50]!r}; it must be one of {', '.join(_ROLES)}.")
        name = optional_text(fields.get("name"), f"{path}.name")
        match role:
            case "assistant":
                parts = self._assistant(fields, path, index)
            case "tool":
                parts = [self._result(fields, path, name, is_function=word == "function")]
            case _:
                parts = content_at(fields.get("content"), f"{path}.content", _part)
                if fields.get("content") is None:
                    raise fault(f"{path}.content", "is required: a string or an array of parts.")
        extra = rest_of(fields, _MESSAGE)
        marker = cache_marker(fields.get("cache_control"))
        if marker is not None and parts:
            parts[-1] = _marked(parts[-1], marker)
        return Message(role, tuple(parts), None if word == "function" else name, extra)

    def _assistant(self, fields: dict[str, Json], path: str, index: int) -> list[Part]:
        parts: list[Part] = []
        details = fields.get("reasoning_details")
        opaque = read_details(details if isinstance(details, list) else None)
        thought = (
            optional_text(fields.get("reasoning_content"), f"{path}.reasoning_content")
            or optional_text(fields.get("reasoning"), f"{path}.reasoning")
            or opaque.text
        )
        if len(opaque.thoughts) > 1 and thought == "".join(text for text, _ in opaque.thoughts):
            parts += (Thinking(text, signature) for text, signature in opaque.thoughts)
        elif thought or opaque.signature is not None:
            parts.append(Thinking(thought, opaque.signature))
        encrypted = [RedactedThinking(data) for data in opaque.encrypted]
        parts += (part for part in encrypted if carried(part) is None)
        texts = [part for part in content_at(fields.get("content"), f"{path}.content", _part) if part != Text("")]
        # Of several texts only their sum came back, so of several signatures only one can be right: the last.
        parts += rejoin([*texts, *(part for part in encrypted[-1:] if carried(part) is not None)])
        refusal = optional_text(fields.get("refusal"), f"{path}.refusal")
        if refusal:
            parts.append(Refusal(refusal))
        audio = fields.get("audio")
        if audio is not None:
            parts.append(Foreign(NAME, "audio", encoded(audio)))
        calls = fields.get("tool_calls")
        for number, call in enumerate(() if calls is None else list_at(calls, f"{path}.tool_calls")):
            parts.append(_call(call, f"{path}.tool_calls[{number}]", f"call_{index}_{number}"))
        function = fields.get("function_call")
        if function is not None:
            call_path = f"{path}.function_call"
            inner = object_at(function, call_path)
            call_name = name_at(inner.get("name"), f"{call_path}.name")
            legacy = ToolCall(f"call_{index}", call_name, _arguments(inner.get("arguments"), f"{call_path}.arguments"))
            self._legacy.append(legacy)
            parts.append(legacy)
        return parts

    def _result(self, fields: dict[str, Json], path: str, name: str | None, *, is_function: bool) -> ToolResult:
        parts = [part for part in content_at(fields.get("content"), f"{path}.content", _part) if part != Text("")]
        content = tuple(part for part in parts if isinstance(part, Text | Image | Document | Foreign))
        if len(content) != len(parts):
            raise fault(f"{path}.content", "must be text: a tool's answer cannot hold this kind of part.")
        call_id = optional_text(fields.get("tool_call_id"), f"{path}.tool_call_id")
        if is_function and not call_id:
            call_id = self._legacy_id(name_at(name, f"{path}.name"), path)
        if not call_id:
            raise fault(f"{path}.tool_call_id", "is required: the id of the call that this answers.")
        return ToolResult(read_id(call_id)[0], content)

    def _legacy_id(self, name: str, path: str) -> str:
        for call in self._legacy:
            if call.name == name:
                self._legacy.remove(call)
                return call.id
        raise fault(f"{path}.name", f"is {name[:64]!r}, but no `function_call` of that name comes before.")


def _call(value: Json, path: str, invented: str) -> ToolCall:
    fields = object_at(value, path)
    kind = optional_text(fields.get("type"), f"{path}.type") or ("custom" if "custom" in fields else "function")
    call_id, signature = read_id(optional_text(fields.get("id"), f"{path}.id") or invented)
    cache = cache_marker(fields.get("cache_control"))
    extra = rest_of(fields, frozenset({"id", "type", "index", "function", "custom", "cache_control"}))
    if kind == "custom":
        inner = object_at(fields.get("custom"), f"{path}.custom")
        name = name_at(inner.get("name"), f"{path}.custom.name")
        text = optional_text(inner.get("input"), f"{path}.custom.input") or ""
        return ToolCall(call_id, name, text, cache, custom=True, extra=extra, signature=signature)
    inner = object_at(fields.get("function"), f"{path}.function")
    name = name_at(inner.get("name"), f"{path}.function.name")
    arguments = _arguments(inner.get("arguments"), f"{path}.function.arguments")
    return ToolCall(call_id, name, arguments, cache, extra=extra, signature=signature)


def _arguments(value: Json, path: str) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case dict():
            return msgspec.json.encode(value).decode()
        case _:
            raise fault(path, "must be a string of JSON.")


def _part(value: Json, path: str) -> Part:
    if isinstance(value, str):
        return Text(value)
    fields = object_at(value, path)
    kind = name_at(fields.get("type"), f"{path}.type")
    cache = cache_marker(fields.get("cache_control")) or breakpoint_at(fields)
    extra = rest_of(fields, frozenset({"type", kind, "cache_control", "prompt_cache_breakpoint"}))
    match kind:
        case "text":
            return Text(text_at(fields.get("text"), f"{path}.text"), cache, extra=extra)
        case "refusal":
            return Refusal(text_at(fields.get("refusal"), f"{path}.refusal"))
        case "image_url":
            image = fields.get("image_url")
            inner = {"url": image} if isinstance(image, str) else object_at(image, f"{path}.image_url")
            source = source_at(name_at(inner.get("url"), f"{path}.image_url.url"), f"{path}.image_url.url")
            return Image(source, optional_text(inner.get("detail"), f"{path}.image_url.detail"), cache, extra)
        case "input_audio":
            inner = object_at(fields.get("input_audio"), f"{path}.input_audio")
            data = name_at(inner.get("data"), f"{path}.input_audio.data")
            return Audio(data, name_at(inner.get("format"), f"{path}.input_audio.format"), extra)
        case "file":
            return _file(object_at(fields.get("file"), f"{path}.file"), f"{path}.file", cache, extra)
        case _:
            # Qwen's and GLM's `video_url`, Mistral's `document_url`, …
            return Foreign(NAME, kind, encoded(value))


def _file(fields: dict[str, Json], path: str, cache: CacheMarker | None, extra: Extra | None) -> Document:
    title = optional_text(fields.get("filename"), f"{path}.filename")
    data = optional_text(fields.get("file_data"), f"{path}.file_data")
    if data:
        if data[:5].lower() == "data:":
            source = inline_at(data, f"{path}.file_data")
        elif "://" in data[:20]:
            # OpenRouter takes an address here (openrouter.ai/docs, "PDF inputs").
            return Document(Remote(data), title, cache=cache, extra=extra)
        else:
            source = Inline("application/pdf", data)
        if source.media_type == "text/plain":
            source = Inline("text/plain", decoded_text(source.data, f"{path}.file_data"))
        return Document(source, title, cache=cache, extra=extra)
    file_id = optional_text(fields.get("file_id"), f"{path}.file_id")
    if file_id:
        return Document(StoredFile(file_id, NAME), title, cache=cache, extra=extra)
    raise fault(path, "must have `file_data` or `file_id`.")


def _marked(part: Part, marker: CacheMarker) -> Part:
    if isinstance(part, Text | Image | Document | ToolCall | ToolResult):
        return msgspec.structs.replace(part, cache=marker)
    return part
