"""Whether there is more than one tenant among those who may call.

Where there is one, what callers make at providers is everybody's, and nobody has to ask whose it is.
"""

from collections.abc import Iterator
from typing import Protocol

from tollhouse.config.schema import AuthSettings


class TenantRoll(Protocol):
    """The callers of the database, at one moment."""

    def tenants(self) -> Iterator[str]:
        """Those that there are, with or without keys, and the tenant of each caller, again for each."""
        ...


class TenantRolls(Protocol):
    """Where the newest roll is found."""

    @property
    def roll(self) -> TenantRoll: ...


class Tenants:
    """Those of a configuration, and beside them those of the newest roll.  Callers without a tenant share one.

    A token that somebody else signed with our secret may name a tenant that stands nowhere.  Such a one is known once it has
    called.
    """

    __slots__ = ("_are_several", "_counted", "_known", "_rolls")

    def __init__(self, auth: AuthSettings, rolls: TenantRolls) -> None:
        """`auth` says who may call, and whose tokens are taken."""
        self._rolls = rolls
        self._known = {caller.tenant for caller in auth.callers}
        self._known.update(issuer.defaults.tenant for issuer in auth.oidc)
        if auth.jwt is not None:
            self._known.add(auth.jwt.defaults.tenant)
        if auth.open:
            self._known.add("")
        # An issuer whose tokens say whose they are has more than one to speak of.
        self._are_several = len(self._known) > 1 or any(issuer.tenant_claim is not None for issuer in auth.oidc)
        self._counted: TenantRoll | None = None

    def are_several(self, caller: str) -> bool:
        """Whether there are two at least, the `caller`'s among them.  Looks at the roll again only when there is a new one."""
        if self._are_several:
            return True
        roll = self._rolls.roll
        if roll is self._counted and caller in self._known:
            return False
        if caller not in self._known:
            self._known.add(caller)
            self._are_several = len(self._known) > 1
        if roll is not self._counted:
            self._counted = roll
            known = set(self._known)
            for tenant in roll.tenants():
                known.add(tenant)
                if len(known) > 1:
                    # Once there were two, there are things of two; that one of them may call no more does not matter.
                    self._are_several = True
                    break
            self._known = known
        return self._are_several
