"""From what a program writes down to a canonical request."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias, TypedDict

import msgspec

from tollhouse.chat.model import (
    ForeignTool,
    JsonSchema,
    Message,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tollhouse.client.failures import BadCall
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.errors import BadRequest

Prompt: TypeAlias = str | Message | Request | Sequence[Message | Mapping[str, object]]
"""A question; a message or several, canonical or as OpenAI's SDK takes them (`{"role": …, "content": …}`); a whole request."""

Schema: TypeAlias = Mapping[str, object] | str | bytes
"""A JSON schema, decoded or as text."""

NO_MODEL: Final = ""
"""Leaves the choice to the gateway's `models.default`."""


class Asking(TypedDict, total=False):
    """What a call may say beside its prompt.  What is left out is left to the model."""

    system: str
    """Put before the messages."""
    max_output_tokens: int
    temperature: float
    top_p: float
    stop: str | Sequence[str]
    seed: int
    effort: str
    """How much the model shall think: `none`, `minimal`, `low`, `medium`, `high`, …"""
    tools: Sequence[Tool | Mapping[str, object]]
    """Canonical, or OpenAI's `{"type": "function", "function": {…}}`."""
    tool_choice: str
    """`auto`, `none`, `required`, or the name of a tool."""
    schema: Schema
    """A JSON schema that the answer shall have."""
    user: str
    """The program's own id of its end user."""


_VERBATIM: Final = ("max_output_tokens", "temperature", "top_p", "seed", "user")


def request_of(prompt: Prompt, asking: Asking, *, model: str | None, default_model: str | None) -> Request:
    """The request.  What `asking` says replaces what a whole request had.  Raises `BadCall`, and `TypeError` as a call does."""
    if unknown := asking.keys() - Asking.__annotations__.keys():
        raise TypeError(f"there is no argument {' or '.join(map(repr, sorted(unknown)))}")
    request = prompt if isinstance(prompt, Request) else Request(model=NO_MODEL, messages=_messages(prompt))
    given = {name: value for name, value in asking.items() if value is not None}
    changes: dict[str, Any] = {name: given[name] for name in _VERBATIM if name in given}
    if "system" in given:
        changes["messages"] = (Message("system", (Text(asking["system"]),)), *request.messages)
    if "stop" in given:
        stop = asking["stop"]
        changes["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    if "effort" in given:
        effort = asking["effort"]
        changes["reasoning"] = Reasoning(effort=effort, mode="disabled" if effort == "none" else None)
    if "tools" in given:
        changes["tools"] = tuple(_tool(tool, index) for index, tool in enumerate(asking["tools"]))
    if "tool_choice" in given:
        changes["tool_choice"] = _choice(asking["tool_choice"])
    if "schema" in given:
        changes["response_format"] = JsonSchema(schema=_schema(asking["schema"]))
    changes["model"] = model or request.model or default_model or NO_MODEL
    request = msgspec.structs.replace(request, **changes)
    if not request.messages:
        raise BadCall("There is nothing to be asked: the prompt is empty.", param="prompt")
    return request


def tool_result(call: ToolCall, content: str, *, is_error: bool = False) -> Message:
    """The message that answers a tool call."""
    return Message("tool", (ToolResult(call.id, (Text(content),), is_error),))


def image(data: bytes, media_type: str, text: str | None = None) -> Message:
    """A user's message with a picture, and words beside it."""
    from tollhouse.chat.model import Image, Inline

    picture = Image(Inline(media_type, base64.b64encode(data).decode("ascii")))
    return Message("user", (picture,) if text is None else (Text(text), picture))


def _messages(prompt: str | Message | Sequence[Message | Mapping[str, object]]) -> tuple[Message, ...]:
    if isinstance(prompt, str):
        return (Message("user", (Text(prompt),)),) if prompt.strip() else ()
    if isinstance(prompt, Message):
        return (prompt,)
    if not isinstance(prompt, list | tuple):
        raise BadCall(
            f"A prompt is text, messages or a request, and not {type(prompt).__name__}.",
            hint='Messages are `tollhouse.chat.model.Message` or {"role": "user", "content": "…"}.',
            param="prompt",
        )
    messages: list[Message] = []
    for index, each in enumerate(prompt):
        if isinstance(each, Message):
            messages.append(each)
        elif isinstance(each, Mapping):
            messages.append(_foreign_message(each, index))
        else:
            raise BadCall(
                f"prompt[{index}] is {type(each).__name__}, which is no message.",
                hint='Messages are `tollhouse.chat.model.Message` or {"role": "user", "content": "…"}.',
                param=f"prompt[{index}]",
            )
    return tuple(messages)


def _foreign_message(message: Mapping[str, object], index: int) -> Message:
    """A message as OpenAI's SDK takes it."""
    return _read({"messages": [dict(message)]}, f"prompt[{index}]", "messages[0]").messages[0]


def _tool(tool: Tool | Mapping[str, object], index: int) -> Tool | ForeignTool:
    if isinstance(tool, Tool):
        return tool
    body: dict[str, object] = {"messages": [{"role": "user", "content": "x"}], "tools": [dict(tool)]}
    read = _read(body, f"tools[{index}]", "tools[0]")
    return read.tools[0]


def _read(body: dict[str, object], ours: str, theirs: str) -> Request:
    try:
        encoded = msgspec.json.encode({"model": "x", **body})
        return OPENAI_CHAT.decode_request(encoded)
    except (TypeError, ValueError) as error:
        raise BadCall(f"{ours} holds what JSON cannot: {error}.", param=ours) from error
    except BadRequest as error:
        param = (error.param or theirs).replace(theirs, ours, 1)
        raise BadCall(error.message.replace(theirs, ours), hint=error.hint, param=param) from error


def _choice(word: str) -> ToolChoice:
    match word:
        case "auto" | "none" | "required":
            return ToolChoice(word)
        case name:
            return ToolChoice("named", name)


def _schema(schema: Schema) -> msgspec.Raw:
    try:
        data = schema if isinstance(schema, bytes) else schema.encode() if isinstance(schema, str) else None
        if data is None:
            data = msgspec.json.encode(schema)
        decoded = msgspec.json.decode(data)
    except (TypeError, ValueError) as error:
        raise BadCall(f"The schema is not JSON: {error}.", param="schema") from error
    if not isinstance(decoded, dict):
        raise BadCall("The schema is not a JSON object.", param="schema")
    return msgspec.Raw(data)
