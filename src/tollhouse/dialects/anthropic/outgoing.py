"""A request for a provider, from the canonical one.

Anthropic is stricter than others about a conversation's form: system text stands apart, turns alternate, every tool result of a
turn comes in one user turn right after it and first in it, no text is empty, ids are plain, at most four cache markers.
What has to be rearranged for that loses nothing and is not noted; what is dropped or means something else is noted in the
receipt.
"""

import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal, assert_never

import msgspec

from tollhouse.chat.model import (
    CacheMarker,
    Document,
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
    ToolResult,
)
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.anthropic.blocks import (
    Block,
    input_object,
    merge_extra,
    part_name,
    write_cache_marker,
    write_thinking,
)
from tollhouse.dialects.anthropic.lane import SYSTEM_REMINDER
from tollhouse.dialects.anthropic.response import custom_input
from tollhouse.dialects.anthropic.traits import EFFORT_BUDGETS, AnthropicTraits
from tollhouse.dialects.anthropic.wire import NAME, UNREADABLE

NO_ARGUMENTS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
MAX_USER_CHARACTERS: Final = 256
"""`metadata.user_id`'s bound (Messages API reference)."""

_PLAIN_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
_SERVICE_TIERS: Final = {
    "auto": "auto",
    "standard_only": "standard_only",
    "default": "standard_only",
    "priority": "auto",
}

_Role = Literal["user", "assistant", "system"]


def encode_request(request: Request, traits: AnthropicTraits, receipt: Receipt) -> bytes:
    """The body for a provider; `request.model` is its name there."""
    return msgspec.json.encode(compose(request, traits, receipt))


def compose(request: Request, traits: AnthropicTraits, receipt: Receipt) -> Block:
    """The fields of the body, in the order in which Anthropic documents them."""
    composer = _Composer(request, traits, receipt)
    fields = composer.compose()
    for name in sorted(traits.drop_fields & fields.keys()):
        del fields[name]
        receipt.dropped(name, "the provider refuses it")
    return fields


@dataclass(slots=True)
class _Turn:
    role: _Role
    blocks: list[object] = field(default_factory=list)


class _Composer:
    """One request on its way out: what it reads, where it notes losses, and which blocks carry a cache marker."""

    __slots__ = ("_fixed_markers", "_marked", "_receipt", "_request", "_traits")

    def __init__(self, request: Request, traits: AnthropicTraits, receipt: Receipt) -> None:
        self._request = request
        self._traits = traits
        self._receipt = receipt
        self._marked: list[Block] = []
        """In the order of the prompt: tools, system, messages."""
        self._fixed_markers = 0
        """Markers inside blocks that are passed on as they are."""

    def compose(self) -> Block:
        request = self._request
        tools = self._tools()
        system, turns = self._conversation()
        self._limit_cache_markers()
        fields: Block = {"model": request.model, "max_tokens": request.max_output_tokens}
        if system:
            only = system[0]
            plain = len(system) == 1 and isinstance(only, dict) and only.keys() == {"type", "text"}
            fields["system"] = only["text"] if plain and isinstance(only, dict) else system
        fields["messages"] = [{"role": turn.role, "content": _simplest(turn.blocks)} for turn in turns]
        if tools:
            fields["tools"] = tools
        self._tool_choice(fields)
        self._reasoning(fields, turns)
        if fields["max_tokens"] is None:
            fields["max_tokens"] = self._traits.default_max_tokens
        self._sampling(fields)
        self._response_format(fields)
        self._bookkeeping(fields)
        if request.cache is not None:
            if self._traits.max_cache_markers:
                fields["cache_control"] = write_cache_marker(request.cache)
            else:
                self._receipt.dropped("cache_control", "the provider takes no cache markers")
        if request.stream:
            fields["stream"] = True
        if request.extra is not None and request.extra.dialect != NAME:
            for name in request.extra.fields:
                self._receipt.dropped(name, "Anthropic's dialect has no such field")
        merge_extra(fields, request.extra)
        return fields

    # -- the conversation

    def _conversation(self) -> tuple[list[object], list[_Turn]]:
        """The top-level system blocks, and the turns."""
        messages = self._request.messages
        first = next((i for i, m in enumerate(messages) if m.role not in {"system", "developer"}), len(messages))
        system = [block for i in range(first) for block in self._system_blocks(messages[i], i)]
        turns: list[_Turn] = []
        owed: set[str] = set()
        waiting: list[tuple[_Role, list[object]]] = []
        for index in range(first, len(messages)):
            message = messages[index]
            self._note_message(message, index)
            match message.role:
                case "system" | "developer":
                    late = self._late_system(message, index)
                    # Nothing may part tool calls from their results, so a system turn in between waits for the last one.
                    if owed:
                        waiting.append(late)
                    else:
                        _add(turns, *late)
                case "assistant":
                    _add_all(turns, waiting)
                    _add(turns, "assistant", self._assistant_blocks(message, index))
                    owed = {part.id for part in message.parts if isinstance(part, ToolCall)}
                case "user" | "tool":
                    _add(turns, "user", self._user_blocks(message, index))
                    owed -= {part.call_id for part in message.parts if isinstance(part, ToolResult)}
                    if not owed:
                        _add_all(turns, waiting)
                case _:
                    assert_never(message.role)
        _add_all(turns, waiting)
        for turn in turns:
            if turn.role == "user":
                turn.blocks.sort(key=lambda block: not _is_tool_result(block))
        self._trim_prefill(turns)
        if not turns and system:
            self._receipt.changed("messages[0]", "sent as the user's, as Anthropic needs a user's turn")
            return [], [_Turn("user", system)]
        return system, turns

    def _note_message(self, message: Message, index: int) -> None:
        if message.name is not None:
            self._receipt.dropped(f"messages[{index}].name", "Anthropic's messages have no names")
        if message.extra is not None and message.extra.dialect != NAME:
            for name in message.extra.fields:
                self._receipt.dropped(f"messages[{index}].{name}", "Anthropic's dialect has no such field")

    def _system_blocks(self, message: Message, index: int) -> list[object]:
        blocks: list[object] = []
        for number, part in enumerate(message.parts):
            path = f"messages[{index}].content[{number}]"
            match part:
                case Text() | Refusal():
                    self._append_text(blocks, part, path)
                case Foreign() if part.dialect == NAME:
                    self._append_foreign(blocks, part)
                case _:
                    self._receipt.dropped(path, "a system prompt holds only text")
        return blocks

    def _late_system(self, message: Message, index: int) -> tuple[_Role, list[object]]:
        blocks = self._system_blocks(message, index)
        if self._traits.system_in_messages:
            return "system", blocks
        self._receipt.changed(f"messages[{index}]", "a system message after the beginning is sent as the user's text")
        for block in blocks:
            if isinstance(block, dict) and isinstance(text := block.get("text"), str):
                block["text"] = SYSTEM_REMINDER.format(text)
        return "user", blocks

    def _user_blocks(self, message: Message, index: int) -> list[object]:
        blocks: list[object] = []
        for number, part in enumerate(message.parts):
            path = f"messages[{index}].content[{number}]"
            if isinstance(part, ToolResult):
                blocks.append(self._tool_result(part, path))
            else:
                self._append_material(blocks, part, path)
        return blocks

    def _assistant_blocks(self, message: Message, index: int) -> list[object]:
        blocks: list[object] = []
        for number, part in enumerate(message.parts):
            path = f"messages[{index}].content[{number}]"
            match part:
                case Text() | Refusal():
                    self._append_text(blocks, part, path)
                case ToolCall():
                    blocks.append(self._tool_use(part, path))
                case Thinking() if part.signature is None:
                    self._receipt.dropped(path, "Anthropic takes back only thinking that it signed")
                case Thinking():
                    blocks.append(write_thinking(part))
                case RedactedThinking():
                    blocks.append({"type": "redacted_thinking", "data": part.data})
                case Foreign() if part.dialect == NAME:
                    self._append_foreign(blocks, part)
                case _:
                    self._receipt.dropped(path, f"{part_name(part)} has no place in an assistant's turn")
        return blocks

    def _append_material(self, blocks: list[object], part: Part, path: str) -> None:
        """What a user shows: in a turn, or in a tool's result."""
        match part:
            case Text() | Refusal():
                self._append_text(blocks, part, path)
            case Image():
                block = self._image(part, path)
                if block is not None:
                    blocks.append(block)
            case Document():
                block = self._document(part, path)
                if block is not None:
                    blocks.append(block)
            case Foreign() if part.dialect == NAME:
                self._append_foreign(blocks, part)
            case _:
                self._receipt.dropped(path, f"{part_name(part)} has no place in a user's turn")

    def _append_text(self, blocks: list[object], part: Text | Refusal, path: str) -> None:
        cache = part.cache if isinstance(part, Text) else None
        if not part.text.strip():
            # Anthropic refuses blank text.  A marker on it is about what comes before, so it moves there.
            if part.text:
                self._receipt.dropped(path, "Anthropic refuses text of blanks only")
            if cache is not None:
                before = blocks[-1] if blocks else None
                if isinstance(before, dict) and not before.keys() & {"cache_control", "thinking", "data"}:
                    self._mark(before, cache)
                else:
                    self._receipt.dropped(f"{path}.cache_control", "there is no text to mark")
            return
        block: Block = {"type": "text", "text": part.text}
        if isinstance(part, Text):
            own = [c.extra.fields for c in part.citations if c.extra is not None and c.extra.dialect == NAME]
            if len(own) < len(part.citations):
                self._receipt.dropped(f"{path}.citations", "Anthropic takes back only citations of its own")
            if own:
                block["citations"] = own
            self._mark(block, cache)
            merge_extra(block, part.extra)
        blocks.append(block)

    def _append_foreign(self, blocks: list[object], part: Foreign) -> None:
        self._fixed_markers += b'"cache_control"' in bytes(part.raw)
        blocks.append(part.raw)

    def _image(self, part: Image, path: str) -> Block | None:
        source = self._source(part.source, path) if self._traits.images else None
        if not self._traits.images:
            self._receipt.dropped(path, "the provider takes no images")
        if source is None:
            return None
        if part.detail not in {None, "auto"}:
            self._receipt.dropped(f"{path}.detail", "Anthropic chooses an image's detail itself")
        block: Block = {"type": "image", "source": source}
        self._mark(block, part.cache)
        merge_extra(block, part.extra)
        return block

    def _document(self, part: Document, path: str) -> Block | None:
        if not self._traits.documents:
            self._receipt.dropped(path, "the provider takes no documents")
            return None
        source: Block | None
        match part.source:
            case Inline(media_type="text/plain", data=data):
                source = {"type": "text", "media_type": "text/plain", "data": data}
            case Inline(media_type=media_type) if media_type != "application/pdf":
                self._receipt.dropped(path, f"Anthropic takes PDF and plain text, not {media_type[:60]}")
                return None
            case _:
                source = self._source(part.source, path)
        if source is None:
            return None
        block: Block = {"type": "document", "source": source}
        if part.title is not None:
            block["title"] = part.title
        if part.context is not None:
            block["context"] = part.context
        if part.cite:
            block["citations"] = {"enabled": True}
        self._mark(block, part.cache)
        merge_extra(block, part.extra)
        return block

    def _source(self, source: Source, path: str) -> Block | None:
        match source:
            case Inline():
                return {"type": "base64", "media_type": source.media_type, "data": source.data}
            case Remote():
                return {"type": "url", "url": source.url}
            case StoredFile(dialect=dialect) if dialect == NAME:
                return {"type": "file", "file_id": source.id}
            case StoredFile():
                self._receipt.dropped(path, "a file that was uploaded to another provider is unknown to Anthropic")
                return None
            case _:
                assert_never(source)

    def _tool_use(self, part: ToolCall, path: str) -> Block:
        arguments: object = custom_input(part.arguments) if part.custom else input_object(part.arguments)
        if arguments is None:
            # Cut off by a length limit: the model shall still see what it began to say.
            self._receipt.changed(path, "arguments that are no JSON object are sent as {_raw: text}")
            arguments = {"_raw": part.arguments}
        block: Block = {"type": "tool_use", "id": plain_id(part.id), "name": part.name, "input": arguments}
        self._mark(block, part.cache)
        merge_extra(block, part.extra)
        return block

    def _tool_result(self, part: ToolResult, path: str) -> Block:
        content: list[object] = []
        for number, piece in enumerate(part.content):
            self._append_material(content, piece, f"{path}.content[{number}]")
        block: Block = {"type": "tool_result", "tool_use_id": plain_id(part.call_id)}
        if content:
            block["content"] = _simplest(content)
        if part.is_error:
            block["is_error"] = True
        self._mark(block, part.cache)
        merge_extra(block, part.extra)
        return block

    def _trim_prefill(self, turns: list[_Turn]) -> None:
        """Anthropic refuses an assistant's last turn that ends in white space."""
        if not turns or turns[-1].role != "assistant":
            return
        blocks = turns[-1].blocks
        last = blocks[-1]
        if isinstance(last, dict) and isinstance(text := last.get("text"), str) and text != text.rstrip():
            last["text"] = text.rstrip()
            self._receipt.changed("messages[-1]", "white space at the end of the assistant's beginning is left out")

    # -- tools

    def _tools(self) -> list[object]:
        tools: list[object] = []
        for index, tool in enumerate(self._request.tools):
            path = f"tools[{index}]"
            match tool:
                case Tool():
                    tools.append(self._tool(tool, path))
                case ForeignTool(dialect=dialect) if dialect == NAME:
                    self._fixed_markers += b'"cache_control"' in bytes(tool.raw)
                    tools.append(tool.raw)
                case ForeignTool():
                    self._receipt.dropped(path, f"a tool of type {tool.kind[:40]!r} is not Anthropic's")
                case _:
                    assert_never(tool)
        return tools

    def _tool(self, tool: Tool, path: str) -> Block:
        block: Block = {"name": tool.name}
        if tool.description is not None:
            block["description"] = tool.description
        block["input_schema"] = NO_ARGUMENTS if tool.schema is None else _typed_schema(tool.schema)
        if tool.strict is not None:
            if self._traits.structured_output != "none":
                block["strict"] = tool.strict
            elif tool.strict:
                self._receipt.dropped(f"{path}.strict", "the provider cannot hold a model to a schema")
        self._mark(block, tool.cache)
        if tool.extra is not None and tool.extra.dialect != NAME:
            for name in tool.extra.fields:
                self._receipt.dropped(f"{path}.{name}", "Anthropic's dialect has no such field")
        merge_extra(block, tool.extra)
        return block

    def _tool_choice(self, fields: Block) -> None:
        request = self._request
        choice, parallel = request.tool_choice, request.parallel_tool_calls
        if "tools" not in fields:
            # Anthropic refuses a choice without tools; there is nothing to choose from.
            if choice is not None and choice.mode in {"required", "named"}:
                self._receipt.dropped("tool_choice", "no tools are left to choose from")
            return
        if choice is None and parallel is not False:
            return
        chosen: Block
        match choice.mode if choice is not None else "auto":
            case "auto":
                chosen = {"type": "auto"}
            case "required":
                chosen = {"type": "any"}
            case "none":
                fields["tool_choice"] = {"type": "none"}
                return
            case "named":
                chosen = {"type": "tool", "name": choice.name if choice is not None else None}
        if parallel is not None:
            chosen["disable_parallel_tool_use"] = not parallel
        fields["tool_choice"] = chosen

    # -- thinking

    def _reasoning(self, fields: Block, turns: list[_Turn]) -> None:
        reasoning = self._request.reasoning
        if reasoning is None:
            return
        if reasoning.mode == "disabled" or (reasoning.mode is None and reasoning.effort == "none"):
            if self._traits.thinking != "none":
                fields["thinking"] = {"type": "disabled"}
        elif self._traits.thinking == "none":
            self._receipt.dropped("reasoning", "the provider cannot be told how to think")
            return
        elif self._may_think(reasoning, turns):
            fields["thinking"] = thinking = self._thinking(reasoning, fields)
            if thinking is None:
                del fields["thinking"]
                self._receipt.dropped("reasoning", "the output limit leaves no room for thinking")
        self._effort(reasoning, fields)

    def _may_think(self, reasoning: Reasoning, turns: list[_Turn]) -> bool:
        """Whether Anthropic would take the request with thinking; never asked of a client that said `thinking` itself."""
        choice = self._request.tool_choice
        if reasoning.mode is not None:
            return True
        if choice is not None and choice.mode in {"required", "named"} and self._request.tools:
            self._receipt.dropped("reasoning", "Anthropic does not think when a tool call is forced")
            return False
        if self._thinks_in_tokens(reasoning) and _goes_on_without_thinking(turns):
            self._receipt.dropped("reasoning", "the tool calls under way came without the thinking that led to them")
            return False
        return True

    def _thinks_in_tokens(self, reasoning: Reasoning) -> bool:
        if self._traits.thinking == "any":
            return reasoning.budget_tokens is not None
        return self._traits.thinking == "budget"

    def _thinking(self, reasoning: Reasoning, fields: Block) -> Block | None:
        """`thinking` in the terms that the provider knows; `None` if it does not fit under the output limit."""
        if not self._thinks_in_tokens(reasoning):
            thinking: Block = {"type": "adaptive"}
            if reasoning.budget_tokens is not None:
                self._receipt.changed("thinking.budget_tokens", "the model decides itself how long to think")
        else:
            budget = reasoning.budget_tokens
            if budget is None:
                budget = EFFORT_BUDGETS.get(reasoning.effort or "medium", EFFORT_BUDGETS["medium"])
            budget = max(budget, self._traits.min_thinking_budget)
            limit = self._request.max_output_tokens
            if limit is None:
                fields["max_tokens"] = budget + self._traits.default_max_tokens
            elif budget >= limit:
                # The limit holds thinking and answer; half of it each is the fairest that can be done.
                budget = limit // 2
                if budget < self._traits.min_thinking_budget:
                    return None
                self._receipt.changed("reasoning", f"thinking is cut to {budget} tokens to fit the output limit")
            thinking = {"type": "enabled", "budget_tokens": budget}
        if reasoning.display is not None:
            thinking["display"] = reasoning.display
        return thinking

    def _effort(self, reasoning: Reasoning, fields: Block) -> None:
        effort = reasoning.effort
        if effort is None and reasoning.budget_tokens is not None and not self._thinks_in_tokens(reasoning):
            effort = next((e for e, budget in EFFORT_BUDGETS.items() if reasoning.budget_tokens <= budget), "max")
        if effort is None or effort == "none":
            return
        word = self._traits.efforts.get(effort)
        if word is None:
            if self._traits.efforts or "thinking" not in fields:
                self._receipt.dropped("reasoning.effort", f"the provider has no word for {effort[:20]!r}")
            return
        if word != effort:
            self._receipt.changed("reasoning.effort", f"{effort[:20]!r} is told as {word!r}")
        fields["output_config"] = {"effort": word}

    # -- the rest

    def _sampling(self, fields: Block) -> None:
        request, receipt = self._request, self._receipt
        temperature, top_p, top_k = request.temperature, request.top_p, request.top_k
        thinking = fields.get("thinking")
        if isinstance(thinking, dict) and thinking["type"] != "disabled":
            if temperature is not None and temperature != 1:
                receipt.dropped("temperature", "Anthropic takes none but 1 together with thinking")
                temperature = None
            if top_p is not None and top_p < 0.95:
                receipt.dropped("top_p", "Anthropic takes none under 0.95 together with thinking")
                top_p = None
            if top_k is not None:
                receipt.dropped("top_k", "Anthropic takes none together with thinking")
                top_k = None
        if temperature is not None and not 0 <= temperature <= self._traits.max_temperature:
            clamped = min(max(temperature, 0.0), self._traits.max_temperature)
            receipt.changed("temperature", f"{temperature:g} is out of range and sent as {clamped:g}")
            temperature = clamped
        if temperature is not None and top_p is not None and not self._traits.temperature_with_top_p:
            if top_p < 1:
                receipt.dropped("top_p", "Anthropic takes either temperature or top_p")
            top_p = None
        for name, value in (("temperature", temperature), ("top_p", top_p), ("top_k", top_k)):
            if value is not None:
                fields[name] = value
        stops = [stop for stop in request.stop if stop.strip()]
        if len(stops) < len(request.stop):
            receipt.dropped("stop", "Anthropic refuses stop strings of blanks only")
        if stops:
            fields["stop_sequences"] = stops
        for name, is_given in (
            ("seed", request.seed is not None),
            ("presence_penalty", bool(request.presence_penalty)),
            ("frequency_penalty", bool(request.frequency_penalty)),
            ("logprobs", request.logprobs or bool(request.top_logprobs)),
            ("prompt_cache_key", request.prompt_cache_key is not None),
        ):
            if is_given:
                receipt.dropped(name, "Anthropic's dialect has no such field")
        if request.choices > 1:
            receipt.changed("n", f"one answer instead of {request.choices}")

    def _response_format(self, fields: Block) -> None:
        wanted = self._request.response_format
        match wanted:
            case None:
                return
            case JsonObject():
                self._receipt.dropped("response_format", "Anthropic has no JSON mode without a schema")
            case JsonSchema() if self._traits.structured_output == "none":
                self._receipt.dropped("response_format", "the provider cannot hold a model to a schema")
            case JsonSchema():
                form = {"type": "json_schema", "schema": wanted.schema}
                if self._traits.structured_output == "output_format":
                    fields["output_format"] = form
                    return
                config = fields.get("output_config")
                fields["output_config"] = {**(config if isinstance(config, dict) else {}), "format": form}
            case _:
                assert_never(wanted)

    def _bookkeeping(self, fields: Block) -> None:
        request, receipt = self._request, self._receipt
        if request.user is not None:
            if len(request.user) > MAX_USER_CHARACTERS or "@" in request.user:
                receipt.dropped("user", "Anthropic refuses addresses and more than 256 characters as a user's id")
            else:
                fields["metadata"] = {"user_id": request.user}
        tier = request.service_tier
        if tier is not None:
            word = _SERVICE_TIERS.get(tier)
            if word is None:
                receipt.dropped("service_tier", f"Anthropic has no tier {tier[:20]!r}")
            else:
                if tier == "priority":
                    receipt.changed("service_tier", "priority is told as auto: used if the account has it")
                fields["service_tier"] = word

    def _mark(self, block: Block, cache: CacheMarker | None) -> None:
        if cache is not None:
            block["cache_control"] = write_cache_marker(cache)
            self._marked.append(block)

    def _limit_cache_markers(self) -> None:
        """Keeps the last markers, which cover the longest prompts: later ones include what earlier ones mark."""
        limit = self._traits.max_cache_markers
        room = max(0, limit - self._fixed_markers - (self._request.cache is not None))
        excess = len(self._marked) - room
        if excess <= 0:
            return
        for block in self._marked[:excess]:
            block.pop("cache_control", None)
        self._receipt.dropped(
            "cache_control", f"{excess} of {len(self._marked)} markers, as the provider takes {limit}"
        )


def plain_id(identity: str) -> str:
    """A tool call's id in the characters that Anthropic takes, the same for the call and its result."""
    if _PLAIN_ID.fullmatch(identity):
        return identity
    return f"toolu_{sha256(identity.encode()).hexdigest()[:24]}"


def _simplest(blocks: list[object]) -> object:
    """Content as a plain string where it is nothing more."""
    only = blocks[0] if len(blocks) == 1 else None
    return only["text"] if isinstance(only, dict) and only.keys() == {"type", "text"} else blocks


def _add(turns: list[_Turn], role: _Role, blocks: list[object]) -> None:
    """Adds to the turn under way, as turns alternate; a turn of nothing is none."""
    if not blocks:
        return
    if turns and turns[-1].role == role:
        turns[-1].blocks += blocks
    else:
        turns.append(_Turn(role, list(blocks)))


def _add_all(turns: list[_Turn], waiting: list[tuple[_Role, list[object]]]) -> None:
    for role, blocks in waiting:
        _add(turns, role, blocks)
    waiting.clear()


def _is_a(block: object, *kinds: str) -> bool:
    return isinstance(block, dict) and block["type"] in kinds


def _is_tool_result(block: object) -> bool:
    return _is_a(block, "tool_result")


def _goes_on_without_thinking(turns: list[_Turn]) -> bool:
    """Whether tool results answer calls whose turn does not begin with thinking, which manual thinking demands."""
    last = next((turn for turn in reversed(turns) if turn.role == "assistant"), None)
    return (
        last is not None
        and turns[-1].role == "user"
        and any(_is_tool_result(block) for block in turns[-1].blocks)
        and not _is_a(last.blocks[0], "thinking", "redacted_thinking")
    )


def _typed_schema(schema: msgspec.Raw) -> msgspec.Raw:
    """A tool's schema, with the `type` that Anthropic demands and others let people leave out."""
    try:
        fields = msgspec.json.decode(schema, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        return schema  # no object at all; the provider says it best
    if "type" in fields:
        return schema
    return msgspec.Raw(msgspec.json.encode({"type": "object", **fields}))
