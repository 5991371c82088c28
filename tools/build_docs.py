"""Fills the generated parts of `docs/` out of the code, so that what is said of names, defaults and codes cannot drift.

    python -m tools.build_docs [--check]

A page is prose, written by hand, around regions between `<!-- generated: NAME -->` and `<!-- end: NAME -->`.  Each
region is one of `REGIONS`; every one of them stands in exactly one page.  `--check` writes nothing and fails if a page is
stale.

Meanings are the docstrings that stand below attributes in the source, read through `ast`, as they do not exist at run time.
Where an attribute has none, or where the file spells it differently from the record, the words stand here; an attribute
that has neither stops the build.
"""

import argparse
import ast
import csv
import inspect
import json
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Final, Literal, Protocol, TypeAlias, Union, get_args, get_origin, get_type_hints

import click
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from tollhouse import errors
from tollhouse.chat import usage as usage_module
from tollhouse.chat.model import Reasoning
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.cli import tollhouse as command_line
from tollhouse.cli.server_command import command as server_command_line
from tollhouse.client.tools.plan import Gateway, Places
from tollhouse.client.tools.recipes import TOOLS, plan_of
from tollhouse.client.tools.shown import as_markdown
from tollhouse.config import load, schema
from tollhouse.config.prices import RATES
from tollhouse.config.secret import Secret
from tollhouse.dialects.anthropic import DIALECT as ANTHROPIC
from tollhouse.dialects.anthropic import traits as anthropic_traits
from tollhouse.dialects.anthropic.wire import FINISH, STOP_REASON
from tollhouse.dialects.gemini import DIALECT as GEMINI
from tollhouse.dialects.gemini import traits as gemini_traits
from tollhouse.dialects.openai_chat import DIALECT as OPENAI_CHAT
from tollhouse.dialects.openai_chat import traits as openai_traits
from tollhouse.dialects.openai_chat.finish import finish_reason, finish_word
from tollhouse.dialects.openai_chat.reasoning import write_reasoning
from tollhouse.dialects.openai_responses import traits as responses_traits
from tollhouse.errors import ProviderRefused, TollhouseError
from tollhouse.ledger import record as record_module
from tollhouse.ledger.record import Attempt, CallRecord, Trace
from tollhouse.providers.provider import ProviderKind
from tollhouse.providers.registry import PROVIDER_TYPES
from tollhouse.server.admin.operations import OPERATIONS
from tollhouse.telemetry import exposition
from tollhouse.telemetry.metrics import Metrics
from tollhouse.telemetry.readings import FAMILIES

DOCS: Final = Path(__file__).parents[1] / "docs"

_REGION: Final = re.compile(r"(<!-- generated: ([\w.-]+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)

Row: TypeAlias = tuple[str, ...]

# ---------------------------------------------------------------------------------------------------- configuration

SETTINGS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "server": schema.ServerSettings,
        "tls": schema.TlsSettings,
        "auth": schema.AuthSettings,
        "key": schema.KeySettings,
        "jwt": schema.JwtSettings,
        "oidc": schema.OidcSettings,
        "grant": schema.GrantSettings,
        "certificate": schema.CertificateSettings,
        "admin": schema.AdminSettings,
        "admin-token": schema.AdminTokenSettings,
        "provider": schema.ProviderSettings,
        "model": schema.ModelSettings,
        "alias": schema.AliasSettings,
        "ledger": schema.LedgerSettings,
        "state": schema.StateSettings,
        "logging": schema.LoggingSettings,
        "telemetry": schema.TelemetrySettings,
        "traces": schema.TraceSettings,
        "cache": schema.CacheSettings,
        "responses": schema.ResponseCacheSettings,
        "kept-responses": schema.ResponsesSettings,
        "limits": schema.LimitSettings,
        "scoped-limits": schema.ScopedRates,
        "budget": schema.BudgetSettings,
        "deadlines": schema.DeadlineSettings,
        "retry": schema.RetrySettings,
    }
)
"""The tables of the configuration page, by the name of their region."""

_NOT_A_KEY: Final = frozenset({("provider", "name"), ("alias", "name")})
"""Fields that the file says by where something stands, not by a key."""

# Keys that the file spells otherwise than the record: field → rows of key, type, default, meaning.
_SPELLED: Final[Mapping[tuple[str, str], tuple[Row, ...]]] = {
    ("key", "digest"): (
        ("key", "secret", "", "The key itself, at least 8 characters. Only its digest is kept."),
        ("key_sha256", "text", "", "In place of `key`: the SHA-256 digest of the key's UTF-8 bytes, as 64 hex digits."),
    ),
    ("admin-token", "digest"): (
        ("token", "secret", "", "The token itself, at least 16 characters. Only its digest is kept."),
        ("token_sha256", "text", "", "In place of `token`: its SHA-256 digest, as 64 hex digits."),
    ),
    ("key", "budgets"): (("budget", "budget", "none", "Its own budget, as under `budgets` without a `scope`."),),
    ("certificate", "budgets"): (
        ("budget", "budget", "none", "Its own budget, as under `budgets` without a `scope`."),
    ),
    ("grant", "budgets"): (
        (
            "budget",
            "budget",
            "none",
            "Of each subject, as under `budgets` without a `scope`. Where a token has a budget too, the smaller one counts.",
        ),
    ),
    ("oidc", "audience"): (
        ("audience", "text, or list of texts", "required", "A token must be meant for one of these (claim `aud`)."),
    ),
    ("oidc", "required_claims"): (
        (
            "required_claims",
            "mapping of name to text or list of texts",
            "none",
            "Claims that a token must have, each with one of these values: `groups: [llm-users]`.",
        ),
    ),
    ("limits", "overall"): (
        ("requests_per_minute", "whole number", "none", "Of all calls together, as the next two."),
        ("tokens_per_minute", "whole number", "none", "Input and output tokens together."),
        ("concurrent", "whole number", "none", "Calls in flight at once."),
    ),
    ("limits", "scopes"): (
        ("scopes", "list", "none", "Limits of single tenants, projects, keys, providers and models."),
    ),
    ("scoped-limits", "rates"): (
        ("requests_per_minute", "whole number", "none", "As under `limits`, of this scope alone."),
        ("tokens_per_minute", "whole number", "none", "The same."),
        ("concurrent", "whole number", "none", "The same."),
    ),
    ("budget", "period"): (
        ("hourly", "dollars", "none", "What may be spent in an hour."),
        ("daily", "dollars", "none", "In a day."),
        ("weekly", "dollars", "none", "In a week, which begins on Monday."),
        ("monthly", "dollars", "none", "In a calendar month."),
        ("total", "dollars", "none", "For ever."),
    ),
    ("budget", "limit_nano"): (),
    ("budget", "is_hard"): (
        ("mode", "`hard`, `soft`", "`hard`", "Whether a call that might exceed it is refused, or it only alerts."),
    ),
    ("budget", "alert_at"): (
        (
            "alert_at",
            "list of fractions",
            "`[1]` if it is soft or has a webhook, else none",
            "Parts of the amount, ascending, whose crossing is told, once a window.",
        ),
    ),
    ("alias", "targets"): (("route", "a name, or a list of names", "required", "What is tried, in this order."),),
    ("traces", "sample"): (
        (
            "sample",
            "fraction",
            "`0.1`",
            "The part of the calls that is traced, 0 to 1, of those whose callers do not decide it (`traceparent`).",
        ),
    ),
    ("model", "max_output_tokens"): (
        (
            "max_output_tokens",
            "whole number",
            "not known",
            "How many tokens it can write.",
        ),
        ("prices", "rates", "the price book's", "As under `prices`, for this model alone."),
    ),
}

# Meanings of fields whose names say it all to a reader of the code.
_WORDS: Final[Mapping[tuple[str, str], str]] = {
    ("auth", "keys"): "The keys that may call.",
    (
        "server",
        "tls",
    ): "The certificate that callers are served with, by HTTP and by gRPC; without one it is plain text.",
    ("admin", "tls"): "The certificate of the admin listener, as under `server`; without one it is plain text.",
    ("certificate", "tenant"): "Whom the caller belongs to.",
    (
        "certificate",
        "models",
    ): "Aliases and `provider/model` names that it may use; `*` at the end of one stands for anything.",
    ("certificate", "providers"): "Configured providers that may answer it.",
    ("certificate", "ip_ranges"): "Networks (`10.0.0.0/8`, `2001:db8::/32`) and addresses that it may call from.",
    ("admin", "tokens"): "Who may administer over the network. Without any, the admin API is off.",
    ("key", "tenant"): "Whom the key belongs to.",
    ("key", "project"): "What the key is used for.",
    ("key", "models"): "Aliases and `provider/model` names that it may use; `*` at the end of one stands for anything.",
    ("key", "providers"): "Configured providers that may answer it.",
    ("key", "ip_ranges"): "Networks (`10.0.0.0/8`, `2001:db8::/32`) and addresses that it may call from.",
    ("ledger", "retention_seconds"): "How long rows are kept. Daily totals stay.",
    ("cache", "responses"): "Whole answers that are kept and given again to an identical request.",
    ("provider", "type"): "What kind of provider it is; [providers.md](providers.md) has the names.",
    ("provider", "api_key"): "The provider's key. `${NAME:-}` leaves it empty on purpose.",
    ("provider", "base_url"): "`http(s)://host[:port][/prefix]`, without user name, query or fragment.",
    ("provider", "options"): "Settings that only this type knows.",
    ("model", "alias"): "A name that clients may use for it, as under `models`.",
    ("model", "context_tokens"): "How many tokens fit into its context.",
    ("model", "api"): (
        "By which API of its provider it is asked, for those that the gateway does not know: OpenAI's models have two."
    ),
    ("provider", "deadlines"): "Deadlines of this provider that differ from the general ones.",
    ("alias", "deadlines"): "Deadlines of this alias that differ from its provider's and from the general ones.",
    ("logging", "level"): "The least that is worth a line.",
    ("logging", "format"): "One JSON object a line, or plain text. Lines about calls are always JSON.",
    ("state", "budget_allowance_nano"): (
        "What this machine may still spend on each hard budget while that store cannot be reached;"
        " never more than was left when it was last seen."
    ),
    ("responses", "ttl_seconds"): "How long an answer may be given again.",
    ("scoped-limits", "scope"): "Whose calls.",
    ("budget", "scope"): "Whose calls. Missing where `budgets` is a mapping, which is about all calls, and at a key.",
}

# Defaults that `None` or emptiness does not explain.
_DEFAULTS: Final[Mapping[tuple[str, str], str]] = {
    ("provider", "type"): "the provider's name",
    ("provider", "api_key"): "the type's variable",
    ("provider", "base_url"): "the type's address",
    ("key", "name"): "required",
    ("admin-token", "name"): "required",
    ("admin-token", "role"): "required",
    ("budget", "scope"): "required in a list",
    ("state", "budget_allowance_nano"): "`1`",
    ("logging", "retention_seconds"): "`30d`",
    ("logging", "redact"): "all kinds and patterns",
    ("logging", "bodies_path"): "`bodies.db` in the state folder",
    ("responses", "max_bytes"): "`256MiB`",
    ("kept-responses", "max_bytes"): "`1GiB`",
    ("kept-responses", "max_response_bytes"): "`16MiB`",
    ("model", "api"): "as the model needs",
    ("cache", "responses"): "nothing is kept",
    ("telemetry", "traces"): "nothing is sent",
    ("ledger", "retention_seconds"): "for ever",
    ("ledger", "state_folder"): "see there",
    ("key", "models"): "all",
    ("key", "providers"): "all",
    ("key", "ip_ranges"): "all",
    ("jwt", "secret"): "a key that is made here",
    ("oidc", "name"): "required",
    ("oidc", "issuer"): "required",
    ("oidc", "jwks_url"): "what the issuer says",
    ("oidc", "tenant_claim"): "`defaults.tenant`",
    ("oidc", "project_claim"): "`defaults.project`",
    ("oidc", "allowed_subjects"): "all",
    ("certificate", "name"): "required",
    ("certificate", "subject"): "required, or `san`",
    ("certificate", "models"): "all",
    ("certificate", "providers"): "all",
    ("certificate", "ip_ranges"): "all",
    ("tls", "cert"): "required",
    ("tls", "key"): "required",
    ("grant", "models"): "all",
    ("grant", "providers"): "all",
    ("grant", "ip_ranges"): "all",
    ("model", "context_tokens"): "not known",
}

_RATE_WORDS: Final[Mapping[str, str]] = {
    "input": "Input tokens that no cache had anything to do with.",
    "output": "Output tokens.",
    "cache_read": "Input tokens read from the provider's cache.",
    "cache_write": "Input tokens written to the provider's cache.",
    "cache_write_1h": "Those of them that are kept for an hour.",
    "input_audio": "Input tokens that are sound.",
    "output_audio": "Output tokens that are sound.",
    "reasoning": "Output tokens that are reasoning, where they cost something else.",
    "request": "Each call, in dollars a call.",
}


def settings_rows(name: str) -> list[Row]:
    """Key, type, default and meaning of each key of one section, as the YAML file spells them."""
    owner = SETTINGS[name]
    meanings, hints = docstrings(schema, owner), get_type_hints(owner)
    rows: list[Row] = []
    for field in fields(owner):
        if (name, field.name) in _NOT_A_KEY:
            continue
        if (spelled := _SPELLED.get((name, field.name))) is not None:
            rows += spelled
            continue
        kind = hints[field.name]
        meaning = _WORDS.get((name, field.name)) or meanings.get(field.name)
        if meaning is None:
            raise SystemExit(f"{owner.__name__}.{field.name} has no docstring, and no words in {__name__}.")
        key, type_words = _as_written(field.name, _type_words(kind))
        default = _DEFAULTS.get((name, field.name)) or _default(field)
        rows.append((key, type_words, default, meaning))
    return rows


def _as_written(field: str, type_words: str) -> tuple[str, str]:
    """The key of a field whose record carries a unit, and what the file has there instead."""
    if field.endswith("_nano"):
        return field.removesuffix("_nano"), "dollars"
    if field.endswith("_bytes"):
        return field, "size"
    if field.startswith("retention"):
        return "retention", "age"
    return load.UNITS.get(field, field), type_words


def _settings(name: str) -> Callable[[], str]:
    return lambda: table(
        ("key", "type", "default", "meaning"),
        ((f"`{key}`", kind, default, meaning) for key, kind, default, meaning in settings_rows(name)),
    )


def _rates() -> str:
    return table(("rate", "is the price of"), ((f"`{rate}`", _RATE_WORDS[rate]) for rate in RATES))


_TYPE_WORDS: Final[Mapping[object, str]] = {
    bool: "true or false",
    int: "whole number",
    float: "duration",  # every float of the schema is a number of seconds
    str: "text",
    Secret: "secret",
    schema.DeadlineOverrides: "deadlines",
    schema.KeySettings: "key",
    schema.JwtSettings: "jwt",
    schema.OidcSettings: "issuer",
    schema.TlsSettings: "tls",
    schema.CertificateSettings: "certificate",
    schema.GrantSettings: "defaults",
    schema.AdminTokenSettings: "token",
    schema.ModelSettings: "model",
    schema.RateSettings: "limits",
    schema.ResponseCacheSettings: "responses",
    schema.Scope: "scope",
    schema.TraceSettings: "traces",
}


def _type_words(kind: object) -> str:
    if kind in _TYPE_WORDS:
        return _TYPE_WORDS[kind]
    inner = get_args(kind)
    match get_origin(kind):
        case origin if origin is Union or origin is types.UnionType:
            return " or ".join(_type_words(option) for option in inner if option is not type(None))
        case origin if origin is Literal:
            return ", ".join(f"`{word}`" for word in inner)
        case origin if origin is tuple:
            return f"list of {_type_words(inner[0])}s"
        case origin if origin is Mapping:
            return f"mapping of name to {_type_words(inner[1])}"
    raise SystemExit(f"There is no word for the type {kind!r} in {__name__}.")


def _default(field: "Field[object]") -> str:
    value = field.default
    if value is MISSING and field.default_factory is not MISSING:
        value = field.default_factory()
    match value:
        case x if x is MISSING:
            return "required"
        case None | "" | schema.RateSettings(is_empty=True) | schema.GrantSettings():
            return "none"
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}s`"
        case int() | str():
            return f"`{value}`"
        case _ if not value:
            return "none"
    raise SystemExit(f"{field.name} has a default that cannot be written down: {value!r}.")


# -------------------------------------------------------------------------------------------------------- providers

# Models that show how a provider's models differ from one another; of the other types, all are treated alike.
_SAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("gpt-5", "o3", "gpt-5.1", "gpt-4o", "gpt-4.1", "gpt-3.5-turbo", "gpt-audio"),
    "anthropic": (
        "claude-opus-4-8",
        "claude-opus-4-7",
        "claude-sonnet-4-6",
        "claude-opus-4-5",
        "claude-sonnet-4-5",
        "claude-opus-4-1",
        "claude-sonnet-4-0",
        "claude-3-7-sonnet",
        "claude-3-5-sonnet",
        "claude-3-haiku",
    ),
    "openai responses": ("gpt-5", "o3", "gpt-5.1", "gpt-5.6", "gpt-4o", "gpt-4.1"),
    "anthropic-compatible": ("claude-opus-4-8", "claude-sonnet-4-5", "glm-4.6"),
    "google": (
        "gemini-3.5-flash",
        "gemini-3.1-pro-preview",
        "gemini-3-pro-preview",
        "gemini-2.5-pro",
        "gemini-2.5-flash",
        "gemini-2.5-flash-lite",
        "gemini-2.0-flash",
        "gemma-4-26b-a4b-it",
        "gemma-3-27b-it",
    ),
    "deepseek": ("deepseek-chat", "deepseek-reasoner", "deepseek-v4"),
    "groq": ("openai/gpt-oss-120b", "qwen/qwen3-32b", "llama-3.3-70b-versatile"),
    "xai": ("grok-4", "grok-3-mini", "grok-3"),
    "openrouter": ("openai/gpt-4o", "anthropic/claude-sonnet-4.5"),
    "mistral": ("mistral-small-latest", "mistral-large-latest"),
}

_TRAIT_WORDS: Final[Mapping[str, str]] = {
    "parallel_tool_calls": "`parallel_tool_calls` is understood.",
    "logprobs": "`logprobs` and `top_logprobs` are understood.",
    "seed": "`seed` is understood.",
    "service_tier": "`service_tier` is understood.",
    "prompt_cache_key": "`prompt_cache_key` is understood.",
    "images": "Image blocks are understood.",
    "documents": "Document blocks are understood.",
    "min_thinking_budget": "The least `budget_tokens` that is taken, in tokens.",
    "max_temperature": "The highest `temperature`; a higher one is cut to it.",
}

_TRAITS: Final[Mapping[str, tuple[ModuleType, type]]] = {
    "openai_chat": (openai_traits, openai_traits.OpenAIChatTraits),
    "openai_responses": (responses_traits, responses_traits.ResponsesTraits),
    "anthropic": (anthropic_traits, anthropic_traits.AnthropicTraits),
    "gemini": (gemini_traits, gemini_traits.GeminiTraits),
}


def kinds() -> Iterator[tuple[ProviderKind, tuple[str, ...]]]:
    """Every type of provider once, with its other names."""
    seen: dict[str, ProviderKind] = {kind.type: kind for kind in PROVIDER_TYPES.values()}
    for kind in seen.values():
        yield kind, tuple(name for name, other in PROVIDER_TYPES.items() if other is kind and name != kind.type)


def _provider_types() -> str:
    rows = (
        (
            " or ".join(f"`{name}`" for name in (kind.type, *aliases)),
            f"`{kind.base_url}`" if kind.base_url else "`base_url` is required" if kind.needs_base_url else "its own",
            f"`{kind.key_variable}`" if kind.key_variable else "none",
            "yes" if kind.needs_key else "no",
            f"`{kind.dialect.name}`",
            _code(kind.options) or "none",
            _code(name.decode() for name in sorted(kind.forward_headers)) or "none",
        )
        for kind, aliases in kinds()
    )
    head = ("type", "address", "variable of the key", "key needed", "dialect", "options", "client's headers passed on")
    return table(head, rows)


def _provider_traits() -> str:
    rows: list[Row] = []
    for kind, _ in kinds():
        rows += _rows_of_traits(f"`{kind.type}`", kind.type, kind.traits_for)
        if (other := kind.other) is not None:
            rows += _rows_of_traits(f"`{kind.type}`, `api: {other.api}`", f"{kind.type} {other.api}", other.traits_for)
    return table(("type", "models such as", "how they differ from the dialect's own traits"), rows)


def _rows_of_traits(name: str, kind: str, traits_for: Callable[[str], object]) -> Iterator[Row]:
    defaults = type(traits_for(""))()
    groups: dict[str, list[str]] = {}
    for model in _SAMPLES.get(kind, ("",)):
        groups.setdefault(_differences(defaults, traits_for(model)), []).append(model)
    for differences, models in groups.items():
        which = "all models" if len(groups) == 1 else ", ".join(f"`{model}`" for model in models)
        yield name, which, differences or "none"


def _differences(defaults: object, traits: object) -> str:
    pairs = [(name, getattr(defaults, name), getattr(traits, name)) for name in _attributes(type(defaults))]
    without = [name for name, old, new in pairs if old is True and new is False]
    only_here = [name for name, old, new in pairs if old is False and new is True]
    others = [
        f"`{name}`: {_difference(old, new)}" for name, old, new in pairs if old != new and new not in (True, False)
    ]
    parts = [f"not {_code(without)}" if without else "", f"also {_code(only_here)}" if only_here else "", *others]
    return "; ".join(filter(None, parts))


def _difference(old: object, new: object) -> str:
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.keys() == new.keys():
        return _value({name: word for name, word in new.items() if old[name] != word})
    return _value(new)


def _value(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "nowhere"
        case int() | float() | str():
            return f"`{value}`"
        case frozenset():
            return _code(sorted(map(str, value))) or "none"
        case Mapping():
            return ", ".join(f"`{name}` → `{other}`" for name, other in value.items()) or "none"
    raise SystemExit(f"A trait cannot be written down: {value!r}.")


def _traits(dialect: str) -> Callable[[], str]:
    def rows() -> Iterator[Row]:
        module, owner = _TRAITS[dialect]
        meanings, defaults = docstrings(module, owner), owner()
        for name in _attributes(owner):
            meaning = meanings.get(name) or _TRAIT_WORDS.get(name)
            if meaning is None:
                raise SystemExit(f"{owner.__name__}.{name} has no docstring, and no words in {__name__}.")
            yield f"`{name}`", _value(getattr(defaults, name)), meaning

    return lambda: table(("trait", "default", "meaning"), rows())


def _attributes(owner: type) -> list[str]:
    return [field.name for field in fields(owner)]


# ----------------------------------------------------------------------------------------------------------- errors

BRANCHES: Final[Mapping[str, type[TollhouseError]]] = MappingProxyType(
    {
        "caller": errors.CallerError,
        "provider": errors.ProviderError,
        "gateway": errors.GatewayError,
    }
)

# Meanings without the fields of the Python classes.
_ERROR_WORDS: Final[Mapping[str, str]] = {
    "budget_exceeded": "A hard budget has too little left for the worst cost of this call.",
    "rate_limited": "One of the gateway's own limits is full; waiting as long as `retry-after` says helps.",
    "provider_error": "The provider failed, in a way that none of the following names.",
    "provider_timeout": "A deadline passed: `connect`, `first_byte`, `between_chunks` or `total`.",
    "internal_error": "The gateway's own fault; its log has the details under the request id.",
    "bad_config": "The configuration cannot be used; every problem is named with file, line and path.",
    "overloaded": "More calls are in flight than `server.max_concurrent_calls` allows.",
}

# What a constructor needs, by the type of the parameter; the values do not matter for the names of an error.
_ARGUMENTS: Final[Mapping[object, object]] = {str: "", int: 0, float: 0.0, float | None: None, Sequence[str]: ()}

_STATUSES: Final = (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504, 529)
"""Statuses of providers that are worth a line."""


def error_classes(branch: type[TollhouseError]) -> list[type[TollhouseError]]:
    """One class for each code of a branch, in the order of the source: the most special one."""
    by_code: dict[str, type[TollhouseError]] = {}
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, branch):
            by_code[value.code] = value
    return list(by_code.values())


def example(kind: type[TollhouseError]) -> TollhouseError:
    """An error of this class, its required arguments filled with nothing in particular."""
    needed = [p for p in inspect.signature(kind).parameters.values() if p.default is p.empty]
    given = {p.name: _ARGUMENTS[p.annotation] for p in needed if p.name != "status"}
    if any(p.name == "status" for p in needed):
        given["status"] = 400
    build: Callable[..., TollhouseError] = kind
    return build(**given)


def _errors(branch: str) -> Callable[[], str]:
    def rows() -> Iterator[Row]:
        for kind in error_classes(BRANCHES[branch]):
            error = example(kind)
            is_passed_on = isinstance(error, ProviderRefused)
            names = ("as below",) * 3 if is_passed_on else _spellings(error)
            status = "as below" if is_passed_on else str(error.http_status)
            meaning = _ERROR_WORDS.get(error.code) or prose((kind.__doc__ or "").partition("\n\n")[0])
            yield f"`{error.code}`", status, f"`{error.grpc_status}`", meaning, *names

    head = ("code", "HTTP", "gRPC", "meaning", "OpenAI `type` / `code`", "Anthropic `type`", "Google `status`")
    return lambda: table(head, rows())


def _refusals() -> str:
    def rows() -> Iterator[Row]:
        for status in _STATUSES:
            error = ProviderRefused("", status=status)
            yield str(status), str(error.http_status), *_spellings(error)

    return table(
        ("provider's status", "yours", "OpenAI `type` / `code`", "Anthropic `type`", "Google `status`"), rows()
    )


class _ErrorBody(msgspec.Struct):
    type: str = ""
    code: str | int | None = None
    status: str = ""


class _ErrorAnswer(msgspec.Struct):
    error: _ErrorBody


def _spellings(error: TollhouseError) -> tuple[str, str, str]:
    openai, anthropic, google = (_encoded(dialect, error) for dialect in (OPENAI_CHAT, ANTHROPIC, GEMINI))
    return f"`{openai.type}` / `{openai.code}`", f"`{anthropic.type}`", f"`{google.status}`"


class _Speaker(Protocol):
    def encode_error(self, error: TollhouseError, request_id: str) -> bytes: ...


def _encoded(dialect: _Speaker, error: TollhouseError) -> _ErrorBody:
    return msgspec.json.decode(dialect.encode_error(error, "req_0"), type=_ErrorAnswer).error


# ------------------------------------------------------------------------------------------------------ translation

_OPENAI_WORDS: Final = ("stop", "length", "tool_calls", "function_call", "content_filter")
"""OpenAI's own finish reasons (platform.openai.com/docs/api-reference/chat/object, 2026)."""

_BUDGETS: Final = (1_024, 4_000, 8_192, 16_000, 32_000)


def _to_openai() -> str:
    rows = (
        (f"`{word}`", f"`{finish_word(reason, None, is_legacy=False, has_refusal=False)}`")
        for word, reason in FINISH.items()
    )
    return table(("Anthropic's `stop_reason`", "for an OpenAI client"), rows)


def _to_anthropic() -> str:
    rows = ((f"`{word}`", f"`{STOP_REASON[finish_reason(word)]}`") for word in _OPENAI_WORDS)
    return table(("OpenAI's `finish_reason`", "for an Anthropic client"), rows)


def _efforts() -> str:
    rows = ((f"`{effort}`", f"{tokens:,}") for effort, tokens in anthropic_traits.EFFORT_BUDGETS.items())
    return table(("effort", "thinking tokens"), rows)


def _budgets() -> str:
    def rows() -> Iterator[Row]:
        for tokens in _BUDGETS:
            fields = write_reasoning(Reasoning(budget_tokens=tokens), openai_traits.OPENAI, Receipt())
            yield f"{tokens:,}", f"`{fields['reasoning_effort']}`"

    return table(("thinking tokens", "effort"), rows())


# -------------------------------------------------------------------------------------------------- metrics and log

_CALL_WORDS: Final[Mapping[str, str]] = {
    "tenant": "Whom the key belongs to.",
    "project": "What the key is used for.",
    "streamed": "Whether the client asked for a stream.",
    "usage": "The tokens, as below.",
    "cost_nano": "What the call cost. Left out when the price or the usage is not known: unknown is not free.",
    "receipt": "What translation dropped or changed.",
    "duration_us": "From the call's arrival to its last byte.",
    "attempts": "Each upstream call, as below.",
}

_USAGE_WORDS: Final[Mapping[str, str]] = {
    "cache_read_tokens": "The part of the input that was read from the provider's cache.",
    "reasoning_tokens": "The part of the output that is reasoning.",
    "input_audio_tokens": "The part of the input that is sound.",
    "output_audio_tokens": "The part of the output that is sound.",
    "source": "Where the counts come from: `reported`, `rebuilt`, `estimated` or `none`.",
}

_ATTEMPT_WORDS: Final[Mapping[str, str]] = {
    "provider": "The configured name.",
    "model": "The provider's own name of the model.",
    "duration_us": "From the sending of the request to the end of the answer.",
}


def _metrics() -> str:
    metrics = Metrics()
    # Of a family in `readings` the labels are declared; of the others only a series in which something was counted has any.
    declared = {family.name: dict.fromkeys(sorted(family.labels)) for family in FAMILIES}
    metrics.finished(
        CallRecord(
            id="",
            started_at_us=0,
            door="d",
            provider="p",
            model="m",
            attempts=(Attempt(provider="p", model="m", outcome="ok"),),
        )
    )
    rows: list[Row] = []
    for family in text_string_to_metric_families(exposition.render(metrics.snapshot()).decode()):
        if not family.name.startswith("tollhouse_"):
            continue  # of the process, by the Prometheus client
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found = (label for sample in family.samples for label in sample.labels if label != "le")
        labels = declared[name] if name in declared else dict.fromkeys(found)
        rows.append((f"`{name}`", family.type, _code(labels) or "none", family.documentation))
    return table(("metric", "type", "labels", "meaning"), rows)


def _logged(
    module: ModuleType, owner: type[msgspec.Struct], words: Mapping[str, str], *, always: str = ""
) -> Callable[[], str]:
    """A table of the fields; the one that is `always` written has a default, and is written all the same."""

    def rows() -> Iterator[Row]:
        meanings = {**docstrings(module, owner), **words}
        for field in msgspec.structs.fields(owner):
            if field.name not in meanings:
                raise SystemExit(f"{owner.__name__}.{field.name} has no docstring, and no words in {__name__}.")
            is_always = field.required or field.name == always
            yield f"`{field.name}`", "never" if is_always else _left_out(field.default), meanings[field.name]

    return lambda: table(("field", "left out when", "meaning"), rows())


def _left_out(default: object) -> str:
    match default:
        case None:
            return "not known"
        case "" | ():
            return "empty"
        case bool():
            return str(default).lower()
        case Usage():
            return "nothing is known"
        case _:
            return f"`{default}`"


# ---------------------------------------------------------------------------------------------------- command line


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """Every command's path and help, depth first."""
    # click keeps the first `--help` option that it made for a command; whoever ran it before must not decide its names.
    command._help_option = None  # noqa: SLF001
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from commands(inner, _context(inner, name, context))


def command_tree() -> list[tuple[str, str]]:
    """The whole command line: `tollhouse`, `tollhouse config`, … with the help of each."""
    return list(commands(command_line, _context(command_line, "tollhouse", None)))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    # The width is fixed, for the page must not depend on whoever builds it.
    settings = {"terminal_width": 100, "max_content_width": 100, **command.context_settings}
    return click.Context(command, info_name=name, parent=parent, **settings)


def _command_line() -> str:
    return _helps(command_tree())


def _server_command_line() -> str:
    return _helps(commands(server_command_line, _context(server_command_line, "tollhouse-server", None)))


def _helps(tree: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"## `{path}`\n\n```text\n{text.rstrip()}\n```\n" for path, text in tree)


# ----------------------------------------------------------------------------------------------------------- clients

_PROVED: Final = Path(__file__).parents[1] / "tests" / "clients"
_LOCKED: Final = re.compile(r"^([\w.-]+)==([\w.]+)", re.MULTILINE)
_HOME: Final = Path("~")
_ABROAD: Final = {
    "openai_chat": "Chat Completions",
    "openai_responses": "Responses",
    "anthropic": "Messages",
    "gemini": "Gemini",
}
"""The dialects as their clients' people call them."""


def _proved_clients() -> str:
    """Each client with its version, its dialect, and the dialects of the providers it went through a tool loop over."""
    pinned = json.loads((_PROVED / "package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = (_PROVED.parents[1] / "requirements" / "dev.txt").read_text(encoding="utf-8")
    # `openai` is in both registries.
    versions = {**pinned, "openai (npm)": pinned["openai"], **dict(_LOCKED.findall(locked))}
    with (_PROVED / "proved.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        name = row["package"]
        over = cells.setdefault((f"{name} {versions[name]}", _ABROAD[row["speaks"]]), {})
        over |= dict.fromkeys(row["over"].split(), row["how"].replace("whole stream", "whole, stream"))
    return table(
        ("client", "speaks", *(f"over {name}" for name in _ABROAD.values())),
        ((client, speaks, *(over.get(dialect, "") for dialect in _ABROAD)) for (client, speaks), over in cells.items()),
    )


def _client_settings() -> str:
    """What `tollhouse setup` prints, for a gateway of somebody who has moved nothing."""
    config = _HOME / ".config"
    places = Places(home=_HOME, config=config, own=config / "tollhouse" / "client", environ={})
    plans = [
        plan_of(tool, Gateway(url="https://gateway.example.com", key="YOUR-KEY", model="smart"), places)
        for tool in TOOLS
    ]
    return "\n".join(f"### {plan.title}\n\n`tollhouse setup {plan.tool}`\n\n{as_markdown(plan)}" for plan in plans)


# ----------------------------------------------------------------------------------------------------------- common


@cache
def _classes(module: ModuleType) -> Mapping[str, ast.ClassDef]:
    tree = ast.parse(inspect.getsource(module))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def docstrings(module: ModuleType, owner: type) -> dict[str, str]:
    """The docstrings below the attributes of a class, each on one line."""
    body = _classes(module)[owner.__name__].body
    found: dict[str, str] = {}
    for attribute, after in pairwise(body):
        match attribute, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = prose(text)
    return found


def prose(docstring: str) -> str:
    """A docstring as one line."""
    return " ".join(docstring.split())


def table(head: Row, rows: Iterable[Row]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _admin_operations() -> str:
    return table(
        ("operation", "role", "what it does"),
        ((f"`{each.method} {each.path}`", f"`{each.role}`", f"{each.summary}.") for each in OPERATIONS),
    )


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


REGIONS: Final[Mapping[str, Callable[[], str]]] = MappingProxyType(
    {
        **{f"settings.{name}": _settings(name) for name in SETTINGS},
        "settings.rates": _rates,
        "providers.types": _provider_types,
        "providers.traits": _provider_traits,
        **{f"providers.traits.{dialect}": _traits(dialect) for dialect in _TRAITS},
        **{f"errors.{branch}": _errors(branch) for branch in BRANCHES},
        "errors.refusals": _refusals,
        "translation.to-openai": _to_openai,
        "translation.to-anthropic": _to_anthropic,
        "translation.efforts": _efforts,
        "translation.budgets": _budgets,
        "metrics": _metrics,
        "calls-log": _logged(record_module, CallRecord, _CALL_WORDS, always="outcome"),
        "calls-log.usage": _logged(usage_module, Usage, _USAGE_WORDS),
        "calls-log.attempts": _logged(record_module, Attempt, _ATTEMPT_WORDS),
        "calls-log.trace": _logged(record_module, Trace, {}),
        "commands": _command_line,
        "server-commands": _server_command_line,
        "clients.proved": _proved_clients,
        "clients.settings": _client_settings,
        "admin-operations": _admin_operations,
    }
)
"""What can stand in a page, by name."""


def pages(docs: Path) -> dict[Path, tuple[str, str]]:
    """Each page that has regions: its text as it is, and as it should be.  Raises `SystemExit` for a wrong set of regions."""
    found: dict[Path, tuple[str, str]] = {}
    used: list[str] = []
    for path in sorted(docs.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        names = [match[2] for match in _REGION.finditer(text)]
        if len(names) != text.count("<!-- generated:"):
            raise SystemExit(f"{path.name}: a region does not end with `<!-- end: NAME -->`.")
        if names:
            used += names
            found[path] = (text, _REGION.sub(_filled, text))
    if sorted(used) != sorted(REGIONS):
        wrong = sorted((set(used) ^ set(REGIONS)) | {name for name in used if used.count(name) > 1})
        raise SystemExit(f"Every region has to stand in exactly one page; see to {', '.join(wrong)}.")
    return found


def _filled(match: re.Match[str]) -> str:
    build = REGIONS.get(match[2])
    if build is None:
        raise SystemExit(f"There is no region {match[2]!r}; there are {', '.join(REGIONS)}.")
    return f"{match[1]}\n{build().rstrip()}\n\n{match[3]}"


def main(arguments: Sequence[str] | None = None, *, docs: Path = DOCS) -> None:
    """Writes the pages that are stale, or says which are."""
    parser = argparse.ArgumentParser(description="Fill the generated parts of docs/ out of the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is stale")
    is_check = parser.parse_args(arguments).check
    stale = {path: wanted for path, (text, wanted) in pages(docs).items() if text != wanted}
    if is_check and stale:
        names = ", ".join(f"docs/{path.relative_to(docs)}" for path in stale)
        sys.exit(f"{names}: stale; run `python -m tools.build_docs`.")
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
        print(f"docs/{path.relative_to(docs)}")


if __name__ == "__main__":
    main()
