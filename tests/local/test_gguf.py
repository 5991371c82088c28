from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.local_model import gguf_bytes
from tollhouse.errors import LocalModelUnavailable
from tollhouse.local.gguf import GgufHead, parse_head, read_head

METADATA: dict[str, str | int | list[str]] = {
    "general.architecture": "qwen3",
    "general.name": "Qwen3 0.6B",
    "tokenizer.ggml.merges": ["a b", "c d"],
    "general.license": "apache-2.0",
    "qwen3.context_length": 40960,
}


def test_the_head_says_what_the_model_is() -> None:
    assert parse_head(gguf_bytes(METADATA)) == GgufHead(
        version=3, architecture="qwen3", title="Qwen3 0.6B", context_tokens=40960, licence="apache-2.0"
    )


def test_metadata_beyond_the_prefix_are_not_an_error() -> None:
    whole = gguf_bytes(METADATA)
    architecture_ends = whole.index(b"qwen3") + len(b"qwen3")
    for end in range(24, len(whole)):
        head = parse_head(whole[:end])
        assert head.architecture == ("qwen3" if end >= architecture_ends else None)
        assert head.context_tokens is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"GGUF\x03\x00", "ends within its head"),
        (b"random bytes that are long enough", "does not begin with the letters GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"<!DOCTYPE html><title>Not found</title>", "web page"),
        (b"PK\x03\x04 and the rest of a zip", "zip archive"),
        (gguf_bytes(version=1), "version 1"),
        (gguf_bytes(version=3 << 24), "big-endian"),
        (gguf_bytes(tensors=0), "no tensors"),
        (gguf_bytes(tensors=1 << 40), "makes no sense"),
    ],
)
def test_what_is_no_gguf_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_head(content)


@given(st.binary(max_size=200))
def test_garbage_behind_the_head_never_crashes(rest: bytes) -> None:
    head = gguf_bytes({})[:16] + (3).to_bytes(8, "little")
    try:
        parse_head(head + rest)
    except ValueError as error:
        assert "its metadata" in str(error)  # noqa: PT017 - no error is as good


@pytest.mark.parametrize(("name", "reason"), [("missing.gguf", "There is no file"), ("", "is a folder")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(LocalModelUnavailable, match=reason):
        read_head(tmp_path / name)


def test_a_wrong_file_is_named_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(LocalModelUnavailable, match=r"model\.gguf.*web page"):
        read_head(path)
