"""From the name that a client uses to the ordered candidates that may answer.

A name is, in this order: an alias; `provider/model`; or a bare model name that exactly one configured provider has.  Nothing
here does I/O; a reload builds a new `Router`.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tollhouse.dialects.dialect import Dialect, ModelCard
from tollhouse.errors import ModelMissing, ModelNotFound
from tollhouse.ledger.prices import ModelPrice
from tollhouse.policy.access import ANYTHING, Access
from tollhouse.policy.identity import ANONYMOUS, Principal, allowed_targets
from tollhouse.providers.provider import Provider
from tollhouse.upstream.transport import Address, Deadlines, Transport

MAX_REMEMBERED: Final = 2_000
"""Bound on resolved names that are kept; clients may invent `provider/…` names without end."""
MAX_NAME_CHARACTERS: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One provider's model, with everything an attempt needs computed once."""

    provider: Provider
    model: str
    traits: Any
    """The dialect's own record of traits, as `provider.dialect` wants it."""
    transport: Transport
    address: Address
    target: bytes
    """The request target of the chat endpoint."""
    stream_target: bytes
    """That of its streams; mostly the same."""
    embeddings_target: bytes | None
    """That of the embeddings endpoint, where there is one."""
    count_target: bytes | None = None
    """That of the endpoint that counts tokens, where there is one."""
    deadlines: Deadlines
    where: str
    """`host:port`, as the transport's messages have it."""
    label: bytes
    """`provider/model`, for the header that tells the client who answered."""
    name: str
    """`provider/model`, for limits and budgets."""
    price: ModelPrice | None
    """What it costs, where that is known; a price of the same book as the version in the gateway's rows."""
    max_output_tokens: int | None = None
    """What the model can write at most, where that is known."""
    others: tuple["Candidate", ...] = ()
    """The same model, asked in other dialects of its provider."""

    def asked_in(self, dialect: Dialect[Any]) -> "Candidate":
        """As it is best asked for a client of `dialect`: in that dialect, where its provider speaks it."""
        if self.provider.dialect is not dialect:
            for other in self.others:
                if other.provider.dialect is dialect:
                    return other
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The candidates for one name, to be tried in order."""

    name: str
    candidates: tuple[Candidate, ...]
    strict: bool = False
    """Refuse instead of dropping what the provider's dialect cannot say."""

    def with_candidates(self, candidates: Iterable[Candidate]) -> "Route":
        """The same route with these candidates only."""
        return replace(self, candidates=tuple(candidates))

    def has_to_seal(self, candidate: Candidate) -> bool:
        """Whether what the candidate signs must not stand bare in its clients' history: it would go to another provider.

        That is so where the route has one of another type that speaks the same dialect: the conversation may go on there.
        """
        provider = candidate.provider
        return provider.signs_bare and any(
            other.provider.dialect is provider.dialect and other.provider.kind != provider.kind
            for other in self.candidates
        )

    def asked_in(self, dialect: Dialect[Any]) -> "Route":
        """The same route, each candidate as it is best asked for a client of `dialect`."""
        for candidate in self.candidates:
            if candidate.others:
                return self.with_candidates(each.asked_in(dialect) for each in self.candidates)
        return self


def allowed(route: Route, principal: Principal) -> Route:
    """The route with the candidates that the caller may use.  Raises `ModelNotAllowed`."""
    if principal.access is ANYTHING:
        return route
    left = allowed_targets(principal, route.name, [candidate.name for candidate in route.candidates])
    return route.with_candidates(candidate for candidate in route.candidates if candidate.name in left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name that clients use: targets as (provider, model) pairs, in the order in which they are tried."""

    name: str
    targets: tuple[tuple[str, str], ...]
    strict: bool = False


class Router:
    """Resolves names.  Immutable but for its memory of resolved names."""

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        aliases: Iterable[Alias],
        default: str | None,
        has_model: Callable[[Provider, str], bool],
        candidate: Callable[[Provider, str, str | None], Candidate],
        listed: Sequence[tuple[str, str]] = (),
        redact: Callable[[str], str] = str,
    ) -> None:
        """`has_model` answers whether a provider is known to offer a model; `candidate` makes one for (provider, model, alias).

        `listed` are the (provider, model) pairs that the configuration names, for model lists and suggestions; `redact` takes
        the credentials out of a text.
        """
        self._providers = providers
        self._aliases = {alias.name: alias for alias in aliases}
        self._default = default
        self._has_model = has_model
        self._candidate = candidate
        self._listed = tuple(dict.fromkeys(listed))
        self._redact = redact
        self._resolved: dict[str, Route] = {}

    @property
    def kinds(self) -> Mapping[str, str]:
        """The type of each configured provider, by its name: what prices go by."""
        return {name: provider.kind for name, provider in self._providers.items()}

    def one(self, provider: str, model: str) -> Candidate:
        """A provider's model, whether or not the provider is known to have it.  Raises `ModelNotFound` for the provider."""
        found = self._providers.get(provider)
        if found is None:
            raise ModelNotFound(f"{provider}/{model}"[:MAX_NAME_CHARACTERS], reason="there is no such provider here")
        _check_name(model)
        self._check_is_no_secret(found, model)
        return self._candidate(found, model, None)

    @property
    def providers(self) -> Mapping[str, Provider]:
        """The configured providers, by name."""
        return self._providers

    def resolve(self, name: str) -> Route:
        """The route of a name; an empty name means the default.

        Raises `ModelNotFound` with the nearest names, and `ModelMissing` where there is no default.
        """
        route = self._resolved.get(name)
        if route is None:
            route = self._resolve(name)
            if len(self._resolved) >= MAX_REMEMBERED:
                self._resolved.clear()
            self._resolved[name] = route
        return route

    def default_name(self) -> str:
        """The route of requests that name no model; empty where there is none."""
        return "" if self._default is None else self.resolve(self._default).name

    def _resolve(self, name: str) -> Route:
        if not name:
            if self._default is None:
                raise ModelMissing
            return self.resolve(self._default)
        _check_name(name)
        alias = self._aliases.get(name)
        if alias is not None:
            return self._route(name, alias.targets, alias)
        if name == "default" and self._default is not None:
            return self.resolve(self._default)
        prefix, slash, rest = name.partition("/")
        if slash and prefix in self._providers and rest:
            self._check_is_no_secret(self._providers[prefix], rest)
            return self._route(name, ((prefix, rest),))
        owners = [p.name for p in self._providers.values() if self._has_model(p, name)]
        if len(owners) == 1:
            return self._route(name, ((owners[0], name),))
        if owners:
            choices = " or ".join(f"`{owner}/{name}`" for owner in owners[:5])
            raise ModelNotFound(name, reason=f"several providers have it; write {choices}")
        raise ModelNotFound(name, nearest=self._nearest(name))

    def _check_is_no_secret(self, provider: Provider, model: str) -> None:
        """Raises `ModelNotFound` for a credential in a name's place, which would be told to a provider and stand in the books.

        A server that takes every name would answer to it.  A name that only looks like one is let in by the configuration.
        """
        shown = self._redact(model)
        if shown != model and not self._has_model(provider, model):
            raise ModelNotFound(
                f"{provider.name}/{shown}",
                reason="what looks like a credential is no model's name unless the configuration has it",
            )

    def _route(self, name: str, targets: Sequence[tuple[str, str]], alias: Alias | None = None) -> Route:
        owner = None if alias is None else alias.name
        return Route(
            name=name,
            candidates=tuple(self._candidate(self._providers[provider], model, owner) for provider, model in targets),
            strict=alias is not None and alias.strict,
        )

    def _nearest(self, name: str) -> list[str]:
        known = [*self._aliases, *(f"{p}/{m}" for p, m in self._listed), *(m for _, m in self._listed)]
        return difflib.get_close_matches(name, dict.fromkeys(known), n=3, cutoff=0.5)

    def cards(self, access: Access = ANYTHING) -> list[ModelCard]:
        """The model list: aliases first, then every `provider/model` that the configuration names.

        Of these, those that `access` allows.
        """

        def may_use(alias: str, targets: Iterable[tuple[str, str]]) -> bool:
            return access is ANYTHING or any(access.may_use(alias, f"{p}/{m}") for p, m in targets)

        cards = [
            ModelCard(id=alias.name, owner=alias.targets[0][0], display_name=alias.name)
            for alias in self._aliases.values()
            if may_use(alias.name, alias.targets)
        ]
        if (
            self._default is not None
            and "default" not in self._aliases
            and any(access.may_use(self._default, c.name) for c in self.resolve(self._default).candidates)
        ):
            owner = self.resolve(self._default).candidates[0].provider.name
            cards.append(ModelCard(id="default", owner=owner, display_name="default"))
        pairs = dict.fromkeys(
            [*self._listed, *(target for alias in self._aliases.values() for target in alias.targets)]
        )
        cards.extend(
            ModelCard(id=f"{p}/{m}", owner=p, display_name=f"{p}/{m}")
            for p, m in pairs
            if may_use(f"{p}/{m}", [(p, m)])
        )
        return cards

    def card(self, name: str, principal: Principal = ANONYMOUS) -> ModelCard:
        """One model of the list, or any name that resolves.  Raises `ModelNotFound`, and `ModelNotAllowed`."""
        for card in self.cards(principal.access):
            if card.id == name:
                return card
        route = allowed(self.resolve(name), principal)
        return ModelCard(id=name, owner=route.candidates[0].provider.name, display_name=name)


def _check_name(name: str) -> None:
    """Raises `ModelNotFound` for what cannot stand in a header, a row or a log."""
    if not name.isprintable():
        raise ModelNotFound(name[:80], reason="a name has printable characters only")
    if len(name) > MAX_NAME_CHARACTERS:
        raise ModelNotFound(name[:80] + "…", reason=f"a name has at most {MAX_NAME_CHARACTERS} characters")
