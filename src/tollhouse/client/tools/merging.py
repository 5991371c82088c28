"""Puts our settings into the text of a file that is somebody else's, and leaves the rest of it alone.

Every function takes the text as it is, `""` for a file that does not exist, and gives the new one; doing it twice changes
nothing more.  Where a file cannot be read, or the result would say anything else than before plus what is ours, `CannotMerge`
is raised and the person has to do it.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Final

import yaml

from tollhouse.client.tools.plan import DotEnv, Json, JsonFile, OwnFile, SettingsFile, TomlTables, YamlBlock

_BEGIN: Final = "# begin: written by `tollhouse setup`"
_END: Final = "# end: written by `tollhouse setup`"


class CannotMerge(Exception):
    """A file that must not be changed by a program; the sentence says why."""


def merged(text: str, file: SettingsFile) -> str:
    """The new text of the file.  Raises `CannotMerge`."""
    match file:
        case JsonFile():
            return merge_json(text, file.entries)
        case TomlTables():
            return merge_toml(text, file.tables)
        case DotEnv():
            return merge_dotenv(text, file.variables)
        case YamlBlock():
            return merge_yaml(text, file.text)
        case OwnFile():
            return file.text


def merge_json(text: str, entries: Mapping[str, Json]) -> str:
    """Objects are merged by their keys; anything else is replaced, but never an object by a value or the other way round."""
    try:
        tree = json.loads(text) if text.strip() else {}
    except ValueError:
        raise CannotMerge("it is not JSON, or has comments, which would be lost") from None
    if not isinstance(tree, dict):
        raise CannotMerge("there is no JSON object in it")
    return json.dumps(_merged_tree(tree, entries, ""), indent=2, ensure_ascii=False) + "\n"


def _merged_tree(tree: dict[str, object], entries: Mapping[str, Json], where: str) -> dict[str, object]:
    result = dict(tree)
    for key, value in entries.items():
        old = tree.get(key)
        place = f"{where}{key}"
        if isinstance(value, Mapping):
            if old is not None and not isinstance(old, dict):
                raise CannotMerge(f"`{place}` should be an object")
            result[key] = _merged_tree(old or {}, value, f"{place}.")
        elif isinstance(old, dict):
            raise CannotMerge(f"`{place}` should not be an object")
        else:
            result[key] = value
    return result


# ------------------------------------------------------------------------------------------------------------------ TOML

_HEADER: Final = re.compile(r"^[ \t]*\[{1,2}[^\]\n]+\]{1,2}[ \t]*(?:#.*)?$", re.MULTILINE)


def merge_toml(text: str, tables: Mapping[str, Mapping[str, str]]) -> str:
    """Takes our tables out, wherever they stand, and puts them at the end."""
    before = _toml(text)
    kept = text
    for name in tables:
        kept = _without_table(kept, name)
    if kept and not kept.endswith("\n"):
        kept += "\n"
    ours = "".join(f"\n[{name}]\n{toml_lines(values)}" for name, values in tables.items())
    result = (kept.rstrip("\n") + "\n" + ours) if kept.strip() else ours.lstrip("\n")
    # What was cut out is found by its header alone; that nothing else was touched is seen by reading both.
    expected = before
    for name, values in tables.items():
        expected = _with_table(expected, name.split("."), values)
    if _toml(result, CannotMerge("its tables are written in a way that a program cannot add to")) != expected:
        raise CannotMerge("its tables are written in a way that a program cannot add to")
    return result


def toml_lines(values: Mapping[str, str]) -> str:
    """`name = "value"` lines.  A JSON text is a TOML basic string too, as long as nothing above U+FFFF is escaped."""
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def _toml(text: str, complaint: CannotMerge | None = None) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise complaint or CannotMerge(f"it is not TOML: {error}") from None


def _without_table(text: str, name: str) -> str:
    """The text without `[name]` and what stands below it, up to the next header."""
    for found in _HEADER.finditer(text):
        if re.sub(r"[\s\"']", "", found[0].split("#")[0]) == f"[{name}]":
            following = _HEADER.search(text, found.end())
            return text[: found.start()] + ("" if following is None else text[following.start() :])
    return text


def _with_table(tree: Mapping[str, object], path: list[str], values: Mapping[str, str]) -> dict[str, object]:
    head, rest = path[0], path[1:]
    below = tree.get(head, {})
    if not isinstance(below, dict):
        raise CannotMerge(f"`{head}` should be a table")
    return {**tree, head: _with_table(below, rest, values) if rest else dict(values)}


# ------------------------------------------------------------------------------------------------------------------ .env


def merge_dotenv(text: str, variables: Mapping[str, str]) -> str:
    """Replaces the lines of our names where they stand, and adds those that are missing."""
    left = dict(variables)
    lines: list[str] = []
    for line in text.splitlines():
        found = re.match(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=", line)
        name = found[1] if found else ""
        if name not in variables:
            lines.append(line)
        elif name in left:
            lines.append(f"{name}={_quoted(left.pop(name))}")
    lines += [f"{name}={_quoted(value)}" for name, value in left.items()]
    if _other_lines_are_open(lines, variables):
        raise CannotMerge("it has values of several lines")
    return "".join(f"{line}\n" for line in lines)


def _quoted(value: str) -> str:
    """Between double quotes, and without quotes, backslashes and dollars: all that readers of such files agree about."""
    if re.search(r"[\"\\$`\n\r]", value):
        raise CannotMerge("the address, the key or the model has characters that such a file cannot hold")
    return f'"{value}"'


def _other_lines_are_open(lines: list[str], variables: Mapping[str, str]) -> bool:
    """Whether a value begins with a quote that is not closed on its line, so that lines after it are no assignments."""
    for line in lines:
        name, _, value = line.partition("=")
        value = value.strip()
        if name.strip() not in variables and value[:1] in {'"', "'", "`"} and value.find(value[0], 1) < 0:
            return True
    return False


# ------------------------------------------------------------------------------------------------------------------ YAML


def merge_yaml(text: str, items: str) -> str:
    """Puts items of a list between two comments, in place of those that stand there."""
    before = _yaml_list(text)
    start, end = text.find(_BEGIN), text.find(_END)
    if (start < 0) != (end < 0) or end < start:
        raise CannotMerge("one of our two comments is missing in it")
    block = f"{_BEGIN}\n{items}{_END}\n"
    if start >= 0:
        rest = text[end + len(_END) :].removeprefix("\n")
        result, kept = text[:start] + block + rest, _yaml_list(text[:start] + rest)
    else:
        result, kept = text + ("" if not text or text.endswith("\n") else "\n") + block, before
    ours = _yaml_list(items)
    written = _yaml_list(result, CannotMerge("its list is written in a way that a program cannot add to"))
    if [item for item in written if item not in ours] != [item for item in kept if item not in ours]:
        raise CannotMerge("its list is written in a way that a program cannot add to")
    return result


def _yaml_list(text: str, complaint: CannotMerge | None = None) -> list[object]:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError:
        raise complaint or CannotMerge("it is not YAML") from None
    if tree is None:
        return []
    if not isinstance(tree, list):
        raise complaint or CannotMerge("there is no list in it")
    return tree
