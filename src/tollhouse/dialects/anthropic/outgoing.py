"""A request for a provider, from the canonical one.

What Anthropic cannot be told, or only in other terms, is noted in the receipt.
"""

from typing import Final, assert_never

import msgspec

from tollhouse.chat.markers import Markers
from tollhouse.chat.model import ForeignTool, JsonObject, JsonSchema, Reasoning, Request, Tool
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.anthropic.blocks import Block, merge_extra
from tollhouse.dialects.anthropic.traits import EFFORT_BUDGETS, AnthropicTraits
from tollhouse.dialects.anthropic.turns import Turn, TurnWriter, goes_on_without_thinking, simplest
from tollhouse.dialects.anthropic.wire import NAME
from tollhouse.dialects.fields import UNREADABLE

NO_ARGUMENTS: Final = msgspec.Raw(b'{"type":"object","properties":{}}')
MAX_USER_CHARACTERS: Final = 256
"""`metadata.user_id`'s bound (Messages API reference)."""

_SERVICE_TIERS: Final = {
    "auto": "auto",
    "standard_only": "standard_only",
    "default": "standard_only",
    "priority": "auto",
}


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


class _Composer:
    """One request on its way out."""

    __slots__ = ("_markers", "_receipt", "_request", "_traits")

    def __init__(self, request: Request, traits: AnthropicTraits, receipt: Receipt) -> None:
        self._request = request
        self._traits = traits
        self._receipt = receipt
        self._markers = Markers(traits.max_cache_markers)

    def compose(self) -> Block:
        request = self._request
        tools = self._tools()
        system, turns = TurnWriter(self._traits, self._markers, self._receipt).write(request.messages)
        top: Block = {}
        self._markers.mark(top, request.cache, "top")
        self._markers.settle(self._receipt)
        fields: Block = {"model": request.model, "max_tokens": request.max_output_tokens}
        if system:
            fields["system"] = simplest(system)
        fields["messages"] = [{"role": turn.role, "content": simplest(turn.blocks)} for turn in turns]
        if tools:
            fields["tools"] = tools
        self._tool_choice(fields)
        self._reasoning(fields, turns)
        if fields["max_tokens"] is None:
            fields["max_tokens"] = self._traits.default_max_tokens
        self._sampling(fields)
        self._response_format(fields)
        self._bookkeeping(fields)
        fields.update(top)
        if request.stream:
            fields["stream"] = True
        if request.extra is not None and request.extra.dialect != NAME:
            for name in request.extra.fields:
                self._receipt.dropped(name, "Anthropic's dialect has no such field")
        merge_extra(fields, request.extra)
        return fields

    # -- tools

    def _tools(self) -> list[object]:
        tools: list[object] = []
        for index, tool in enumerate(self._request.tools):
            path = f"tools[{index}]"
            match tool:
                case Tool():
                    tools.append(self._tool(tool, path))
                case ForeignTool(dialect=dialect) if dialect == NAME:
                    self._markers.count_fixed(tool.raw)
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
        self._markers.mark(block, tool.cache, "tools")
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

    def _reasoning(self, fields: Block, turns: list[Turn]) -> None:
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

    def _may_think(self, reasoning: Reasoning, turns: list[Turn]) -> bool:
        """Whether Anthropic would take the request with thinking; never asked of a client that said `thinking` itself."""
        choice = self._request.tool_choice
        if reasoning.mode is not None:
            return True
        if choice is not None and choice.mode in {"required", "named"} and self._request.tools:
            self._receipt.dropped("reasoning", "Anthropic does not think when a tool call is forced")
            return False
        if self._thinks_in_tokens(reasoning) and goes_on_without_thinking(turns):
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


def _typed_schema(schema: msgspec.Raw) -> msgspec.Raw:
    """A tool's schema, with the `type` that Anthropic demands and others let people leave out."""
    try:
        fields = msgspec.json.decode(schema, type=dict[str, msgspec.Raw])
    except UNREADABLE:
        return schema  # no object at all; the provider says it best
    if "type" in fields:
        return schema
    return msgspec.Raw(msgspec.json.encode({"type": "object", **fields}))
