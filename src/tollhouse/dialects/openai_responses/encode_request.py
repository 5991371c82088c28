"""The conversation as a request to a provider that speaks the Responses API.

Nothing of it is to be kept there: the provider's account is the gateway's, and the gateway keeps responses itself.  So
`store` is off, and reasoning is asked for encrypted, to go on with it.
"""

from collections.abc import Mapping
from typing import Final, assert_never

import msgspec

from tollhouse.chat.model import (
    ForeignTool,
    JsonObject,
    JsonSchema,
    Reasoning,
    Request,
    Tool,
    ToolChoice,
)
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.openai_chat.both import service_fields
from tollhouse.dialects.openai_chat.pieces import decoded
from tollhouse.dialects.openai_chat.reasoning import effort_of
from tollhouse.dialects.openai_chat.wire import NAME as CHAT
from tollhouse.dialects.openai_chat.wire import Json
from tollhouse.dialects.openai_responses.decode_request import ONE_STRING
from tollhouse.dialects.openai_responses.items import ItemWriter
from tollhouse.dialects.openai_responses.peek import AT_ONCE
from tollhouse.dialects.openai_responses.pieces import Fields, mapping
from tollhouse.dialects.openai_responses.traits import ResponsesTraits
from tollhouse.dialects.openai_responses.wire import ENCRYPTED, LOGPROBS, NAME

_NO_ARGUMENTS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_TIERS: Final = frozenset({"auto", "default", "flex", "priority", "scale"})
_SHARED: Final = frozenset(
    {"metadata", "moderation", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "store"}
)
"""Fields that Chat Completions has under the same name."""


def encode_request(request: Request, traits: ResponsesTraits, receipt: Receipt) -> bytes:
    """The request for a provider; notes in `receipt` what it cannot say."""
    body: Fields = {"model": request.model, "input": ItemWriter(traits, receipt).items(request.messages)}
    body["store"] = False
    body.update(_tools(request, traits, receipt))
    body.update(_sampling(request, traits, receipt))
    body.update(_text(request, traits, receipt))
    body.update(_reasoning(request, traits, receipt))
    body.update(_service(request, traits, receipt))
    _add_own(body, request, receipt)
    body.update(_include(request, traits, body.get("include")))
    if request.stream:
        body["stream"] = True
    for name in sorted(traits.drop_fields & body.keys()):
        del body[name]
        receipt.dropped(name, "the provider refuses it")
    return msgspec.json.encode(body)


# ------------------------------------------------------------------------------------------------------- outside `input`


def _add_own(body: Fields, request: Request, receipt: Receipt) -> None:
    """Fields that only this dialect knows, or Chat Completions under the same name."""
    extra = request.extra
    if extra is None:
        return
    for name, raw in extra.fields.items():
        if extra.dialect == NAME and name == "background":
            receipt.changed(name, AT_ONCE)
        elif extra.dialect == NAME or (extra.dialect == CHAT and name in _SHARED):
            present = body.get(name)
            body[name] = {**present, **mapping(raw)} if isinstance(present, dict) else raw
        elif extra.dialect == CHAT and name == "verbosity":
            text = body.get("text")
            body["text"] = {**(text if isinstance(text, dict) else {}), "verbosity": raw}
        else:
            receipt.dropped(name, f"only {extra.dialect} knows it")


def _include(request: Request, traits: ResponsesTraits, others: object) -> Fields:
    wanted: list[Json] = [ENCRYPTED] if traits.asks_encrypted and traits.reasoning else []
    if request.logprobs and traits.logprobs:
        wanted.append(LOGPROBS)
    if isinstance(others, msgspec.Raw):
        value = decoded(others)
        wanted += value if isinstance(value, list) else []
    return {"include": wanted} if wanted else {}


def _sampling(request: Request, traits: ResponsesTraits, receipt: Receipt) -> Fields:
    body: Fields = {}
    for name, value in (
        ("max_output_tokens", request.max_output_tokens),
        ("temperature", request.temperature),
        ("top_p", request.top_p),
    ):
        if value is not None:
            body[name] = value
    if request.top_logprobs is not None:
        if traits.logprobs:
            body["top_logprobs"] = request.top_logprobs
        else:
            receipt.dropped("top_logprobs", "the model does not tell them")
    elif request.logprobs and not traits.logprobs:
        receipt.dropped("logprobs", "the model does not tell them")
    for name, is_given in (
        ("top_k", request.top_k is not None),
        ("stop", bool(request.stop)),
        ("seed", request.seed is not None),
        ("presence_penalty", bool(request.presence_penalty)),
        ("frequency_penalty", bool(request.frequency_penalty)),
    ):
        if is_given:
            receipt.dropped(name, "the Responses API has no such field")
    if request.choices > 1:
        receipt.changed("n", f"one answer instead of {request.choices}")
    return body


def _text(request: Request, traits: ResponsesTraits, receipt: Receipt) -> Fields:
    wanted = request.response_format
    if wanted is None:
        return {}
    if isinstance(wanted, JsonSchema) and traits.json_schema:
        form: Fields = {"type": "json_schema", "name": wanted.name, "schema": wanted.schema}
        if wanted.description is not None:
            form["description"] = wanted.description
        # Left out it means true here and false in Chat Completions.
        form["strict"] = bool(wanted.strict)
        return {"text": {"format": form}}
    if not traits.json_object:
        receipt.dropped("response_format", "the provider cannot be held to JSON")
        return {}
    if not isinstance(wanted, JsonObject):
        receipt.changed("response_format", "the schema is not passed on: the provider only knows JSON of any form")
    return {"text": {"format": {"type": "json_object"}}}


def _reasoning(request: Request, traits: ResponsesTraits, receipt: Receipt) -> Fields:
    wanted = request.reasoning
    if not traits.reasoning:
        if wanted is not None and wanted.mode != "disabled":
            receipt.dropped("reasoning", "this model cannot be told how much to think")
        return {}
    fields: Fields = {}
    effort = None if wanted is None else _effort(wanted, traits, receipt)
    if effort is not None:
        fields["effort"] = effort
    summary = _summary(request)
    if summary is not None:
        fields["summary"] = summary
    return {"reasoning": fields} if fields else {}


def _summary(request: Request) -> Json:
    """How much of a summary was asked for: in this dialect's own words, or because a client turned thinking on.

    Who does that in another dialect expects to see some of it.
    """
    if request.echo is not None and request.echo.dialect == NAME:
        raw = request.echo.fields.get("reasoning")
        asked = {} if raw is None else mapping(raw)
        return asked.get("summary") or asked.get("generate_summary")
    wanted = request.reasoning
    if wanted is None:
        return None
    shows = wanted.display == "summarized" or (wanted.display is None and wanted.mode in {"enabled", "adaptive"})
    return "auto" if shows else None


def _effort(wanted: Reasoning, traits: ResponsesTraits, receipt: Receipt) -> str | None:
    if wanted.effort is not None:
        effort = traits.renamed_efforts.get(wanted.effort, wanted.effort)
        if effort != wanted.effort:
            receipt.changed("reasoning.effort", f"{wanted.effort[:20]} said as `{effort}`, the most that there is")
        return effort
    if wanted.budget_tokens is not None and wanted.mode != "disabled":
        effort = effort_of(wanted.budget_tokens)
        receipt.changed("thinking.budget_tokens", f"{wanted.budget_tokens} said as an effort, `{effort}`")
        return effort
    if wanted.mode == "disabled":
        receipt.dropped("reasoning", "there is no word for not thinking: the model does what it does unasked")
    return None


def _service(request: Request, traits: ResponsesTraits, receipt: Receipt) -> Mapping[str, Json]:
    body = service_fields(request, traits, receipt, user_field="safety_identifier", tiers=_TIERS)
    if request.cache is not None:
        receipt.dropped("cache_control", "the Responses API has no marker for the whole prompt")
    return body


# ---------------------------------------------------------------------------------------------------------------- tools


def _tools(request: Request, traits: ResponsesTraits, receipt: Receipt) -> Fields:
    tools: list[object] = []
    custom: set[str] = set()
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        match tool:
            case Tool():
                if tool.custom and traits.custom_tools:
                    custom.add(tool.name)
                tools.append(_tool(tool, path, traits, receipt))
            case ForeignTool(dialect=dialect) if dialect == NAME:
                tools.append(tool.raw)
            case ForeignTool(dialect=dialect, kind="custom") if dialect == CHAT:
                wire, name = _chat_custom(tool, path, traits, receipt)
                if traits.custom_tools:
                    custom.add(name)
                tools.append(wire)
            case ForeignTool():
                receipt.dropped(path, f"`{tool.kind[:40]}` exists only in {tool.dialect}")
            case _:
                assert_never(tool)
    if not tools:
        return {}
    body: Fields = {"tools": tools}
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice, custom)
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    return body


def _tool(tool: Tool, path: str, traits: ResponsesTraits, receipt: Receipt) -> Fields:
    wire: Fields = {"type": "custom" if tool.custom and traits.custom_tools else "function", "name": tool.name}
    if tool.description is not None:
        wire["description"] = tool.description
    if wire["type"] == "function":
        wire["parameters"] = _NO_ARGUMENTS if tool.schema is None else tool.schema
        if traits.strict_tools:
            # Left out it means true here and false everywhere else.
            wire["strict"] = bool(tool.strict)
        elif tool.strict:
            receipt.dropped(f"{path}.strict", "the provider does not know it")
        if tool.custom:
            receipt.changed(path, "a free-form tool is offered as a function with one string")
    for name, raw in tool.extra.fields.items() if tool.extra is not None else ():
        if tool.extra is not None and tool.extra.dialect == NAME:
            wire.setdefault(name, raw)
        else:
            receipt.dropped(f"{path}.{name}", "the Responses API does not know it")
    if tool.cache is not None:
        receipt.dropped(f"{path}.cache_control", "the provider caches by itself")
    return wire


def _chat_custom(tool: ForeignTool, path: str, traits: ResponsesTraits, receipt: Receipt) -> tuple[Fields, str]:
    """A free-form tool as Chat Completions spells it: one level deeper, and its grammar one more."""
    inner = mapping(tool.raw).get("custom")
    fields = inner if isinstance(inner, dict) else {}
    name = str(fields.get("name") or "")
    if not traits.custom_tools:
        receipt.changed(path, "a free-form tool is offered as a function with one string")
        wire: Fields = {"type": "function", "name": name, "parameters": ONE_STRING, "strict": False}
        if fields.get("description"):
            wire["description"] = fields["description"]
        return wire, name
    wire = {"type": "custom", **fields}
    match fields.get("format"):
        case {"type": "grammar", "grammar": dict() as grammar}:
            wire["format"] = {"type": "grammar", **grammar}
        case _:
            pass
    return wire, name


def _tool_choice(choice: ToolChoice, custom: set[str]) -> object:
    match choice.mode:
        case "auto" | "none" | "required":
            return choice.mode
        case "named":
            return {"type": "custom" if choice.name in custom else "function", "name": choice.name}
        case _:
            assert_never(choice.mode)
