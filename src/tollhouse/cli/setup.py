"""`tollhouse setup`: what other people's tools have to be told so that they ask the gateway."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from tollhouse.client.settings import Settings
    from tollhouse.client.tools.plan import Places

PLACEHOLDER: Final = "YOUR-KEY"
STANDARD_INPUT: Final = "-"
DEFAULT_ADDRESS: Final = "http://127.0.0.1:8080"
"""Where `tollhouse serve` listens.  Not `localhost`: some tools try ::1 alone for that name."""


@click.command(
    "setup", help="Print, or write, what a TOOL has to be told so that it asks the gateway. Alone it lists the tools."
)
@click.argument("tool", required=False)
@click.option("--url", help="The gateway's address, in place of the configured one.")
@click.option("--profile", help="The gateway of this profile; see `tollhouse setup-proxy list`.")
@click.option("--key-file", help="Read the key from this file; - reads standard input.")
@click.option("--model", help="What the tool shall ask for.")
@click.option("--write", is_flag=True, help="Write the files, beside what is in them.")
@click.option("--show-key", is_flag=True, help=f"Print the key, in place of {PLACEHOLDER}.")
def command(
    *,
    tool: str | None,
    url: str | None,
    profile: str | None,
    key_file: str | None,
    model: str | None,
    write: bool,
    show_key: bool,
) -> None:
    """Exit status 1 if something is in the way; nothing is changed then."""
    from tollhouse.client.failures import BadSettings
    from tollhouse.client.tools.plan import Gateway
    from tollhouse.client.tools.recipes import TOOLS, plan_of
    from tollhouse.client.tools.shown import as_text
    from tollhouse.client.tools.writing import write as write_files

    if tool is None:
        _list()
        return
    if tool not in TOOLS:
        raise BadSettings([_no_such_tool(tool)])
    settings = _settings(url, profile, key_file, model)
    if settings.token is None and (write or show_key):
        raise BadSettings(
            ["There is no key: give --key-file, set TOLLHOUSE_KEY, or keep one with `tollhouse setup-proxy configure`."]
        )
    key = settings.token.reveal() if settings.token is not None and (write or show_key) else PLACEHOLDER
    address = settings.server.base_url if "url" in settings.origins else DEFAULT_ADDRESS
    plan = plan_of(tool, Gateway(url=address, key=key, model=settings.model), _places())
    if not write:
        print(f"{plan.title} through {address}\n")
        print(as_text(plan))
        print(f"`tollhouse setup {tool} --write` writes {'these files' if len(plan.files) > 1 else 'this file'}.")
        return
    for written in write_files(plan.files):
        print(f"{written.path}: {'written' if written.changed else 'nothing to change'}", end="")
        print(f"; as it was: {written.backup}" if written.backup is not None else "")
    print("\nNow run:\n")
    print("".join(f"    {line}\n" for line in plan.command.splitlines()))
    for note in plan.notes:
        print(f"- {note}")


def _list() -> None:
    from tollhouse.client.tools.recipes import TOOLS

    width = max(map(len, TOOLS))
    for name, (title, _) in TOOLS.items():
        print(f"{name:<{width}}  {title}")


def _no_such_tool(tool: str) -> str:
    from difflib import get_close_matches

    from tollhouse.client.tools.recipes import TOOLS

    near = get_close_matches(tool, TOOLS, n=1)
    return f"There is no recipe for {tool[:60]!r}" + (
        f"; is {near[0]!r} meant?" if near else f". There are: {', '.join(TOOLS)}."
    )


def _settings(url: str | None, profile: str | None, key_file: str | None, model: str | None) -> "Settings":
    """As every program of the client has them, but for a key that comes from a file."""
    from tollhouse.client.settings import resolve
    from tollhouse.client.setup import store_of

    arguments: dict[str, object] = {"mode": "proxy", "url": url, "model": model}
    if key_file is not None:
        arguments["token"] = _key(key_file)
    return resolve(arguments, os.environ, store_of(os.environ), profile=profile, needs_connection=False)


def _key(key_file: str) -> str:
    from tollhouse.client.failures import BadSettings
    from tollhouse.client.files import UnsafeFile, read_token

    if key_file == STANDARD_INPUT:
        return sys.stdin.readline().strip()
    path = Path(key_file).expanduser()
    try:
        return read_token(path)
    except (OSError, UnsafeFile) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise BadSettings([f"--key-file: {path}: {why.rstrip('.')}."]) from error


def _places() -> "Places":
    from tollhouse.client.profiles import client_folder
    from tollhouse.client.tools.plan import Places

    home = Path(os.environ.get("HOME") or os.environ.get("USERPROFILE") or Path.home())
    own = client_folder(os.environ, home)
    return Places(home=home, config=own.parent.parent, own=own, environ=os.environ)
