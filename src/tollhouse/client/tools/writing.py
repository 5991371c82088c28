"""Writes the files of a plan: all of them are made first, and nothing is changed if one cannot be.

A file that was there before us is kept once, beside it, as `NAME.before-tollhouse`.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tollhouse.client.failures import BadSettings
from tollhouse.client.tools.merging import CannotMerge, merged
from tollhouse.client.tools.plan import OwnFile, SettingsFile
from tollhouse.config.folders import PRIVATE_FILE, PUBLIC_FILE, make_private_folder, write_file

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
BACKUP: Final = ".before-tollhouse"


@dataclass(frozen=True, slots=True)
class Written:
    """What happened to a file."""

    path: Path
    changed: bool
    backup: Path | None
    """Where the file as it was is kept, if that was done now."""


@dataclass(frozen=True, slots=True)
class _Change:
    file: SettingsFile
    path: Path
    """Where the file really is: settings are often links into a folder under version control."""
    old: bytes | None
    new: bytes


def write(files: Sequence[SettingsFile]) -> tuple[Written, ...]:
    """Writes them.  Raises `BadSettings` with everything that is in the way; nothing was changed then.

    A disk that fails between two files leaves the first one written.
    """
    changes: list[_Change] = []
    problems: list[str] = []
    for file in files:
        try:
            changes.append(_change(file))
        except (CannotMerge, UnicodeDecodeError) as error:
            why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            problems.append(f"{file.path}: This file is left alone: {why}. Add what `tollhouse setup` prints by hand.")
        except OSError as error:
            problems.append(f"{file.path}: This cannot be read: {error.strerror or error}.")
    if problems:
        raise BadSettings(problems)
    try:
        return tuple(_written(change) for change in changes)
    except OSError as error:
        raise BadSettings([f"{error.filename}: This cannot be written: {error.strerror or error}."]) from error


def _change(file: SettingsFile) -> _Change:
    path = file.path.resolve()
    try:
        with path.open("rb") as handle:
            old = handle.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return _Change(file, path, None, merged("", file).encode())
    if len(old) > MAX_FILE_BYTES:
        raise CannotMerge(f"it is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB")
    return _Change(file, path, old, merged(old.decode(), file).encode())


def _written(change: _Change) -> Written:
    path, file = change.path, change.file
    if change.old is None:
        make_private_folder(path.parent)
        write_file(path, change.new, mode=PRIVATE_FILE if file.is_private else PUBLIC_FILE)
        return Written(file.path, changed=True, backup=None)
    mode = stat.S_IMODE(path.stat().st_mode)
    wanted = mode & PRIVATE_FILE if file.is_private else mode
    if change.old == change.new:
        if mode != wanted and os.name == "posix":
            path.chmod(wanted)
        return Written(file.path, changed=False, backup=None)
    backup = _kept(path, change.old) if not isinstance(file, OwnFile) else None
    write_file(path, change.new, mode=wanted, replace=True)
    return Written(file.path, changed=True, backup=backup)


def _kept(path: Path, old: bytes) -> Path | None:
    """The backup, if there was none."""
    backup = path.with_name(path.name + BACKUP)
    if backup.exists():
        return None
    write_file(backup, old)
    return backup
