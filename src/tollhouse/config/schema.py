"""What a configuration says, once it has been read and checked.

Everything here is frozen and complete: defaults are filled in, references resolved, `${…}` expanded, keys hashed.  The
names are those of the YAML file, except that `models` is kept as `aliases` and `default_model`, and that amounts of money
carry their unit.  `load` makes these; a test may write them down directly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeVar

from tollhouse.config.places import Places
from tollhouse.config.secret import Secret

V = TypeVar("V")


def frozen_map(items: Mapping[str, V]) -> Mapping[str, V]:
    """A read-only copy."""
    return MappingProxyType(dict(items))


def _no_items() -> Mapping[str, V]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderDefaults:
    """What loading must know about a type of provider.  The providers' registry hands a mapping of these to `load`."""

    needs_key: bool = True
    """Whether a provider of this type is useless without an `api_key`."""
    needs_base_url: bool = False
    """Whether there is no default address."""
    key_variable: str | None = None
    """The environment variable that is read when the file gives no `api_key`: `OPENAI_API_KEY`."""
    options: tuple[str, ...] = ()
    """The names that `options:` may have; all others are refused."""
    own_model: str | None = None
    """What a provider of this type runs that has neither an address nor `models`, nor a file by the option `path`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """The certificate of a listener, and whose certificates it asks for.  The files are read again when they change."""

    cert: str
    """PEM file: the listener's certificate, followed by those of its issuers."""
    key: str
    """PEM file: the certificate's private key, without a password."""
    client_ca: str | None = None
    """PEM file: the authorities whose client certificates are good.  Without it no client is asked for one."""
    client_auth: Literal["required", "optional"] = "required"
    """Whether a client without a certificate is let in.  One with a bad certificate never is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where the gateway listens and how much it takes in.  A change needs a restart."""

    host: str = "127.0.0.1"
    """Address of the callers' listener."""
    port: int = 8080
    """0 to 65535; 0 takes any free port."""
    admin_host: str = "127.0.0.1"
    """Address of the admin listener."""
    admin_port: int = 9090
    """0 to 65535; 0 takes any free port."""
    grpc_port: int = 50051
    """Port of the gRPC listener, on `host`; `none` or 0 is no such listener.  Needs the extra `grpc`."""
    advertised_version: str | None = None
    """The version that gRPC clients are told, for those that want to hear their own; by default the gateway's."""
    workers: int = 1
    """Processes that answer calls, 1 to 64."""
    max_body_bytes: int = 33_554_432
    """The largest request body, in bytes."""
    max_concurrent_calls: int = 2000
    """Calls in flight in one worker; more are refused with 503."""
    drain_seconds: float = 30.0
    """How long running streams may go on after SIGTERM."""
    receipts: bool = True
    """Whether answers carry the header that lists what translation dropped."""
    http: bool = True
    """Whether callers are served by HTTP; without it by gRPC alone."""
    http2: bool = False
    """Speak HTTP/2 as well, by granian (extra `http2`); costs about twice the CPU a call."""
    tls: TlsSettings | None = None
    """The certificate that callers are served with, by HTTP and by gRPC; `None` is plain text."""
    insecure: bool = False
    """Whether plain text may leave this machine.  Without it, a listener on another address than loopback needs `tls`."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose `X-Forwarded-For` says who the caller is, and `X-Forwarded-Proto` whether it spoke TLS.  From anywhere
    else these headers are ignored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSettings:
    """How often, how much and how many at once; `None` is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Input and output tokens together: estimated when a call begins, corrected when it ends."""
    concurrent: int | None = None
    """Calls in flight at once."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no limit at all."""
        return self.requests_per_minute is None and self.tokens_per_minute is None and self.concurrent is None


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose calls a limit or a budget counts.

    Written `global`, `tenant:research`, `project:research/search`, `key:dev`, `provider:openai`, `model:smart`.
    """

    kind: Literal["global", "tenant", "project", "key", "ip", "provider", "model"]
    name: str = ""
    """Empty for `global`.  A project is `tenant/project`; a model is an alias, or `provider/model` for what it is sent to."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else self.kind


Period = Literal["hour", "day", "week", "month", "total"]
"""The window of a budget, in UTC; weeks begin on Monday.  `total` never resets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """Money for one scope over one window.  An entry of `budgets:` with several amounts makes several of these."""

    scope: Scope
    period: Period
    limit_nano: int
    is_hard: bool = True
    """Whether a call that might exceed it is refused.  A soft budget only alerts."""
    alert_at: tuple[float, ...] = ()
    """Fractions of the limit (0 to 1, ascending) whose crossing is told, once a window."""
    webhook: Secret | None = None
    """Where alerts are posted; they are logged in any case."""
    clamp_output: bool = False
    """Whether a call's output limit is lowered to what is left, instead of refusing the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """One key that may call.  The plaintext is hashed while loading and never kept."""

    name: str
    """Unique; stands in the ledger, in logs and in metrics."""
    digest: bytes = field(repr=False)
    """SHA-256 of the key's UTF-8 bytes: 32 bytes.  Not printed, for a short key could be guessed from it."""
    tenant: str = ""
    """Whom the key belongs to; empty when nobody says."""
    project: str = ""
    limits: RateSettings = field(default_factory=RateSettings)
    """What this key alone may do, beside the wider limits."""
    budgets: tuple[BudgetSettings, ...] = ()
    """Its own budgets (`budget:` in the file), scoped to this key."""
    models: tuple[str, ...] = ()
    """Aliases and `provider/model` names that it may use, `*` at the end of one standing for anything; empty allows all."""
    providers: tuple[str, ...] = ()
    """Configured providers that may answer it; empty allows all."""
    ip_ranges: tuple[str, ...] = ()
    """Networks (`10.0.0.0/8`, `2001:db8::/32`) that it may call from; empty allows all."""
    tags: Mapping[str, str] = field(default_factory=_no_items)
    """What the operator notes about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantSettings:
    """What signed tokens may do at most whose subject is not in the database; each subject for itself."""

    tenant: str = ""
    """Whom a token belongs to that does not say."""
    project: str = ""
    """A project of that tenant."""
    limits: RateSettings = field(default_factory=RateSettings)
    """Of each subject.  Where a token has limits too, the stricter one counts."""
    budgets: tuple[BudgetSettings, ...] = ()
    """Of each subject (`budget:` in the file).  Where a token has a budget too, the smaller one counts."""
    models: tuple[str, ...] = ()
    """Aliases and `provider/model` names, `*` at the end of one standing for anything; empty allows all."""
    providers: tuple[str, ...] = ()
    """Configured providers that may answer; empty allows all."""
    ip_ranges: tuple[str, ...] = ()
    """Networks that tokens may be used from; empty allows all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSettings:
    """The signed tokens that this gateway issues."""

    secret: Secret | None = None
    """Signs new tokens (HS256) and is what tokens without a `kid` are checked with: at least 32 characters.  Without one, a key
    is made at the first start and kept under the XDG configuration folder.
    """
    former_secrets: tuple[Secret, ...] = ()
    """Secrets of which tokens are still accepted, while `secret` is being replaced."""
    issuer: str = "tollhouse"
    """The claim `iss` of tokens that are issued, and that a token must have."""
    algorithm: Literal["HS256", "EdDSA"] = "HS256"
    """Of keys that are made here.  Machines that share a database check EdDSA tokens without sharing a secret."""
    defaults: GrantSettings = field(default_factory=GrantSettings)
    """What tokens may do at most whose subject is not in the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """An issuer of OpenID Connect tokens that are accepted."""

    name: str
    """Unique; a subject of it is called `subject:NAME/SUB` in the ledger, in logs and in metrics."""
    issuer: str
    """Its address, exactly as in the claim `iss`; `http://` only on this machine."""
    audience: tuple[str, ...]
    """A token must be meant for one of these (claim `aud`); one name, or a list."""
    jwks_url: str | None = None
    """Where its keys are; by default what its `/.well-known/openid-configuration` says."""
    subject_claim: str = "sub"
    """The claim that says who it is: `email`, say."""
    tenant_claim: str | None = None
    """The claim that says whom the subject belongs to; a token without it is refused.  By default `defaults.tenant`."""
    project_claim: str | None = None
    """The same of the project."""
    allowed_subjects: tuple[str, ...] = ()
    """Who may call, `*` at the beginning or the end of one standing for anything; empty allows all of the issuer's."""
    required_claims: Mapping[str, tuple[str, ...]] = field(default_factory=_no_items)
    """Claims that a token must have, each with one of these values: `groups: [llm-users]`."""
    defaults: GrantSettings = field(default_factory=GrantSettings)
    """What its tokens may do whose subject is not in the database."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateSettings:
    """A caller who is known by a client certificate, and what it may do: as a key, without a secret."""

    name: str
    """Unique; stands as `certificate:NAME` in the ledger, in logs and in metrics."""
    subject: str | None = None
    """The certificate's whole subject as RFC 4514 has it: `CN=build,O=Example`."""
    san: str | None = None
    """One of its alternative names, in place of the subject: `dns:ci.example.com`, `ip:10.0.0.7`, `email:ci@example.com`,
    `uri:spiffe://example.com/ci`.
    """
    tenant: str = ""
    """Whom the caller belongs to; empty when nobody says."""
    project: str = ""
    """A project of that tenant."""
    limits: RateSettings = field(default_factory=RateSettings)
    """What this caller alone may do, beside the wider limits."""
    budgets: tuple[BudgetSettings, ...] = ()
    """Its own budgets (`budget:` in the file), scoped to it."""
    models: tuple[str, ...] = ()
    """Aliases and `provider/model` names that it may use, `*` at the end of one standing for anything; empty allows all."""
    providers: tuple[str, ...] = ()
    """Configured providers that may answer it; empty allows all."""
    ip_ranges: tuple[str, ...] = ()
    """Networks (`10.0.0.0/8`, `2001:db8::/32`) that it may call from; empty allows all."""
    tags: Mapping[str, str] = field(default_factory=_no_items)
    """What the operator notes about it."""


Caller = KeySettings | CertificateSettings
"""Whom the configuration names one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """Who may call.  With neither keys, tokens nor `open`, every call is refused."""

    keys: tuple[KeySettings, ...] = ()
    jwt: JwtSettings | None = None
    """Signed tokens of this gateway's own; `jwt: {}` accepts them as they are by default."""
    oidc: tuple[OidcSettings, ...] = ()
    """Issuers whose tokens are accepted."""
    certificates: tuple[CertificateSettings, ...] = ()
    """Who is let in by a client certificate; needs `server.tls.client_ca`."""
    open: bool = False
    """Whether calls without a known key are let in; loading allows it on a loopback `server.host` only."""

    @property
    def callers(self) -> tuple[Caller, ...]:
        """All that are named one by one, each with limits and budgets of its own."""
        return (*self.keys, *self.certificates)


Role = Literal["admin", "viewer"]
"""`viewer` may look at everything that has no secret in it; `admin` may change things too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminTokenSettings:
    """One credential of the admin API.  The plaintext is hashed while loading and never kept."""

    name: str
    """Unique; stands in the audit log."""
    digest: bytes = field(repr=False)
    """SHA-256 of the token's UTF-8 bytes: 32 bytes."""
    role: Role
    """`viewer` may look, `admin` may change things too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """Who may administer over the network.  Without tokens the admin API is off."""

    tokens: tuple[AdminTokenSettings, ...] = ()
    tls: TlsSettings | None = None
    """The certificate of the admin listener; `None` is plain text."""
    hosts: tuple[str, ...] = ()
    """Names under which the admin listener is reached, beside `localhost` and IP addresses.  A request that names another host
    is refused while `server.admin_host` is a loopback address, or when there are names here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineSettings:
    """Time limits of one attempt, in seconds."""

    connect: float = 5.0
    """Until a connection stands, TLS included."""
    first_byte: float = 120.0
    """From the request being written to the first byte of the response head."""
    between_chunks: float = 60.0
    """Between two reads of the body that bring bytes."""
    total: float = 600.0
    """Over the whole attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineOverrides:
    """The deadlines, in seconds, that a provider or an alias sets differently; `None` keeps the wider setting."""

    connect: float | None = None
    first_byte: float | None = None
    between_chunks: float | None = None
    total: float | None = None

    def over(self, wider: DeadlineSettings) -> DeadlineSettings:
        """The wider settings with these laid over them."""
        return DeadlineSettings(
            connect=wider.connect if self.connect is None else self.connect,
            first_byte=wider.first_byte if self.first_byte is None else self.first_byte,
            between_chunks=wider.between_chunks if self.between_chunks is None else self.between_chunks,
            total=wider.total if self.total is None else self.total,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """One model that a provider is said to have."""

    name: str
    """The provider's own name of it."""
    alias: str | None = None
    """A name that clients may use for it; it is among `Config.aliases` too."""
    context_tokens: int | None = None
    """How many tokens fit into its context, if the file says so."""
    max_output_tokens: int | None = None
    """How many tokens it can write, if the file says so."""
    api: Literal["chat", "responses"] | None = None
    """By which API of its provider it is asked; `None` leaves that to the gateway, which knows most models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """One provider: a type, an address and a credential."""

    name: str
    """As the file calls it; unique."""
    type: str
    """A name of the providers' registry."""
    api_key: Secret | None = None
    """`None` when there is none, or when it was left empty on purpose."""
    base_url: str | None = None
    """`http(s)://host[:port][/prefix]` without user name, query or fragment; `None` takes the type's own address."""
    models: tuple[ModelSettings, ...] = ()
    """What the file lists; a provider may have more."""
    headers: Mapping[str, Secret] = field(default_factory=_no_items)
    """Fixed extra headers of every request: lower-case name to value."""
    deadlines: DeadlineOverrides | None = None
    proxy: str | None = field(default=None, repr=False)
    """An `http://` proxy for CONNECT.  May hold a user name and password, so it is not printed."""
    passthrough: bool = True
    """Whether its other paths (files, batches, images, audio) are forwarded as they are, under `/{name}/…`."""
    foreign_ids: Literal["allow", "refuse"] | None = None
    """Whether callers may name what is stored at the provider (files, batches, vector stores) and was not made by way of this
    gateway.  What was is its tenant's alone in either case.  By default it is refused where there is more than one tenant, and
    where there is one nobody asks whose a thing is."""
    passthrough_hold_nano: int | None = None
    """What a call of another path is taken to cost where no price says it (a batch, a minute of sound): a hard
    budget holds so much for it, and is charged with it unless the answer tells what was used.  Also the most that is held for
    a form with a picture or a sound in it.  Without it, a hard budget refuses what has no price."""
    options: Mapping[str, str | int | bool] = field(default_factory=_no_items)
    """Settings that only this type knows; their names are checked, their values are the provider's business."""


@dataclass(frozen=True, slots=True)
class Target:
    """A provider's model, as a route names it."""

    provider: str
    """The configured name of the provider."""
    model: str
    """The provider's own name of the model."""

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasSettings:
    """A name that clients use, with its route.  References to other aliases are already resolved."""

    name: str
    targets: tuple[Target, ...]
    """At least one, each once, in the order in which they are tried."""
    strict: bool = False
    """Refuse instead of dropping what the provider's dialect cannot express."""
    deadlines: DeadlineOverrides | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """Where calls are written down."""

    url: str = field(default="sqlite:///tollhouse.db", repr=False)
    """`sqlite:///relative` (to the directory that the gateway is started in), `sqlite:////absolute`, or
    `postgresql://…`.  May hold a password, so it is not printed.
    """
    retention_seconds: float | None = None
    """How long rows are kept (`retention: 400d`); `None` keeps them for ever.  Daily totals stay."""
    state_folder: str | None = None
    """Where this machine keeps its counters, holds and journals.  By default beside a SQLite ledger, else in `tollhouse` in the
    XDG state folder.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSettings:
    """What several machines share: limits, budgets, holds.  Without an address the workers of one machine share them."""

    url: str | None = field(default=None, repr=False)
    """`redis://`, `rediss://`, `valkey://` or `valkeys://` `[user:password@]host[:port][/database]`."""
    when_lost: Literal["open", "closed"] = "open"
    """What limits do while that store cannot be reached: `open` counts on this machine alone, `closed` refuses (503)."""
    budget_allowance_nano: int = 1_000_000_000
    """What this machine may still spend on each hard budget while the store cannot be reached, in nano-USD.

    Never more than was left when it was last seen.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSettings:
    """Prices that replace those of the price book."""

    overrides: Mapping[str, Mapping[str, int]] = field(default_factory=_no_items)
    """`provider/model` or `provider/*` → rate (`input`, `output`, `cache_read`, …) → nano-USD per million tokens.

    `request` alone is nano-USD a call.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingSettings:
    """What the gateway writes about itself and about calls."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"
    calls: str = "stderr"
    """Where the line about each call goes: `stderr`, `off`, or a file's path."""
    bodies: Literal["off", "redacted", "full"] = "off"
    """Whether prompts and answers are kept, in a store of their own."""
    bodies_path: str | None = None
    """The file of that store; by default `bodies.db` in the state folder."""
    retention_seconds: float = 30 * 86_400.0
    """How long bodies are kept."""
    redact: tuple[str, ...] = ("email", "phone", "card", "iban", "ip", "secrets")
    """Kinds of personal data that `redacted` bodies do not show; names of `patterns` may stand here too."""
    patterns: Mapping[str, str] = field(default_factory=_no_items)
    """Custom kinds: name to an RE2 expression."""
    redact_upstream: bool = False
    """Whether the same kinds are replaced by placeholders before a prompt leaves for a provider, and put back in the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """Where traces are sent.  A change needs a restart."""

    endpoint: str
    """The collector's address for OTLP over HTTP: `http://127.0.0.1:4318`, to which `/v1/traces` is added unless it ends so."""
    sample: float = 0.1
    """The part of the calls that is traced, 0 to 1, of those whose callers do not decide it (`traceparent`)."""
    headers: Mapping[str, Secret] = field(default_factory=_no_items)
    """What the collector wants to see: lower-case name to value."""
    timeout_seconds: float = 10.0
    """How long one batch may take, its retries included; then it is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """What others are told of the calls, beside metrics and logs."""

    traces: TraceSettings | None = None
    """Spans of the calls, sent to an OpenTelemetry collector; needs the extra `otel`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseCacheSettings:
    """Whole answers that are kept and given again to an identical request."""

    ttl_seconds: float
    max_bytes: int = 256 * 1024 * 1024
    """Over all entries in this process, or in the shared store."""
    shared: bool = False
    """Kept in the `state` store, for all machines, instead of in each worker's memory."""
    scope: Literal["tenant", "key", "global"] = "tenant"
    """Who may be given whose answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """Calls that need not be made."""

    responses: ResponseCacheSettings | None = None
    """`None` keeps nothing."""
    coalesce: bool = False
    """Whether identical calls in flight within one tenant share one upstream call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesSettings:
    """Answers of the Responses API that are kept in the ledger, so that clients can go on from them by their ids.

    They hold prompts and completions as they are.
    """

    store: bool = True
    """Whether answers are kept, of those clients that do not say `store: false`."""
    retention_days: int = 30
    """How long.  An answer from which another one went on is not kept longer for it."""
    max_bytes: int = 1024 * 1024 * 1024
    """Of all kept answers with their prompts, compressed; the oldest go first."""
    max_response_bytes: int = 16 * 1024 * 1024
    """Of one answer with its prompt, before it is compressed; a larger one is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedRates:
    """Limits of one scope (an entry of `limits.scopes`)."""

    scope: Scope
    rates: RateSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Limits on calls.  A call must pass all that are meant for it, or takes from none."""

    overall: RateSettings = field(default_factory=RateSettings)
    """All calls together: `requests_per_minute`, `tokens_per_minute` and `concurrent` of the section itself."""
    per_key: RateSettings = field(default_factory=RateSettings)
    """Each key for itself, unless the key has limits of its own."""
    per_tenant: RateSettings = field(default_factory=RateSettings)
    """Each tenant for itself."""
    per_ip: RateSettings = field(default_factory=RateSettings)
    """Each caller's address for itself; an IPv6 caller is its /64."""
    scopes: tuple[ScopedRates, ...] = ()
    """Single tenants, projects, keys, providers and models."""
    max_wait_seconds: float = 0.0
    """How long a call that is over a limit may wait for its turn instead of being refused."""
    max_waiting: int = 1000
    """Calls that may wait in one worker; more are refused at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """When and how often a call is tried again."""

    max_attempts: int = 4
    """Upstream calls for one client call, over all candidates, 1 to 20.  Candidates beyond that number are never tried."""
    backoff_base: float = 0.25
    """The first wait, in seconds; each later one doubles, with jitter."""
    backoff_cap: float = 8.0
    """The longest wait of ours, in seconds."""
    honour_retry_after_up_to: float = 20.0
    """A provider's `Retry-After` up to this many seconds is waited for; a longer one ends the attempts there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One whole configuration."""

    server: ServerSettings = field(default_factory=ServerSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    providers: Mapping[str, ProviderSettings] = field(default_factory=_no_items)
    """By configured name, in the order of the file."""
    aliases: Mapping[str, AliasSettings] = field(default_factory=_no_items)
    """By name, in the order of the file; those of `providers.*.models[].alias` included."""
    default_model: str | None = None
    """What a call that names no model (or `default`) gets: an alias or `provider/model`."""
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    prices: PriceSettings = field(default_factory=PriceSettings)
    state: StateSettings = field(default_factory=StateSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    responses: ResponsesSettings = field(default_factory=ResponsesSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    budgets: tuple[BudgetSettings, ...] = ()
    """Those of `budgets:` and those of the keys."""
    deadlines: DeadlineSettings = field(default_factory=DeadlineSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    places: Places = field(default_factory=Places, compare=False, repr=False)
    """Where each value came from."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What loads but deserves a look: whole sentences with file, line and path."""

    def deadlines_for(self, provider: str, alias: str | None = None) -> DeadlineSettings:
        """The deadlines of an attempt: the alias's over the provider's over the general ones.  Unknown names add none."""
        deadlines = self.deadlines
        for owner in (self.providers.get(provider), self.aliases.get(alias) if alias is not None else None):
            if owner is not None and owner.deadlines is not None:
                deadlines = owner.deadlines.over(deadlines)
        return deadlines
