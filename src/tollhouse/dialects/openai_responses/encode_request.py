"""The conversation as a request to a provider that speaks the Responses API.

Nothing of it is to be kept there: the provider's account is the gateway's, and the gateway keeps responses itself.  So
`store` is off, and reasoning is asked for encrypted, to go on with it.
"""

import hashlib
from collections.abc import Mapping
from typing import Final, assert_never

import msgspec

from tollhouse.chat.model import (
    Audio,
    CacheMarker,
    Citation,
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
    Source,
    StoredFile,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from tollhouse.chat.opaque import sent
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.openai_chat.encode_request import LEFT_OUT, MAX_USER_CHARACTERS
from tollhouse.dialects.openai_chat.pieces import decoded, service_tier
from tollhouse.dialects.openai_chat.reasoning import effort_of
from tollhouse.dialects.openai_chat.wire import NAME as CHAT
from tollhouse.dialects.openai_chat.wire import Json
from tollhouse.dialects.openai_responses.decode_request import ONE_STRING
from tollhouse.dialects.openai_responses.pieces import write_annotation
from tollhouse.dialects.openai_responses.traits import ResponsesTraits
from tollhouse.dialects.openai_responses.wire import ENCRYPTED, LOGPROBS, NAME

MAX_CALL_ID_CHARACTERS: Final = 64
"""OpenAI's bound on `call_id`."""

_NO_ARGUMENTS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
_TIERS: Final = frozenset({"auto", "default", "flex", "priority", "scale"})
_FILE_DIALECTS: Final = frozenset({NAME, CHAT})
"""Those whose uploaded files are OpenAI's."""
_SHARED: Final = frozenset(
    {"metadata", "moderation", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "store"}
)
"""Fields that Chat Completions has under the same name."""

Fields = dict[str, object]
"""Plain JSON with raw JSON in it."""


def encode_request(request: Request, traits: ResponsesTraits, receipt: Receipt) -> bytes:
    """The request for a provider; notes in `receipt` what it cannot say."""
    body: Fields = {"model": request.model, "input": _Conversation(traits, receipt).items(request.messages)}
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
        if extra.dialect == NAME or (extra.dialect == CHAT and name in _SHARED):
            present = body.get(name)
            body[name] = {**present, **_mapping(raw)} if isinstance(present, dict) else raw
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


def _mapping(raw: msgspec.Raw) -> Mapping[str, Json]:
    value = decoded(raw)
    return value if isinstance(value, dict) else {}


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
        asked = {} if raw is None else _mapping(raw)
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
    return None


def _service(request: Request, traits: ResponsesTraits, receipt: Receipt) -> Fields:
    body: Fields = {}
    if request.user is not None:
        if not traits.user:
            receipt.dropped("user", "the provider does not know it")
        elif len(request.user) > MAX_USER_CHARACTERS:
            body["safety_identifier"] = hashlib.sha256(request.user.encode()).hexdigest()
            receipt.changed("user", f"longer than {MAX_USER_CHARACTERS} characters, sent as its SHA-256")
        else:
            body["safety_identifier"] = request.user
    if request.service_tier is not None:
        tier = service_tier(request.service_tier)
        if traits.service_tier and tier in _TIERS:
            body["service_tier"] = tier
        elif tier not in {"auto", "default"}:
            receipt.dropped("service_tier", f"the provider has none named {tier[:40]!r}")
    if request.prompt_cache_key is not None:
        if traits.prompt_cache_key:
            body["prompt_cache_key"] = request.prompt_cache_key
        else:
            receipt.dropped("prompt_cache_key", "the provider does not know it")
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
    inner = _mapping(tool.raw).get("custom")
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


# ---------------------------------------------------------------------------------------------------------------- items


class _Conversation:
    """Writes turns as items, in order."""

    def __init__(self, traits: ResponsesTraits, receipt: Receipt) -> None:
        self._traits = traits
        self._receipt = receipt
        self._out: list[object] = []
        self._custom: set[str] = set()
        """Ids of free-form calls, whose answers have a type of their own."""

    def items(self, messages: tuple[Message, ...]) -> list[object]:
        leading = 0
        while leading < len(messages) and messages[leading].role in {"system", "developer"}:
            leading += 1
        for index, message in enumerate(messages):
            # Callers of other dialects keep the leading system prompt apart and count messages without it.
            path = f"system[{index}]" if index < leading else f"messages[{index - leading}]"
            self._message(message, path)
        return self._out

    def _message(self, message: Message, path: str) -> None:
        if message.name is not None:
            self._receipt.dropped(f"{path}.name", "messages of the Responses API have no names")
        match message.role:
            case "system" | "developer":
                role = "system" if message.role == "system" or not self._traits.developer_role else "developer"
                self._said(role, message, path)
            case "user" | "tool":
                self._said("user", message, path)
            case "assistant":
                self._assistant(message, path)
            case _:
                assert_never(message.role)

    def _said(self, role: str, message: Message, path: str) -> None:
        """A message that is not the model's; the tools' answers in it are items of their own, before it."""
        content: list[object] = []
        is_turn = not message.parts
        for index, part in enumerate(message.parts):
            place = f"{path}.content[{index}]"
            if isinstance(part, ToolResult):
                self._result(part, place)
                continue
            is_turn = True
            wire = self._part(part, place)
            if wire is not None:
                content.append(wire)
        if not is_turn:
            return
        if not content and message.parts:
            # A turn that vanished would have the model answer something else.
            content.append({"type": "input_text", "text": LEFT_OUT})
        item: Fields = {"type": "message", "role": role, "content": content}
        _add_extra(item, message.extra, path, self._receipt)
        self._out.append(item)

    def _result(self, part: ToolResult, path: str) -> None:
        content: list[Fields] = []
        for index, inner in enumerate(part.content):
            wire = self._part(inner, f"{path}.content[{index}]")
            if wire is not None:
                content.append(wire)
        if part.is_error:
            self._receipt.dropped(f"{path}.is_error", "a call's output cannot say that the call failed")
        if part.cache is not None:
            self._receipt.dropped(f"{path}.cache_control", "a call's output has no cache marker")
        is_plain = all(wire.keys() == {"type", "text"} for wire in content)
        kind = "custom_tool_call_output" if part.call_id in self._custom else "function_call_output"
        item: Fields = {
            "type": kind,
            "call_id": _plain_id(part.call_id),
            "output": "\n\n".join(str(wire["text"]) for wire in content) if is_plain else content,
        }
        _add_extra(item, part.extra, path, self._receipt)
        self._out.append(item)

    def _assistant(self, message: Message, path: str) -> None:
        said: list[object] = []
        phase: msgspec.Raw | None = None

        def flush() -> None:
            if said:
                item: Fields = {"type": "message", "role": "assistant", "content": list(said)}
                if phase is not None:
                    item["phase"] = phase
                self._out.append(item)
                said.clear()

        for index, part in enumerate(message.parts):
            place = f"{path}.content[{index}]"
            match part:
                case Text():
                    own = part.extra.fields if part.extra is not None and part.extra.dialect == NAME else {}
                    if own.get("phase") != phase:
                        flush()
                        phase = own.get("phase")
                    said.append(self._words(part, place))
                case Refusal():
                    said.append({"type": "refusal", "refusal": part.text})
                case Thinking() | RedactedThinking():
                    flush()
                    self._thought(part, place)
                case ToolCall():
                    flush()
                    self._call(part, place)
                case Foreign() if part.dialect == NAME:
                    flush()
                    self._out.append(part.raw)
                case _:
                    self._receipt.dropped(place, f"a {_kind(part)} part has no form in an assistant's turn here")
        flush()
        if message.extra is not None and message.extra.dialect != NAME:
            for name in message.extra.fields:
                self._receipt.dropped(f"{path}.{name}", f"only {message.extra.dialect} knows it")

    def _words(self, part: Text, path: str) -> Fields:
        self._no_marker(part.cache, path)
        self._unsign(part, path)
        wire: Fields = {"type": "output_text", "text": part.text}
        annotations = [self._annotation(citation, part, path) for citation in part.citations]
        if annotations:
            wire["annotations"] = [annotation for annotation in annotations if annotation is not None]
        return wire

    def _annotation(self, citation: Citation, part: Text, path: str) -> object | None:
        annotation = write_annotation(citation, len(part.text))
        if annotation is None:
            self._receipt.dropped(f"{path}.citations", "only what has an address can be cited here")
        return annotation

    def _thought(self, part: Thinking | RedactedThinking, path: str) -> None:
        value = part.data if isinstance(part, RedactedThinking) else part.signature
        text = part.text if isinstance(part, Thinking) else ""
        item: Fields = {"type": "reasoning", "summary": []}
        own = None if value is None else sent(value, self._traits.home)
        if own is not None:
            if text:
                item["summary"] = [{"type": "summary_text", "text": text}]
            item["encrypted_content"] = own
        elif text and self._traits.reasoning_text:
            item["content"] = [{"type": "reasoning_text", "text": text}]
        else:
            self._receipt.dropped(path, "only the provider that did this thinking takes it back")
            return
        self._out.append(item)

    def _call(self, call: ToolCall, path: str) -> None:
        self._no_marker(call.cache, path)
        self._unsign(call, path)
        item: Fields
        if call.custom and self._traits.custom_tools:
            self._custom.add(call.id)
            item = {
                "type": "custom_tool_call",
                "call_id": _plain_id(call.id),
                "name": call.name,
                "input": call.arguments,
            }
        else:
            arguments = (
                msgspec.json.encode({"input": call.arguments}).decode() if call.custom else call.arguments or "{}"
            )
            item = {"type": "function_call", "call_id": _plain_id(call.id), "name": call.name, "arguments": arguments}
        _add_extra(item, call.extra, path, self._receipt)
        self._out.append(item)

    def _unsign(self, part: Text | ToolCall, path: str) -> None:
        if part.signature is not None:
            self._receipt.dropped(f"{path}.signature", "only the provider that signed this takes it back")

    # -- parts of what is given

    def _part(self, part: Part, path: str) -> Fields | None:
        wire: Fields | None
        match part:
            case Text():
                wire = {"type": "input_text", "text": part.text}
                self._finish(wire, part.cache, part.extra, path)
            case Image():
                wire = self._image(part, path)
            case Document():
                wire = self._document(part, path)
            case Audio() if self._traits.audio:
                wire = {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
            case Refusal():
                wire = {"type": "input_text", "text": part.text}
            case Foreign() if part.dialect == NAME:
                return dict(_mapping(part.raw))
            case _:
                self._receipt.dropped(path, f"a {_kind(part)} part cannot be given to this provider")
                return None
        return wire

    def _image(self, part: Image, path: str) -> Fields | None:
        if not self._traits.images:
            self._receipt.dropped(path, "the provider takes no images")
            return None
        wire: Fields = {"type": "input_image"}
        match part.source:
            case StoredFile() if part.source.dialect in _FILE_DIALECTS:
                wire["file_id"] = part.source.id
            case _:
                url = self._url(part.source, path)
                if url is None:
                    return None
                wire["image_url"] = url
        wire["detail"] = part.detail or "auto"
        self._finish(wire, part.cache, part.extra, path)
        return wire

    def _document(self, part: Document, path: str) -> Fields | None:
        if part.cite:
            self._receipt.dropped(f"{path}.citations", "the Responses API cannot be asked to cite a document")
        source = part.source
        wire: Fields
        if isinstance(source, Inline) and source.media_type == "text/plain":
            about = [line for line in (part.title, part.context) if line]
            wire = {"type": "input_text", "text": "\n".join([*about, "", source.data]) if about else source.data}
        elif not self._traits.documents:
            self._receipt.dropped(path, "the provider takes no documents")
            return None
        else:
            if part.context is not None:
                self._receipt.dropped(f"{path}.context", "a file part has no place for it")
            wire = {"type": "input_file"}
            match source:
                case StoredFile() if source.dialect in _FILE_DIALECTS:
                    wire["file_id"] = source.id
                case Remote():
                    wire["file_url"] = source.url
                case _:
                    data = self._url(source, path)
                    if data is None:
                        return None
                    # A name is needed with data, and refused with an address or an id.
                    wire["filename"] = part.title or "document.pdf"
                    wire["file_data"] = data
        self._finish(wire, part.cache, part.extra, path)
        return wire

    def _url(self, source: Source, path: str) -> str | None:
        match source:
            case Inline():
                return f"data:{source.media_type};base64,{source.data}"
            case Remote():
                return source.url
            case StoredFile():
                self._receipt.dropped(path, f"the file was uploaded to {source.dialect}; this provider cannot read it")
                return None
            case _:
                assert_never(source)

    def _finish(self, wire: Fields, marker: CacheMarker | None, extra: Extra | None, path: str) -> None:
        if marker is not None and self._traits.cache_breakpoints:
            wire["prompt_cache_breakpoint"] = {"mode": "explicit"}
        else:
            self._no_marker(marker, path)
        _add_extra(wire, extra, path, self._receipt)

    def _no_marker(self, marker: CacheMarker | None, path: str) -> None:
        if marker is not None:
            self._receipt.dropped(f"{path}.cache_control", "the provider caches by itself")


def _add_extra(wire: Fields, extra: Extra | None, path: str, receipt: Receipt) -> None:
    if extra is None:
        return
    for name, raw in extra.fields.items():
        if extra.dialect == NAME:
            wire.setdefault(name, raw)
        else:
            receipt.dropped(f"{path}.{name}", f"only {extra.dialect} knows it")


def _plain_id(call_id: str) -> str:
    """A call's id as OpenAI takes it: a longer one is told by its digest, in the call and in its answer alike."""
    if len(call_id) <= MAX_CALL_ID_CHARACTERS:
        return call_id
    return f"call_{hashlib.sha256(call_id.encode()).hexdigest()[:40]}"


def _kind(part: Part) -> str:
    return part.kind[:40] if isinstance(part, Foreign) else part.__class__.__name__.lower()
