"""Where objects are wired: from a checked configuration to something that serves.

`Engine` is what outlives a reload: sockets, the ledger, metrics.  `assemble` builds what a configuration
decides (providers, routes, keys, prices) beside the old one; if any step fails, the old one never notices.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tollhouse.config.schema import (
    Config,
    DeadlineSettings,
    JwtSettings,
    ProviderSettings,
    ResponseCacheSettings,
    ResponsesSettings,
)
from tollhouse.config.secret import Secret
from tollhouse.errors import ConfigError
from tollhouse.gateway.call import Tracing
from tollhouse.gateway.coalesce import Coalescer
from tollhouse.gateway.ownership import Ownership
from tollhouse.gateway.pipeline import Gateway
from tollhouse.gateway.plan import RetryPolicy
from tollhouse.gateway.routing import Alias, Candidate, Router
from tollhouse.gateway.sharing import Shares, Sharing
from tollhouse.gateway.weight import Scales
from tollhouse.ledger.kept_responses import KeepingBounds
from tollhouse.ledger.prices import PriceBook, overrides_from
from tollhouse.ledger.record import CallRecord
from tollhouse.local.forced_calls import ForcedCalls
from tollhouse.policy.access import networks
from tollhouse.policy.certificates import CertificateRules
from tollhouse.policy.gate import Gate, Patience
from tollhouse.policy.identity import KeyRing, stored_key
from tollhouse.policy.redaction.configured import credentials_redactor, redactor_of
from tollhouse.policy.response_cache import AnswerStore, MemoryAnswers, ResponseCache, ScopeKind
from tollhouse.policy.rules import Rules
from tollhouse.policy.tenants import Tenants
from tollhouse.policy.tokens.issuer_keys import IssuerBook
from tollhouse.policy.tokens.secrets_file import SecretsFile
from tollhouse.policy.tokens.verifier import TokenVerifier
from tollhouse.policy.waits import Waits
from tollhouse.providers.local import traits_without_tools
from tollhouse.providers.provider import Provider
from tollhouse.providers.registry import build as build_provider
from tollhouse.server.serving import Keeping, Serving
from tollhouse.server.stores import Stores
from tollhouse.telemetry.bodies import BodyStore
from tollhouse.upstream.address import BadAddress, parse_address, target
from tollhouse.upstream.health import HealthBook
from tollhouse.upstream.proxy import Proxies, parse_proxy
from tollhouse.upstream.transport import Address, Deadlines, Transport
from tollhouse.upstream.wire import WireSettings, WireTransport

log = logging.getLogger("tollhouse.server")


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """Where an embedded model answers, and the secret that it asks for.  Known once its process runs."""

    base_url: str
    api_key: Secret
    supports_tools: bool
    """Whether its chat template knows tools; if not, calls are forced."""


def _nothing() -> None:
    pass


@dataclass(slots=True, kw_only=True)
class Engine:
    """The parts that a reload keeps.  `aclose` it on the loop that used it."""

    stores: Stores
    signing: SecretsFile
    """What signs tokens on this machine."""
    bodies: BodyStore | None = None
    finished: Callable[[CallRecord], None]
    unexpected: Callable[[str, BaseException], None]
    masked: Callable[[], None] = _nothing
    """Hears of each call in which something was masked."""
    tracing: Tracing | None = None
    """Gives calls their place in a trace; `None` where nothing is traced."""
    local: Mapping[str, LocalAddress] = field(default_factory=dict)
    """Embedded models by the configured name of their provider."""
    scales: Scales = field(default_factory=Scales)
    transports: dict[str, Transport] = field(default_factory=dict)
    """By proxy address; `""` is none."""
    waits: Waits = field(default_factory=Waits)
    shares: Shares = field(default_factory=Shares)
    coalescer: Coalescer | None = None
    answers: tuple[ResponseCacheSettings, AnswerStore] | None = None
    """Where answers are kept, and with which settings that was opened."""
    retired: list[AnswerStore] = field(default_factory=list)
    """Those of earlier configurations, which calls under way may still use."""
    issuers: IssuerBook = field(init=False)
    """The keys of OIDC issuers.  Tell it to `watch` those of a configuration that serves."""

    def __post_init__(self) -> None:
        """Gives the book of issuers a transport."""
        self.issuers = IssuerBook(lambda: self.transport(None))

    def transport(self, proxy: str | None) -> Transport:
        """The transport that goes through `proxy`."""
        key = proxy or ""
        found = self.transports.get(key)
        if found is None:
            server = parse_proxy(proxy) if proxy else None
            found = self.transports[key] = WireTransport(WireSettings(proxies=Proxies(http=server, https=server)))
        return found

    def sharing(self, config: Config) -> Sharing | None:
        """What calls share; kept over a reload that leaves it as it is."""
        wanted = config.cache.responses
        cache: ResponseCache | None = None
        if wanted is not None:
            if self.answers is None or self.answers[0] != wanted:
                if self.answers is not None:
                    self.retired.append(self.answers[1])
                self.answers = wanted, _answer_store(wanted, config.state.url)
            cache = ResponseCache(self.answers[1], ttl_seconds=wanted.ttl_seconds, scope=wanted.scope, wall=time.time)
        if config.cache.coalesce and self.coalescer is None:
            self.coalescer = Coalescer(unexpected=lambda error: self.unexpected("", error))
        coalescer = self.coalescer if config.cache.coalesce else None
        if cache is None and coalescer is None:
            return None
        scope: ScopeKind = "key" if wanted is not None and wanted.scope == "key" else "tenant"
        return Sharing(cache=cache, coalescer=coalescer, flight_scope=scope, shares=self.shares)

    async def aclose(self) -> None:
        """Closes every connection to providers, to issuers and to where answers are kept."""
        await self.issuers.aclose()
        for store in [*self.retired, *([] if self.answers is None else [self.answers[1]])]:
            await store.aclose()
        for transport in self.transports.values():
            await transport.aclose()


def assemble(config: Config, engine: Engine) -> Serving:
    """Builds what serves.  Opens nothing; raises `ConfigError` with every problem that loading could not see."""
    problems: list[str] = []
    providers: dict[str, Provider] = {}
    addresses: dict[str, Address] = {}
    for name, settings in config.providers.items():
        try:
            provider = _provider(settings, _running(settings, engine.local))
            addresses[name] = parse_address(provider.base_url)
        except (BadAddress, ValueError) as error:
            problems.append(config.places.problem(f"providers.{name}", str(error)))
            continue
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        providers[name] = provider
    if problems:
        raise ConfigError(problems)
    stores = engine.stores
    rules = Rules(config.limits, config.budgets)
    prices = PriceBook.load(overrides_from(config.prices.overrides))
    gateway = Gateway(
        router=_router(config, providers, addresses, prices, engine),
        books=stores.books,
        prices=prices,
        admission=Gate(
            rules,
            stores.counters,
            stores.settler,
            stores.past,
            patience=Patience(max_wait_seconds=config.limits.max_wait_seconds, max_waiting=config.limits.max_waiting),
            allowance_nano=config.state.budget_allowance_nano,
            crossed=stores.alerts.crossed,
            now_us=lambda: time.time_ns() // 1000,
            monotonic=time.monotonic,
            waits=engine.waits,
        ),
        scales=engine.scales,
        health=HealthBook(providers),
        retry=RetryPolicy(
            max_attempts=config.retry.max_attempts,
            backoff_base=config.retry.backoff_base,
            backoff_cap=config.retry.backoff_cap,
            longest_retry_after=config.retry.honour_retry_after_up_to,
            total=config.deadlines.total,
        ),
        shows_receipts=config.server.receipts,
        bodies=engine.bodies,
        masks=redactor_of(config) if config.logging.redact_upstream else None,
        shown=redactor_of(config, "secrets").redact,
        finished=engine.finished,
        masked=engine.masked,
        unexpected=engine.unexpected,
        monotonic=time.monotonic,
        wall=time.time,
        random=random.random,
        tracing=engine.tracing,
        ownership=Ownership(stores.belongings, Tenants(config.auth, stores.directory).are_several),
        sharing=engine.sharing(config),
    )
    return Serving(
        gateway=gateway,
        keys=KeyRing(
            map(stored_key, config.auth.keys),
            is_open=config.auth.open,
            rolls=stores.directory,
            tokens=_tokens(config, engine),
            certificates=CertificateRules(config.auth.certificates) if config.auth.certificates else None,
        ),
        max_body_bytes=config.server.max_body_bytes,
        max_concurrent_calls=config.server.max_concurrent_calls,
        responses=Keeping(shelf=stores.responses, bounds=bounds_of(config.responses), is_on=config.responses.store),
        proxies=networks(config.server.trusted_proxies),
        rates_of=rules.rates_of,
    )


def _tokens(config: Config, engine: Engine) -> TokenVerifier:
    """Knows tokens whether the file speaks of them or not: without a key that was made for them, none is good."""
    return TokenVerifier(
        config.auth.jwt or JwtSettings(),
        engine.signing,
        [(issuer, engine.issuers.keys_of(issuer)) for issuer in config.auth.oidc],
    )


def bounds_of(settings: ResponsesSettings) -> KeepingBounds:
    """How much is kept of answers that clients may go on from."""
    return KeepingBounds(
        retention_seconds=settings.retention_days * 86_400.0,
        max_bytes=settings.max_bytes,
        max_response_bytes=settings.max_response_bytes,
    )


def _router(
    config: Config,
    providers: Mapping[str, Provider],
    addresses: Mapping[str, Address],
    prices: PriceBook,
    engine: Engine,
) -> Router:
    named = {name: frozenset(model.name for model in s.models) for name, s in config.providers.items()}
    targeted = {(t.provider, t.model) for alias in config.aliases.values() for t in alias.targets}

    def has_model(provider: Provider, model: str) -> bool:
        if model in named[provider.name] or (provider.name, model) in targeted:
            return True
        price = prices.find(provider.kind, model)
        # A free provider (the operator's own machine) has a price for every name; that is no sign that it has the model.
        return price is not None and not price.is_free

    def candidate(provider: Provider, model: str, alias: str | None) -> Candidate:
        first, *others = (asked(way, model, alias) for way in provider.ways(model))
        return replace(first, others=tuple(others)) if others else first

    def asked(provider: Provider, model: str, alias: str | None) -> Candidate:
        address = addresses[provider.name]
        return Candidate(
            provider=provider,
            model=model,
            traits=provider.traits_for(model),
            transport=_transport(config.providers[provider.name], engine),
            address=address,
            target=target(address, provider.path(provider.chat_path, model)),
            stream_target=target(address, provider.path(provider.stream_path or provider.chat_path, model)),
            embeddings_target=_optional_target(address, provider, provider.embeddings_path, model),
            count_target=_optional_target(address, provider, provider.count_tokens_path, model),
            deadlines=_deadlines(config.deadlines_for(provider.name, alias)),
            where=address.where,
            price=prices.find(provider.kind, model, provider=provider.name),
            label=f"{provider.name}/{model}".encode("ascii", "replace"),
            name=f"{provider.name}/{model}",
            max_output_tokens=provider.model(model).max_output_tokens,
        )

    return Router(
        providers=providers,
        aliases=[
            Alias(name=a.name, targets=tuple((t.provider, t.model) for t in a.targets), strict=a.strict)
            for a in config.aliases.values()
        ],
        default=config.default_model,
        has_model=has_model,
        candidate=candidate,
        listed=[(name, model.name) for name, s in config.providers.items() for model in s.models],
        redact=credentials_redactor().redact,
    )


def _optional_target(address: Address, provider: Provider, path: str | None, model: str) -> bytes | None:
    return None if path is None else target(address, provider.path(path, model))


def _answer_store(wanted: ResponseCacheSettings, url: str | None) -> AnswerStore:
    if not wanted.shared or url is None:
        return MemoryAnswers(max_bytes=wanted.max_bytes, ttl_seconds=wanted.ttl_seconds, monotonic=time.monotonic)
    from tollhouse.policy.response_cache_valkey import ValkeyAnswers

    return ValkeyAnswers(
        url,
        max_bytes=wanted.max_bytes,
        ttl_seconds=wanted.ttl_seconds,
        monotonic=time.monotonic,
        failed=lambda error: log.info("kept answers are away for a moment", extra={"why": str(error)}),
    )


def _running(settings: ProviderSettings, local: Mapping[str, LocalAddress]) -> LocalAddress | None:
    """The embedded model behind a provider, if one is: after a reload, its name may be that of another provider."""
    return local.get(settings.name) if settings.type == "local" and settings.base_url is None else None


def _provider(settings: ProviderSettings, running: LocalAddress | None) -> Provider:
    if running is None:
        return build_provider(settings)
    provider = build_provider(replace(settings, base_url=running.base_url, api_key=running.api_key))
    return provider if running.supports_tools else replace(provider, traits_for=traits_without_tools)


def _transport(settings: ProviderSettings, engine: Engine) -> Transport:
    transport = engine.transport(settings.proxy)
    running = _running(settings, engine.local)
    return transport if running is None or running.supports_tools else ForcedCalls(transport)


def _deadlines(settings: DeadlineSettings) -> Deadlines:
    return Deadlines(
        connect=settings.connect,
        first_byte=settings.first_byte,
        between_chunks=settings.between_chunks,
        total=settings.total,
    )
