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


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """Who may call.  With neither keys nor `open`, every call is refused."""

    keys: tuple[KeySettings, ...] = ()
    open: bool = False
    """Whether calls without a known key are let in; loading allows it on a loopback `server.host` only."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSettings:
    """Prices that replace those of the price book."""

    overrides: Mapping[str, Mapping[str, int]] = field(default_factory=_no_items)
    """`provider/model` or `provider/*` → rate (`input`, `output`, `cache_read`, …) → nano-USD per million tokens.

    `request` alone is nano-USD a call.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What the gateway writes about itself."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"
    calls: str = "stderr"
    """Where the line about each call goes: `stderr`, `off`, or a file's path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Rates over all calls; `None` is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    """Calls in flight at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """Money over all calls, in nano-USD a window; `None` is no budget."""

    hourly_nano: int | None = None
    daily_nano: int | None = None
    weekly_nano: int | None = None
    monthly_nano: int | None = None
    total_nano: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """When and how often a call is tried again."""

    max_attempts: int = 4
    """Upstream calls for one client call, over all candidates, 1 to 20."""
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
    providers: Mapping[str, ProviderSettings] = field(default_factory=_no_items)
    """By configured name, in the order of the file."""
    aliases: Mapping[str, AliasSettings] = field(default_factory=_no_items)
    """By name, in the order of the file; those of `providers.*.models[].alias` included."""
    default_model: str | None = None
    """What a call that names no model (or `default`) gets: an alias or `provider/model`."""
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    prices: PriceSettings = field(default_factory=PriceSettings)
    log: LogSettings = field(default_factory=LogSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    budgets: BudgetSettings = field(default_factory=BudgetSettings)
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
