"""`docs/conformance.md` says what the tests of this room proved: no more, no less.  It runs last (`conftest.py`)."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from support.four_sides import EVERY, SIDES
from support.matrix import Matrix, page
from support.recordings import Recording, by_id, everything, recordings
from tollhouse.dialects import anthropic, gemini, openai_chat, openai_responses

PAGE: Final = Path(__file__).parents[2] / "docs/conformance.md"
WRITES: Final = "TOLLHOUSE_WRITE_CONFORMANCE"
"""Set by `python -m tools.build_conformance`: the page is written, not compared."""

OTHERS: Final[Mapping[str, str]] = {
    "models-list": "a model list, read for the gateway's own list of models",
    "anthropic-count-tokens": "a token count, read for a client that counts",
    "gemini-count-tokens": "a token count, read for a client that counts",
    "openai-responses-aux": "a token count, read for a client that counts",
    "dashscope-native": "DashScope's native API, which the gateway does not speak: it asks DashScope by its compatible mode, and "
    "forwards what a client asks of the native one as it is, its usage read (`/{provider}/api/v1/…`)",
}
"""What was recorded besides answers to conversations."""

COUNTING: Final[Mapping[str, Any]] = {
    "anthropic-count-tokens": anthropic.COUNTING,
    "gemini-count-tokens": gemini.COUNTING,
    "openai-responses-aux": openai_responses.COUNTING,
}


@pytest.mark.parametrize("recording", recordings("models-list"), ids=by_id)
def test_a_recorded_model_list_is_read_whole(recording: Recording):
    dialect: Any = {"anthropic": anthropic, "gemini": gemini}.get(recording.provider, openai_chat)
    listed = recording.json["models" if recording.provider == "gemini" else "data"]
    names = dialect.DIALECT.decode_models(recording.response.body)
    assert list(names) == [each.get("id") or each["name"].removeprefix("models/") for each in listed]


@pytest.mark.parametrize("recording", [each for name in COUNTING for each in recordings(name)], ids=by_id)
def test_a_recorded_token_count_is_read(recording: Recording):
    counted = COUNTING[recording.dialect].decode_count(recording.response.body)
    assert counted in recording.json.values()


def accounted() -> dict[str, tuple[str, list[str]]]:
    return {name: (why, [each.id for each in recordings(name)]) for name, why in OTHERS.items() if recordings(name)}


def test_every_recording_has_its_place(matrix: Matrix) -> None:
    """In the tables or beside them; and the page tells which."""
    known = {each.id for each in EVERY} | {each for _, names in accounted().values() for each in names}
    assert known == {each.id for each in everything().values()}


def test_the_page_says_what_was_proved(matrix: Matrix) -> None:
    """If this fails: `make conformance`, and read what changed."""
    played = set().union(*matrix.seen.values()) | matrix.apart.keys() if matrix.seen else set()
    missing = {each.id for each in EVERY} - played
    sides = {f"{side} {part}" for side in SIDES for part in ("answers", "requests")}
    if missing or matrix.seen.keys() != sides:
        pytest.skip("not all tests of this room ran, or some failed: nothing to compare")
    text = page(matrix, accounted())
    if os.environ.get(WRITES):
        PAGE.write_text(text)
    assert PAGE.read_text() == text


def test_a_lost_feature_is_no_green_cell() -> None:
    matrix = Matrix()
    matrix.prove("gemini", "answers", "lab", "one", {"text", "logprobs"}, {"logprobs": "it has none"})
    matrix.prove("gemini", "answers", "lab", "two", {"text"}, {})
    marks = {feature: cell.mark for (_, _, _, feature), cell in matrix.cells.items()}
    assert marks == {"text": "●", "logprobs": "○"}
    matrix.prove("gemini", "answers", "lab", "three", {"logprobs"}, {})
    assert matrix.cells["gemini", "answers", "lab", "logprobs"].mark == "◐"
    assert "1. it has none: `one`" in page(matrix, {})
    with pytest.raises(KeyError):
        matrix.prove("gemini", "answers", "lab", "four", {"no such column"}, {})


def test_recordings_are_json() -> None:
    """What is counted above is what lies in the folder."""
    folder = Path(__file__).parents[1] / "recorded"
    assert {msgspec.json.decode(path.read_bytes())["id"] for path in folder.glob("*/*.json")} == {
        each.id for each in everything().values()
    }
