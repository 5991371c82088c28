"""The schema: which keys a configuration has, what each must be, and what must hold between them.

Reading goes section by section in the order in which `tollhouse config show` prints them.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, Literal, TypeVar

from tollhouse.config import values
from tollhouse.config.admin import read_admin
from tollhouse.config.headers import read_headers
from tollhouse.config.keys import read_auth
from tollhouse.config.limits import Mentions, read_budgets, read_limits
from tollhouse.config.places import Places
from tollhouse.config.prices import read_prices, read_rates
from tollhouse.config.routes import DEFAULT, MAX_ROUTE, DraftAlias, Reference, Routes
from tollhouse.config.schema import (
    AliasSettings,
    CacheSettings,
    Config,
    DeadlineOverrides,
    DeadlineSettings,
    LedgerSettings,
    LoggingSettings,
    ModelSettings,
    ProviderDefaults,
    ProviderSettings,
    ResponseCacheSettings,
    ResponsesSettings,
    RetrySettings,
    ServerSettings,
    StateSettings,
    Target,
    frozen_map,
)
from tollhouse.config.secret import Secret
from tollhouse.config.section import Collector, Section, Spot, root_spot
from tollhouse.config.telemetry import read_telemetry
from tollhouse.config.tls import check_plain_text, read_tls
from tollhouse.config.tree import Items, Node, Scalar, Table
from tollhouse.config.values import Given, Reader, Refused, did_you_mean
from tollhouse.errors import ConfigError

V = TypeVar("V")

MAX_TOKENS: Final = 1_000_000_000
MAX_TTL_SECONDS: Final = 30 * 86_400.0
MAX_PATTERNS: Final = 100
NOTHING_ANSWERS: Final = (
    "There are no providers, so nothing could answer; `tollhouse config init` writes a file that has one."
)


def build(
    collector: Collector,
    root: Node | None,
    provider_types: Mapping[str, ProviderDefaults],
    *,
    may_be_without_keys: bool = False,
) -> Config:
    """Reads the whole tree.  Raises `ConfigError` with every problem, those that the collector already has included.

    `may_be_without_keys`: nobody being able to call is a warning instead of a problem.
    """
    file = root_spot(collector, root).section()
    server_section, admin_section = file.section("server"), file.section("admin")
    server = _server(server_section)
    check_plain_text(server_section, server, admin_section)
    mentions = Mentions()
    auth = read_auth(file.section("auth"), server, mentions, may_be_without_keys=may_be_without_keys)
    admin = read_admin(admin_section, auth.keys)
    file.require("providers", NOTHING_ANSWERS)
    prices: dict[str, Mapping[str, int]] = {}
    drafts: dict[str, DraftAlias] = {}
    named = file.members("providers")
    names = [entry.key for entry, _ in named]
    providers: dict[str, ProviderSettings] = {}
    for entry, spot in named:
        provider = _provider(spot, entry.key, provider_types, prices, drafts)
        if provider is not None:
            providers[entry.key] = provider
    if (listed := file.get("providers")) is not None and listed.is_empty:
        listed.flaw(NOTHING_ANSWERS)
    for entry, spot in file.members("models"):
        _add_draft(drafts, _alias(entry.key, spot, names))
    aliases, default_model = Routes(drafts, providers, names).resolve()
    retry = _retry(file.section("retry"))
    _warn_of_what_is_never_tried(drafts, aliases, retry.max_attempts)
    ledger = _ledger(file.section("ledger"))
    overrides = read_prices(file, prices, {*names, *provider_types})
    state = _state(file.section("state"), is_written=file.has("state"))
    config = Config(
        server=server,
        auth=auth,
        admin=admin,
        providers=frozen_map(providers),
        aliases=frozen_map(aliases),
        default_model=default_model,
        ledger=ledger,
        prices=overrides,
        state=state,
        logging=_logging(file.section_once_named("logging", "log")),
        telemetry=read_telemetry(file.section("telemetry")),
        cache=_cache(file.section("cache"), has_state=state.url is not None),
        responses=_kept_responses(file.section("responses")),
        limits=read_limits(file.section("limits"), mentions),
        budgets=(
            *read_budgets(file, mentions),
            *(budget for caller in auth.callers for budget in caller.budgets),
        ),
        deadlines=_deadlines(file.section("deadlines")),
        retry=retry,
        places=Places(collector.file, collector.places.values()),
        warnings=collector.warnings(),
    )
    # A name that was refused where it stands is known all the same: one mistake is one problem.
    known = [name for name in drafts if name != DEFAULT or DEFAULT in aliases]
    mentions.check(names, known, default_model, is_shared=state.url is not None)
    file.close()
    if problems := collector.problems():
        raise ConfigError(problems)
    return config


def _server(section: Section) -> ServerSettings:
    defaults = ServerSettings()
    settings = ServerSettings(
        host=section.read("host", values.host, defaults.host),
        port=section.read("port", values.integer(0, 65535), defaults.port),
        admin_host=section.read("admin_host", values.host, defaults.admin_host),
        admin_port=section.read("admin_port", values.integer(0, 65535), defaults.admin_port),
        grpc_port=section.read("grpc_port", values.port_or_none, defaults.grpc_port),
        advertised_version=section.read_optional("advertised_version", values.version),
        workers=section.read("workers", values.integer(1, 64), defaults.workers),
        max_body_bytes=section.read("max_body_bytes", values.size(1024, 2**30), defaults.max_body_bytes),
        max_concurrent_calls=section.read(
            "max_concurrent_calls", values.integer(1, 1_000_000), defaults.max_concurrent_calls
        ),
        drain_seconds=section.read("drain_seconds", values.seconds_or_zero, defaults.drain_seconds),
        receipts=section.read("receipts", values.boolean, defaults.receipts),
        http=section.read("http", values.boolean, defaults.http),
        http2=section.read("http2", values.boolean, defaults.http2),
        tls=read_tls(section),
        insecure=section.read("insecure", values.boolean, defaults.insecure),
        trusted_proxies=_networks(section, "trusted_proxies"),
    )
    section.close()
    if not settings.http and not settings.grpc_port:
        _flaw_at(section, ("http",), "Without HTTP and without gRPC (`grpc_port`) nobody could call.")
    if settings.http2 and settings.tls is not None and settings.tls.client_auth == "optional":
        _flaw_at(
            section,
            ("http2",),
            "The server that speaks HTTP/2 asks all clients for certificates or none; remove one of them.",
        )
    if settings.port and settings.port == settings.admin_port and settings.host == settings.admin_host:
        _flaw_at(
            section,
            ("admin_port", "port"),
            f"Callers and administrators cannot both be served on port {settings.port}.",
        )
    for other, port, host in (
        ("port", settings.port, settings.host),
        ("admin_port", settings.admin_port, settings.admin_host),
    ):
        if settings.grpc_port and settings.grpc_port == port and settings.host == host:
            _flaw_at(section, ("grpc_port", other), f"gRPC and `{other}` cannot both be served on port {port}.")
    if not values.is_loopback(settings.admin_host) and (spot := section.get("admin_host")) is not None:
        spot.warn(
            "The admin listener can be reached from other machines; make sure that only administrators get there."
        )
    return settings


def _provider(
    spot: Spot,
    name: str,
    provider_types: Mapping[str, ProviderDefaults],
    prices: dict[str, Mapping[str, int]],
    drafts: dict[str, DraftAlias],
) -> ProviderSettings | None:
    """One provider; the prices and aliases that stand at its models are added to `prices` and `drafts`."""
    try:
        values.name(Given(name))
    except Refused as refused:
        spot.flaw(refused.sentence)
    section = spot.section()
    kind = _provider_type(section, name, provider_types)
    defaults = provider_types.get(kind, _UNKNOWN_TYPE)
    api_key = _api_key(section, name, defaults)
    base_url = section.read_optional("base_url", values.base_url)
    if defaults.needs_base_url:
        section.require("base_url", f"A provider of type {kind!r} needs a `base_url`, such as https://host/v1.")
    models = _models(section, name, prices, drafts)
    options = _options(section, kind, defaults)
    if defaults.own_model is not None and base_url is None and not section.has("models"):
        models = (ModelSettings(name=_own_model(defaults.own_model, options.get("path"))),)
        section.note_default("models", [model.name for model in models])
    foreign: Reader[Literal["allow", "refuse"]] = values.choice("allow", "refuse")
    settings = ProviderSettings(
        name=name,
        type=kind,
        api_key=api_key,
        base_url=base_url,
        models=models,
        headers=frozen_map(read_headers(section)),
        deadlines=_deadline_overrides(section),
        proxy=section.read_optional("proxy", values.proxy_url, show=values.without_password),
        passthrough=section.read("passthrough", values.boolean, default=True),
        foreign_ids=section.read_optional("foreign_ids", foreign),
        passthrough_hold_nano=section.read_optional("passthrough_hold", values.dollars),
        options=frozen_map(options),
    )
    section.close()
    return settings if kind in provider_types else None


def _own_model(known: str, path: object) -> str:
    """What a model is called that has no name in the file: as its own file is, where that is given."""
    return "-".join(Path(path).stem.split())[:200] or known if isinstance(path, str) else known


def _networks(section: Section, key: str) -> tuple[str, ...]:
    spot = section.get(key)
    if spot is None:
        section.note_default(key, ())
        return ()
    networks: list[str] = []
    for item in spot.items():
        network = item.read(values.network)
        if network is not None:
            networks.append(network)
            if network.endswith("/0"):
                item.warn("Everybody is in this network, so any caller can say that it is somebody else.")
    return tuple(networks)


_UNKNOWN_TYPE: Final = ProviderDefaults(needs_key=False)


def _provider_type(section: Section, name: str, provider_types: Mapping[str, ProviderDefaults]) -> str:
    """The type as given, or the provider's name where that is one.  Reports an unknown one and returns it anyway."""
    known = ", ".join(sorted(provider_types))
    spot = section.get("type")
    if spot is None:
        if name in provider_types:
            section.note_default("type", name)
        else:
            section.require(
                "type",
                f"{name!r} is not a known type of provider.{did_you_mean(name, provider_types)}"
                f" Rename it, or say what it is with `type:`, one of {known}.",
            )
        return name

    def read(given: Given) -> str:
        value = values.text(given)
        if value not in provider_types:
            suggestion = "" if given.references else did_you_mean(value, provider_types)
            raise Refused(f"There is no type {given}.{suggestion} The types are {known}.")
        return value

    return spot.read(read) or ""


def _api_key(section: Section, name: str, defaults: ProviderDefaults) -> Secret | None:
    """The provider's credential: from the file, else from the type's own environment variable."""
    spot = section.get("api_key")
    variable = defaults.key_variable
    if spot is not None:
        found = spot.read(
            values.optional_secret,
            advice=lambda unset: f"Set {unset}, or remove provider {name}, or write ${{{unset}:-}} to leave it empty.",
        )
        if found is not None and not found and defaults.needs_key:
            spot.warn(f"The key of provider {name} is left empty; the provider will refuse its calls.")
        return found or None
    found = Secret(section.spot.collector.environ.get(variable, "")) if variable is not None else Secret("")
    if found and variable is not None:
        try:
            values.secret(Given(found.reveal(), references=(f"${{{variable}}}",)))
        except Refused as refused:
            section.spot.flaw(f"The environment variable {variable} gives the key: {refused.sentence}")
        section.note_default("api_key", found, source=f"${variable} (default)")
        return found
    if defaults.needs_key:
        ways = f"set {variable} in the environment, write `api_key:`" if variable else "write `api_key:`"
        section.require("api_key", f"Provider {name} has no key: {ways}, or remove the provider.")
    return None


def _models(
    section: Section, provider: str, prices: dict[str, Mapping[str, int]], drafts: dict[str, DraftAlias]
) -> tuple[ModelSettings, ...]:
    models: dict[str, ModelSettings] = {}
    for spot in section.items("models"):
        model = _model(spot, provider, prices, drafts)
        if model is None:
            continue
        if model.name in models:
            spot.flaw(f"The model {model.name!r} is listed twice.")
        models[model.name] = model
    return tuple(models.values())


def _model(
    spot: Spot, provider: str, prices: dict[str, Mapping[str, int]], drafts: dict[str, DraftAlias]
) -> ModelSettings | None:
    if isinstance(spot.node, Scalar):
        name = spot.read(values.model_name)
        return None if name is None else ModelSettings(name=name)
    section = spot.section()
    name = section.read_optional("name", values.model_name)
    section.require("name", "The model has no `name`.")
    alias_spot = section.get("alias")
    alias = None if alias_spot is None else alias_spot.read(values.model_name)
    context_tokens = section.read_optional("context_tokens", values.integer(1, MAX_TOKENS))
    max_output_tokens = section.read_optional("max_output_tokens", values.integer(1, MAX_TOKENS))
    apis: Reader[Literal["chat", "responses"]] = values.choice("chat", "responses")
    api = section.read_optional("api", apis)
    rates = read_rates(section.section("prices")) if section.has("prices") else {}
    section.close()
    if name is None:
        return None
    if rates:
        prices[f"{provider}/{name}"] = rates
    if alias is not None and alias_spot is not None:
        _add_draft(drafts, DraftAlias(name=alias, spot=alias_spot, target=Target(provider, name)))
    return ModelSettings(
        name=name, alias=alias, context_tokens=context_tokens, max_output_tokens=max_output_tokens, api=api
    )


def _options(section: Section, kind: str, defaults: ProviderDefaults) -> dict[str, str | int | bool]:
    options: dict[str, str | int | bool] = {}
    for entry, spot in section.members("options"):
        if entry.key not in defaults.options:
            known = f"The options are {', '.join(defaults.options)}." if defaults.options else "It has none."
            section.spot.collector.flaw(
                entry.mark,
                spot.written,
                f"Type {kind!r} has no such option.{did_you_mean(entry.key, defaults.options)} {known}",
            )
        elif (value := spot.read(values.option)) is not None:
            options[entry.key] = value
    return options


def _add_draft(drafts: dict[str, DraftAlias], draft: DraftAlias) -> None:
    earlier = drafts.setdefault(draft.name, draft)
    if earlier is not draft:
        draft.spot.flaw(
            f"The alias {draft.name!r} is already given at {earlier.spot.written} (line {earlier.spot.mark.line})."
        )


def _alias(name: str, spot: Spot, providers: Collection[str]) -> DraftAlias:
    """One entry of `models:`: a name, a list of names, or a mapping with a `route`."""
    _check_alias_name(name, spot, providers)
    if not isinstance(spot.node, Table):
        references = _route(spot)
        return DraftAlias(name=name, spot=spot, references=references, is_single=isinstance(spot.node, Scalar))
    section = spot.section()
    route = section.get("route")
    section.require("route", "The alias has no `route`: a name, or a list of names that are tried in this order.")
    references = () if route is None else _route(route)
    strict = section.read_optional("strict", values.boolean)
    deadlines = _deadline_overrides(section)
    section.close()
    return DraftAlias(name=name, spot=spot, references=references, strict=strict, deadlines=deadlines)


def _warn_of_what_is_never_tried(
    drafts: Mapping[str, DraftAlias], aliases: Mapping[str, AliasSettings], max_attempts: int
) -> None:
    for name, alias in aliases.items():
        draft = drafts[name]
        if len(alias.targets) > max_attempts and not draft.is_single:
            draft.spot.warn(
                f"Only the first {max_attempts} of these {len(alias.targets)} candidates are ever tried; "
                "raise `retry.max_attempts`."
            )


def _check_alias_name(name: str, spot: Spot, providers: Collection[str]) -> None:
    try:
        values.model_name(Given(name))
    except Refused as refused:
        spot.flaw(refused.sentence)
    prefix, slash, _ = name.partition("/")
    if slash and prefix in providers:
        spot.flaw(f"An alias cannot begin with {prefix + slash!r}: that names a model of the provider {prefix!r}.")


def _route(spot: Spot) -> tuple[Reference, ...]:
    if isinstance(spot.node, Scalar):
        name = spot.read(values.model_name)
        return () if name is None else (Reference(name, spot),)
    if not isinstance(spot.node, Items):
        spot.flaw("Must be a name, or a list of names that are tried in this order.")
        return ()
    items = spot.items()
    if not items:
        spot.flaw("The route is empty; name at least one `provider/model`.")
    if len(items) > MAX_ROUTE:
        spot.flaw(f"A route has at most {MAX_ROUTE} names.")
        return ()
    references: dict[str, Reference] = {}
    for item in items:
        name = item.read(values.model_name)
        if name is not None and name in references:
            item.flaw(f"{item.speak_of(name)} is in this route already.")
        elif name is not None:
            references[name] = Reference(name, item)
    return tuple(references.values())


def _ledger(section: Section) -> LedgerSettings:
    settings = LedgerSettings(
        url=section.read("url", values.ledger_url, LedgerSettings().url, show=values.without_password),
        retention_seconds=section.read_optional("retention", values.age(86_400.0)),
        state_folder=section.read_optional("state_folder", values.text),
    )
    section.close()
    return settings


def _state(section: Section, *, is_written: bool) -> StateSettings:
    defaults = StateSettings()
    losses: Reader[Literal["open", "closed"]] = values.choice("open", "closed")
    url_spot = section.get("url")
    settings = StateSettings(
        url=section.read_optional("url", values.state_url, show=values.without_password),
        when_lost=section.read("when_lost", losses, defaults.when_lost),
        budget_allowance_nano=_dollars(section, "budget_allowance", defaults.budget_allowance_nano),
    )
    section.close()
    if is_written and url_spot is None:
        section.spot.warn("Without a `url` there is no shared store, so nothing here has an effect.")
    return settings


def _dollars(section: Section, key: str, default_nano: int) -> int:
    """An amount in dollars whose default is shown in dollars too."""
    spot = section.get(key)
    nano = None if spot is None else spot.read(values.dollars)
    if spot is None:
        section.note_default(key, default_nano / 10**9)
    return default_nano if nano is None else nano


def _logging(section: Section) -> LoggingSettings:
    defaults = LoggingSettings()
    level: Reader[Literal["debug", "info", "warning", "error"]] = values.choice("debug", "info", "warning", "error")
    style: Reader[Literal["json", "text"]] = values.choice("json", "text")
    bodies: Reader[Literal["off", "redacted", "full"]] = values.choice("off", "redacted", "full")
    level_word = section.read("level", level, defaults.level)
    format_word = section.read("format", style, defaults.format)
    calls = section.read("calls", values.call_log, defaults.calls)
    kept = section.read("bodies", bodies, defaults.bodies)
    bodies_path = section.read_optional("bodies_path", values.text)
    retention_seconds = section.read_optional("retention", values.age(3600.0))
    if not section.has("retention"):
        section.note_default("retention", f"{defaults.retention_seconds / 86_400:g}d")
    redact_spot = section.get("redact")
    patterns = _patterns(section)
    redact = _redacted(section, patterns)
    redact_upstream = section.read("redact_upstream", values.boolean, default=False)
    section.close()
    if redact_spot is not None and redact_spot.is_empty and (kept == "redacted" or redact_upstream):
        redact_spot.flaw("Nothing is named here, so nothing would be redacted; name what should be.")
    return LoggingSettings(
        level=level_word,
        format=format_word,
        calls=calls,
        bodies=kept,
        bodies_path=bodies_path,
        retention_seconds=defaults.retention_seconds if retention_seconds is None else retention_seconds,
        redact=redact,
        patterns=frozen_map({name: expression for name, (expression, _) in patterns.items() if expression is not None}),
        redact_upstream=redact_upstream,
    )


def _patterns(section: Section) -> dict[str, tuple[str | None, Spot]]:
    """Custom kinds of data by name.  One whose expression was refused is there without it: its name is known all the same."""
    patterns: dict[str, tuple[str | None, Spot]] = {}
    members = section.members("patterns")
    for entry, spot in members[:MAX_PATTERNS]:
        try:
            values.name(Given(entry.key))
        except Refused as refused:
            section.spot.collector.flaw(entry.mark, spot.written, refused.sentence)
        if entry.key in LoggingSettings().redact:
            spot.flaw(f"{entry.key!r} is a kind that is known already; give yours another name.")
        patterns[entry.key] = (spot.read(values.pattern), spot)
    if len(members) > MAX_PATTERNS:
        members[MAX_PATTERNS][1].flaw(f"There can be at most {MAX_PATTERNS} patterns.")
    return patterns


def _redacted(section: Section, patterns: Mapping[str, tuple[str | None, Spot]]) -> tuple[str, ...]:
    """The kinds that are redacted: those that are named, else all that are known."""
    known = (*LoggingSettings().redact, *patterns)
    spot = section.get("redact")
    if spot is None:
        section.note_default("redact", known)
        return known
    named: dict[str, None] = {}
    for item in spot.items():
        kind = item.read(values.choice(*known))
        if kind in named:
            item.flaw(f"{kind!r} is named twice.")
        elif kind is not None:
            named[kind] = None
    for name, (_, pattern) in patterns.items():
        if name not in named:
            pattern.warn("`redact` does not name this pattern, so it is not used.")
    return tuple(named)


def _cache(section: Section, *, has_state: bool) -> CacheSettings:
    responses = _responses(section.section("responses"), has_state=has_state) if section.has("responses") else None
    settings = CacheSettings(responses=responses, coalesce=section.read("coalesce", values.boolean, default=False))
    section.close()
    return settings


def _responses(section: Section, *, has_state: bool) -> ResponseCacheSettings | None:
    """`None` when there is no usable `ttl`, which is reported."""
    defaults = ResponseCacheSettings(ttl_seconds=0.0)
    scopes: Reader[Literal["tenant", "key", "global"]] = values.choice("tenant", "key", "global")
    section.require("ttl", "The section has no `ttl`, which says how long an answer may be given again: 10m, say.")
    ttl_seconds = section.read_optional("ttl", values.duration(1.0, MAX_TTL_SECONDS))
    max_bytes = section.read("max_bytes", values.size(2**16, 2**40), defaults.max_bytes)
    shared = section.read("shared", values.boolean, defaults.shared)
    scope = section.read("scope", scopes, defaults.scope)
    section.close()
    if shared and not has_state:
        _flaw_at(section, ("shared",), "There is no store to share it in: set `state.url`, or remove this.")
    if ttl_seconds is None:
        return None
    return ResponseCacheSettings(ttl_seconds=ttl_seconds, max_bytes=max_bytes, shared=shared, scope=scope)


def _kept_responses(section: Section) -> ResponsesSettings:
    defaults = ResponsesSettings()
    settings = ResponsesSettings(
        store=section.read("store", values.boolean, default=defaults.store),
        retention_days=section.read("retention_days", values.integer(1, 3_650), defaults.retention_days),
        max_bytes=section.read("max_bytes", values.size(2**20, 2**44), defaults.max_bytes),
        max_response_bytes=section.read("max_response_bytes", values.size(2**10, 2**28), defaults.max_response_bytes),
    )
    section.close()
    return settings


def _deadlines(section: Section) -> DeadlineSettings:
    defaults = DeadlineSettings()
    settings = DeadlineSettings(
        connect=section.read("connect", values.seconds, defaults.connect),
        first_byte=section.read("first_byte", values.seconds, defaults.first_byte),
        between_chunks=section.read("between_chunks", values.seconds, defaults.between_chunks),
        total=section.read("total", values.seconds, defaults.total),
    )
    section.close()
    return settings


def _deadline_overrides(outer: Section) -> DeadlineOverrides | None:
    if not outer.has("deadlines"):
        return None
    section = outer.section("deadlines")
    settings = DeadlineOverrides(
        connect=section.read_optional("connect", values.seconds),
        first_byte=section.read_optional("first_byte", values.seconds),
        between_chunks=section.read_optional("between_chunks", values.seconds),
        total=section.read_optional("total", values.seconds),
    )
    section.close()
    return settings


def _retry(section: Section) -> RetrySettings:
    defaults = RetrySettings()
    settings = RetrySettings(
        max_attempts=section.read("max_attempts", values.integer(1, 20), defaults.max_attempts),
        backoff_base=section.read("backoff_base", values.seconds_or_zero, defaults.backoff_base),
        backoff_cap=section.read("backoff_cap", values.seconds_or_zero, defaults.backoff_cap),
        honour_retry_after_up_to=section.read(
            "honour_retry_after_up_to", values.seconds_or_zero, defaults.honour_retry_after_up_to
        ),
    )
    section.close()
    return settings


def _flaw_at(section: Section, keys: tuple[str, ...], sentence: str) -> None:
    """Reports at the first of the keys that the file has, else at the section."""
    spot = next((spot for key in keys if (spot := section.get(key)) is not None), section.spot)
    spot.flaw(sentence)
