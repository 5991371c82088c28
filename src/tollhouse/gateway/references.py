"""Which things at a provider a request names: files, batches, vector stores, whatever callers make there.

Names stand in three places.  In a path, a thing stands behind its collection (`/v1/vector_stores/vs_1/files`); the first one
counts, for what is below it is its own.  In a query and a body they stand in fields of known names (`input_file_id`,
`vector_store_ids`, `fileData.fileUri`); what these name must be the caller's.  And a field that is new or that nobody wrote
about may name one too: so every other string that could be an id is told as well, and must at least not be known as another's.

A provider reads its own way: fields in either case or spelling, either one of two that stand twice.  All of them are told.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from tollhouse.chat.model import Request, StoredFile
from tollhouse.errors import BadRequest
from tollhouse.ledger.belongings import MAX_ID_CHARACTERS

MAX_NAMES: Final = 100_000
"""Strings of a request that could be ids; Anthropic takes batches of so many requests."""

_ROOTS: Final = frozenset({"api", "compatible-api", "compatible-mode", "download", "openai", "paas", "upload"})
"""How a path may begin before anything is named, beside a version."""
_VERSION: Final = re.compile(r"v\d+[a-z]*\d*")
_MODELS: Final = frozenset({"deployments", "engines", "models"})
"""What stands behind these is a model, which a key may use or not; it is nobody's."""
_COLLECTIONS: Final = frozenset(
    {
        "agents",
        "assistants",
        "async-result",
        "batches",
        "cachedContents",
        "collections",
        "containers",
        "conversations",
        "corpora",
        "deferred-completion",
        "documents",
        "environments",
        "evals",
        "fileSearchStores",
        "files",
        "fine_tunings",
        "generatedFiles",
        "interactions",
        "jobs",
        "libraries",
        "operations",
        "prompts",
        "responses",
        "sessions",
        "skills",
        "tasks",
        "threads",
        "tunedModels",
        "uploads",
        "vaults",
        "vector_stores",
        "videos",
    }
)
"""What stands behind these is an id, whatever it looks like: Google's callers choose names of their own."""
_BELOW: Final = frozenset(
    {
        ("agents", "completions"),
        ("threads", "runs"),
        ("videos", "characters"),
        ("videos", "edits"),
        ("videos", "extensions"),
        ("videos", "generations"),
    }
)
"""A collection, and what is below it without being one of it."""
_INNER_COMPLETIONS: Final = ("chat", "completions")
_WORD: Final = re.compile(r"[a-z]+([2_-][a-z]+|[A-Z][a-z]+)*")
"""What a path says that is no id: providers' own have digits in them.  (`text2image` has one too.)"""
MAX_WORD_CHARACTERS: Final = 60
_VERB: Final = re.compile(r"(.+):([A-Za-z]+)")

_FIELDS: Final = frozenset(
    {
        "agentid",
        "assistantid",
        "batchid",
        "cachedcontent",
        "collectionid",
        "collectionids",
        "container",
        "containerid",
        "conversation",
        "conversationid",
        "environmentid",
        "evalid",
        "fileid",
        "fileids",
        "fileinputid",
        "filesearchstorenames",
        "fileuri",
        "inputfileid",
        "inputfiles",
        "libraryid",
        "libraryids",
        "outputfileid",
        "previousinteractionid",
        "previousresponseid",
        "skillid",
        "threadid",
        "trainingfile",
        "trainingfiles",
        "uploadid",
        "validationfile",
        "validationfiles",
        "vectorstoreid",
        "vectorstoreids",
        "videoid",
    }
)
"""Fields that name things, in lower case and without underscores (docs of OpenAI's, Anthropic's, Google's, Mistral's and xAI's
APIs, November 2026).  Their value is an id, a list of ids, or an object with an `id`."""
_RESOURCE_FIELDS: Final = frozenset({"filename", "name"})
"""Fields in which Google names a file (`inputConfig.fileName: files/abc`); elsewhere they say what one is called on a disk."""
_DATA: Final = frozenset(
    {
        "args",
        "arguments",
        "functionresponse",
        "inputschema",
        "jsonschema",
        "metadata",
        "parameters",
        "parametersjsonschema",
        "responsejsonschema",
        "responseschema",
        "schema",
    }
)
"""Fields that hold a caller's own data, in which `file_id` means what it means to the caller."""
_RESOURCE: Final = re.compile(r"[A-Za-z]+/[^\s?#]+")
_FILE_ADDRESS: Final = re.compile(r"(?:https?://[^/?#]+/v\d+[a-z]*\d*/|/*)files/([^/?#:]+)", re.IGNORECASE)
_COULD_BE: Final = re.compile(r"(?=.*[\d/])[\w.:/+=-]+", re.ASCII)
MIN_ID_CHARACTERS: Final = 4
_MARKS: Final = (b'"file', b'"container', b'"vector_store', b'"cached', b'"skill')
"""What stands in every conversation that names a thing."""


class Named(msgspec.Struct, frozen=True):
    """What a request names."""

    kind: str = ""
    """The path of the collection that is asked for (`fine_tuning/jobs`); empty where the path has none."""
    thing: str | None = None
    """The thing under which all else of the path is."""
    below: tuple[str, ...] = ()
    """The words behind it."""
    is_thing: bool = False
    """Whether the path ends with it."""
    is_model: bool = False
    """Whether the path is about models."""
    references: frozenset[str] = frozenset()
    """What must be the caller's, `thing` included."""
    others: frozenset[str] = frozenset()
    """What must not be known as another's."""
    chosen: frozenset[str] = frozenset()
    """What the caller calls something of its own: a name for what it makes, an argument of a tool that is called `file_id`.
    These must not be known as another's either."""

    def and_also(self, more: "Named") -> "Named":
        """What this and another part of the same request name."""
        return msgspec.structs.replace(
            self,
            references=self.references | more.references,
            others=(self.others | more.others) - self.references - more.references,
            chosen=self.chosen | more.chosen,
        )


def in_path(path: str, *, as_paths: bool, method: str = "") -> Named:
    """What a path names, which is not percent-encoded.  `as_paths` says that ids have their collection in them (Google's)."""
    segments = [segment for segment in path.split("/") if segment]
    while segments and (segments[0] in _ROOTS or _VERSION.fullmatch(segments[0])):
        del segments[0]
    if segments[:1] and segments[0] in _MODELS and "operations" not in segments[1:]:
        return _of_models(segments, method)
    seen: list[str] = []
    for number, segment in enumerate(segments):
        before = seen[-1] if seen else ""
        if before in _MODELS:
            seen.append(segment)
            continue
        if before not in _COLLECTIONS and _VERSION.fullmatch(segment):
            continue  # behind the name of a provider that another gateway has
        verb = _VERB.fullmatch(segment)
        plain = verb[1] if verb else segment
        if not _is_thing(seen, before, plain) and _is_word(plain):
            seen.append(plain)
            continue
        rest = segments[number + 1 :]
        if (
            plain == before and rest
        ):  # `batches/batches/b1`: an id that has its collection in it, in a path that has it too
            plain = f"{plain}/{rest.pop(0)}"
        place = "/".join(seen)
        thing = f"{place}/{plain}" if as_paths and place else plain
        return Named(
            place,
            thing,
            below=tuple(each for each in rest if _is_word(each)),
            is_thing=not rest and verb is None,
            references=frozenset([thing]),
            others=frozenset(each for each in rest if could_be_id(each)),
        )
    return Named("/".join(seen))


def in_query(query: bytes, *, as_paths: bool) -> Named:
    """What a query names.  Raises `BadRequest` for one of too many parameters."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), max_num_fields=256)
    except ValueError as error:
        raise BadRequest("There are more than 256 parameters.") from error
    return _collected([(name, value) for name, value in pairs], as_paths=as_paths)


def in_json(body: bytes, *, as_paths: bool, field: str = "") -> Named | None:
    """What a JSON text names, which stands in a field of that name; `None` for what is no JSON.

    Raises `BadRequest` for one that names too much.
    """
    try:
        pairs = json.loads(body.decode("utf-8"), object_pairs_hook=_Object)
    except (ValueError, RecursionError):
        return None
    return _collected([(field, pairs)], as_paths=as_paths)


def in_fields(fields: Iterable[tuple[str, str]], *, as_paths: bool) -> Named:
    """What the fields of a form name."""
    return _collected([(name.partition("[")[0], value) for name, value in fields], as_paths=as_paths)


def stored_files(request: Request) -> Iterator[str]:
    """The files that a conversation names which is not JSON (the typed protocol, in which another gateway is asked)."""
    waiting: list[object] = [request.messages]
    while waiting:
        value = waiting.pop()
        if isinstance(value, StoredFile):
            yield value.id
        elif isinstance(value, list | tuple):
            waiting.extend(value)
        elif isinstance(value, msgspec.Struct):
            waiting.extend(getattr(value, field) for field in value.__struct_fields__)


def may_name(body: bytes) -> bool:
    """Whether a conversation may name a thing, found out without reading it; too often rather than too seldom."""
    for mark in _MARKS:
        if body.find(mark) >= 0:
            return True
    if body[:1] != b"{" and body.find(b"file") >= 0:
        return True  # in the typed protocol
    # Nobody spells letters by their numbers who has no reason to.
    return body.find(b"\\u00") >= 0


def name_in_address(address: str) -> str | None:
    """The name of the file at one of Google's addresses (`https://…/v1beta/files/abc`); `None` for any other."""
    found = _FILE_ADDRESS.match(unquote(address))
    return None if found is None else f"files/{found[1]}"


def could_be_id(text: str) -> bool:
    """Whether a string could be what a provider calls a thing."""
    return MIN_ID_CHARACTERS <= len(text) <= MAX_ID_CHARACTERS and _COULD_BE.fullmatch(text) is not None


class _Object(list[tuple[str, Any]]):
    """A JSON object with all its fields, also those that stand twice."""


def _of_models(segments: list[str], method: str) -> Named:
    """A model is nobody's, but whoever deletes or changes one must have made it."""
    name = "/".join(segments[1:])
    if method in {"DELETE", "PATCH", "PUT"} and name:
        return Named("models", name, is_thing=True, is_model=True, references=frozenset([name]))
    return Named("models", is_model=True)


def _is_thing(seen: list[str], before: str, segment: str) -> bool:
    if tuple(seen[-2:]) == _INNER_COMPLETIONS:
        return True
    return before in _COLLECTIONS and (before, segment) not in _BELOW


def _is_word(segment: str) -> bool:
    return len(segment) <= MAX_WORD_CHARACTERS and _WORD.fullmatch(segment) is not None


def _collected(pairs: Iterable[tuple[str, Any]], *, as_paths: bool) -> Named:
    references: set[str] = set()
    others: set[str] = set()
    chosen: set[str] = set()
    for name, value, is_data in _strings(pairs):
        if name in _FIELDS:
            (chosen if is_data else references).update(_names_in(name, value, as_paths=as_paths))
        elif as_paths and name in _RESOURCE_FIELDS and _RESOURCE.fullmatch(value) is not None:
            (chosen if name == "name" else references).add(value)
        elif could_be_id(value):
            others.add(value)
        if len(others) + len(references) > MAX_NAMES:
            raise BadRequest(f"The request has more than {MAX_NAMES} strings that could name something.")
    return Named(references=frozenset(references), others=frozenset(others - references), chosen=frozenset(chosen))


def _names_in(name: str, value: str, *, as_paths: bool) -> Iterator[str]:
    """The ids in the value of a field that names things."""
    if name == "fileuri":
        # Any other address is one of the open web, or of a store that has permissions of its own.
        if (file := name_in_address(value)) is not None:
            yield file
    elif name == "skillid":
        # Providers' own skills (`pptx`, `openai-spreadsheets`) are everybody's.
        if value.startswith("skill_"):
            yield value
    elif as_paths and name == "previousinteractionid":
        yield f"interactions/{value}"
    elif value:
        yield value


def _strings(pairs: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, str, bool]]:
    """The strings of a tree: the field's name in lower case without underscores, the value, and whether it is data.

    Not recursive: what a parser can read can be deeper than Python's stack.
    """
    waiting: list[tuple[str, Any, bool]] = [(_spelled(name), value, False) for name, value in pairs]
    while waiting:
        name, value, is_data = waiting.pop()
        if isinstance(value, str):
            yield name, value, is_data
        elif isinstance(value, _Object):
            types = [inner for field, inner in value if field == "type" and isinstance(inner, str)]
            is_call = any(each.endswith("tool_use") for each in types)
            # Evals say it so: `{"type": "file_id", "id": "file-…"}`.
            kind = next((spelled for each in types if (spelled := _spelled(each)) in _FIELDS), name)
            for field, inner in value:
                spelled = _spelled(field)
                if kind in _FIELDS and spelled == "id" and isinstance(inner, str):
                    waiting.append((kind, inner, is_data))
                    continue
                # The arguments of a call are an object; what the Responses API calls `input` is none.
                is_arguments = is_call and spelled == "input" and isinstance(inner, _Object)
                waiting.append((spelled, inner, is_data or is_arguments or spelled in _DATA))
        elif isinstance(value, list):
            waiting.extend((name, inner, is_data) for inner in value)


def _spelled(name: str) -> str:
    return name.lower().replace("_", "")
