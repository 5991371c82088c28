"""Who a caller is, when proxies stand in front.

Each proxy appends to `X-Forwarded-For` the address that it was called from, so the field is read from its end: the first
address that is not one of our own proxies' is the caller's.  What stands left of that, the caller may have written itself.
From a peer that is no trusted proxy the field says nothing at all.  The same goes for `X-Forwarded-Proto`, by which a proxy
that ends TLS says that its caller spoke it.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final

from tollhouse.policy.access import Networks

FORWARDED: Final = b"x-forwarded-for"
FORWARDED_SCHEME: Final = b"x-forwarded-proto"
SCHEMES: Final = ("http", "https")
MAX_HOPS: Final = 32
"""Entries that are looked at, from the end.  Of a longer chain of our own proxies the last one looked at is the caller."""


def caller_address(peer: str, forwarded: Sequence[bytes], trusted: Networks | None) -> str:
    """The caller's IP address: `peer`, who is connected, or whom the proxies among `trusted` speak for.

    `forwarded` are the values of all `X-Forwarded-For` fields in their order.  An entry that is no address (`unknown`, a name,
    garbage) ends the search: the proxy that wrote it down is all that is known.
    """
    if trusted is None or not forwarded or not trusted.contain(peer):
        return peer
    address = peer
    for entry in reversed(_last_entries(forwarded)):
        found = _address(entry)
        if found is None:
            break
        address = found
        if not trusted.contain(found):
            break
    return address


def caller_scheme(scheme: str, peer: str, forwarded: Sequence[bytes], trusted: Networks | None) -> str:
    """How the caller's address of the gateway begins: with `scheme`, or with what the proxy `peer` says, if it is trusted.

    `forwarded` are the values of all `X-Forwarded-Proto` fields in their order; the last word is that of the nearest proxy.
    """
    if trusted is None or not forwarded or not trusted.contain(peer):
        return scheme
    said = forwarded[-1].rpartition(b",")[2].strip().lower().decode("latin-1")
    return said if said in SCHEMES else scheme


def _last_entries(forwarded: Sequence[bytes]) -> list[bytes]:
    entries: list[bytes] = []
    for value in reversed(forwarded):
        # Empty entries of a list mean nothing (RFC 9110, section 5.6.1).
        parts = [part.strip() for part in value.rsplit(b",", MAX_HOPS)[-MAX_HOPS:]]
        entries = [*filter(None, parts), *entries]
        if len(entries) >= MAX_HOPS:
            break
    return entries[-MAX_HOPS:]


def _address(entry: bytes) -> str | None:
    """An entry in one spelling, without brackets, port or zone; `None` if it is no address."""
    text = entry.decode("latin-1")
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or (port and not _is_port(port[1:] if port[0] == ":" else "")):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(port):
            return None
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    if parsed.version == 6:
        if parsed.scope_id is not None:
            return None  # a zone means something on one machine only
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
    return str(parsed)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5
