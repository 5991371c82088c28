"""A client's request in full, for translation."""

from typing import Final

import msgspec

from tollhouse.chat.model import ForeignTool, JsonObject, JsonSchema, Reasoning, Request, Tool, ToolChoice
from tollhouse.dialects.fields import FLAG, LAX_COUNT, NULL, NUMBER, TEXT, TEXTS, WireFault, bad_request
from tollhouse.dialects.gemini.contents import read_contents, read_system
from tollhouse.dialects.gemini.lane import top_level
from tollhouse.dialects.gemini.schema import read_schema
from tollhouse.dialects.gemini.wire import NAME, Fields
from tollhouse.errors import BadRequest

_Tools = tuple[Tool | ForeignTool, ...]

_MODES: Final[dict[int, str]] = {0: "MODE_UNSPECIFIED", 1: "AUTO", 2: "ANY", 3: "NONE", 4: "VALIDATED"}
_EFFORTS: Final[dict[str, str]] = {
    "MINIMAL": "minimal",
    "LOW": "low",
    "MEDIUM": "medium",
    "HIGH": "high",
    "XHIGH": "xhigh",
}


def decode_request(body: bytes) -> Request:
    """Raises `BadRequest`; `param` is the path in Google's spelling.  Also reads `countTokens` requests.

    The model and whether to stream stand in the path, so here the one is empty unless the body repeats it, and the other off.
    """
    top_level(body)
    try:
        return _read(asked(Fields(body, "")))
    except WireFault as fault:
        raise bad_request(fault) from fault
    except RecursionError as error:
        raise BadRequest("The request is nested too deeply.") from error


def asked(fields: Fields) -> Fields:
    """The request itself; a `countTokens` request may have all of it in `generateContentRequest`."""
    inner = fields.object("generateContentRequest")
    if inner is None:
        return fields
    inner.path = ""
    return inner


def _read(fields: Fields) -> Request:
    model = (fields.take("model", TEXT) or "").removeprefix("models/")
    system = read_system(fields)
    messages = read_contents(fields)
    tools = _read_tools(fields)
    tools, choice = _read_choice(fields, tools)
    given = fields.object("generationConfig")
    config = Fields(b"{}", "generationConfig") if given is None else given
    stops = config.take("stopSequences", TEXTS)
    request = Request(
        model=model,
        messages=(*system, *messages),
        tools=tools,
        tool_choice=choice,
        max_output_tokens=_read_limit(config),
        temperature=config.take("temperature", NUMBER),
        top_p=config.take("topP", NUMBER),
        top_k=config.take("topK", LAX_COUNT),
        stop=tuple(stops or ()),
        seed=config.take("seed", LAX_COUNT),
        presence_penalty=config.take("presencePenalty", NUMBER),
        frequency_penalty=config.take("frequencyPenalty", NUMBER),
        choices=max(1, config.take("candidateCount", LAX_COUNT) or 1),
        logprobs=config.take("responseLogprobs", FLAG) is True,
        top_logprobs=config.take("logprobs", LAX_COUNT),
        response_format=_read_format(config),
        reasoning=_read_thinking(config),
        include_usage=True,
        service_tier=_read_tier(fields),
    )
    if config.left.get("responseModalities") in _TEXT_ONLY:
        del config.left["responseModalities"]
    fields.put_back("generationConfig", config)
    return msgspec.structs.replace(request, extra=fields.rest())


_TEXT_ONLY: Final = (msgspec.Raw(b'["TEXT"]'), msgspec.Raw(b'["Text"]'), msgspec.Raw(b'["text"]'))


def _read_limit(config: Fields) -> int | None:
    limit = config.take("maxOutputTokens", LAX_COUNT)
    if limit is not None and limit < 0:
        raise WireFault(config.at("maxOutputTokens"), "This must be 0 or more.")
    return limit


def _read_tier(fields: Fields) -> str | None:
    tier = fields.take("serviceTier", TEXT)
    return None if tier is None or tier.lower() in {"", "unspecified"} else tier.lower()


# --------------------------------------------------------------------------------------------------------------- tools


def _read_tools(fields: Fields) -> _Tools:
    tools: list[Tool | ForeignTool] = []
    for path, raw in fields.items("tools"):
        tool = Fields(raw, path)
        tools.extend(_read_function(Fields(each, where)) for where, each in tool.items("functionDeclarations"))
        for kind, value in tool.left.items():
            if value != NULL:
                tools.append(ForeignTool(NAME, kind, msgspec.Raw(msgspec.json.encode({kind: value}))))
    return tuple(tools)


def _read_function(declared: Fields) -> Tool:
    name = declared.text("name")
    description = declared.take("description", TEXT) or None
    plain, own = declared.raw("parametersJsonSchema"), declared.raw("parameters")
    schema = None
    if plain is not None:
        schema = read_schema(plain, is_json_schema=True)
    elif own is not None:
        schema = read_schema(own, is_json_schema=False)
    return Tool(name=name, description=description, schema=schema, extra=declared.rest())


def _read_choice(fields: Fields, tools: _Tools) -> tuple[_Tools, ToolChoice | None]:
    """The choice, and the tools that it leaves: a list of allowed functions means that the others are not there."""
    config = fields.object("toolConfig")
    if config is None:
        return tools, None
    calling = config.object("functionCallingConfig")
    choice: ToolChoice | None = None
    if calling is not None:
        mode = calling.enum("mode", _MODES)
        allowed = calling.take("allowedFunctionNames", TEXTS) or []
        if allowed and mode in {"ANY", "VALIDATED"}:
            left = tuple(tool for tool in tools if isinstance(tool, ForeignTool) or tool.name in allowed)
            if not any(isinstance(tool, Tool) for tool in left):
                raise WireFault(calling.at("allowedFunctionNames"), "None of these functions is declared.")
            tools = left
        match mode:
            case "ANY" if len(allowed) == 1:
                choice = ToolChoice("named", allowed[0])
            case "ANY":
                choice = ToolChoice("required")
            case "NONE":
                choice = ToolChoice("none")
            case "AUTO":
                choice = ToolChoice("auto")
            case "VALIDATED":
                choice = ToolChoice("auto")
                calling.keep("mode", msgspec.Raw(b'"VALIDATED"'))
            case _:
                pass
        config.put_back("functionCallingConfig", calling)
    fields.put_back("toolConfig", config)
    return tools, choice


# ------------------------------------------------------------------------------------------------- format and thinking


def _read_format(config: Fields) -> JsonObject | JsonSchema | None:
    kind = config.take("responseMimeType", TEXT)
    plain = config.raw("responseJsonSchema") or config.raw("_responseJsonSchema")
    own = config.raw("responseSchema")
    match kind:
        case "application/json" if plain is not None:
            return JsonSchema(schema=read_schema(plain, is_json_schema=True))
        case "application/json" if own is not None:
            return JsonSchema(schema=read_schema(own, is_json_schema=False))
        case "application/json":
            return JsonObject()
        case None | "" | "text/plain":
            pass
        case _:  # `text/x.enum`, and whatever comes next
            config.keep("responseMimeType", msgspec.Raw(msgspec.json.encode(kind)))
    for name, raw in (("responseJsonSchema", plain), ("responseSchema", own)):
        if raw is not None:
            config.keep(name, raw)
    return None


def _read_thinking(config: Fields) -> Reasoning | None:
    thinking = config.object("thinkingConfig")
    if thinking is None:
        return None
    budget = thinking.take("thinkingBudget", LAX_COUNT)
    level = thinking.enum("thinkingLevel", {})
    shown = thinking.take("includeThoughts", FLAG)
    config.put_back("thinkingConfig", thinking)
    effort = None if level is None else _EFFORTS.get(level)
    display = None if shown is None else "summarized" if shown else "omitted"
    if effort is not None:
        return Reasoning(effort=effort, display=display)
    if budget is None:
        # To see thoughts is to have some; not to see them says nothing about thinking.
        return Reasoning(mode="adaptive", display=display) if shown else None
    if budget == 0:
        return Reasoning(mode="disabled")
    if budget < 0:
        return Reasoning(mode="adaptive", display=display)
    return Reasoning(mode="enabled", budget_tokens=budget, display=display)
