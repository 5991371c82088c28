"""Which things a provider made for a caller, by what its answer says.

What was made has its id at the top of the answer, or at one of few places that the APIs document.  Below a thing only what
can be reached without it is worth a note: a message is found through its thread, a remixed video by its own id.  And what a
thing came to is its owner's too: the file in which a batch's results are.

An answer repeats much of its request.  What the request named was there before, so it was not made by it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tollhouse.gateway.references import Named, name_in_address

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Of an answer that says what was made; it says nothing else, mostly."""
MAX_MADE: Final = 1_000
"""Things that one answer can say were made."""

_IDS: Final = ("id", "thread_id", "conversation_id", "task_id", "batch_id", "job_id", "video_id")
"""Where an id stands at the top."""
_LAST_RESORT: Final = "request_id"
"""What some have instead (xAI's videos); most others say it of every call."""
_PLACES: Final = (
    ("file", "id"),
    ("file", "name"),
    ("output", "task_id"),
    ("data", "uploaded_files", "file_id"),
    ("tool_resources", "file_search", "vector_store_ids"),
)
"""Where it stands further inside: OpenAI's uploads and threads, Google's files, DashScope's tasks and files."""
_INNER: Final = frozenset(
    {
        "checkpoints",
        "chunks",
        "documents",
        "events",
        "file_batches",
        "files",
        "items",
        "messages",
        "output_items",
        "parts",
        "permissions",
        "runs",
        "steps",
        "versions",
    }
)
"""What can be reached only through the thing above it."""
_OUTCOMES: Final = (
    ("output_file_id",),
    ("error_file_id",),
    ("output_file",),
    ("error_file",),
    ("result_files",),
    ("fine_tuned_model",),
    ("file", "id"),
    ("dest", "fileName"),
    ("response", "responsesFile"),
    ("metadata", "output", "responsesFile"),
    ("metadata", "dest", "fileName"),
    ("response", "generateVideoResponse", "generatedSamples", "video", "uri"),
    ("response", "generatedVideos", "video", "uri"),
)
"""Where batches, training, uploads and operations say what they came to: OpenAI, Mistral, Google."""
_WITH_OUTCOME: Final = frozenset(
    {"batches", "batch/jobs", "fine_tuning/jobs", "fine_tunings", "uploads", "videos", "operations"}
)
_MADE_BY_EVENTS: Final = (("thread_id",), ("conversation_id",), ("interaction", "id"))


def has_outcome(named: Named) -> bool:
    """Whether what is asked about is a thing that comes to others."""
    return named.kind in _WITH_OUTCOME or named.kind.endswith("/operations")


def made(answer: bytes, named: Named, *, as_paths: bool) -> list[str]:
    """The things that were made by a request that named `named`; none where the answer cannot be read."""
    fields = _object(answer)
    if fields is None:
        return []
    inner = bool(named.below) and named.below[0] in _INNER
    found: list[str] = []
    for place in () if inner else _IDS:
        found += strings_at(fields, (place,))
    name = fields.get("name")
    if isinstance(name, str) and "/" in name and not inner:
        found.append(name)
    for path in _PLACES:
        found += strings_at(fields, path)
    if not found and named.thing is None:
        found += strings_at(fields, (_LAST_RESORT,))
    return _new(found, named, as_paths=as_paths)


def outcome(answer: Mapping[str, Any] | bytes, named: Named) -> list[str]:
    """What a thing came to that an answer about it tells."""
    fields = _object(answer) if isinstance(answer, bytes) else answer
    if fields is None:
        return []
    found = [each for path in _OUTCOMES for each in strings_at(fields, path)]
    return _new((name_in_address(each) or each for each in found), named, as_paths=False)


def made_by_event(data: bytes, named: Named, *, as_paths: bool) -> list[str]:
    """The things that were made by a request that is answered by events, as one of them tells."""
    fields = _object(data)
    if fields is None:
        return []
    found = [each for path in _MADE_BY_EVENTS for each in strings_at(fields, path)]
    return _new(found, named, as_paths=as_paths)


def _new(found: "list[str] | Iterator[str]", named: Named, *, as_paths: bool) -> list[str]:
    known = named.references | named.others
    new: dict[str, None] = {}
    for each in found:
        if as_paths and "/" not in each:
            each = f"{named.kind}/{each}" if named.kind else each  # noqa: PLW2901
        if each not in known and (named.thing is None or not each.startswith(f"{named.thing}/")):
            new[each] = None
    return list(new)[:MAX_MADE]


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        fields = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def strings_at(value: object, path: tuple[str, ...]) -> Iterator[str]:
    """The strings at a place; of a list, at that place of each of its items."""
    if isinstance(value, list):
        for each in value:
            yield from strings_at(each, path)
    elif not path:
        if isinstance(value, str) and value:
            yield value
    elif isinstance(value, dict):
        yield from strings_at(value.get(path[0]), path[1:])
