"""What a provider is: a dialect, an address, a way to authenticate, and the traits of its models.

A `Provider` is a value, made from the configuration by `ProviderKind.build`.  It opens nothing and reads no clock: the
gateway takes plain strings and bytes out of it and gives them to the transport.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote

from tollhouse._version import __version__
from tollhouse.config.schema import ModelSettings, ProviderDefaults, ProviderSettings
from tollhouse.dialects.counting import CountingDialect
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.embedding import EmbeddingDialect
from tollhouse.errors import ConfigError
from tollhouse.providers.catalogue import UNKNOWN, ModelFacts
from tollhouse.providers.credentials import Authenticate, anonymous, bearer

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

# A compressed stream of events cannot be forwarded piece by piece, hence `identity`.
_FIXED: Final[Headers] = (
    (b"content-type", b"application/json"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"tollhouse/" + __version__.encode("ascii")),
)

_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_TRANSPORT_FIELDS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})

MAX_FORWARDED_BYTES: Final = 4096
"""Bound on a client's header value that is forwarded; a longer one is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherPaths:
    """What a type of provider has beside the API by which it is asked for answers, for callers who use its other paths."""

    address_end: re.Pattern[str]
    """How the path of an address of this type ends (`/compatible-mode/v1`); what stands before that is its root."""
    at_root: re.Pattern[str]
    """How the paths begin that are below the root and not below the address (`/api/`)."""
    request_headers: frozenset[bytes] = frozenset()
    """What a caller may say there, beside what all may say everywhere."""
    answer_headers: frozenset[bytes] = frozenset()
    """What comes back from there, beside what comes back from everywhere."""
    session_headers: frozenset[bytes] = frozenset()
    """Those of an answer that have an address below the provider's own, at which its caller is to go on."""

    def root_of(self, base_path: str) -> str | None:
        """The root of an address with this path; `None` for an address of another form, of which nobody knows the root."""
        found = self.address_end.search(base_path)
        return None if found is None else base_path[: found.start()]


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueModel:
    """One model of a provider, as far as it is known.  `None` is "not known", which is not "no"."""

    name: str
    alias: str | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    capabilities: frozenset[str] | None = None
    api: str | None = None
    """The dialect in which it is to be asked, where the configuration says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherDialect:
    """A second dialect in which a provider can be asked for answers."""

    api: str
    """What a configuration calls it at a model (`api: responses`)."""
    dialect: Dialect[Any]
    chat_path: str
    counting: CountingDialect[Any] | None
    count_tokens_path: str | None
    traits_for: Callable[[str], Any]
    offers: Callable[[str], bool]
    """Whether a model can be asked in it; what a configuration says of the model comes first."""
    is_only_one: Callable[[str], bool]
    """Whether a model can be asked in nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A configured provider.  Paths are below `base_url`."""

    name: str
    """As the configuration calls it."""
    kind: str
    """The canonical name of its type; the price book's key."""
    dialect: Dialect[Any]
    """(`Any`: each dialect has traits of a type of its own; `traits_for` gives the fitting ones.)"""
    base_url: str
    """Without a trailing slash."""
    chat_path: str
    """May hold `{model}`."""
    stream_path: str | None
    """Where streams are asked for, if not at `chat_path`; may hold `{model}`."""
    embeddings: EmbeddingDialect | None
    """How it is asked for embeddings; `None` where it has none."""
    embeddings_path: str | None
    """May hold `{model}`."""
    models_path: str
    counting: CountingDialect[Any] | None
    """How it is asked for the tokens of a prompt; `None` where it cannot count."""
    count_tokens_path: str | None
    """May hold `{model}`."""
    name_in_path: Callable[[str], str]
    """What stands for `{model}`: a model's name, percent-encoded."""
    authenticate: Authenticate
    fixed_headers: Headers = field(repr=False)
    """What every request carries besides the credential; names in lower case.  The configured ones may be secret."""
    forward_headers: frozenset[bytes]
    """The client's headers that go on to the provider when both speak the same dialect."""
    signs_bare: bool
    """Whether clients of its dialect cannot tell what it signed from what the dialect's own company signed."""
    continues_traces: bool
    """Whether it is a gateway of ours, and is told which trace a call is in; nobody else is."""
    passthrough: bool
    """Whether callers may use its other paths as they are."""
    foreign_ids: Literal["allow", "refuse"] | None
    """Whether callers may name what is there and nobody made by way of the gateway; see `ProviderSettings`."""
    traits_for: Callable[[str], Any]
    """The traits of a model, by the provider's own name of it.  Pure."""
    facts_for: Callable[[str], ModelFacts]
    """What is known of a model beyond its price."""
    models: tuple[CatalogueModel, ...] = ()
    """The models that the configuration names."""
    other: OtherDialect | None = None
    other_paths: OtherPaths | None = None
    passthrough_hold_nano: int | None = None
    """What a call of another path is taken to cost where no price says it, in nano-USD; `None` where nobody knows."""

    def ways(self, model: str) -> tuple["Provider", ...]:
        """This provider in each dialect in which the model can be asked, the one first that suits any client.

        A client of another one of them is better served in its own, where nothing has to be translated.
        """
        other = self.other
        if other is None:
            return (self,)
        in_other = replace(
            self,
            dialect=other.dialect,
            chat_path=other.chat_path,
            stream_path=None,
            counting=other.counting,
            count_tokens_path=other.count_tokens_path,
            traits_for=other.traits_for,
            other=None,
        )
        wanted = self.model(model).api
        if wanted == other.api or (wanted is None and other.is_only_one(model)):
            return (in_other,)
        if wanted is None and other.offers(model):
            return (self, in_other)
        return (self,)

    def path(self, path: str, model: str) -> str:
        """One of the paths, with a model's name in it."""
        return path.replace("{model}", self.name_in_path(model)) if "{model}" in path else path

    def headers(
        self, now: float, client_headers: Sequence[tuple[bytes, bytes]] = (), *, same_dialect: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """The header fields of one request, in lower case, without those that belong to the transport.

        `now` is wall clock in seconds since the epoch; `client_headers` have lower-case names.  What the client is
        allowed to say replaces the fixed field of that name.
        """
        if not same_dialect or not self.forward_headers:
            return [*self.fixed_headers, *self.authenticate(now)]
        wanted = self.forward_headers
        forwarded = [
            (name, value) for name, value in client_headers if name in wanted and len(value) <= MAX_FORWARDED_BYTES
        ]
        if not forwarded:  # as nearly always
            return [*self.fixed_headers, *self.authenticate(now)]
        replaced = {name for name, _ in forwarded}
        fixed = [entry for entry in self.fixed_headers if entry[0] not in replaced]
        return [*fixed, *self.authenticate(now), *forwarded]

    def model(self, name: str) -> CatalogueModel:
        """A model by the provider's own name: the configuration's word, then what the catalogue knows."""
        for model in self.models:
            if model.name == name:
                return model
        return _catalogued(ModelSettings(name=name), self.facts_for)


def _as_it_is(base_url: str) -> str:
    return base_url


def _in_one_segment(model: str) -> str:
    return quote(model, safe="")


def _nothing_known(model: str) -> ModelFacts:
    del model
    return UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderKind:
    """A type of provider: what all providers of this type have in common."""

    type: str
    dialect: Dialect[Any]
    traits_for: Callable[[str], Any]
    base_url: str | None
    """`None` where the configuration (or the embedded model) has to say it."""
    key_variable: str | None = None
    """The environment variable that holds the key by custom."""
    needs_key: bool = True
    needs_base_url: bool = False
    options: tuple[str, ...] = ()
    own_model: str | None = None
    """See `ProviderDefaults`."""
    authenticate: Callable[[str], Authenticate] = bearer
    """Makes the way to authenticate from a key.  Raises `ValueError` for a key that cannot be one."""
    complete_base_url: Callable[[str], str] = _as_it_is
    """Puts right what people commonly leave out of, or put too much into, this type's address."""
    chat_path: str = "/chat/completions"
    stream_path: str | None = None
    embeddings: EmbeddingDialect | None = None
    embeddings_path: str | None = None
    models_path: str = "/models"
    counting: CountingDialect[Any] | None = None
    count_tokens_path: str | None = None
    name_in_path: Callable[[str], str] = _in_one_segment
    other: OtherDialect | None = None
    other_paths: OtherPaths | None = None
    signs_bare: bool = False
    continues_traces: bool = False
    fixed_headers: Headers = ()
    forward_headers: frozenset[bytes] = frozenset()
    facts_for: Callable[[str], ModelFacts] = _nothing_known

    @property
    def defaults(self) -> ProviderDefaults:
        """What loading a configuration must know of this type."""
        return ProviderDefaults(
            needs_key=self.needs_key,
            needs_base_url=self.needs_base_url,
            key_variable=self.key_variable,
            options=self.options,
            own_model=self.own_model,
        )

    def build(self, settings: ProviderSettings) -> Provider:
        """The configured provider.  Raises `ConfigError` with every problem of these settings."""
        problems: list[str] = []
        base_url = settings.base_url or self.base_url
        if base_url is None:
            problems.append(f"providers.{settings.name}.base_url: type {self.type!r} has no address of its own.")
        authenticate = anonymous()
        if settings.api_key:
            try:
                authenticate = self.authenticate(settings.api_key.reveal())
            except ValueError as error:
                problems.append(f"providers.{settings.name}.api_key: {error}")
        fixed = dict([*_FIXED, *self.fixed_headers])
        for name, value in settings.headers.items():
            problem = _header_problem(name, value.reveal())
            if problem is not None:
                problems.append(f"providers.{settings.name}.headers.{name}: {problem}")
                continue
            fixed[name.lower().encode("ascii")] = value.reveal().encode("ascii")
        apis = {"chat"} if self.other is None else {"chat", self.other.api}
        problems += (
            f"providers.{settings.name}.models: type {self.type!r} cannot be asked for {model.name!r} by `api: {model.api}`."
            for model in settings.models
            if model.api is not None and model.api not in apis
        )
        if problems or base_url is None:
            raise ConfigError(problems)
        return Provider(
            name=settings.name,
            kind=self.type,
            dialect=self.dialect,
            base_url=self.complete_base_url(base_url.rstrip("/")),
            chat_path=self.chat_path,
            stream_path=self.stream_path,
            signs_bare=self.signs_bare,
            continues_traces=self.continues_traces,
            passthrough=settings.passthrough,
            foreign_ids=settings.foreign_ids,
            embeddings=self.embeddings,
            embeddings_path=self.embeddings_path,
            models_path=self.models_path,
            counting=self.counting,
            count_tokens_path=self.count_tokens_path,
            name_in_path=self.name_in_path,
            authenticate=_unless_configured(authenticate, fixed),
            fixed_headers=tuple(fixed.items()),
            forward_headers=self.forward_headers,
            traits_for=self.traits_for,
            facts_for=self.facts_for,
            models=tuple(_catalogued(model, self.facts_for) for model in settings.models),
            other=self.other,
            other_paths=self.other_paths,
            passthrough_hold_nano=settings.passthrough_hold_nano,
        )


def _catalogued(model: ModelSettings, facts_for: Callable[[str], ModelFacts]) -> CatalogueModel:
    facts = facts_for(model.name)
    return CatalogueModel(
        name=model.name,
        alias=model.alias,
        context_tokens=model.context_tokens or facts.context_tokens,
        max_output_tokens=model.max_output_tokens or facts.max_output_tokens,
        capabilities=facts.capabilities,
        api=model.api,
    )


def _header_problem(name: str, value: str) -> str | None:
    if not _FIELD_NAME.fullmatch(name):
        return "this is not a header name."
    if name.lower() in _TRANSPORT_FIELDS:
        return "this header belongs to the connection and cannot be set."
    if not _FIELD_VALUE.fullmatch(value):
        return "the value has characters that a header cannot hold (a line break, perhaps)."
    return None


def _unless_configured(authenticate: Authenticate, fixed: Mapping[bytes, bytes]) -> Authenticate:
    """A credential header that the configuration writes itself takes the place of the one made from `api_key`."""

    def remaining(now: float) -> Headers:
        return tuple(entry for entry in authenticate(now) if entry[0] not in fixed)

    return remaining if fixed.keys() & {b"authorization", b"x-api-key", b"x-goog-api-key"} else authenticate
