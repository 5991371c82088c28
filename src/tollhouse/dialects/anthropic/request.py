"""A client's request in full, for translation."""

from typing import Final, cast

import msgspec

from tollhouse.chat.model import (
    ForeignTool,
    JsonSchema,
    Message,
    Reasoning,
    Request,
    Role,
    Tool,
    ToolChoice,
)
from tollhouse.chat.opaque import rejoin
from tollhouse.dialects.anthropic.blocks import read_cache_marker, read_content
from tollhouse.dialects.anthropic.lane import top_level
from tollhouse.dialects.anthropic.wire import NAME, Fields
from tollhouse.dialects.fields import ARRAY, COUNT, FLAG, NUMBER, TEXT, TEXTS, WireFault, bad_request
from tollhouse.errors import BadRequest


def decode_request(body: bytes) -> Request:
    """Raises `BadRequest`; `param` is the path in Anthropic's spelling.  Also reads `count_tokens` requests."""
    top_level(body)
    try:
        return _read(Fields(body, ""))
    except WireFault as fault:
        raise bad_request(fault) from fault
    except RecursionError as error:
        raise BadRequest("The request is nested too deeply.") from error


def _read(fields: Fields) -> Request:
    system = _read_system(fields)
    messages = _read_messages(fields)
    tools = fields.take("tools", ARRAY)
    stops = fields.take("stop_sequences", TEXTS)
    tool_choice, parallel = _read_tool_choice(fields)
    thinking = _read_thinking(fields)
    effort, response_format = _read_output(fields)
    if effort is not None:
        thinking = msgspec.structs.replace(thinking or Reasoning(), effort=effort)
    return Request(
        model=fields.take("model", TEXT) or "",
        messages=(*system, *messages),
        tools=tuple(_read_tool(raw, f"tools.{index}") for index, raw in enumerate(tools or ())),
        tool_choice=tool_choice,
        parallel_tool_calls=parallel,
        max_output_tokens=_read_limit(fields),
        temperature=fields.take("temperature", NUMBER),
        top_p=fields.take("top_p", NUMBER),
        top_k=fields.take("top_k", COUNT),
        stop=tuple(stops or ()),
        response_format=response_format,
        reasoning=thinking,
        stream=fields.take("stream", FLAG) is True,
        include_usage=True,
        user=_read_user(fields),
        service_tier=fields.take("service_tier", TEXT),
        cache=read_cache_marker(fields),
        extra=fields.rest(),
    )


def _read_limit(fields: Fields) -> int | None:
    limit = fields.take("max_tokens", COUNT)
    if limit is not None and limit < 0:
        raise WireFault("max_tokens", "Input should be 0 or more.")
    return limit


def _read_system(fields: Fields) -> tuple[Message, ...]:
    parts = read_content(fields, "system")
    return (Message("system", parts),) if parts else ()


_ROLES: Final = frozenset({"user", "assistant", "system"})


def _read_messages(fields: Fields) -> tuple[Message, ...]:
    turns = fields.take("messages", ARRAY)
    if not turns:
        raise WireFault("messages", "At least one message is required.")
    return tuple(_read_message(Fields(raw, f"messages.{index}")) for index, raw in enumerate(turns))


def _read_message(turn: Fields) -> Message:
    role = turn.text("role")
    if role not in _ROLES:
        raise WireFault(turn.at("role"), "Input should be 'user', 'assistant' or 'system'.")
    parts = read_content(turn, "content")
    if parts is None:
        raise WireFault(turn.at("content"), "Field required: give a string or an array of content blocks.")
    return Message(cast("Role", role), rejoin(parts), extra=turn.rest())


def _read_tool(raw: msgspec.Raw, path: str) -> Tool | ForeignTool:
    tool = Fields(raw, path)
    kind = tool.take("type", TEXT)
    if kind is not None and kind != "custom":
        return ForeignTool(NAME, kind, raw)
    return Tool(
        name=tool.text("name"),
        description=tool.take("description", TEXT),
        schema=tool.raw("input_schema"),
        strict=tool.take("strict", FLAG),
        cache=read_cache_marker(tool),
        extra=tool.rest(),
    )


def _read_tool_choice(fields: Fields) -> tuple[ToolChoice | None, bool | None]:
    choice = fields.object("tool_choice")
    if choice is None:
        return None, None
    serial = choice.take("disable_parallel_tool_use", FLAG)
    parallel = None if serial is None else not serial
    match choice.text("type"):
        case "auto":
            return ToolChoice("auto"), parallel
        case "any":
            return ToolChoice("required"), parallel
        case "none":
            return ToolChoice("none"), parallel
        case "tool":
            return ToolChoice("named", choice.text("name")), parallel
        case _:
            raise WireFault("tool_choice.type", "Input should be 'auto', 'any', 'tool' or 'none'.")


def _read_thinking(fields: Fields) -> Reasoning | None:
    raw = fields.raw("thinking")
    if raw is None:
        return None
    thinking = Fields(raw, "thinking")
    kind = thinking.text("type")
    budget = thinking.take("budget_tokens", COUNT)
    display = thinking.take("display", TEXT)
    if kind not in {"enabled", "disabled", "adaptive"}:
        fields.keep("thinking", raw)  # `between_tools`, and whatever comes next
        return None
    fields.put_back("thinking", thinking)
    if kind == "enabled":
        return Reasoning(mode="enabled", budget_tokens=budget, display=display)
    return Reasoning(mode="disabled" if kind == "disabled" else "adaptive", display=display)


def _read_output(fields: Fields) -> tuple[str | None, JsonSchema | None]:
    """Effort and format: of `output_config`, or of the beta's `output_format`."""
    effort, schema = None, None
    config = fields.object("output_config")
    if config is not None:
        effort = config.take("effort", TEXT)
        schema = _read_format(config, "format")
        fields.put_back("output_config", config)
    return effort, schema or _read_format(fields, "output_format")


def _read_format(fields: Fields, name: str) -> JsonSchema | None:
    raw = fields.raw(name)
    if raw is None:
        return None
    given = Fields(raw, fields.at(name))
    if given.text("type") != "json_schema":
        fields.keep(name, raw)
        return None
    schema = given.raw("schema")
    if schema is None:
        raise WireFault(given.at("schema"), "Field required: give the JSON schema of the answer.")
    return JsonSchema(schema=schema)


def _read_user(fields: Fields) -> str | None:
    metadata = fields.object("metadata")
    if metadata is None:
        return None
    user = metadata.take("user_id", TEXT)
    fields.put_back("metadata", metadata)
    return user
