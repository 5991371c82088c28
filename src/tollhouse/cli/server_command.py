"""`tollhouse-server`: the gateway for those who know the program whose protocol it speaks over gRPC.

The commands and options are those that such a person types; what they do is what `tollhouse` does.  `--port` is the port of
gRPC, and HTTP is served beside it.
"""

import importlib
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import click

from tollhouse._version import __version__
from tollhouse.cli.serve import run
from tollhouse.errors import ConfigError, TollhouseError

if TYPE_CHECKING:
    from tollhouse.config.schema import Config, TlsSettings
    from tollhouse.server.listener import Place
    from tollhouse.server.supervisor import Listening

PORT: Final = click.IntRange(0, 65_535)
CONFIG: Final = "config.yaml"
_LEVELS: Final[dict[str, Literal["debug", "info", "warning", "error"]]] = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
}

BORROWED: Final = {"generate-token": ("tollhouse.cli.token", "create", "Issue a signed token for a subject.")}
"""Commands of `tollhouse` under another name: module, attribute, short help."""
GONE: Final = {
    "serve-insecure": "`serve` speaks plain text on loopback; `serve --insecure` does so elsewhere too.",
    "serve-ca": "Make a certificate with `generate-certs`, and serve with `server.tls` or `serve --cert-file … --key-file …`.",
    "serve-custom": "It is `serve --cert-file … --key-file … [--client-ca …]` now, or `server.tls` in the configuration.",
    "serve-acme": "Name the files of your ACME client in `server.tls`; what it renews is served without a restart.",
    "ca": "It is `tollhouse cert` now: init, client, status, renew.",
    "config": "It is `tollhouse config` now: init, check, show.",
}
"""Commands that the other program has, and what does their work here."""


class ServerGroup(click.Group):
    """Imports borrowed commands only when they are called, and answers those that are called otherwise here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *BORROWED])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in GONE:
            ctx.fail(f"There is no command {cmd_name!r} here. {GONE[cmd_name]}")
        if cmd_name not in BORROWED:
            return super().get_command(ctx, cmd_name)
        module, attribute, _ = BORROWED[cmd_name]
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, click.Command):
            raise TypeError(f"{module}.{attribute} is not a click command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        own = {name: command.get_short_help_str(90) for name, command in self.commands.items()}
        borrowed = {name: text for name, (_, _, text) in BORROWED.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted({**own, **borrowed}.items()))


@click.group("tollhouse-server", cls=ServerGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tollhouse-server")
def command() -> None:
    """Run a gateway that speaks gRPC to clients of vibectl, and HTTP to all others."""


@command.command("serve", help="Run the gateway until SIGTERM or Ctrl-C; SIGHUP reads the configuration again.")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="The configuration file.")
@click.option("--host", help="Address to listen on, in place of server.host.")
@click.option("--port", "grpc_port", type=click.IntRange(1, 65_535), help="gRPC port, in place of server.grpc_port.")
@click.option("--http-port", type=PORT, help="HTTP port, in place of server.port.")
@click.option("--no-http", is_flag=True, help="Serve gRPC alone.")
@click.option("--admin-port", type=PORT, help="Admin port, in place of server.admin_port.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes, in place of server.workers.")
@click.option("--require-auth", is_flag=True, help="Let nobody in without a credential, even if auth.open says so.")
@click.option("--cert-file", type=click.Path(dir_okay=False), help="The certificate with its chain, in PEM.")
@click.option("--key-file", type=click.Path(dir_okay=False), help="The certificate's private key, in PEM.")
@click.option(
    "--client-ca", type=click.Path(dir_okay=False), help="Ask clients for a certificate of these authorities."
)
@click.option("--insecure", is_flag=True, help="Allow plain text to leave this machine.")
@click.option("--max-rpm", type=click.IntRange(1), metavar="CALLS", help="Calls a minute, over all callers.")
@click.option("--max-concurrent", type=click.IntRange(1), metavar="CALLS", help="Calls at once, over all callers.")
@click.option("--model", help="The model of calls that name none.")
@click.option(
    "--log-level",
    type=click.Choice(list(_LEVELS), case_sensitive=False),
    help="In place of logging.level.",
)
def serve(
    *,
    config_file: str | None,
    host: str | None,
    grpc_port: int | None,
    http_port: int | None,
    no_http: bool,
    admin_port: int | None,
    workers: int | None,
    require_auth: bool,
    cert_file: str | None,
    key_file: str | None,
    client_ca: str | None,
    insecure: bool,
    max_rpm: int | None,
    max_concurrent: int | None,
    model: str | None,
    log_level: str | None,
) -> None:
    """Runs in the foreground."""
    if no_http and http_port is not None:
        raise click.UsageError("--no-http and --http-port exclude each other.")

    from tollhouse.config.load import candidates
    from tollhouse.config.overrides import Overrides

    overrides = Overrides(
        host=host,
        port=http_port,
        admin_port=admin_port,
        grpc_port=grpc_port,
        workers=workers,
        insecure=insecure,
        without_http=no_http,
        requires_auth=require_auth,
        log_level=None if log_level is None else _LEVELS[log_level.lower()],
        requests_per_minute=max_rpm,
        concurrent=max_concurrent,
        model=model,
        tls=_tls(cert_file, key_file, client_ca),
    )
    here, there = candidates(os.environ, Path.cwd(), Path.home())
    run(
        config_file,
        overrides,
        missing=f"There is no configuration, neither {here} nor {there}. `tollhouse-server init-config` writes the latter.",
        announcement=announcement,
    )


@command.command("init-config", help="Write a first configuration into the XDG configuration folder.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init_config(force: bool) -> None:
    """Prints the one key, and where the file is."""
    from tollhouse.config.folders import make_private_folder, server_folder, write_file
    from tollhouse.config.starter import EMBEDDED_MODEL, new_key, starter
    from tollhouse.ledger.address import state_folder
    from tollhouse.providers.registry import defaults_by_type

    file = server_folder(os.environ, Path.home()) / CONFIG
    key = new_key()
    # An absolute path: tokens must be found again by a command that is typed in another folder.
    ledger = state_folder("postgresql://", None, os.environ) / "tollhouse.db"
    text = starter(key, os.environ, defaults_by_type(), ledger_url=f"sqlite:///{ledger}", with_tokens=True)
    try:
        make_private_folder(file.parent)
        write_file(file, text.encode(), replace=force)
        make_private_folder(ledger.parent)
    except FileExistsError:
        raise ConfigError([f"{file} is there already; `--force` replaces it."]) from None
    except OSError as error:
        raise ConfigError([f"{error.filename}: {error.strerror}."]) from error
    print(f"Wrote {file}. Its one key, which is not kept anywhere, is:\n\n  {key}\n")
    pull = "tollhouse local pull, " if EMBEDDED_MODEL in text else ""
    print(f"Next: {pull}tollhouse-server generate-token NAME --expires-in 30d, and tollhouse-server serve")


@command.command("generate-certs", help="Make a certificate with its full chain, and an authority that signs it.")
@click.option(
    "--hostname", "hosts", multiple=True, default=("localhost",), show_default=True, help="A name or address."
)
@click.option("--san", "names", multiple=True, metavar="NAME", help="One more name: dns:…, ip:…, uri:…, email:….")
@click.option("--cert-file", type=click.Path(dir_okay=False, path_type=Path), help="Where the certificate goes.")
@click.option("--key-file", type=click.Path(dir_okay=False, path_type=Path), help="Where its key goes.")
@click.option("--days", type=click.IntRange(1, 36_500), default=365, show_default=True, help="How long it is good.")
@click.option("--force", is_flag=True, help="Replace the certificate and key that are there; the authority stays.")
def generate_certs(
    *,
    hosts: tuple[str, ...],
    names: tuple[str, ...],
    cert_file: Path | None,
    key_file: Path | None,
    days: int,
    force: bool,
) -> None:
    """Uses the authority of `tollhouse cert` where there is one."""
    from datetime import UTC, datetime

    from tollhouse.cli.cert import AUTHORITY_NAME, configuration, make_server
    from tollhouse.cli.cert_folder import CertFolder, Pair, default_folder, read_hosts
    from tollhouse.cli.register import say

    if (cert_file is None) != (key_file is None):
        raise click.UsageError("Give --cert-file and --key-file together, or neither.")
    files = CertFolder(default_folder(Path.home()), now=datetime.now(UTC))
    pair = files.server
    if cert_file is not None and key_file is not None:
        pair = Pair("server", cert_file.absolute(), key_file.absolute())
    alternative = read_hosts(hosts, names)
    make_server(files, alternative, days=days, authority_name=AUTHORITY_NAME, replace=force, pair=pair)
    say(f"Made {pair.cert} for {', '.join(alternative)}, and {pair.key}.\n")
    print(configuration(pair))
    say(f"\nClients must trust {files.authority.cert} (vibectl: --ca-bundle {files.authority.cert}).")


def announcement(config: "Config", listening: "Listening") -> Iterator[str]:
    """What is served, how it is protected, and the address to copy; never a credential.  The last line is `ready`."""
    encryption = _encryption(config)
    yield f"tollhouse-server {__version__}"
    if listening.grpc is not None:
        yield f"gRPC            {listening.grpc.address}  {encryption}"
    if listening.http is not None:
        yield f"HTTP            {listening.http.url}  {encryption}"
    workers = f", {listening.workers} workers" if listening.workers > 1 else ""
    yield f"administration  {listening.admin.url}{workers}"
    yield f"authentication  {_authentication(config)}"
    yield f"limits          {_limits(config)}"
    heading = "connect with"
    for address in _addresses(config, listening):
        yield f"{heading:<14}  {address}"
        heading = ""
    if not config.auth.open:
        yield "                with a token and @ before the host; `tollhouse-server generate-token NAME` makes one"
    yield "ready"


def _addresses(config: "Config", listening: "Listening") -> Iterator[str]:
    """What clients are given: the older tool's, ours over gRPC, and ours over HTTP."""
    if listening.grpc is not None:
        where = f"{_reached(config, listening.grpc)}:{listening.grpc.port}"
        yield f"{'vibectl-server' if listening.grpc.is_encrypted else 'vibectl-server-insecure'}://{where}"
        yield f"{'tollhouse' if listening.grpc.is_encrypted else 'tollhouse+insecure'}://{where}"
    if listening.http is not None:
        scheme = "https" if listening.http.is_encrypted else "http"
        yield f"{scheme}://{_reached(config, listening.http)}:{listening.http.port}"


def main() -> None:
    """Run the command line; a `TollhouseError` becomes one clear line on stderr and exit status 1."""
    try:
        command(prog_name="tollhouse-server")
    except TollhouseError as error:
        print(f"tollhouse-server: {error}", file=sys.stderr)
        sys.exit(1)


def _tls(cert: str | None, key: str | None, client_ca: str | None) -> "TlsSettings | None":
    """Paths as the command line gives them; workers are started in the same folder."""
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise click.UsageError("--cert-file and --key-file belong together, and --client-ca to them.")

    from tollhouse.config.schema import TlsSettings

    return TlsSettings(cert=cert, key=key, client_ca=client_ca)


def _encryption(config: "Config") -> str:
    from tollhouse.config.values import is_loopback

    tls = config.server.tls
    if tls is None:
        alone = is_loopback(config.server.host)
        return "plain text, this machine only" if alone else "PLAIN TEXT, which anybody on the way can read"
    if tls.client_ca is None:
        return f"TLS ({tls.cert})"
    return f"TLS ({tls.cert}), client certificates {tls.client_auth}"


def _authentication(config: "Config") -> str:
    auth = config.auth
    if auth.open:
        return "NONE: whoever is on this machine may call (auth.open); --require-auth ends that"
    ways = ["keys and signed tokens of this gateway"]
    if auth.keys:
        ways.append(f"{len(auth.keys)} key{'s' if len(auth.keys) > 1 else ''} of the configuration")
    ways += [f"tokens of {issuer.issuer}" for issuer in auth.oidc]
    if auth.certificates:
        ways.append(f"{len(auth.certificates)} client certificate{'s' if len(auth.certificates) > 1 else ''}")
    return f"required: {', '.join(ways)}"


def _limits(config: "Config") -> str:
    overall = config.limits.overall
    said = [
        f"{amount:,} {what}"
        for amount, what in (
            (overall.requests_per_minute, "calls a minute"),
            (overall.tokens_per_minute, "tokens a minute"),
            (overall.concurrent, "calls at once"),
        )
        if amount is not None
    ]
    return ", ".join(said) if said else "none over all callers"


def _reached(config: "Config", place: "Place") -> str:
    """The host by which clients reach a listener: one that its certificate names, if it has one."""
    host = place.host
    if host in {"0.0.0.0", "::"}:  # noqa: S104  # what is compared with, not listened on
        host = socket.gethostname()
    names = _certificate_hosts(config)
    if names and host not in names:
        host = next((name for name in names if name not in {"localhost", "127.0.0.1", "::1"}), names[0])
    return f"[{host}]" if ":" in host else host


def _certificate_hosts(config: "Config") -> list[str]:
    if config.server.tls is None:
        return []
    from datetime import UTC, datetime

    from tollhouse.config.certificates import examine

    material, _ = examine(config.server.tls, datetime.now(UTC))
    names: Iterable[str] = () if material is None else material.names
    return [name.partition(":")[2] for name in names if name.startswith(("dns:", "ip:"))]


if __name__ == "__main__":
    main()
