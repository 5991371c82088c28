"""`tollhouse cert`: a private authority, and the certificates of a gateway and its clients."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tollhouse.cli.register import print_table, say
from tollhouse.errors import ConfigError

if TYPE_CHECKING:
    from tollhouse.cli.cert_folder import CertFolder, Pair

DAYS: Final = click.IntRange(1, 36_500)
AUTHORITY_NAME: Final = "Tollhouse private authority"
AUTHORITY_DAYS: Final = 3650
INSTEAD: Final = (
    "`tollhouse cert renew` renews the gateway's; `--force` makes everything anew, and then clients have to be given"
    " the new ca.crt and new certificates."
)

folder_option = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the files are; else tollhouse/server/certs in the XDG configuration folder.",
)
force_option = click.option("--force", is_flag=True, help="Replace files that are there.")


@click.group("cert", help="Make a private authority, and certificates for the gateway and its clients.")
def command() -> None:
    """Only a group."""


@command.command("init", help="Make an authority, and a certificate with its full chain for the gateway.")
@click.option("--host", "hosts", multiple=True, help="A name or address of the gateway; else this machine's name.")
@click.option("--san", "names", multiple=True, metavar="NAME", help="One more name: dns:…, ip:…, uri:…, email:….")
@click.option("--days", type=DAYS, default=365, show_default=True, help="How long the gateway's is good.")
@click.option("--name", default=AUTHORITY_NAME, show_default=True, help="What the authority is called.")
@folder_option
@force_option
def init(
    *, hosts: tuple[str, ...], names: tuple[str, ...], days: int, name: str, folder: Path | None, force: bool
) -> None:
    """Prints what to put into the configuration."""
    from tollhouse.cli.cert_folder import read_hosts

    files = _opened(folder)
    alternative = read_hosts(hosts, names)
    if not force and (there := [pair for pair in (files.authority, files.server) if pair.is_there]):
        raise ConfigError([f"{there[0].cert.parent} holds the pair of the {there[0].what} already. {INSTEAD}"])
    files.make_authority(name, days=AUTHORITY_DAYS, replace=force)
    make_server(files, alternative, days=days, authority_name=name, replace=force)
    say(f"Made the authority {files.authority.cert}, and a certificate for {', '.join(alternative)}.\n")
    print(configuration(files.server))
    say(f"\nClients must trust {files.authority.cert}; keep {files.authority.key} to yourself.")


@command.command("client", help="Make a certificate for a client.")
@click.argument("name")
@click.option("--san", "names", multiple=True, metavar="NAME", help="A further name: dns:…, ip:…, uri:…, email:….")
@click.option("--days", type=DAYS, default=365, show_default=True, help="How long it is good.")
@folder_option
@force_option
def client(name: str, names: tuple[str, ...], days: int, folder: Path | None, force: bool) -> None:
    """Prints what to put into the configuration."""
    from tollhouse.config.certificate_names import alternative_name
    from tollhouse.policy.authority import Request

    files = _opened(folder)
    pair = files.client(name)
    try:
        alternative = tuple(alternative_name(each) for each in names)
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    request = Request(common_name=name, names=alternative, is_server=False, days=days)
    files.issue(files.open_authority(), pair, request, replace=force)
    say(f"Made {pair.cert} and {pair.key}.  The gateway knows this client with:\n")
    print(f"server:\n  tls:\n    client_ca: {_quoted(files.authority.cert)}")
    print(f'auth:\n  certificates:\n    - {{name: {name}, subject: "CN={name}"}}')


@command.command("status", help="Say until when each certificate is good; status 1 if one needs a hand.")
@click.option("--days", type=click.IntRange(0, 36_500), default=30, show_default=True, help="What counts as soon.")
@folder_option
def status(days: int, folder: Path | None) -> None:
    """Reads only."""
    files = _opened(folder)
    found = [files.standing(pair, soon=timedelta(days=days)) for pair in files.pairs()]
    if not files.authority.is_there and not files.server.is_there and len(found) == 2:
        raise ConfigError([f"There are no certificates in {files.folder}: `tollhouse cert init` makes some."])
    rows = [
        (
            each.pair.what,
            each.state,
            "" if each.not_after is None else f"{each.not_after:%Y-%m-%d %H:%M} UTC",
            "" if each.not_after is None else f"{(each.not_after - files.now).days} days",
            ", ".join(each.names),
        )
        for each in found
    ]
    print_table(("certificate", "state", "good until", "left", "names"), rows)
    for each in found:
        if each.why:
            say(f"{each.pair.what}: {each.why}")
    if any(each.state == "ends soon" for each in found):
        say("`tollhouse cert renew` renews what ends soon.")
    if any(each.state != "good" for each in found):
        sys.exit(1)


@command.command("renew", help="Renew what ends soon, or what is named: `server` or a client.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--days", type=click.IntRange(0, 36_500), default=30, show_default=True, help="What counts as soon.")
@click.option("--new-key", is_flag=True, help="Make new keys too.")
@folder_option
def renew(names: tuple[str, ...], days: int, new_key: bool, folder: Path | None) -> None:
    """A gateway that runs takes over the new certificate by itself."""
    files = _opened(folder)
    authority = files.open_authority()
    if names:
        chosen = [files.server if name == "server" else files.client(name) for name in names]
        if missing := [pair for pair in chosen if not pair.is_there]:
            raise ConfigError([f"There is no certificate of the {missing[0].what} in {files.folder}."])
    else:
        soon = timedelta(days=days)
        chosen = [
            pair
            for pair in files.pairs()
            if pair is not files.authority and files.standing(pair, soon=soon).state in {"ends soon", "ended"}
        ]
    for pair in chosen:
        files.renew(authority, pair, new_key=new_key)
        print(f"Renewed {pair.cert}.")
    if not chosen:
        print("Nothing ends soon.")
    if authority.not_after - files.now < timedelta(days=max(days, 90)):
        say(
            f"The authority itself ends on {authority.not_after:%Y-%m-%d}: plan a new one with `tollhouse cert init --force`."
        )


def make_server(
    files: "CertFolder",
    names: tuple[str, ...],
    *,
    days: int,
    authority_name: str,
    replace: bool,
    pair: "Pair | None" = None,
) -> None:
    """A certificate for a server with these names, by the authority that is there, or by a new one."""
    from tollhouse.policy.authority import Request, common_name_of

    authority = (
        files.open_authority()
        if files.authority.is_there
        else files.make_authority(authority_name, days=AUTHORITY_DAYS, replace=False)
    )
    request = Request(common_name=common_name_of(names), names=names, is_server=True, days=days)
    files.issue(authority, pair or files.server, request, replace=replace)


def configuration(pair: "Pair") -> str:
    """What the configuration says to serve with a pair."""
    return f"server:\n  tls:\n    cert: {_quoted(pair.cert)}\n    key: {_quoted(pair.key)}"


def _quoted(path: Path) -> str:
    """A path as YAML and `${…}` both leave it alone."""
    return json.dumps(str(path).replace("${", "$${"), ensure_ascii=False)


def _opened(folder: Path | None) -> "CertFolder":
    from tollhouse.cli.cert_folder import CertFolder, default_folder

    return CertFolder(folder.absolute() if folder else default_folder(Path.home()), now=datetime.now(UTC))
