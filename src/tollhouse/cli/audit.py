"""`tollhouse audit`: read the audit log, and prove that nobody changed it."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from tollhouse.cli.ledger_address import ledger_url
from tollhouse.cli.printing import fits, plural, widen
from tollhouse.cli.usage import Since
from tollhouse.errors import NotFound
from tollhouse.ledger.moments import moment_at, us_of

if TYPE_CHECKING:
    from rich.console import Console

    from tollhouse.ledger.audit import Record
    from tollhouse.ledger.audit_store import AuditLog

COLUMNS: Final = ("#", "time (UTC)", "actor", "action", "object", "outcome", "address", "what")


@click.group("audit", help="Read the audit log, and prove that nobody changed it.")
def command() -> None:
    """Only a group."""


@command.command("list", help="Print what was done and who was not let in, newest last.")
@click.option("--since", type=Since(), default="7d", show_default=True, help="30m, 24h, 7d, 2w, a date, or all.")
@click.option("--actor", default="", help="Only what this one did: an admin token's name, cli:USER, gateway.")
@click.option("--action", default="", help="Only this action, such as key.revoke; `key` is all that begin with key.")
@click.option("--object", "object_", default="", help="Only what was done to this: key:dev, tenant:research.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=200, show_default=True, help="At most so many records."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, hashes included.")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="The configuration file.")
@click.option("--ledger", "--url", "url", help="The ledger's address, in place of ledger.url.")
def list_(
    *,
    since: datetime | None,
    actor: str,
    action: str,
    object_: str,
    limit: int,
    as_json: bool,
    config_file: str | None,
    url: str | None,
) -> None:
    """Reads only."""
    from tollhouse.ledger.audit_store import Filter

    log = _opened(config_file, url)
    since_us = None if since is None else us_of(since)
    found = log.newest(Filter(since_us=since_us, actor=actor, action=action, object=object_), limit + 1)
    log.close()
    records = list(reversed(found[:limit]))
    if as_json:
        _print_json(records)
        return
    if not records:
        print("Nothing in the audit log" + (" yet." if since is None else f" since {since:%Y-%m-%d %H:%M} UTC."))
        return
    if len(found) > limit:
        print(f"The newest {limit} records; --limit shows more.")

    from rich.console import Console

    render(records, Console())


@command.command("verify", help="Walk the whole chain of records: is it as it was written?")
@click.option(
    "--from-hash",
    "kept",
    metavar="HEAD",
    help="A head that an earlier run printed: proves that nothing up to it is missing, at the end of the log either.",
)
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="The configuration file.")
@click.option("--ledger", "--url", "url", help="The ledger's address, in place of ledger.url.")
def verify(kept: str | None, config_file: str | None, url: str | None) -> None:
    """Reads only.  Exit status 1 when the chain is broken, or the kept head is not in it."""
    from tollhouse.ledger.audit import parse_head

    try:
        head = None if kept is None else parse_head(kept)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="--from-hash") from error
    log = _opened(config_file, url)
    verdict = log.verify(kept=head)
    log.close()
    if verdict.broken is not None:
        print(f"BROKEN  {verdict.broken.message}")
        if verdict.records:
            print(
                f"        The {plural(verdict.records, 'record')} before it {_holds(verdict.records)}; "
                f"hash {verdict.head.hex()}"
            )
        sys.exit(1)
    if head is not None and verdict.kept_at is None:
        print("BROKEN  The head that you kept is not in this log: its end was cut off, or it was written anew.")
        print(f"        What is there holds: {plural(verdict.records, 'record')}, head {verdict.head.hex()}")
        sys.exit(1)
    print(f"{plural(verdict.records, 'record')}, unbroken")
    print(f"head  {verdict.head.hex()}")
    if verdict.kept_at is not None:
        print(f"kept  record {verdict.kept_at:,}; {plural(verdict.records - verdict.kept_at, 'record')} since")
    else:
        print(
            "      Keep the head elsewhere: `verify --from-hash` with it proves later that nothing was cut off the end."
        )


def _opened(config_file: str | None, url: str | None) -> "AuditLog":
    address = ledger_url(config_file, url)

    from tollhouse.ledger import store
    from tollhouse.ledger.audit_store import open_audit

    if store.revision_of(address) is None:
        raise NotFound("There is no ledger there yet.", hint="The first start of the gateway makes it.")
    return open_audit(address)


def _print_json(records: "Sequence[Record]") -> None:
    import msgspec

    for record in records:
        fields = msgspec.structs.asdict(record)
        fields["changes"] = msgspec.json.decode(record.changes) if record.changes else {}
        fields["previous"], fields["hash"] = record.previous.hex(), record.hash.hex()
        print(msgspec.json.encode(fields).decode())


def render(records: "Sequence[Record]", console: "Console") -> None:
    """Prints a table if the terminal is wide enough for it, else a list: who did what, and below it what that was."""
    from rich import box
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    widen(console)
    table = Table(*COLUMNS, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    rows = [_cells(record) for record in records]
    for row in rows:
        # Names come from outside: as `Text` they are no markup.
        table.add_row(*(Text(cell) for cell in row))
    if not console.is_terminal or fits(console, table):
        console.print(table)
        return
    for number, moment, actor, action, object_, outcome, address, what in rows:
        console.print(Text("  ".join(filter(None, (number, moment, actor, action, object_, outcome)))), overflow="fold")
        if address or what:
            console.print(Padding(Text("  ".join(filter(None, (address, what))), overflow="fold"), (0, 0, 0, 4)))


def _cells(record: "Record") -> tuple[str, ...]:
    moment = moment_at(record.at_us)
    what = record.changes if record.events == 1 else f"{record.events:,} times {record.changes}"
    return (
        f"{record.seq}",
        f"{moment:%Y-%m-%d %H:%M:%S}",
        record.actor,
        record.action,
        record.object,
        record.outcome,
        record.address,
        what,
    )


def _holds(count: int) -> str:
    return "holds" if count == 1 else "hold"
