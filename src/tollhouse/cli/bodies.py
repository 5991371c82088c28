"""`tollhouse bodies`: read and delete the prompts and answers that are kept."""

import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import click
import msgspec

from tollhouse.config.schema import Config
from tollhouse.errors import ConfigError, NotFound
from tollhouse.ledger.moments import moment_at
from tollhouse.telemetry.bodies_file import BodiesFile, path_of

_AGE: Final = re.compile(r"(\d+)([smhdw])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@click.group("bodies", help="Read and delete the prompts and answers that are kept.")
def command() -> None:
    """Only a group."""


@command.command("show", help="Print the prompt and the answer of one call.")
@click.argument("request_id")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="The configuration file.")
@click.option("--file", "file", type=click.Path(dir_okay=False), help="The store, in place of the configuration's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, bodies as text.")
def show(request_id: str, config_file: str | None, file: str | None, as_json: bool) -> None:
    """Reads only."""
    bodies = _existing(config_file, file)
    try:
        shown = bodies.read(request_id)
    finally:
        bodies.close()
    at = moment_at(shown.at_us).isoformat(timespec="milliseconds")
    texts = {name: None if body is None else body.decode("utf-8", "replace") for name, body in shown.bodies}
    if as_json:
        fields = {"id": shown.id, "at": at, "door": shown.door, "tenant": shown.tenant, "key": shown.key}
        sys.stdout.write(
            msgspec.json.encode({**fields, "status": shown.status, "form": shown.form, **texts}).decode() + "\n"
        )
        return
    print(f"{shown.id}  {at}  {shown.door}  status {shown.status}  key {shown.key or '-'}  {shown.form}")
    for name, text in texts.items():
        print(f"\n{name}:")
        print("  (not kept)" if text is None else _indented(text))


@command.command("prune", help="Delete what is older than a given age, or than `logging.retention`.")
@click.option("--older-than", "older_than", metavar="AGE", help="30m, 12h, 7d; 0d deletes everything.")
@click.option("--config", "config_file", type=click.Path(dir_okay=False), help="The configuration file.")
@click.option("--file", "file", type=click.Path(dir_okay=False), help="The store, in place of the configuration's.")
def prune(older_than: str | None, config_file: str | None, file: str | None) -> None:
    """Works beside a running gateway: a few rows at a time."""
    seconds = _config(config_file).logging.retention_seconds if older_than is None else _age_seconds(older_than)
    bodies = _existing(config_file, file)
    try:
        before = bodies.count()
        while bodies.prune(int((time.time() - seconds) * 1e6)):
            pass
        left = bodies.count()
    finally:
        bodies.close()
    print(f"Deleted the bodies of {before - left:,} calls; those of {left:,} are left.")


def _age_seconds(text: str) -> float:
    found = _AGE.fullmatch(text)
    if found is None:
        raise click.UsageError(f"--older-than: {text!r} is no age; write 30m, 12h, 7d.")
    return int(found[1]) * _UNITS[found[2]]


def _existing(config_file: str | None, file: str | None) -> BodiesFile:
    path = Path(file) if file is not None else path_of(_config(config_file), os.environ)
    if not path.exists():
        raise NotFound(
            f"There is no store of bodies at {path}.",
            hint="`logging.bodies` in the configuration says whether any are kept; `off` is the default.",
        )
    return BodiesFile(path)


def _config(config_file: str | None) -> Config:
    from tollhouse.config.load import find, load
    from tollhouse.providers.registry import defaults_by_type

    path = find(config_file, os.environ, Path.cwd(), Path.home())
    if path is None:
        raise ConfigError(["There is no configuration, which says where bodies are kept; name the store: --file PATH."])
    return load(path, os.environ, defaults_by_type())


def _indented(text: str) -> str:
    """JSON for people; what is not whole stays as it is."""
    with suppress(msgspec.DecodeError):  # it was cut
        text = msgspec.json.format(text, indent=2)
    return "\n".join(f"  {line}" for line in text.splitlines())
