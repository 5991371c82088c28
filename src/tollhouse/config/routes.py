"""From the names in `models:` to the ordered targets of each alias.

A reference is, in this order: another alias, `provider/model` with a configured provider before the first slash, or a bare
model name that exactly one configured provider lists.  Aliases in aliases are flattened here, so that nothing later can
meet a cycle.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from tollhouse.config.schema import AliasSettings, DeadlineOverrides, ProviderSettings, Target
from tollhouse.config.section import Spot
from tollhouse.config.values import did_you_mean, nearest

DEFAULT: Final = "default"
"""The name whose route answers calls that name no model."""
MAX_ROUTE: Final = 50
"""Targets of one alias, those of the aliases in it included."""
MAX_CHAIN: Final = 50
"""Aliases that stand for aliases, one after the other."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One name in a route, and where it stands."""

    name: str
    spot: Spot


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftAlias:
    """An alias as the file has it.  Exactly one of `references` and `target` is filled."""

    name: str
    spot: Spot
    references: tuple[Reference, ...] = ()
    target: Target | None = None
    """Set for an alias that stands at its provider's model."""
    is_single: bool = False
    """Written as one name: it takes over everything from that name."""
    strict: bool | None = None
    deadlines: DeadlineOverrides | None = None


@dataclass(slots=True)
class Routes:
    """Resolves all aliases of one configuration, each once, and reports what does not resolve at its spot."""

    drafts: Mapping[str, DraftAlias]
    providers: Mapping[str, ProviderSettings]
    provider_names: Collection[str]
    """Every name under `providers:`, also those whose settings were refused: one mistake is one problem."""
    _owners: dict[str, list[str]] = field(init=False, default_factory=dict)
    """Model → the providers that list it."""
    _done: dict[str, AliasSettings | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for provider in self.providers.values():
            for model in provider.models:
                self._owners.setdefault(model.name, []).append(provider.name)

    def resolve(self) -> tuple[dict[str, AliasSettings], str | None]:
        """The aliases by name, and the default model.  A `default` that is one name is not an alias of its own."""
        aliases = {name: alias for name in self.drafts if (alias := self._alias(name, ())) is not None}
        default = self.drafts.get(DEFAULT)
        if default is None or DEFAULT not in aliases:
            return aliases, None
        if not default.is_single:
            return aliases, DEFAULT
        name = default.references[0].name
        target = aliases.pop(DEFAULT).targets[0]
        return aliases, name if name in self.drafts else str(target)

    def _alias(self, name: str, above: tuple[str, ...]) -> AliasSettings | None:
        """One alias; `above` are those being resolved.  `None` when it was reported."""
        if name not in self._done:
            self._done[name] = self._resolve(self.drafts[name], (*above, name))
        return self._done[name]

    def _resolve(self, draft: DraftAlias, above: tuple[str, ...]) -> AliasSettings | None:
        if draft.target is not None:
            return AliasSettings(name=draft.name, targets=(draft.target,))
        targets: dict[Target, None] = {}
        inner: list[AliasSettings] = []
        is_whole = True
        for reference in draft.references:
            if reference.name in above:
                cycle = " → ".join((*above[above.index(reference.name) :], reference.name))
                reference.spot.flaw(f"The aliases go in a circle: {cycle}. End it with `provider/model`.")
                is_whole = False
            elif len(above) >= MAX_CHAIN:
                reference.spot.flaw(
                    f"More than {MAX_CHAIN} aliases stand for one another here; name the target itself."
                )
                is_whole = False
            elif reference.name in self.drafts:
                alias = self._alias(reference.name, above)
                if alias is None:
                    is_whole = False
                else:
                    inner.append(alias)
                    targets.update(dict.fromkeys(alias.targets))
            elif (target := self._target(reference)) is not None:
                targets[target] = None
            else:
                is_whole = False
        if len(targets) > MAX_ROUTE:
            draft.spot.flaw(f"With the aliases in it, this route has more than {MAX_ROUTE} targets.")
        if not is_whole or not targets:
            return None
        only = inner[0] if draft.is_single and inner else None
        return AliasSettings(
            name=draft.name,
            targets=tuple(targets),
            # What one part promises, the whole keeps: strictness is never lost by giving a route another name.
            strict=any(alias.strict for alias in inner) if draft.strict is None else draft.strict,
            deadlines=only.deadlines if draft.deadlines is None and only is not None else draft.deadlines,
        )

    def _target(self, reference: Reference) -> Target | None:
        name = reference.name
        prefix, slash, model = name.partition("/")
        if slash and model and prefix in self.provider_names:
            return Target(prefix, model)
        owners = self._owners.get(name, [])
        if len(owners) == 1:
            return Target(owners[0], name)
        # Behind the bound on problems nobody reads the sentence, and finding the nearest name takes its time.
        reference.spot.flaw("" if reference.spot.collector.is_full else self._unresolved(reference, owners))
        return None

    def _unresolved(self, reference: Reference, owners: list[str]) -> str:
        name, spoken = reference.name, reference.spot.speak_of(reference.name)
        if owners:
            return f"Several providers list the model {spoken}; write it as provider/model, with {' or '.join(owners)}."
        prefix, slash, model = name.partition("/")
        if slash and prefix in self.provider_names:
            return f"{spoken} names no model after the slash."
        suggestion = did_you_mean(name, self._names())
        if slash:
            meant = nearest(prefix, self.provider_names)
            if meant and not reference.spot.has_references:
                suggestion = f" Did you mean '{meant}/{model}'?"
            return f"No provider of that name is configured: {spoken}.{suggestion}"
        return (
            f"{spoken} is neither an alias nor a model that a provider lists under `models`.{suggestion}"
            f" A provider's other models are written provider/model."
        )

    def _names(self) -> Iterator[str]:
        yield from self.drafts
        yield from self._owners
        yield from (f"{owner}/{model}" for model, owners in self._owners.items() for owner in owners)
