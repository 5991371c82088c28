"""A request for a provider, from the canonical one.

What Gemini cannot be told, or only in other terms, is noted in the receipt.  The model and whether to stream are not in the
body: the gateway puts both into the path.
"""

from typing import Final, assert_never

import msgspec

from tollhouse.chat.model import ForeignTool, JsonObject, JsonSchema, Reasoning, Request, Tool
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.gemini.schema import write_schema
from tollhouse.dialects.gemini.traits import EFFORT_BUDGETS, GeminiTraits
from tollhouse.dialects.gemini.turns import TurnWriter
from tollhouse.dialects.gemini.wire import NAME, Block, merge_extra

MAX_STOPS: Final = 5
"""`stopSequences`' bound (ai.google.dev/api/generate-content, "GenerationConfig")."""

_DOCUMENTED: Final = frozenset({"minimal", "low", "medium", "high"})
"""Efforts that Google itself has budgets for."""

_SERVICE_TIERS: Final = {
    "standard": "standard",
    "standard_only": "standard",
    "default": "standard",
    "flex": "flex",
    "priority": "priority",
}


def encode_request(request: Request, traits: GeminiTraits, receipt: Receipt) -> bytes:
    """The body for a provider."""
    return msgspec.json.encode(compose(request, traits, receipt))


def compose(request: Request, traits: GeminiTraits, receipt: Receipt) -> Block:
    """The fields of the body."""
    fields = _Composer(request, traits, receipt).compose()
    for name in sorted(traits.drop_fields & fields.keys()):
        del fields[name]
        receipt.dropped(name, "the provider refuses it")
    return fields


class _Composer:
    """One request on its way out."""

    __slots__ = ("_receipt", "_request", "_traits")

    def __init__(self, request: Request, traits: GeminiTraits, receipt: Receipt) -> None:
        self._request = request
        self._traits = traits
        self._receipt = receipt

    def compose(self) -> Block:
        request, receipt = self._request, self._receipt
        fields: Block = {}
        system, turns = TurnWriter(self._traits, receipt).write(request.messages)
        if system:
            fields["systemInstruction"] = {"parts": system}
        fields["contents"] = [{"role": turn.role, "parts": turn.parts} for turn in turns]
        tools = self._tools()
        if tools:
            fields["tools"] = tools
        self._tool_choice(fields)
        config: Block = {}
        self._sampling(config)
        self._reasoning(config)
        self._response_format(config, has_tools=bool(tools))
        if config:
            fields["generationConfig"] = config
        self._bookkeeping(fields)
        if request.extra is not None and request.extra.dialect != NAME:
            for name in request.extra.fields:
                receipt.dropped(name, "Gemini's dialect has no such field")
        merge_extra(fields, request.extra)
        return fields

    # -- tools

    def _tools(self) -> list[object]:
        """All functions as one tool, as Google documents it, and its own tools beside them."""
        functions: list[object] = []
        own: list[object] = []
        for index, tool in enumerate(self._request.tools):
            path = f"tools[{index}]"
            match tool:
                case Tool() if not self._traits.tools:
                    self._receipt.dropped(path, "the model takes no tools")
                case Tool():
                    functions.append(self._function(tool, path))
                case ForeignTool(dialect=dialect, raw=raw) if dialect == NAME:
                    own.append(raw)
                case ForeignTool(kind=kind):
                    self._receipt.dropped(path, f"a tool of type {kind[:40]!r} is not Google's")
                case _:
                    assert_never(tool)
        return [*([{"functionDeclarations": functions}] if functions else []), *own]

    def _function(self, tool: Tool, path: str) -> Block:
        block: Block = {"name": tool.name}
        if tool.description is not None:
            block["description"] = tool.description
        if tool.schema is not None:
            block["parametersJsonSchema"] = write_schema(tool.schema, path, self._receipt)
        if tool.cache is not None:
            self._receipt.dropped(f"{path}.cache_control", "Gemini caches on its own, or by `cachedContent`")
        if tool.extra is not None and tool.extra.dialect != NAME:
            for name in tool.extra.fields:
                self._receipt.dropped(f"{path}.{name}", "Gemini's dialect has no such field")
        merge_extra(block, tool.extra)
        return block

    def _tool_choice(self, fields: Block) -> None:
        request, receipt = self._request, self._receipt
        choice = request.tool_choice
        has_functions = any(isinstance(tool, Tool) for tool in request.tools) and self._traits.tools
        if request.parallel_tool_calls is False and has_functions:
            receipt.dropped("parallel_tool_calls", "Gemini cannot be kept to one call at a time")
        if not has_functions:
            if choice is not None and choice.mode in {"required", "named"}:
                receipt.dropped("tool_choice", "no tools are left to choose from")
            return
        is_strict = any(isinstance(tool, Tool) and tool.strict for tool in request.tools)
        calling: Block
        match "auto" if choice is None else choice.mode:
            case "auto":
                if not is_strict and choice is None:
                    return
                if is_strict and not self._traits.validated_mode:
                    receipt.dropped(
                        "tools.strict", "the model cannot hold calls to a schema without being made to call"
                    )
                calling = {"mode": "VALIDATED" if is_strict and self._traits.validated_mode else "AUTO"}
            case "required":
                calling = {"mode": "ANY"}
            case "none":
                calling = {"mode": "NONE"}
            case "named":
                calling = {"mode": "ANY", "allowedFunctionNames": [choice.name if choice is not None else None]}
        fields["toolConfig"] = {"functionCallingConfig": calling}

    # -- sampling

    def _sampling(self, config: Block) -> None:
        request, receipt, traits = self._request, self._receipt, self._traits
        if request.max_output_tokens is not None:
            config["maxOutputTokens"] = request.max_output_tokens
        if request.temperature is not None:
            temperature = min(max(request.temperature, 0.0), 2.0)
            if temperature != request.temperature:
                receipt.changed("temperature", f"{request.temperature:g} is out of range and sent as {temperature:g}")
            config["temperature"] = temperature
        if request.top_p is not None:
            config["topP"] = request.top_p
        if request.top_k is not None:
            config["topK"] = request.top_k
        stops = [stop for stop in request.stop if stop]
        if len(stops) > MAX_STOPS:
            receipt.dropped("stop", f"{len(stops) - MAX_STOPS} of {len(stops)}, as Gemini takes {MAX_STOPS}")
        if stops:
            config["stopSequences"] = stops[:MAX_STOPS]
        penalties = (("presencePenalty", request.presence_penalty), ("frequencyPenalty", request.frequency_penalty))
        for name, penalty in penalties:
            if penalty is None:
                continue
            if traits.penalties:
                config[name] = penalty
            elif penalty:
                receipt.dropped(name.removesuffix("Penalty") + "_penalty", "the model takes no penalties")
        if request.seed is not None:
            if traits.seed:
                config["seed"] = request.seed
            else:
                receipt.dropped("seed", "the model takes none")
        if request.choices > 1:
            candidates = min(request.choices, traits.max_candidates)
            if candidates < request.choices:
                receipt.changed("n", f"{candidates} answers instead of {request.choices}")
            if candidates > 1:
                config["candidateCount"] = candidates
        if request.logprobs or request.top_logprobs:
            if traits.logprobs:
                config["responseLogprobs"] = True
                if request.top_logprobs:
                    config["logprobs"] = request.top_logprobs
            else:
                receipt.dropped("logprobs", "the model gives none")

    # -- thinking

    def _reasoning(self, config: Block) -> None:
        reasoning = self._request.reasoning
        if reasoning is None:
            return
        if self._traits.thinking == "none":
            if reasoning.mode != "disabled" and reasoning.effort != "none":
                self._receipt.dropped("reasoning", "the model cannot be told how to think")
            return
        is_off = reasoning.mode == "disabled" or (reasoning.mode is None and reasoning.effort == "none")
        told = (
            self._in_words(reasoning, is_off=is_off)
            if self._traits.thinking == "level"
            else self._in_tokens(reasoning, is_off=is_off)
        )
        if not is_off:
            # Who asks a model to think expects to see it, as far as its provider shows it.
            told["includeThoughts"] = reasoning.display != "omitted"
        if told:
            config["thinkingConfig"] = told

    def _in_words(self, reasoning: Reasoning, *, is_off: bool) -> Block:
        effort = "none" if is_off else reasoning.effort
        if effort is None and reasoning.budget_tokens is not None:
            # A budget says more than the words do; the models that know words still take it.
            effort = next(
                (
                    word
                    for word, most in EFFORT_BUDGETS.items()
                    if reasoning.budget_tokens <= most and word != "minimal"
                ),
                "high",
            )
            self._receipt.changed(
                "thinking.budget_tokens", f"{reasoning.budget_tokens} said as `thinkingLevel: {effort}`"
            )
        if effort is None:
            return {}
        level = self._traits.levels.get(effort)
        if level is None:
            self._receipt.dropped("reasoning.effort", f"the model has no word for {effort[:20]!r}")
            return {}
        if is_off:
            self._receipt.changed("reasoning", f"thinking cannot be turned off, only down to {level.lower()}")
        elif level.lower() != effort:
            self._receipt.changed("reasoning.effort", f"{effort[:20]!r} is told as {level.lower()!r}")
        return {"thinkingLevel": level}

    def _in_tokens(self, reasoning: Reasoning, *, is_off: bool) -> Block:
        traits = self._traits
        if is_off:
            if traits.can_stop_thinking:
                return {"thinkingBudget": 0}
            self._receipt.changed(
                "reasoning", f"thinking cannot be turned off, only down to {traits.min_budget} tokens"
            )
            return {"thinkingBudget": traits.min_budget}
        wanted = reasoning.budget_tokens
        if wanted is None and reasoning.effort is not None:
            wanted = EFFORT_BUDGETS.get(reasoning.effort)
            if wanted is None:
                self._receipt.dropped("reasoning.effort", f"the model has no word for {reasoning.effort[:20]!r}")
                return {}
            if reasoning.effort not in _DOCUMENTED:
                self._receipt.changed("reasoning.effort", f"{reasoning.effort} said as a budget of {wanted} tokens")
        if wanted is None:
            return {"thinkingBudget": -1} if reasoning.mode == "adaptive" else {}
        budget = min(max(wanted, traits.min_budget), traits.max_budget)
        if reasoning.budget_tokens is not None and budget != wanted:
            self._receipt.changed("thinking.budget_tokens", f"{wanted} is out of range and sent as {budget}")
        return {"thinkingBudget": budget}

    # -- the rest

    def _response_format(self, config: Block, *, has_tools: bool) -> None:
        wanted = self._request.response_format
        if wanted is None:
            return
        if not self._traits.structured_output:
            self._receipt.dropped("response_format", "the model cannot be held to one")
            return
        if has_tools and not self._traits.json_with_tools:
            self._receipt.dropped("response_format", "the model takes none together with tools")
            return
        config["responseMimeType"] = "application/json"
        match wanted:
            case JsonObject():
                pass
            case JsonSchema():
                config["responseJsonSchema"] = write_schema(wanted.schema, "response_format", self._receipt)
            case _:
                assert_never(wanted)

    def _bookkeeping(self, fields: Block) -> None:
        request, receipt = self._request, self._receipt
        for name, is_given in (
            ("user", request.user is not None),
            ("prompt_cache_key", request.prompt_cache_key is not None),
        ):
            if is_given:
                receipt.dropped(name, "Gemini's dialect has no such field")
        if request.cache is not None:
            receipt.dropped("cache_control", "Gemini caches on its own, or by `cachedContent`")
        tier = request.service_tier
        if tier is not None and tier != "auto":
            word = _SERVICE_TIERS.get(tier)
            if word is None:
                receipt.dropped("service_tier", f"Gemini has no tier {tier[:20]!r}")
            elif word != "standard":
                fields["serviceTier"] = word
