"""From a client certificate to a principal.

A certificate comes here verified: the listener let nobody in whose certificate the configured authorities had not signed.  What
is left to decide is who that is.  A rule names the whole subject, or one alternative name, and both are compared as texts
in one spelling: no wildcards, no part of a subject, because what an authority might sign tomorrow must not widen a rule.

A credential goes before a certificate: who sends both is whom the credential says, and a bad credential is refused.
"""

from collections.abc import Iterable, Mapping

import msgspec

from tollhouse.config.client_certificates import PREFIX
from tollhouse.config.schema import CertificateSettings
from tollhouse.policy.identity import NOTHING_SHARED, Principal, Roll, configured_principal
from tollhouse.policy.peer_certificate import PeerCertificate

Match = tuple[str, str]
"""`subject` or `san`, and the text."""


class CertificateRules:
    """The rules of a configuration, compiled.  Immutable to whoever uses it; a reload makes new ones."""

    __slots__ = ("_joined", "_joined_for", "_rules")

    def __init__(self, settings: Iterable[CertificateSettings]) -> None:
        """Raises `ValueError` for an address range that is none, which loading does not let in."""
        self._rules: Mapping[Match, tuple[int, Principal]] = {
            (("subject", each.subject) if each.subject is not None else ("san", each.san or "")): (
                index,
                configured_principal(PREFIX + each.name, each),
            )
            for index, each in enumerate(settings)
        }
        self._joined = self._rules
        self._joined_for: Roll | None = None

    def find(self, peer: PeerCertificate, roll: Roll) -> Principal | None:
        """The principal of the first rule, in the order of the file, that names this certificate."""
        if roll is not self._joined_for:
            self._join(roll)
        matches = [("san", name) for name in peer.names]
        if peer.subject:
            matches.append(("subject", peer.subject))
        found = [rule for match in matches if (rule := self._joined.get(match)) is not None]
        return min(found, key=_order)[1] if found else None

    def _join(self, roll: Roll) -> None:
        """Gives the callers what their tenants have in the database.  Doing it twice at once does no harm."""
        joined = {}
        for match, (index, principal) in self._rules.items():
            shared = roll.shared(principal.tenant, principal.project)
            if shared is not NOTHING_SHARED:
                principal = msgspec.structs.replace(principal, shared=shared)  # noqa: PLW2901  # the same caller
            joined[match] = index, principal
        self._joined = joined
        self._joined_for = roll


def _order(rule: tuple[int, Principal]) -> int:
    return rule[0]
