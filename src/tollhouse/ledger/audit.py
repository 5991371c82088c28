"""The audit log as a chain: each record holds a SHA-256 over the hash before it and its own bytes.

So no record can be altered, removed or moved without every later hash giving it away, and whoever keeps the newest hash (the
*head*) elsewhere can prove that the end was not cut off either.  Somebody who can write the database and has no kept head to
fear could still write a whole new chain; that is what keeping heads is for.

What is hashed is written so that any language can do it again in a few lines: the previous hash (32 bytes; 32 zero bytes for
the first record), then `seq`, `at_us`, `actor`, `action`, `object`, `changes`, `address`, `outcome`, `request_id` and `events`,
numbers in decimal and text in UTF-8, each as a netstring: its length in bytes in decimal, a colon, the bytes, a comma.

This module holds values and functions; the database is `audit_store`'s.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal

import msgspec

GENESIS: Final = bytes(32)
"""What stands before the first record."""
MAX_NAME_CHARACTERS: Final = 200
"""Of an actor, an object, an address or a request id; what is longer is cut."""
MAX_CHANGES_BYTES: Final = 4096
MASK: Final = "***"
MAX_SEQ_SEARCH: Final = 1000
"""How far a record that was renumbered is looked for; it only decides in which words a broken chain is described."""

Outcome = Literal["ok", "refused", "failed"]
"""`refused`: somebody may not do it; `failed`: it was allowed and did not work."""

_ACTION: Final = re.compile(r"[a-z]+(\.[a-z_]+)+")
_SECRET_FIELDS: Final = frozenset(
    {"api_key", "authorization", "credential", "digest", "key_digest", "password", "plaintext", "secret", "token"}
)
"""Fields whose values are masked, should a caller ever pass one."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, before it has its place in the chain.  Make it with `entry`."""

    at_us: int
    """When, microseconds since the epoch."""
    actor: str
    """An admin credential's name, `cli:<operating system's user>`, or `gateway`."""
    action: str
    """`key.revoke`: a noun and a verb."""
    object: str = ""
    """What it was done to: `key:dev`, `tenant:research`."""
    changes: str = ""
    """A JSON object of the fields that were set, with their new values; empty when there are none.  Never a secret."""
    address: str = ""
    """The network address that it came from; empty for a command line."""
    outcome: Outcome = "ok"
    request_id: str = ""
    events: int = 1
    """How many times it happened: more than one when a flood was written down as one record."""


class Record(Entry, frozen=True, kw_only=True):
    """An entry in its place."""

    seq: int
    """1 for the first, without gaps."""
    previous: bytes
    """The hash of the record before."""
    hash: bytes


class Head(msgspec.Struct, frozen=True):
    """Where a chain ends."""

    seq: int = 0
    hash: bytes = GENESIS


class Break(msgspec.Struct, frozen=True):
    """The first place at which a chain does not hold."""

    seq: int
    """The record at fault, or the first one that is missing."""
    kind: Literal["altered", "removed", "reordered"]
    message: str
    """A whole sentence."""


class Verdict(msgspec.Struct, frozen=True):
    """What walking a chain found."""

    records: int
    """How many hold, from the first."""
    head: bytes
    """The hash of the last that holds."""
    broken: Break | None = None
    kept_at: int | None = None
    """Which record the kept head is of, when one was given and is in the chain."""

    @property
    def is_whole(self) -> bool:
        """Whether every record holds."""
        return self.broken is None


def entry(
    *,
    at_us: int,
    actor: str,
    action: str,
    object: str = "",  # noqa: A002 - the column's name
    changes: Mapping[str, object] | None = None,
    address: str = "",
    outcome: Outcome = "ok",
    request_id: str = "",
    events: int = 1,
) -> Entry:
    """An entry that every database takes: text is bounded and printable, secrets among the changes are masked.

    Raises `ValueError` for an action that is not a noun and a verb: that would be a defect of the caller.
    """
    if _ACTION.fullmatch(action) is None:
        raise ValueError(f"{action!r} is not an action such as key.create")
    return Entry(
        at_us=at_us,
        actor=_plain(actor),
        action=action,
        object=_plain(object),
        changes=_changes(changes or {}),
        address=_plain(address),
        outcome=outcome,
        request_id=_plain(request_id),
        events=events,
    )


def chain(head: Head, entries: Iterable[Entry]) -> list[Record]:
    """The entries as records that follow on `head`."""
    records = []
    seq, previous = head.seq, head.hash
    for one in entries:
        seq += 1
        own = _digest(previous, seq, one)
        records.append(Record(**msgspec.structs.asdict(one), seq=seq, previous=previous, hash=own))
        previous = own
    return records


def walk(records: Iterable[Record], *, find: Callable[[bytes], int | None], kept: bytes | None = None) -> Verdict:
    """Checks a whole chain, first record first, and stops at the first that does not hold.

    `find` gives the number of the stored record with a certain hash, to tell what was done to a broken chain.  `kept` is a head
    that was noted down earlier; whether it was found stands in the verdict.
    """
    held, previous, kept_at = 0, GENESIS, 0 if kept == GENESIS else None
    for record in records:
        broken = _break(record, held + 1, previous, find)
        if broken is not None:
            return Verdict(held, previous, broken, kept_at)
        held, previous = record.seq, record.hash
        if record.hash == kept:
            kept_at = held
    return Verdict(held, previous, None, kept_at)


def parse_head(text: str) -> bytes:
    """A head as it is printed: 64 hexadecimal digits.  Raises `ValueError`."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", text.strip()) is None:
        raise ValueError("a head is the 64 hexadecimal digits that `tollhouse audit verify` prints")
    return bytes.fromhex(text.strip())


def _break(record: Record, wanted: int, previous: bytes, find: Callable[[bytes], int | None]) -> Break | None:
    is_own = _digest(record.previous, record.seq, record) == record.hash
    if record.seq == wanted and record.previous == previous and is_own:
        return None
    follows = 0 if record.previous == GENESIS else find(record.previous)
    if follows is not None and follows != record.seq - 1:
        place = f"after record {follows}" if follows else "first"
        return Break(record.seq, "reordered", f"Record {record.seq} was moved: it was written {place}.")
    if record.seq != wanted:
        missing = f"record {wanted} is" if record.seq - wanted == 1 else f"records {wanted} to {record.seq - 1} are"
        return Break(wanted, "removed", f"{missing[0].upper()}{missing[1:]} missing.")
    if record.previous == previous:
        return Break(record.seq, "altered", f"Record {record.seq} was altered: its hash is not that of what it says.")
    if is_own:
        # It holds by itself, but what it was written after is gone.
        at = max(1, record.seq - 1)
        return Break(at, "altered", f"Record {at} was replaced: record {record.seq} was written after another one.")
    for number in range(record.seq + 1, record.seq + MAX_SEQ_SEARCH):
        if _digest(record.previous, number, record) == record.hash:
            count = number - record.seq
            what = "A record was" if count == 1 else f"{count} records were"
            return Break(record.seq, "removed", f"{what} removed: what is now record {record.seq} was record {number}.")
    return Break(record.seq, "altered", f"Record {record.seq} was altered, or is not of this log.")


def _digest(previous: bytes, seq: int, one: Entry) -> bytes:
    values = (
        seq,
        one.at_us,
        one.actor,
        one.action,
        one.object,
        one.changes,
        one.address,
        one.outcome,
        one.request_id,
        one.events,
    )
    fields = [str(value).encode() for value in values]
    return hashlib.sha256(previous + b"".join(b"%d:%s," % (len(field), field) for field in fields)).digest()


def _plain(text: str) -> str:
    """Bounded and printable: what callers send must not move a cursor, and no database takes NUL or half a surrogate pair."""
    cut = text if len(text) <= MAX_NAME_CHARACTERS else text[: MAX_NAME_CHARACTERS - 1] + "…"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in cut)


def _changes(changes: Mapping[str, object]) -> str:
    if not changes:
        return ""
    encoded = msgspec.json.encode(_shown(changes), order="sorted")
    if len(encoded) > MAX_CHANGES_BYTES:
        names = [_plain(name)[:60] for name in sorted(changes)[:50]]
        encoded = msgspec.json.encode(dict.fromkeys(names, "(too long)"))
    return encoded.decode()


def _shown(value: object) -> object:
    """What may stand in the log: plain values; in place of bytes, wrapped secrets and anything else the mask."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, Mapping):
        return {
            _plain(str(name)): MASK if str(name) in _SECRET_FIELDS and inner is not None else _shown(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown(inner) for inner in value]
    return MASK
