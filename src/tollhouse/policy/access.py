"""What a key may use, and from where: lists of names and networks, compiled once."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

MAX_SHOWN: Final = 20
"""Names that a refusal lists."""


@dataclass(frozen=True, slots=True)
class Access:
    """Which models and providers.  Make it with `allow`; `None` allows all."""

    names: frozenset[str] | None = None
    """Aliases and `provider/model` names that are allowed as they stand."""
    prefixes: tuple[str, ...] = ()
    """What stood before a final `*`."""
    providers: frozenset[str] | None = None
    also: "Access | None" = None
    """What must allow a call too."""

    def may_use(self, alias: str, target: str) -> bool:
        """Whether a call for `alias` may be answered by `target` (`provider/model`).

        Its provider must be allowed, and the name that the client used or the target's own.
        """
        if self.also is not None and not self.also.may_use(alias, target):
            return False
        if self.providers is not None and target.partition("/")[0] not in self.providers:
            return False
        names = self.names
        if names is None or alias in names or target in names:
            return True
        return alias.startswith(self.prefixes) or target.startswith(self.prefixes)

    def shown(self) -> Sequence[str]:
        """What is allowed, as it was written down, sorted and not more than fits into a message."""
        if self.names is None and self.also is not None:
            return self.also.shown()
        written = sorted([*(self.names or ()), *(f"{prefix}*" for prefix in self.prefixes)])
        return written if len(written) <= MAX_SHOWN else [*written[:MAX_SHOWN], "…"]

    def shown_providers(self) -> Sequence[str]:
        """The providers that are allowed, sorted; empty when all are."""
        further = self.also.shown_providers() if self.also is not None else ()
        if self.providers is None:
            return further
        return sorted(self.providers.intersection(further) if further else self.providers)


ANYTHING: Final = Access()


def allow(models: Iterable[str] = (), providers: Iterable[str] = ()) -> Access:
    """Compiles two lists; an empty one allows all.  A `*` at the end of a model's name stands for anything."""
    written, allowed = frozenset(models), frozenset(providers)
    if not written and not allowed:
        return ANYTHING
    return Access(
        names=frozenset(name for name in written if not name.endswith("*")) if written else None,
        prefixes=tuple(sorted(name[:-1] for name in written if name.endswith("*"))),
        providers=allowed or None,
    )


def both(one: Access, other: Access) -> Access:
    """What both allow."""
    if other is ANYTHING:
        return one
    if one is ANYTHING:
        return other
    if one.also is not None:
        return replace(one, also=both(one.also, other))
    return replace(one, also=other)


@dataclass(frozen=True, slots=True)
class Networks:
    """Address ranges, compiled.  Make it with `networks`."""

    ranges: tuple[tuple[int, int, int], ...]
    """IP version, mask and the network's number."""

    def contain(self, address: str) -> bool:
        """Whether an IP address lies in one of them.  What is no IP address (a Unix socket) lies in none.

        An IPv4 address within IPv6 (`::ffff:10.0.0.1`, RFC 4291 §2.5.5.2), as a listener on both shows it, is the IPv4 one.
        """
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if parsed.version == 6 and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        version, number = parsed.version, int(parsed)
        return any(version == own and number & mask == network for own, mask, network in self.ranges)


def networks(ranges: Iterable[str]) -> Networks | None:
    """Compiles `10.0.0.0/8` and `2001:db8::/32`; `None` for none, which allows every address.  Raises `ValueError`."""
    parsed = [ipaddress.ip_network(text) for text in ranges]
    if not parsed:
        return None
    return Networks(tuple((net.version, int(net.netmask), int(net.network_address)) for net in parsed))


def overlap(one: Networks | None, other: Networks | None) -> Networks | None:
    """The addresses that lie in both; `None` is every address."""
    if one is None or other is None:
        return one or other
    return Networks(
        tuple(
            max(left, right, key=lambda found: found[1])
            for left in one.ranges
            for right in other.ranges
            if left[0] == right[0] and (left[2] ^ right[2]) & left[1] & right[1] == 0
        )
    )
