"""The head of a GGUF file, read far enough to say whether llama.cpp can be asked to load it.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 3, seen November 2026): the magic `GGUF`, then
in little endian a 32-bit version, 64-bit counts of tensors and of metadata pairs, and the pairs.  Metadata of interest
(`general.*`, `<architecture>.context_length`) stands before the tokeniser's long arrays, so a bounded prefix is enough.
"""

import struct
from pathlib import Path
from typing import Final

import msgspec

from tollhouse.errors import LocalModelUnavailable

PREFIX_BYTES: Final = 1 << 18
"""How much of the file is read."""
_SUPPORTED_VERSIONS: Final = (2, 3)
_MAX_PAIRS: Final = 100_000
_MAX_TENSORS: Final = 1_000_000
_STRING: Final = 8
_ARRAY: Final = 9
# Metadata value type → struct format, from the specification's `gguf_metadata_value_type`.
_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip

# What people hand over by mistake, by its first bytes.
_MISTAKEN: Final = {
    b"version https://git-lfs": "it is a Git LFS pointer; the real file was not fetched",
    b"<!DOCTYPE": "it is a web page; the download went wrong",
    b"<html": "it is a web page; the download went wrong",
    b"PK\x03\x04": "it is a zip archive (a wheel or a PyTorch checkpoint)",
    b"GGML": "it is of GGUF's predecessor GGML; convert it or get a newer file",
    b"ggjt": "it is of GGUF's predecessor GGJT; convert it or get a newer file",
}


class GgufHead(msgspec.Struct, frozen=True, kw_only=True):
    """What the head says; `None` where it says nothing within the prefix."""

    version: int
    architecture: str | None = None
    """`llama`, `qwen3`, …"""
    title: str | None = None
    context_tokens: int | None = None
    """What the model was trained for."""
    licence: str | None = None


class _Short(Exception):
    pass


def read_head(path: Path) -> GgufHead:
    """Reads the head of the file at `path`; `LocalModelUnavailable` says what is wrong with it."""
    try:
        with path.open("rb") as file:
            prefix = file.read(PREFIX_BYTES)
    except FileNotFoundError:
        raise LocalModelUnavailable(f"There is no file {str(path)!r}.") from None
    except IsADirectoryError:
        raise LocalModelUnavailable(f"{str(path)!r} is a folder; name the .gguf file in it.") from None
    except OSError as error:
        raise LocalModelUnavailable(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
    try:
        return parse_head(prefix)
    except ValueError as error:
        raise LocalModelUnavailable(f"{str(path)!r} is not a usable GGUF file: {error}.") from None


def parse_head(prefix: bytes) -> GgufHead:
    """Reads the head from the file's first bytes; `ValueError` says, as the end of a sentence, why it is not GGUF."""
    if not prefix:
        raise ValueError("it is empty")
    if not prefix.startswith(b"GGUF"):
        for start, what in _MISTAKEN.items():
            if prefix.startswith(start):
                raise ValueError(what)
        raise ValueError("it does not begin with the letters GGUF")
    if len(prefix) < 24:
        raise ValueError("it ends within its head")
    version, tensors, pairs = struct.unpack_from("<IQQ", prefix, 4)
    if version not in _SUPPORTED_VERSIONS:
        if int.from_bytes(prefix[4:8], "big") in _SUPPORTED_VERSIONS:
            raise ValueError("it is big-endian")
        raise ValueError(f"its version {version} is not one of {_SUPPORTED_VERSIONS}")
    if tensors > _MAX_TENSORS or pairs > _MAX_PAIRS:
        raise ValueError("its head makes no sense")
    if not tensors:
        raise ValueError("it holds no tensors, only words about a model")
    found = _read_pairs(prefix, pairs)
    architecture = _text(found.get("general.architecture"))
    context = found.get(f"{architecture}.context_length")
    return GgufHead(
        version=version,
        architecture=architecture,
        title=_text(found.get("general.name")),
        context_tokens=context if isinstance(context, int) else None,
        licence=_text(found.get("general.license")),
    )


def _text(value: object) -> str | None:
    return value[:200] if isinstance(value, str) else None


def _read_pairs(prefix: bytes, pairs: int) -> dict[str, object]:
    found: dict[str, object] = {}
    at = 24
    try:
        for _ in range(pairs):
            key, at = _read_string(prefix, at)
            if at + 4 > len(prefix):
                break
            kind = int.from_bytes(prefix[at : at + 4], "little")
            value, at = _read_value(prefix, at + 4, kind)
            found[key] = value
    except _Short:
        pass  # the rest lies beyond the prefix; what matters stands first
    return found


def _read_string(prefix: bytes, at: int) -> tuple[str, int]:
    if at + 8 > len(prefix):
        raise _Short
    end = at + 8 + int.from_bytes(prefix[at : at + 8], "little")
    if end > len(prefix):
        raise _Short
    return prefix[at + 8 : end].decode("utf-8", "replace"), end


def _read_value(prefix: bytes, at: int, kind: int) -> tuple[object, int]:
    if kind == _STRING:
        return _read_string(prefix, at)
    if kind == _ARRAY:
        return None, _skip_array(prefix, at)
    layout = _SCALARS.get(kind)
    if layout is None:
        raise ValueError(f"its metadata has a value of unknown type {kind}")
    end = at + struct.calcsize(layout)
    if end > len(prefix):
        raise _Short
    value: object = struct.unpack_from(layout, prefix, at)[0]
    return value, end


def _skip_array(prefix: bytes, at: int) -> int:
    if at + 12 > len(prefix):
        raise _Short
    kind = int.from_bytes(prefix[at : at + 4], "little")
    count = int.from_bytes(prefix[at + 4 : at + 12], "little")
    at += 12
    if kind in _SCALARS:
        at += count * struct.calcsize(_SCALARS[kind])
        if at > len(prefix):
            raise _Short
        return at
    if kind != _STRING:
        raise ValueError(f"its metadata has an array of unsupported type {kind}")
    for _ in range(count):
        _, at = _read_string(prefix, at)
    return at
