"""The older form of the file, with `llmproxy:` at its top.

It is translated node by node into today's form before it is read, so that there is one schema and one set of checks.  Every
node keeps its line and the path that it was written with, and `tollhouse config show` prints such a file in today's form.

What differs: `listen_addr` is one text, and `":8080"` means every interface; what is spoken there is plain text; `log_level`
stands alone; `grok` is the type `xai`; rates and budgets have longer names.  The form never had keys for callers.  An `auth`
section as in today's form is taken if there is one, else `TOLLHOUSE_KEY` from the environment is the one key.
"""

import re
from dataclasses import replace
from typing import Final

from tollhouse.config.section import Collector
from tollhouse.config.tree import KIND_NAMES, Entry, Items, Node, Scalar, Table
from tollhouse.config.values import is_loopback, nearest

TOP: Final = "llmproxy"
KEY_VARIABLE: Final = "TOLLHOUSE_KEY"
ALL_INTERFACES: Final = "0.0.0.0"  # noqa: S104 - what an address without a host has always meant in this form

_PROVIDER_TYPES: Final = {"grok": "xai"}
_LEVELS: Final = {"warn": "warning"}
_MOVED: Final = {"rate_limits": "limits", "cost_budget": "budgets"}
_RENAMED: Final = {
    "rate_limits": {"requests_per_minute": "requests_per_minute", "tokens_per_minute": "tokens_per_minute"},
    "cost_budget": {
        "hourly_limit": "hourly",
        "daily_limit": "daily",
        "weekly_limit": "weekly",
        "monthly_limit": "monthly",
        "total_limit": "total",
    },
}
_KEYS: Final = ("listen_addr", "log_level", "auth", "providers", *_MOVED)

# A host (or none), a colon and a port; either may be a reference, whose own colons do not count.
_ADDRESS: Final = re.compile(r"(?P<host>(?:\$\{[^}]*\}|\[[^\]]*\]|[^:\[\]$]+)?):(?P<port>\$\{[^}]*\}|[0-9]+)")


def is_older(root: Node | None) -> bool:
    """Whether a file is in this form."""
    return isinstance(root, Table) and root.get(TOP) is not None


def modernize(collector: Collector, root: Node | None) -> Node | None:
    """Today's form of an older file.  Reports keys that the older form does not have; the rest is checked as ever."""
    top = root.get(TOP) if isinstance(root, Table) else None
    if top is None or not isinstance(root, Table):
        return root
    for entry in root.entries:
        if entry is not top:
            collector.flaw(entry.mark, entry.key, f"A file with `{TOP}` at its top has nothing beside it.")
    body = top.value
    if not isinstance(body, Table):
        collector.flaw(top.mark, TOP, f"Must be a mapping, not {KIND_NAMES[type(body)]}.")
        return Table((), top.mark, TOP)
    entries: list[Entry] = []
    for entry in body.entries:
        entries.extend(_translate(collector, entry))
    if body.get("auth") is None and collector.environ.get(KEY_VARIABLE):
        entries.append(_auth_from_environment(top))
    return Table(tuple(entries), top.mark, TOP)


def _translate(collector: Collector, entry: Entry) -> list[Entry]:
    written = f"{TOP}.{entry.key}"
    match entry.key:
        case "listen_addr":
            return _listen_address(collector, entry, written)
        case "log_level":
            level = entry.value
            if isinstance(level, Scalar):
                level = replace(level, text=_LEVELS.get(level.text, level.text))
            level = replace(level, written=written)
            return [Entry("logging", entry.mark, Table((Entry("level", entry.mark, level),), entry.mark, TOP))]
        case "providers":
            return [replace(entry, value=replace(_providers(entry.value), written=written))]
        case "auth":
            return [replace(entry, value=replace(entry.value, written=written))]
        case "rate_limits" | "cost_budget":
            value = _renamed(collector, entry.value, _RENAMED[entry.key], written)
            return [Entry(_MOVED[entry.key], entry.mark, replace(value, written=written))]
        case _:
            _unknown(collector, entry, written, _KEYS)
            return []


def _listen_address(collector: Collector, entry: Entry, written: str) -> list[Entry]:
    node = entry.value
    if not isinstance(node, Scalar):
        collector.flaw(entry.mark, written, f'Must be a text such as ":8080", not {KIND_NAMES[type(node)]}.')
        return []
    parts = _ADDRESS.fullmatch(node.text)
    if parts is None:
        collector.flaw(
            node.mark,
            written,
            'Must be host:port or :port, such as "127.0.0.1:8080"; ${…} may stand for each of the two.',
        )
        return []
    host = Scalar(parts["host"] or ALL_INTERFACES, node.mark, written=written)
    port = Scalar(parts["port"], node.mark, is_plain=True, written=written)
    if not host.text.startswith("$") and not is_loopback(host.text.strip("[]")):
        collector.warn(
            node.mark,
            written,
            "Other machines can reach the gateway here, and credentials travel in plain text; today's form has `server.tls`.",
        )
    # This form has no word for it, and has always spoken plain text.
    insecure = Scalar("true", entry.mark, is_plain=True, written=written)
    entries = (
        Entry("host", entry.mark, host),
        Entry("port", entry.mark, port),
        Entry("insecure", entry.mark, insecure),
    )
    section = Table(entries, entry.mark, TOP)
    return [Entry("server", entry.mark, section)]


def _providers(node: Node) -> Node:
    """Gives providers that had another name then the type of today."""
    if not isinstance(node, Table):
        return node
    return replace(node, entries=tuple(_provider(entry) for entry in node.entries))


def _provider(entry: Entry) -> Entry:
    kind = _PROVIDER_TYPES.get(entry.key)
    body = entry.value
    if kind is None or not isinstance(body, Table) or body.get("type") is not None:
        return entry
    known = Entry("type", entry.mark, Scalar(kind, entry.mark))
    return replace(entry, value=replace(body, entries=(known, *body.entries)))


def _renamed(collector: Collector, node: Node, names: dict[str, str], written: str) -> Node:
    if not isinstance(node, Table):
        if isinstance(node, Items):
            collector.flaw(node.mark, written, "Must be a mapping, not a list.")
            return Table((), node.mark)
        return node
    entries: list[Entry] = []
    for entry in node.entries:
        inner = f"{written}.{entry.key}"
        if entry.key in names:
            entries.append(Entry(names[entry.key], entry.mark, replace(entry.value, written=inner)))
        else:
            _unknown(collector, entry, inner, names)
    return replace(node, entries=tuple(entries))


def _unknown(collector: Collector, entry: Entry, written: str, known: tuple[str, ...] | dict[str, str]) -> None:
    meant = nearest(entry.key, known)
    suggestion = f" Did you mean {meant!r}?" if meant else f" The keys here are {', '.join(known)}."
    collector.flaw(entry.mark, written, f"There is no such key.{suggestion}")


def _auth_from_environment(top: Entry) -> Entry:
    name = Entry("name", top.mark, Scalar("default", top.mark))
    key = Entry("key", top.mark, Scalar("${" + KEY_VARIABLE + "}", top.mark))
    keys = Items((Table((name, key), top.mark),), top.mark)
    return Entry("auth", top.mark, Table((Entry("keys", top.mark, keys),), top.mark))
