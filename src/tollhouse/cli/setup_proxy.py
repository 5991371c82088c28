"""`tollhouse setup-proxy`: which gateway this person's programs go through, each under a name, with one of them active."""

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tollhouse.cli.printing import widen

if TYPE_CHECKING:
    from tollhouse.client.answer import ServerInfo
    from tollhouse.client.profiles import Value
    from tollhouse.client.settings import Settings
    from tollhouse.client.urls import ServerUrl
    from tollhouse.config.secret import Secret

DEFAULT_PROFILE: Final = "default"
SHOWN_MODELS: Final = 20
TEST_SECONDS: Final = 10.0
STANDARD_INPUT: Final = "-"


@click.group("setup-proxy", help="Choose the gateway that this person's programs go through.")
def command() -> None:
    """Only a group."""


@dataclass(frozen=True, slots=True)
class _Given:
    """What was said on the command line of a server."""

    url: "ServerUrl"
    token: "Secret | None"
    values: "Mapping[str, Value]"


@command.command("configure", help="Test a gateway, and keep it under a name. PROFILE may be left out.")
@click.argument("profile_and_url", nargs=-1, metavar="[PROFILE] URL")
@click.option("--token-file", help="Read the token from this file; - keeps the one on standard input.")
@click.option("--ca-bundle", type=click.Path(dir_okay=False), help="PEM file of the authorities to trust.")
@click.option("--client-cert", type=click.Path(dir_okay=False), help="PEM file of the certificate to show.")
@click.option("--client-key", type=click.Path(dir_okay=False), help="PEM file of its key.")
@click.option("--protocol", type=click.Choice(["auto", "json", "protobuf", "grpc"]), help="What is spoken.")
@click.option("--model", help="What is asked when a call names no model.")
@click.option("--fallback-model", "fallback_models", multiple=True, help="What is asked after it; may be repeated.")
@click.option("--fallback-to-direct", is_flag=True, help="Ask providers directly when the gateway is down.")
@click.option("--insecure", is_flag=True, help="Allow plain http:// to another machine.")
@click.option("--timeout", default=TEST_SECONDS, show_default=True, help="Seconds that the test may take.")
@click.option("--no-test", is_flag=True, help="Keep it without asking whether anybody is there.")
@click.option("--no-activate", is_flag=True, help="Keep it without using it from now on.")
def configure(
    *,
    profile_and_url: tuple[str, ...],
    token_file: str | None,
    ca_bundle: str | None,
    client_cert: str | None,
    client_key: str | None,
    protocol: str | None,
    model: str | None,
    fallback_models: tuple[str, ...],
    fallback_to_direct: bool,
    insecure: bool,
    timeout: float,
    no_test: bool,
    no_activate: bool,
) -> None:
    """Exit status 1 if nobody answers there; nothing is kept then."""
    from tollhouse.client.profiles import Profile, check_name
    from tollhouse.client.setup import store_of

    if not 1 <= len(profile_and_url) <= 2:
        raise click.UsageError("Give the gateway's address, and before it a name for it if you like.")
    name = profile_and_url[0] if len(profile_and_url) == 2 else DEFAULT_PROFILE
    check_name(name)
    values: dict[str, Value] = {
        key: value
        for key, value in (
            ("ca_bundle", _whole_path(ca_bundle)),
            ("client_cert", _whole_path(client_cert)),
            ("client_key", _whole_path(client_key)),
            ("protocol", protocol),
            ("model", model),
            ("fallback_models", fallback_models or None),
            ("fallback_to_direct", fallback_to_direct or None),
            ("insecure", insecure or None),
        )
        if value is not None
    }
    given = _given(profile_and_url[-1], token_file, values)
    settings = _settings(given, needs_connection=not no_test)
    if not no_test:
        _show_or_fail(settings, timeout)
    store = store_of(os.environ)
    store.save(
        Profile(name, {"url": str(given.url.without_token()), **given.values}),
        token=given.token,
        activate=not no_activate,
    )
    print(f"Kept as {name!r} in {store.file}" + (f", its token in {store.secret_file(name)}." if given.token else "."))
    if no_activate:
        print(f"`tollhouse setup-proxy use {name}` makes programs use it.")
    else:
        print("Programs of this person use it from now on.")


def _given(url: str, token_file: str | None, values: "Mapping[str, Value]") -> _Given:
    from tollhouse.client.failures import BadSettings
    from tollhouse.client.files import UnsafeFile, read_token
    from tollhouse.client.urls import parse
    from tollhouse.config.secret import Secret

    server = parse(url)
    if token_file is None:
        return _Given(server, server.token, values)
    if server.token is not None:
        raise click.UsageError("There is a token in the address and one in --token-file; give one of them.")
    if token_file == STANDARD_INPUT:
        token = Secret(sys.stdin.readline().strip())
        return _Given(server, token, values)
    path = Path(token_file).expanduser().absolute()
    try:
        read_token(path)
    except (OSError, UnsafeFile) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise BadSettings([f"--token-file: {path}: {why.rstrip('.')}."]) from error
    # It is read again at each start, so that whoever renews it there need not come here.
    return _Given(server, None, {**values, "token_file": str(path)})


def _settings(given: _Given, *, needs_connection: bool = True) -> "Settings":
    """The settings of that server alone: neither environment nor other profiles have a say, but for a token."""
    from tollhouse.client.files import read_token
    from tollhouse.client.settings import resolve
    from tollhouse.config.secret import Secret

    arguments: dict[str, object] = {"mode": "proxy", "url": given.url, **given.values, "token": given.token}
    token_file = arguments.pop("token_file", None)
    if isinstance(token_file, str):
        arguments["token"] = Secret(read_token(Path(token_file)))
    return resolve(arguments, os.environ, None, needs_connection=needs_connection)


def _whole_path(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())


@command.command("test", help="Ask a gateway who it is: the one at URL, or the one in use.")
@click.argument("url", required=False)
@click.option("--profile", help="The gateway of this profile.")
@click.option("--timeout", default=TEST_SECONDS, show_default=True, help="Seconds that it may take.")
@click.option("--token-file", help="Read the token from this file; - reads standard input.")
@click.option("--ca-bundle", type=click.Path(dir_okay=False), help="PEM file of the authorities to trust.")
@click.option("--insecure", is_flag=True, help="Allow plain http:// to another machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def test(
    *,
    url: str | None,
    profile: str | None,
    timeout: float,
    token_file: str | None,
    ca_bundle: str | None,
    insecure: bool,
    as_json: bool,
) -> None:
    """Exit status 1 if it does not answer, or not to us."""
    from tollhouse.client.settings import resolve
    from tollhouse.client.setup import store_of

    if url is not None and profile is not None:
        raise click.UsageError("Give an address or a profile, not both.")
    arguments: dict[str, object] = {"mode": "proxy", "url": url, "ca_bundle": ca_bundle, "insecure": insecure or None}
    if token_file is not None:
        given = _given(url or "http://localhost", token_file, {})
        arguments["token"] = given.token or _settings(given, needs_connection=False).token
    settings = resolve(arguments, os.environ, store_of(os.environ), profile=profile)
    _show_or_fail(settings, timeout, as_json=as_json)


def _show_or_fail(settings: "Settings", timeout: float, *, as_json: bool = False) -> None:
    """Asks the server who it is, and prints it; raises what went wrong, which is printed at the outer edge."""
    from tollhouse._version import __version__
    from tollhouse.client import versions
    from tollhouse.client.synchronous import Client

    # gRPC's library has words of its own for a failed handshake, in the middle of ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with Client.of(settings) as client:
        info = client.server_info(timeout=timeout)
    if info.name == "tollhouse":
        versions.check(__version__, info.version, settings.where)
    if as_json:
        _print_json(settings, info)
    else:
        _print_info(settings, info)


def _print_info(settings: "Settings", info: "ServerInfo") -> None:
    from tollhouse._version import __version__

    aliases = [f"{alias} = {model}" if model else alias for alias, model in info.aliases.items()]
    rows = {
        "server": info.name,
        "version": f"{info.version or 'not said'} (this client: {__version__})",
        "address": str(settings.server),
        "protocol": info.protocol + ("" if settings.server.is_tls else ", in plain text"),
        "token": "sent" if settings.token is not None else "none",
        "latency": f"{info.latency_seconds * 1000:.1f} ms",
        "models": _some([model.id for model in info.models]),
        "aliases": _some(aliases),
        "default model": info.default_model or "none",
        "limits": ", ".join(f"{count:,} {what}" for what, count in info.limits.items()) or "not said",
    }
    _print_fields(rows)


def _print_json(settings: "Settings", info: "ServerInfo") -> None:
    import msgspec

    fields = {
        "server": info.name,
        "version": info.version,
        "address": str(settings.server),
        "protocol": info.protocol,
        "tls": settings.server.is_tls,
        "latency_ms": round(info.latency_seconds * 1000, 3),
        "models": [model.id for model in info.models],
        "aliases": dict(info.aliases),
        "default_model": info.default_model or None,
        "limits": dict(info.limits),
    }
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(fields)).decode() + "\n")


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - SHOWN_MODELS} more" if len(names) > SHOWN_MODELS else ""
    return f"{len(names)}: {', '.join(names[:SHOWN_MODELS])}{more}"


def _print_fields(rows: Mapping[str, str]) -> None:
    """Names and values below each other."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    print("\n".join(folded(rows, columns)))


def folded(rows: Mapping[str, str], columns: int) -> Iterator[str]:
    """Names and values below each other, long values over several lines, each of which stands below the first."""
    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        # A path or an address is longer than a narrow line at worst: cut up, it could not be copied.
        yield textwrap.fill(
            _plain(value),
            max(width + 20, columns),
            initial_indent=f"{name:<{width}}",
            subsequent_indent=" " * width,
            break_long_words=False,
            break_on_hyphens=False,
        )


def _plain(text: str) -> str:
    """Another machine's words without what a terminal takes for orders."""
    return "".join(character if character.isprintable() else "?" for character in text)


@command.command("status", help="Say which gateway programs use, and where that is written. Asks nobody.")
def status() -> None:
    """Exit status 1 if the settings contradict each other."""
    from tollhouse.client.setup import Options, settings_of

    settings = settings_of(None, Options())
    rows: dict[str, str] = {"mode": settings.mode}
    if settings.mode == "proxy":
        rows["address"] = str(settings.server)
        rows["profile"] = settings.profile or "none"
        rows["protocol"] = settings.protocol
        origin = settings.origins.get("token", "none" if settings.token is None else "in the address")
        rows["token"] = "the profile's" if _in_profile(settings, origin) else origin
        if settings.fallback_to_direct:
            rows["when it is down"] = "providers are asked directly"
    else:
        rows["providers"] = ", ".join(settings.providers)
    nobody = "the gateway's default" if settings.mode == "proxy" else "none: each call names one"
    rows["model"] = settings.model or nobody
    if settings.fallback_models:
        rows["after it"] = ", ".join(settings.fallback_models)
    rows["said by"] = _said_by(settings) or "nobody: these are the defaults"
    _print_fields(rows)


def _in_profile(settings: "Settings", origin: str) -> str:
    """The file in which the profile says it; empty where something else does."""
    file, inside, _ = origin.partition(f": profiles.{settings.profile}")
    return file if settings.profile and inside else ""


def _said_by(settings: "Settings") -> str:
    """Who decided what, with one mention of the file for all that the profile says."""
    kept: dict[str, list[str]] = {}
    others: list[str] = []
    for name, origin in settings.origins.items():
        if file := _in_profile(settings, origin):
            kept.setdefault(file, []).append(name)
        elif name != "token":
            others.append(f"{name}: {origin}")
    said = [f"{', '.join(names)}: profile {settings.profile!r} in {file}" for file, names in kept.items()]
    return "; ".join([*said, *others])


@command.command("list", help="List the gateways that are kept.")
def list_profiles() -> None:
    """Asks nobody."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tollhouse.client.setup import store_of

    store = store_of(os.environ)
    profiles = store.read()
    if not profiles.by_name:
        print("No gateway is kept. `tollhouse setup-proxy configure URL` tests and keeps one.")
        return
    table = Table("", "profile", "address", "token", box=None, padding=(0, 2, 0, 0))
    for name, profile in profiles.by_name.items():
        has_token = "token_file" in profile.values or store.secret_file(name).exists()
        address = _without_token(str(profile.values.get("url", "")))
        cells = ("*" if name == profiles.active else "", name, address, "yes" if has_token else "no")
        table.add_row(*(Text(_plain(cell)) for cell in cells))
    console = Console(highlight=False)
    widen(console)
    console.print(table)


def _without_token(url: str) -> str:
    """The address as it may be shown, also where somebody wrote a token into the file by hand."""
    from tollhouse.client.failures import BadServerUrl
    from tollhouse.client.urls import parse

    try:
        return str(parse(url))
    except BadServerUrl:
        return "cannot be read"


@command.command("use", help="Let programs use this gateway from now on.")
@click.argument("profile")
def use(profile: str) -> None:
    """Asks nobody."""
    from tollhouse.client.setup import store_of

    store_of(os.environ).activate(profile)
    print(f"Programs of this person use {profile!r} from now on.")


@command.command("disable", help="Let programs use no kept gateway. They stay kept.")
def disable() -> None:
    """Asks nobody."""
    from tollhouse.client.setup import store_of

    store_of(os.environ).activate(None)
    print("No kept gateway is used from now on.")


@command.command("remove", help="Forget a gateway, and its token.")
@click.argument("profile")
def remove(profile: str) -> None:
    """Asks nobody."""
    from tollhouse.client.setup import store_of

    store_of(os.environ).remove(profile)
    print(f"{profile!r} is forgotten.")


@command.command("url", help="Write down the address of a gateway, to be copied. It shows the token.")
@click.argument("host")
@click.argument("port", type=click.IntRange(1, 65535))
@click.option("--token", help="The token; it is visible to other users of this machine while this runs.")
@click.option("--token-file", help="Read the token from this file; - reads standard input.")
@click.option("--insecure", is_flag=True, help="In plain text, without TLS.")
@click.option("--vibectl", is_flag=True, help="For vibectl.")
def url(host: str, port: int, *, token: str | None, token_file: str | None, insecure: bool, vibectl: bool) -> None:
    """Asks nobody."""
    from tollhouse.client.urls import Scheme, written

    if token is not None and token_file is not None:
        raise click.UsageError("Give --token or --token-file, not both.")
    if token_file is not None:
        given = _given("http://localhost", token_file, {})
        kept = given.token or _settings(given, needs_connection=False).token
        token = None if kept is None else kept.reveal()
    scheme: Scheme
    if vibectl:
        scheme = "vibectl-server-insecure" if insecure else "vibectl-server"
    else:
        scheme = "tollhouse+insecure" if insecure else "tollhouse"
    print(written(host, port, token=token, scheme=scheme).reveal())
