"""Whose a thing at a provider is, and who may name it.

At a provider everything belongs to the account, and the gateway's account is one for all its callers.  So what is made there
by way of the gateway is noted with the tenant that made it, also while there is only one; the by-products of conversations are
noted once there are several (`by_products`).  Where there are several tenants, nobody is let to what another made.  What nobody
noted (made before there were notes, or outside the gateway) is nobody's: whether that may be named is the configuration's word.

To whom a thing does not belong it is not there.  That is said in the same words whether it is another's or none at all.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from tollhouse.chat.model import Request
from tollhouse.errors import BadRequest, NotFound, StoreUnavailable
from tollhouse.gateway.call import Call
from tollhouse.gateway.references import Named, in_json, may_name, stored_files
from tollhouse.ledger.belongings import Note
from tollhouse.policy.identity import Principal
from tollhouse.providers.provider import Provider

NOTE_SECONDS: Final = 2.0
"""How long an answer's end may wait for its note; the writing goes on after that."""
MAX_READ_AT_ONCE_BYTES: Final = 256 * 1024

T = TypeVar("T")

log = logging.getLogger("tollhouse.gateway")


class Notes(Protocol):
    """Where it is noted; `tollhouse.ledger.belongings.Belongings`."""

    def note(self, notes: Iterable[Note]) -> "asyncio.Future[None]": ...
    async def owners(self, provider: str, ids: Iterable[str]) -> Mapping[str, str]: ...
    async def forget(self, provider: str, thing: str, tenant: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Ownership:
    """Lets callers to what is theirs."""

    notes: Notes
    are_several: Callable[[str], bool]
    """Whether the gateway knows other tenants beside the caller's.  Asked at each call, so it is quick."""

    def guards(self, provider: Provider, principal: Principal) -> bool:
        """Whether it matters to this caller, at this provider, whose a thing is."""
        return provider.foreign_ids is not None or self.are_several(principal.tenant)

    async def permit(self, provider: Provider, principal: Principal, named: Named, *, is_at_once: bool = False) -> None:
        """Raises `NotFound` where something is named that is not the caller's, and `StoreUnavailable` where nobody knows.

        `is_at_once` says that a request names things in fields of known names only: then what else it says keeps it from
        nothing while the notes are away.
        """
        asked = named.references | named.others | named.chosen
        if not asked:
            return
        try:
            owners = await self.notes.owners(provider.name, asked)
        except StoreUnavailable:
            if named.references or named.chosen or not is_at_once:
                raise
            return
        takes_foreign = provider.foreign_ids == "allow"
        for name in sorted(named.references):
            owner = owners.get(name)
            if owner != principal.tenant and (owner is not None or not takes_foreign):
                raise _not_there(name)
        for name in sorted(named.others | named.chosen):
            if (owner := owners.get(name)) is not None and owner != principal.tenant:
                raise _not_there(name)

    async def permit_conversation(
        self, provider: Provider, principal: Principal, body: bytes, decode: Callable[[], Request] | None = None
    ) -> None:
        """The same for a conversation's request, as it goes to the provider; `decode` reads one that is not JSON."""
        if not may_name(body):
            return
        named = await read_beside(in_json, body, as_paths=names_paths(provider))
        if named is None:
            named = Named() if decode is None else Named(references=frozenset(stored_files(decode())))
        named = Named(references=named.references, others=named.chosen)
        await self.permit(provider, principal, named, is_at_once=True)

    async def visible(self, provider: Provider, principal: Principal, ids: Collection[str]) -> AbstractSet[str]:
        """Those of the ids that the caller may see in a list."""
        owners = await self.notes.owners(provider.name, ids)
        nobodys = principal.tenant if provider.foreign_ids == "allow" else None
        return {each for each in ids if owners.get(each, nobodys) == principal.tenant}

    async def own(self, provider: Provider, principal: Principal, ids: Collection[str]) -> AbstractSet[str]:
        """Those of the ids of which it is noted that they are the caller's."""
        owners = await self.notes.owners(provider.name, ids)
        return {name for name, owner in owners.items() if owner == principal.tenant}

    async def note(self, provider: Provider, call: Call, kind: str, ids: Iterable[str]) -> None:
        """Notes that things are the caller's.  Fails never: the answer that tells of them must not be lost with the note."""
        tenant = call.principal.tenant
        notes = [Note(provider.name, each, tenant, kind, call.arrived_at_us) for each in ids]
        if not notes:
            return
        try:
            async with asyncio.timeout(NOTE_SECONDS):
                await asyncio.shield(self.notes.note(notes))
        except (StoreUnavailable, TimeoutError) as error:
            log.info(
                "what was made at a provider is noted later; other workers do not know yet whose it is",
                extra={"request_id": call.id, "provider": provider.name, "why": str(error) or "it took too long"},
            )

    async def forget(self, provider: Provider, call: Call, thing: str) -> None:
        """Takes the note of a thing back that is no more.  Fails never: a note too many does no harm."""
        try:
            async with asyncio.timeout(NOTE_SECONDS):
                await self.notes.forget(provider.name, thing, call.principal.tenant)
        except (StoreUnavailable, TimeoutError) as error:
            log.info(
                "the note of what was deleted at a provider stays",
                extra={"request_id": call.id, "provider": provider.name, "why": str(error) or "it took too long"},
            )


async def read_beside(read: Callable[..., T], body: bytes, *, as_paths: bool) -> T:
    """What is read of a body; a large one is read beside the loop."""
    if len(body) <= MAX_READ_AT_ONCE_BYTES:
        return read(body, as_paths=as_paths)
    return await asyncio.to_thread(read, body, as_paths=as_paths)


def names_paths(provider: Provider) -> bool:
    """Whether the provider's ids have their collection in them, as Google's (`files/abc`)."""
    return provider.kind == "google"


def unreadable() -> BadRequest:
    """What is said of a body that could name anything."""
    return BadRequest(
        "The body cannot be read, so whose things it names cannot be told.",
        hint="Send JSON in UTF-8, or a form whose parts have plain names.",
    )


def _not_there(name: str) -> NotFound:
    return NotFound(
        f"There is no {name[:100]!r} here.",
        hint="What was not made by way of this gateway can be used if whoever runs it says so: providers.NAME.foreign_ids.",
    )
