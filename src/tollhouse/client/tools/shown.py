"""A plan in words: for the terminal, and as Markdown for the documentation."""

import json
from collections.abc import Iterator

from tollhouse.client.tools.merging import toml_lines
from tollhouse.client.tools.plan import DotEnv, JsonFile, OwnFile, Plan, SettingsFile, TomlTables, YamlBlock

_INDENT = "    "


def as_text(plan: Plan) -> str:
    """For a terminal."""
    parts = [f"{_heading(file)}\n\n{_indented(_content(file))}" for file in plan.files]
    parts.append(f"Then run:\n\n{_indented(plan.command)}")
    parts += [f"For example:\n\n{_indented(sample.text)}" for sample in plan.samples]
    if plan.notes:
        parts.append("".join(f"- {note}\n" for note in plan.notes))
    return "\n".join(parts)


def as_markdown(plan: Plan) -> str:
    """For a page; each file is a block of its language."""
    return "\n".join(_markdown(plan))


def _markdown(plan: Plan) -> Iterator[str]:
    for file in plan.files:
        yield f"{_heading(file, '`')}\n\n```{_language(file)}\n{_content(file).rstrip()}\n```\n"
    yield f"```sh\n{plan.command}\n```\n"
    for sample in plan.samples:
        yield f"```{sample.language}\n{sample.text.rstrip()}\n```\n"
    if plan.notes:
        yield "".join(f"- {note}\n" for note in plan.notes)


def _heading(file: SettingsFile, quote: str = "") -> str:
    private = ", readable by you alone" if file.is_private else ""
    path = f"{quote}{file.path}{quote}"
    match file:
        case JsonFile():
            return f"In {path}, beside what is there{private}:"
        case TomlTables():
            return f"In {path}, at its end{private}:"
        case DotEnv():
            return f"Lines in {path}{private}:"
        case YamlBlock():
            return f"Items of the list in {path}{private}:"
        case OwnFile():
            return f"The file {path}{private}:"


def _content(file: SettingsFile) -> str:
    match file:
        case JsonFile():
            return json.dumps(file.entries, indent=2, ensure_ascii=False) + "\n"
        case TomlTables():
            return "\n".join(f"[{name}]\n{toml_lines(values)}" for name, values in file.tables.items())
        case DotEnv():
            return "".join(f'{name}="{value}"\n' for name, value in file.variables.items())
        case YamlBlock() | OwnFile():
            return file.text


def _language(file: SettingsFile) -> str:
    match file:
        case JsonFile():
            return "json"
        case TomlTables():
            return "toml"
        case YamlBlock():
            return "yaml"
        case DotEnv():
            return "sh"
        case OwnFile():
            return {".sh": "sh", ".toml": "toml"}.get(file.path.suffix, "")


def _indented(text: str) -> str:
    return "".join(f"{_INDENT}{line}".rstrip() + "\n" for line in text.splitlines())
