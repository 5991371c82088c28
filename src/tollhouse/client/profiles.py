"""Profiles: the servers that a person uses, each under a name, with one of them active.

    $XDG_CONFIG_HOME/tollhouse/client/config.yaml              (else ~/.config/…) profiles without secrets
    $XDG_CONFIG_HOME/tollhouse/client/server-secrets/NAME      a profile's token, readable by its owner alone

Both are written whole or not at all.  What a profile says is checked together with arguments and environment, in `settings`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

import yaml

from tollhouse.client.failures import BadSettings
from tollhouse.client.files import UnsafeFile, locked, read_token, write_private
from tollhouse.config.folders import config_folder
from tollhouse.config.secret import Secret

Value: TypeAlias = str | int | float | bool | tuple[str, ...]
"""A profile's entry as the file has it."""

MAX_FILE_BYTES: Final = 256 * 1024
MAX_PROFILES: Final = 1000

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HEAD: Final = (
    "# Servers that this user's Tollhouse client knows; `tollhouse setup-proxy` writes it.  No secrets in here.\n"
)


@dataclass(frozen=True, slots=True)
class Profile:
    """One server and how to use it."""

    name: str
    values: Mapping[str, Value]
    """By setting: `url`, `token_file`, `ca_bundle`, `protocol`, …"""


@dataclass(frozen=True, slots=True)
class Profiles:
    """All of them."""

    active: str | None = None
    """Whose server is used when nobody names another."""
    by_name: Mapping[str, Profile] = field(default_factory=lambda: MappingProxyType({}))

    def get(self, name: str, *, origin: str = "") -> Profile:
        """The profile of that name.  Raises `BadSettings` with the nearest names."""
        found = self.by_name.get(name)
        if found is not None:
            return found
        near = get_close_matches(name, self.by_name, n=3)
        known = ", ".join(near or list(self.by_name)[:10])
        said = f" There {'is' if len(self.by_name) == 1 else 'are'}: {known}." if known else " There are none yet."
        raise BadSettings(
            [
                f"{origin and f'{origin}: '}There is no profile {name!r}.{said} `tollhouse setup-proxy configure` makes one."
            ]
        )


def client_folder(environ: Mapping[str, str], home: Path) -> Path:
    """The part of the XDG configuration folder that belongs to the client: `config.yaml`, `server-secrets/`."""
    return config_folder(environ, home) / "client"


class ProfileStore:
    """The profiles on disk."""

    __slots__ = ("_folder",)

    def __init__(self, folder: Path) -> None:
        """`folder` is that of `client_folder`.  Reads and makes nothing."""
        self._folder = folder

    @property
    def file(self) -> Path:
        """`config.yaml`."""
        return self._folder / "config.yaml"

    def secret_file(self, name: str) -> Path:
        """Where a profile's token is kept, if it came with the address."""
        return self._folder / "server-secrets" / name

    def read(self) -> Profiles:
        """All profiles; none if there is no file.  Raises `BadSettings`."""
        try:
            with self.file.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return Profiles()
        except OSError as error:
            raise BadSettings([f"{self.file}: The profiles cannot be read: {error.strerror or error}."]) from error
        if len(data) > MAX_FILE_BYTES:
            raise BadSettings([f"{self.file}: The file is larger than {MAX_FILE_BYTES // 1024} KiB."])
        return _read(data, str(self.file))

    def save(self, profile: Profile, *, token: Secret | None, activate: bool) -> None:
        """Adds or replaces a profile, and the token that came with its address.  Raises `BadSettings`."""
        check_name(profile.name)
        try:
            with locked(self._folder / ".lock"):
                profiles = self.read()
                if profile.name not in profiles.by_name and len(profiles.by_name) >= MAX_PROFILES:
                    raise BadSettings([f"There are {MAX_PROFILES} profiles already; remove one first."])
                if token is None:
                    self.secret_file(profile.name).unlink(missing_ok=True)
                else:
                    write_private(self.secret_file(profile.name), token.reveal().encode("ascii") + b"\n")
                self._write(
                    Profiles(
                        profile.name if activate else profiles.active,
                        {**profiles.by_name, profile.name: profile},
                    )
                )
        except OSError as error:
            raise self._unwritable(error) from error

    def activate(self, name: str | None) -> None:
        """Makes a profile the active one, or none of them.  Raises `BadSettings`."""
        try:
            with locked(self._folder / ".lock"):
                profiles = self.read()
                if name is not None:
                    profiles.get(name)
                self._write(Profiles(name, profiles.by_name))
        except OSError as error:
            raise self._unwritable(error) from error

    def remove(self, name: str) -> None:
        """Removes a profile and its token.  Raises `BadSettings`."""
        try:
            with locked(self._folder / ".lock"):
                profiles = self.read()
                profiles.get(name)
                left = {other: profile for other, profile in profiles.by_name.items() if other != name}
                self._write(Profiles(None if profiles.active == name else profiles.active, left))
                self.secret_file(name).unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def token(self, profile: Profile) -> Secret | None:
        """A profile's token.  Raises `UnsafeFile` and `OSError` for a file that is named and cannot be used."""
        named = profile.values.get("token_file")
        if isinstance(named, str):
            return Secret(read_token(Path(named)))
        try:
            return Secret(read_token(self.secret_file(profile.name), must_be_private=True))
        except FileNotFoundError:
            return None

    def _write(self, profiles: Profiles) -> None:
        tree = {
            "active": profiles.active,
            "profiles": {
                name: {key: list(value) if isinstance(value, tuple) else value for key, value in profile.values.items()}
                for name, profile in profiles.by_name.items()
            },
        }
        text = _HEAD + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
        write_private(self.file, text.encode())

    def _unwritable(self, error: OSError) -> BadSettings:
        return BadSettings([f"{error.filename or self._folder}: This cannot be written: {error.strerror or error}."])


def check_name(name: str) -> None:
    """Raises `BadSettings` for what cannot be a profile's name; it is a file's name too."""
    if not _NAME.fullmatch(name):
        raise BadSettings(
            [f"{name[:80]!r} cannot be a profile's name; letters, digits, `.`, `_` and `-` can, up to 64 of them."]
        )


def _read(data: bytes, file: str) -> Profiles:
    try:
        tree = yaml.load(data, Loader=_LOADER)  # noqa: S506  # it is the safe loader, in C where there is one
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise BadSettings([f"{file}{line}: This is not YAML."]) from error
    if tree is None:
        return Profiles()
    problems: list[str] = []
    if not isinstance(tree, dict):
        raise BadSettings([f"{file}: There should be `active` and `profiles`."])
    problems += [
        f"{file}: {key}: There is no such entry; there are `active` and `profiles`."
        for key in tree
        if key not in {"active", "profiles"}
    ]
    listed = tree.get("profiles") or {}
    if not isinstance(listed, dict):
        raise BadSettings([*problems, f"{file}: profiles: There should be profiles by name."])
    by_name = {str(name): _profile(str(name), values, file, problems) for name, values in listed.items()}
    active = tree.get("active")
    if active is not None and str(active) not in by_name:
        problems.append(f"{file}: active: There is no profile {str(active)!r}.")
    if problems:
        raise BadSettings(problems)
    return Profiles(None if active is None else str(active), by_name)


def _profile(name: str, values: object, file: str, problems: list[str]) -> Profile:
    if not _NAME.fullmatch(name):
        problems.append(f"{file}: profiles: {name[:80]!r} cannot be a profile's name.")
    if not isinstance(values, dict):
        problems.append(f"{file}: profiles.{name}: There should be settings by name, `url` among them.")
        return Profile(name, {})
    kept: dict[str, Value] = {}
    for key, value in values.items():
        if isinstance(value, list):
            kept[str(key)] = tuple(str(item) for item in value)
        elif isinstance(value, str | int | float | bool):
            kept[str(key)] = value
        elif value is not None:
            problems.append(f"{file}: profiles.{name}.{key}: This is neither text, a number nor a list of texts.")
    return Profile(name, kept)


_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

__all__ = ["Profile", "ProfileStore", "Profiles", "UnsafeFile", "Value", "check_name", "client_folder"]
