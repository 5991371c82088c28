"""The conversation as a request to a provider that speaks Chat Completions.

What OpenAI's form demands and the conversation does not: the answers to a turn's tool calls stand right after that turn, each
in a message of its own, and hold text only.  Pictures and documents in them move into the user message that follows.
"""

from collections.abc import Iterable, Mapping
from typing import Final, assert_never

import msgspec

from tollhouse.chat.call_ids import fitted
from tollhouse.chat.markers import Block, Markers, Place
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
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Request,
    StoredFile,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tollhouse.chat.opaque import GATEWAY, carrier, sent, signed_id
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.openai_chat.both import document_text, service_fields, url_of
from tollhouse.dialects.openai_chat.pieces import decoded, encrypted_detail, signed_detail
from tollhouse.dialects.openai_chat.reasoning import write_reasoning
from tollhouse.dialects.openai_chat.tool_choice import leave_out_free_tools
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.dialects.openai_chat.wire import NAME, Json

LEFT_OUT: Final = "(What stood here is in a form that this model cannot read, and was left out.)"
"""Stands for a user's turn of which nothing else is left."""

_NO_ARGUMENTS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_ONE_STRING: Final = msgspec.Raw(
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}'
)
_KNOWN_TIERS: Final = frozenset({"auto", "default", "flex", "priority", "scale", "fast", "on_demand", "performance"})

_OF_PROMPT_CACHES: Final = frozenset({"prompt_cache_retention", "prompt_cache_options"})
"""Fields of the Responses API that mean the same here, for whoever knows `prompt_cache_key`."""

Fields = dict[str, Json]
Body = dict[str, object]
"""Plain JSON with raw JSON in it."""


def encode_request(request: Request, traits: OpenAIChatTraits, receipt: Receipt) -> bytes:
    """The request for a provider; notes in `receipt` what it cannot say."""
    caching = _Caching(traits, receipt)
    conversation = _Conversation(traits, caching, receipt)
    body: Body = {"model": request.model, "messages": conversation.messages(request.messages)}
    body.update(_tools(request, traits, caching, receipt))
    body.update(_sampling(request, traits, receipt))
    body.update(_format(request, traits, receipt))
    if request.reasoning is not None:
        body.update(write_reasoning(request.reasoning, traits, receipt))
    body.update(service_fields(request, traits, receipt, user_field="user", tiers=_KNOWN_TIERS))
    caching.mark(body, request.cache, "top", "cache_control")
    caching.settle()
    if request.extra is not None:
        for name, raw in request.extra.fields.items():
            if request.extra.dialect == NAME or (name in _OF_PROMPT_CACHES and traits.prompt_cache_key):
                body.setdefault(name, raw)
            else:
                receipt.dropped(name, f"only {request.extra.dialect} knows it")
    if not traits.tool_choice_free:
        leave_out_free_tools(body, receipt)
    if request.stream:
        body["stream"] = True
        if traits.asks_usage:
            options = body.get("stream_options")
            others = decoded(options) if isinstance(options, msgspec.Raw) else {}
            body["stream_options"] = {**(others if isinstance(others, dict) else {}), "include_usage": True}
    for name in traits.drop_fields & body.keys():
        del body[name]
        receipt.dropped(name, "the provider refuses it")
    for name, other in traits.rename_fields.items():
        if name in body:
            body.setdefault(other, body.pop(name))
    return msgspec.json.encode(body)


class _Caching:
    """The cache markers of one request, for a provider that may not know them."""

    def __init__(self, traits: OpenAIChatTraits, receipt: Receipt) -> None:
        self._is_known = traits.cache_control
        self._markers = Markers(traits.max_cache_markers)
        self._receipt = receipt

    def mark(self, wire: Block, marker: CacheMarker | None, place: Place, path: str) -> None:
        if self._is_known:
            self._markers.mark(wire, marker, place)
        elif marker is not None:
            self._receipt.dropped(path, "the provider caches by itself")

    def settle(self) -> None:
        self._markers.settle(self._receipt)


# ------------------------------------------------------------------------------------------------------ outside messages


def _sampling(request: Request, traits: OpenAIChatTraits, receipt: Receipt) -> Body:
    body: Body = {}
    if request.max_output_tokens is not None:
        body[traits.max_tokens_field] = request.max_output_tokens
    wanted: Iterable[tuple[str, object, bool]] = (
        ("temperature", request.temperature, True),
        ("top_p", request.top_p, True),
        ("top_k", request.top_k, traits.top_k),
        ("seed", request.seed, traits.seed),
        ("presence_penalty", request.presence_penalty, traits.penalties),
        ("frequency_penalty", request.frequency_penalty, traits.penalties),
        ("n", request.choices if request.choices > 1 else None, traits.many_choices),
        ("logprobs", request.logprobs or None, traits.logprobs),
        ("top_logprobs", request.top_logprobs, traits.logprobs),
    )
    for name, value, is_known in wanted:
        if value is None:
            continue
        if is_known:
            body[name] = value
        else:
            receipt.dropped(name, "the provider does not know it")
    if request.stop:
        if traits.stop:
            body["stop"] = list(request.stop)
        else:
            receipt.dropped("stop", "the provider does not know it")
    return body


def _format(request: Request, traits: OpenAIChatTraits, receipt: Receipt) -> Body:
    wanted = request.response_format
    if wanted is None:
        return {}
    if isinstance(wanted, JsonSchema) and traits.json_schema:
        inner: Body = {"name": wanted.name, "schema": wanted.schema}
        if wanted.description is not None:
            inner["description"] = wanted.description
        if wanted.strict is not None:
            inner["strict"] = wanted.strict
        return {"response_format": {"type": "json_schema", "json_schema": inner}}
    if not traits.json_object:
        receipt.dropped("response_format", "the provider cannot be held to JSON")
        return {}
    if not isinstance(wanted, JsonObject):
        receipt.changed("response_format", "the schema is not passed on: the provider only knows JSON of any form")
    return {"response_format": {"type": "json_object"}}


def _tools(request: Request, traits: OpenAIChatTraits, caching: _Caching, receipt: Receipt) -> Body:
    tools: list[object] = []
    custom: set[str] = set()
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        if isinstance(tool, Tool) and tool.custom and traits.custom_tools:
            custom.add(tool.name)
            tools.append(_free_form(tool, path, receipt))
        elif isinstance(tool, Tool):
            if tool.custom:
                receipt.changed(path, "a free-form tool is offered as a function with one string")
            tools.append(_tool(tool, path, traits, caching, receipt))
        elif tool.dialect != NAME:
            receipt.dropped(path, f"`{tool.kind}` exists only in {tool.dialect}")
        elif tool.kind == "custom":
            name = _custom_name(tool)
            if traits.custom_tools and name:
                custom.add(name)
            tools.append(tool.raw if traits.custom_tools else _custom_as_function(tool, path, receipt))
        else:
            tools.append(tool.raw)
    if not tools:
        # Both options are an error without tools.
        return {}
    body: Body = {"tools": tools}
    if request.tool_choice is not None:
        body.update(_tool_choice(request.tool_choice, custom, traits, receipt))
    if request.parallel_tool_calls is not None:
        if traits.parallel_tool_calls:
            body["parallel_tool_calls"] = request.parallel_tool_calls
        elif not request.parallel_tool_calls:
            receipt.dropped("parallel_tool_calls", "the provider does not know it")
    return body


def _tool(tool: Tool, path: str, traits: OpenAIChatTraits, caching: _Caching, receipt: Receipt) -> object:
    function: Body = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = _NO_ARGUMENTS if tool.schema is None else tool.schema
    if tool.strict is not None:
        if traits.strict_tools:
            function["strict"] = tool.strict
        elif tool.strict:
            receipt.dropped(f"{path}.strict", "the provider does not know it")
    _add_extra(function, tool.extra, path, receipt)
    wire: Body = {"type": "function", "function": function}
    caching.mark(wire, tool.cache, "tools", f"{path}.cache_control")
    return wire


def _free_form(tool: Tool, path: str, receipt: Receipt) -> object:
    """A free-form tool in this dialect's words; the Responses API has its grammar one level higher."""
    inner: Body = {"name": tool.name}
    if tool.description is not None:
        inner["description"] = tool.description
    for name, raw in tool.extra.fields.items() if tool.extra is not None else ():
        form = decoded(raw) if name == "format" else None
        match form:
            case {"type": "grammar", "syntax": str(syntax), "definition": str(definition)}:
                inner["format"] = {"type": "grammar", "grammar": {"syntax": syntax, "definition": definition}}
            case {"type": "text"}:
                inner["format"] = {"type": "text"}
            case _:
                receipt.dropped(f"{path}.{name}", "a free-form tool has no such field here")
    return {"type": "custom", "custom": inner}


def _custom(tool: ForeignTool) -> Mapping[str, Json]:
    wire = decoded(tool.raw)
    match wire:
        case {"custom": dict() as inner}:
            return inner
        case _:
            return {}


def _custom_name(tool: ForeignTool) -> str:
    name = _custom(tool).get("name")
    return name if isinstance(name, str) else ""


def _custom_as_function(tool: ForeignTool, path: str, receipt: Receipt) -> object:
    inner = _custom(tool)
    receipt.changed(path, "a free-form tool is offered as a function with one string")
    return {
        "type": "function",
        "function": {
            "name": inner.get("name"),
            "description": inner.get("description") or "",
            "parameters": _ONE_STRING,
        },
    }


def _tool_choice(choice: ToolChoice, custom: set[str], traits: OpenAIChatTraits, receipt: Receipt) -> Body:
    match choice.mode:
        case "auto" | "none":
            return {"tool_choice": choice.mode}
        case "required" | "named" if not traits.tool_choice_forced:
            receipt.changed("tool_choice", "the provider cannot be made to call a tool, said as `auto`")
            return {"tool_choice": "auto"}
        case "required":
            return {"tool_choice": "required"}
        case "named":
            kind = "custom" if choice.name in custom else "function"
            return {"tool_choice": {"type": kind, kind: {"name": choice.name}}}
        case _:
            assert_never(choice.mode)


# ------------------------------------------------------------------------------------------------------------- messages


class _Conversation:
    """Writes messages in order, regrouping tool results."""

    def __init__(self, traits: OpenAIChatTraits, caching: _Caching, receipt: Receipt) -> None:
        self._traits = traits
        self._caching = caching
        self._place: Place = "system"
        self._is_said = False
        """Whether the message under way is the model's, of which OpenAI takes no markers."""
        self._receipt = receipt
        self._out: list[Fields] = []
        self._slot: int | None = None
        """Where the next answer to the last turn's calls goes."""
        self._open_calls: set[str] = set()
        self._moved: list[Fields] = []
        """Media from tool results, waiting for a user message."""

    def messages(self, messages: tuple[Message, ...]) -> list[Fields]:
        leading = 0
        while leading < len(messages) and messages[leading].role in {"system", "developer"}:
            leading += 1
        for index, message in enumerate(messages):
            # Callers of other dialects keep the leading system prompt apart and count messages without it.
            path = f"system[{index}]" if index < leading else f"messages[{index - leading}]"
            self._place = "system" if index < leading else "messages"
            self._is_said = message.role == "assistant"
            self._message(message, path)
        self._flush_moved()
        return self._out

    def _message(self, message: Message, path: str) -> None:
        match message.role:
            case "system" | "developer":
                self._system(message, path)
            case "assistant":
                self._flush_moved()
                self._assistant(message, path)
            case "user" | "tool":
                self._user(message, path)
            case _:
                assert_never(message.role)

    def _add(self, fields: Fields, message: Message, path: str) -> None:
        if message.name is not None:
            fields["name"] = message.name
        _add_extra_json(fields, message.extra, path, self._receipt)
        self._out.append(fields)

    # -- system

    def _system(self, message: Message, path: str) -> None:
        role = "system" if message.role == "system" or not self._traits.developer_role else "developer"
        parts: list[Fields] = []
        for index, part in enumerate(message.parts):
            if isinstance(part, Text):
                parts.append(self._text(part, f"{path}.content[{index}]"))
            else:
                self._receipt.dropped(f"{path}.content[{index}]", "a system prompt holds text only")
        self._add({"role": role, "content": self._written(parts)}, message, path)

    # -- user and tool

    def _user(self, message: Message, path: str) -> None:
        parts: list[Fields] = []
        is_turn = not message.parts
        for index, part in enumerate(message.parts):
            place = f"{path}.content[{index}]"
            if isinstance(part, ToolResult):
                self._result(part, message, place)
                continue
            is_turn = True
            wire = self._user_part(part, place)
            if wire is not None:
                parts.append(wire)
        if not is_turn:
            return
        if not parts and message.parts:
            # A turn that vanished would have the model answer something else.
            parts.append({"type": "text", "text": LEFT_OUT})
        moved, self._moved = self._moved, []
        self._add({"role": "user", "content": self._written([*moved, *parts])}, message, path)

    def _user_part(self, part: Part, path: str) -> Fields | None:
        match part:
            case Text():
                return self._text(part, path)
            case Image():
                return self._image(part, path)
            case Document():
                return self._document(part, path)
            case Audio():
                if not self._traits.audio:
                    self._receipt.dropped(path, "the provider takes no audio")
                    return None
                wire: Fields = {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
                _add_extra_json(wire, part.extra, path, self._receipt)
                return wire
            case Foreign() if part.dialect == NAME:
                raw = decoded(part.raw)
                return raw if isinstance(raw, dict) else None
            case Refusal():
                return {"type": "text", "text": part.text}
            case _:
                self._receipt.dropped(path, f"a {_kind(part)} part has no form in a user message of OpenAI chat")
                return None

    def _result(self, part: ToolResult, message: Message, path: str) -> None:
        texts: list[Fields] = []
        for index, inner in enumerate(part.content):
            place = f"{path}.content[{index}]"
            match inner:
                case Text():
                    texts.append(self._text(inner, place))
                case Image() | Document():
                    moved = self._image(inner, place) if isinstance(inner, Image) else self._document(inner, place)
                    if moved is None:
                        continue
                    if moved.get("type") == "text":
                        texts.append(moved)
                        continue
                    self._receipt.changed(place, "moved into a user message: tool messages hold text only")
                    self._moved += [{"type": "text", "text": f"From the result of tool call {part.call_id}:"}, moved]
                case Foreign():
                    self._receipt.dropped(place, f"a {inner.kind} part has no form in a tool message of OpenAI chat")
                case _:
                    assert_never(inner)
        if part.is_error:
            self._receipt.dropped(f"{path}.is_error", "tool messages cannot say that a call failed")
        if texts:
            self._mark(texts[-1], part.cache, path)
        elif part.cache is not None:
            self._receipt.dropped(f"{path}.cache_control", "there is no text to mark")
        fields: Fields = {
            "role": "tool",
            "tool_call_id": fitted(part.call_id, self._traits.call_ids),
            "content": self._written(texts),
        }
        if message.role == "tool" and message.name is not None:
            fields["name"] = message.name
        _add_extra_json(fields, part.extra, path, self._receipt)
        if message.role == "tool":
            _add_extra_json(fields, message.extra, path, self._receipt)
        if self._slot is not None and part.call_id in self._open_calls:
            self._out.insert(self._slot, fields)
            self._slot += 1
        else:
            self._out.append(fields)

    def _flush_moved(self) -> None:
        if self._moved:
            moved, self._moved = self._moved, []
            self._out.append({"role": "user", "content": list(moved)})

    # -- assistant

    def _assistant(self, message: Message, path: str) -> None:
        texts: list[Fields] = []
        thoughts: list[str] = []
        details: list[Json] = []
        refusals: list[str] = []
        calls: list[Json] = []
        fields: Fields = {"role": "assistant", "content": None}
        self._open_calls = set()
        for index, part in enumerate(message.parts):
            place = f"{path}.content[{index}]"
            match part:
                case Text():
                    if part.citations:
                        self._receipt.dropped(f"{place}.citations", "a request of OpenAI chat holds no citations")
                    if part.signature is not None and self._is_taken(part.signature):
                        details.append(encrypted_detail(carrier(part.signature).data, len(details), self._traits.home))
                    else:
                        self._unsign(part, place)
                    texts.append(self._text(part, place))
                case Thinking():
                    self._thought(part, place, thoughts, details)
                case RedactedThinking() if self._is_taken(part.data):
                    details.append(encrypted_detail(part.data, len(details), self._traits.home))
                case RedactedThinking():
                    self._receipt.dropped(place, "only the provider that did this thinking takes it back")
                case Refusal():
                    refusals.append(part.text)
                case ToolCall():
                    self._open_calls.add(part.id)
                    calls.append(self._call(part, place))
                case Foreign() if part.dialect == NAME and part.kind == "audio":
                    fields["audio"] = decoded(part.raw)
                case Foreign() if part.dialect == NAME:
                    raw = decoded(part.raw)
                    texts += [raw] if isinstance(raw, dict) else []
                case _:
                    self._receipt.dropped(place, f"a {_kind(part)} part has no form in an assistant turn here")
        if texts or not (calls or refusals or "audio" in fields):
            fields["content"] = self._written(texts, between="")
        if refusals:
            fields["refusal"] = "".join(refusals)
        if thoughts and self._traits.reasoning_field is not None:
            fields[self._traits.reasoning_field] = "".join(thoughts)
        if details:
            fields["reasoning_details"] = details
        if calls:
            fields["tool_calls"] = calls
        self._add(fields, message, path)
        self._slot = len(self._out) if calls else None

    def _unsign(self, part: Text | ToolCall, path: str) -> None:
        if part.signature is not None:
            self._receipt.dropped(f"{path}.signature", "only the provider that signed this takes it back")

    def _is_taken(self, value: Opaque) -> bool:
        return self._traits.reasoning_details and sent(value, self._traits.home) is not None

    def _thought(self, part: Thinking, path: str, thoughts: list[str], details: list[Json]) -> None:
        if part.signature is not None and self._is_taken(part.signature):
            details.append(signed_detail(part.text, part.signature, len(details), self._traits.home))
            thoughts.append(part.text)
            return
        if self._traits.reasoning_field is None:
            self._receipt.dropped(path, "the provider does not take earlier reasoning back")
            return
        thoughts.append(part.text)
        if part.signature is not None:
            self._receipt.dropped(f"{path}.signature", "only the provider that did this thinking takes it back")

    def _call(self, call: ToolCall, path: str) -> Json:
        wire: Fields = {"id": fitted(call.id, self._traits.call_ids), "type": "function"}
        if call.signature is not None and self._traits.home == GATEWAY:
            wire["id"] = signed_id(call.id, call.signature)
        else:
            self._unsign(call, path)
        if call.custom and self._traits.custom_tools:
            wire["type"] = "custom"
            wire["custom"] = {"name": call.name, "input": call.arguments}
        elif call.custom:
            arguments = msgspec.json.encode({"input": call.arguments}).decode()
            wire["function"] = {"name": call.name, "arguments": arguments}
        else:
            # Many servers parse the arguments and choke on none at all.
            wire["function"] = {"name": call.name, "arguments": call.arguments or "{}"}
        _add_extra_json(wire, call.extra, path, self._receipt)
        self._mark(wire, call.cache, path)
        return wire

    # -- parts

    def _text(self, part: Text, path: str) -> Fields:
        wire: Fields = {"type": "text", "text": part.text}
        _add_extra_json(wire, part.extra, path, self._receipt)
        self._mark(wire, part.cache, path)
        return wire

    def _image(self, part: Image, path: str) -> Fields | None:
        if not self._traits.images:
            self._receipt.dropped(path, "the provider takes no images")
            return None
        url = url_of(part.source, path, self._receipt)
        if url is None:
            return None
        image: Fields = {"url": url}
        if part.detail is not None:
            image["detail"] = part.detail
        wire: Fields = {"type": "image_url", "image_url": image}
        _add_extra_json(wire, part.extra, path, self._receipt)
        self._mark(wire, part.cache, path)
        return wire

    def _document(self, part: Document, path: str) -> Fields | None:
        if part.cite:
            self._receipt.dropped(f"{path}.citations", "OpenAI chat cannot be asked to cite a document")
        source = part.source
        if isinstance(source, Inline) and source.media_type == "text/plain":
            wire: Fields = {"type": "text", "text": document_text(part, source.data)}
        elif not self._traits.documents:
            self._receipt.dropped(path, "the provider takes no documents")
            return None
        else:
            if part.context is not None:
                self._receipt.dropped(f"{path}.context", "a file part has no place for it")
            file: Fields = {}
            if part.title is not None:
                file["filename"] = part.title
            if isinstance(source, StoredFile) and source.dialect == NAME:
                file["file_id"] = source.id
            else:
                url = url_of(source, path, self._receipt)
                if url is None:
                    return None
                file["file_data"] = url
                file.setdefault("filename", "document.pdf")
            wire = {"type": "file", "file": file}
        _add_extra_json(wire, part.extra, path, self._receipt)
        self._mark(wire, part.cache, path)
        return wire

    def _mark(self, wire: Fields, marker: CacheMarker | None, path: str) -> None:
        if marker is None:
            return
        if self._traits.cache_breakpoints and not self._is_said:
            wire["prompt_cache_breakpoint"] = {"mode": "explicit"}
            if marker.ttl == "1h":
                self._receipt.changed(f"{path}.cache_control.ttl", "all that OpenAI caches has one lifetime")
        else:
            self._caching.mark(wire, marker, self._place, f"{path}.cache_control")

    def _written(self, parts: list[Fields], *, between: str = "\n\n") -> Json:
        """Parts in the simplest form that holds them: a string if it is only text, as every server understands that."""
        is_plain = all(part.keys() == {"type", "text"} and part["type"] == "text" for part in parts)
        if len(parts) <= 1 and is_plain:
            return parts[0]["text"] if parts else ""
        if is_plain and not self._traits.text_array_content:
            return between.join(str(part["text"]) for part in parts)
        return list(parts)


def _kind(part: Part) -> str:
    return part.kind if isinstance(part, Foreign) else part.__class__.__name__.lower()


def _add_extra(wire: Body, extra: Extra | None, path: str, receipt: Receipt) -> None:
    if extra is None:
        return
    for name, raw in extra.fields.items():
        if extra.dialect == NAME:
            wire.setdefault(name, raw)
        else:
            receipt.dropped(f"{path}.{name}", f"only {extra.dialect} knows it")


def _add_extra_json(wire: Fields, extra: Extra | None, path: str, receipt: Receipt) -> None:
    if extra is None:
        return
    for name, raw in extra.fields.items():
        if extra.dialect == NAME:
            wire.setdefault(name, decoded(raw))
        else:
            receipt.dropped(f"{path}.{name}", f"only {extra.dialect} knows it")
