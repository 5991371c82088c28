"""`tollhouse ledger`: look after the ledger's database."""

import os
from typing import Final

import click

from tollhouse.cli.books import explain, export, rerate, verify
from tollhouse.cli.ledger_address import ledger_url
from tollhouse.ledger import store

CALLS_TO_SHARE: Final = 10_000
"""From so many calls on the size is shown by the call.  With fewer, the price books that are kept make most of it."""


@click.group("ledger", help="Look after the ledger's database.")
def command() -> None:
    """Only a group."""


@command.command("migrate", help="Create the ledger, or bring an older one to this version's schema.")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="The configuration file.")
@click.option("--ledger", "--url", "url", help="The ledger's address, in place of ledger.url.")
def migrate(config_file: str | None, url: str | None) -> None:
    """Runs in the process that a starting server gives it, or by hand."""
    address = ledger_url(config_file, url)
    before = store.revision_of(address)
    if before is None and not store.is_postgresql(address):
        store.prepare(address)
    else:
        from tollhouse.ledger import migrations

        migrations.upgrade(address)
    name = store.shown(address)
    if before == store.HEAD:
        print(f"{name} is up to date (schema {before}).")
    else:
        print(f"{name} is now at schema {store.HEAD} (was {before or 'new'}).")


@command.command("info", help="Say where the ledger is and what is in it.")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="The configuration file.")
@click.option("--ledger", "--url", "url", help="The ledger's address, in place of ledger.url.")
def info(config_file: str | None, url: str | None) -> None:
    """Reads only."""
    address = ledger_url(config_file, url)
    revision = store.revision_of(address)
    place = store.shown(address) if store.is_postgresql(address) else store.sqlite_path(address).resolve()
    print(f"path      {place}")
    if revision is None:
        print("schema    none yet; the first start of the gateway makes it")
        return
    print(f"schema    {revision}{'' if revision == store.HEAD else f' (this version writes {store.HEAD})'}")
    calls, size = store.contents_of(address)
    print(f"calls     {calls:,}")
    print(f"size      {size:,} bytes{f', {size / calls:.0f} a call' if calls >= CALLS_TO_SHARE else ''}")
    journals = store.state_folder(address, None, os.environ) / f"{store.journal_name(address)}.journal-*"
    waiting, damaged = ([*journals.parent.glob(f"{journals.name}.{ending}")] for ending in ("jsonl", "damaged"))
    print(f"journals  {len(waiting)} waiting to be replayed, {len(damaged)} with damaged lines")


for each in (explain, rerate, verify, export):
    command.add_command(each)
