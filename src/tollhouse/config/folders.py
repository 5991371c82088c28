"""Where Tollhouse keeps what is configured for a person: the XDG configuration folder, and files in it that hold secrets.

Every part that keeps something there asks here, so that all of them look at the same place.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PRIVATE_FOLDER: Final = 0o700
PRIVATE_FILE: Final = 0o600
PUBLIC_FILE: Final = 0o644


def config_folder(environ: Mapping[str, str], home: Path) -> Path:
    """`$XDG_CONFIG_HOME/tollhouse`, else `~/.config/tollhouse`.  It need not exist.

    XDG base directory specification 0.8: relative paths are ignored
    (https://specifications.freedesktop.org/basedir-spec/latest/).
    """
    xdg = environ.get("XDG_CONFIG_HOME", "")
    folder = Path(xdg) if Path(xdg).is_absolute() else home / ".config"
    return folder / "tollhouse"


def server_folder(environ: Mapping[str, str], home: Path) -> Path:
    """The part of it that belongs to the gateway: `config.yaml`, `certs/`, …"""
    return config_folder(environ, home) / "server"


def make_private_folder(folder: Path) -> None:
    """Makes a folder that only its owner can enter, with those above it.  One that exists stays as it is."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def write_file(file: Path, data: bytes, *, mode: int = PRIVATE_FILE, replace: bool = False) -> None:
    """Writes a whole file under its own name or not at all, never readable for more than `mode` says.

    Raises `FileExistsError` if there is one and `replace` does not allow it, and other `OSError`s.
    """
    fresh = file.with_name(f".{file.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), mode)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        if replace:
            fresh.replace(file)
        else:
            _take_name(fresh, file)
    finally:
        fresh.unlink(missing_ok=True)


def _take_name(fresh: Path, file: Path) -> None:
    """Gives a file its name, unless there is one of that name: a rename alone would not ask."""
    try:
        os.link(fresh, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, as many that are shared with a virtual machine
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
        fresh.replace(file)
