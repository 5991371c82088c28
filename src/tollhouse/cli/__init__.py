"""The command line: one module a command, imported only when that command runs."""

import importlib
import sys
from typing import Final

import click

from tollhouse._version import __version__
from tollhouse.errors import TollhouseError

# Command name → (module, short help).  The help stands here so that `tollhouse --help` imports no command.
COMMANDS: Final = {
    "ask": ("tollhouse.cli.ask", "Ask a model, and print its answer as it comes."),
    "audit": ("tollhouse.cli.audit", "Read the audit log, and prove that nobody changed it."),
    "bodies": ("tollhouse.cli.bodies", "Read and delete the prompts and answers that are kept."),
    "budgets": ("tollhouse.cli.budgets", "Say what is left of budgets, and when they begin anew."),
    "cert": ("tollhouse.cli.cert", "Make a private authority, and certificates for the gateway and its clients."),
    "config": ("tollhouse.cli.config", "Check, show or write the configuration."),
    "demo": (
        "tollhouse.cli.demo",
        "Stream two real answers through a gateway of your own, with no key and no network.",
    ),
    "key": ("tollhouse.cli.key", "Issue, list, change, rotate and revoke keys."),
    "ledger": ("tollhouse.cli.ledger", "Look after the ledger's database."),
    "local": ("tollhouse.cli.local", "Fetch, list and run embedded models."),
    "models": ("tollhouse.cli.models", "List the models that can be reached, with prices and capabilities."),
    "project": ("tollhouse.cli.project", "Make and change projects of a tenant."),
    "serve": ("tollhouse.cli.serve", "Run the gateway."),
    "setup": ("tollhouse.cli.setup", "Print or write what other tools have to be told so that they ask the gateway."),
    "setup-proxy": ("tollhouse.cli.setup_proxy", "Choose the gateway that this person's programs go through."),
    "subject": ("tollhouse.cli.subject", "Say what the bearers of signed tokens may do, whatever their tokens say."),
    "tenant": ("tollhouse.cli.tenant", "Make and change tenants: whom keys belong to, and what they may spend."),
    "token": (
        "tollhouse.cli.token",
        "Issue, list and revoke signed tokens, and rotate the keys that sign them.",
    ),
    "usage": ("tollhouse.cli.usage", "Print what was used and what it cost."),
}


class LazyGroup(click.Group):
    """Knows every command by name and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = importlib.import_module(entry[0]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry[0]}.command is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tollhouse")
def tollhouse() -> None:
    """One address for every model."""


def main() -> None:
    """Run the command line; a `TollhouseError` becomes one clear line on stderr and exit status 1."""
    try:
        tollhouse(prog_name="tollhouse")
    except TollhouseError as error:
        print(f"tollhouse: {error}", file=sys.stderr)
        sys.exit(1)
