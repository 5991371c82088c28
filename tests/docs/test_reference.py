"""What the documentation says is so: generated parts are current, links lead somewhere, examples load, commands exist."""

import importlib.util
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
import yaml

from tollhouse.chat.usage import Usage
from tollhouse.config.load import parse
from tollhouse.config.schema import Config
from tollhouse.errors import ConfigError, TollhouseError
from tollhouse.ledger.record import Attempt, CallRecord, Trace
from tollhouse.providers.registry import PROVIDER_TYPES, defaults_by_type
from tollhouse.telemetry.calls_log import CallsLog

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"(?<!llm )\btollhouse((?: [a-z][a-z-]*)+)")  # `llm tollhouse` is the plugin's
_VARIABLE = re.compile(r"\$\{([A-Z_]+)")


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "tools/build_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", page.read_text())


# ------------------------------------------------------------------------------------------------------- generated parts


def test_the_generated_parts_are_what_the_code_says() -> None:
    """If this fails: `python -m tools.build_docs`, and read what changed."""
    tool.main(["--check"])


def test_a_stale_page_fails_the_check_and_is_written_anew(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = tmp_path / "docs/metrics.md"
    current = page.read_text()
    page.write_text(current.replace("`tollhouse_calls_total` |", "`tollhouse_calls` |"))

    with pytest.raises(SystemExit, match=r"docs/metrics\.md: stale"):
        tool.main(["--check"], docs=tmp_path / "docs")
    tool.main([], docs=tmp_path / "docs")
    assert page.read_text() == current


@pytest.mark.parametrize("change", [("<!-- generated: metrics -->", ""), ("metrics -->", "metricks -->")])
def test_a_region_that_is_missing_or_unknown_stops_the_build(change: tuple[str, str], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = tmp_path / "docs/metrics.md"
    page.write_text(page.read_text().replace(*change))

    with pytest.raises(SystemExit, match=r"no region 'metricks'|see to metrics"):
        tool.main(["--check"], docs=tmp_path / "docs")


# Where in a file each table's keys stand, and a file that has everything else that such a place needs.
_MINIMAL = "auth: {open: true}\nproviders: {openai: {api_key: x%s}}\n"
_PLACES: Mapping[str, str] = {
    "server": _MINIMAL % "" + "server: {~: 1}",
    "auth": "auth: {open: true, ~: 1}\nproviders: {openai: {api_key: x}}",
    "key": "auth: {keys: [{name: a, key: 12345678-x, ~: 1}]}\nproviders: {openai: {api_key: x}}",
    "admin": _MINIMAL % "" + "admin: {~: 1}",
    "admin-token": _MINIMAL % "" + "admin: {tokens: [{name: a, token: 12345678-12345678, role: viewer, ~: 1}]}",
    "provider": _MINIMAL % ", ~: 1",
    "model": _MINIMAL % ", models: [{name: m, ~: 1}]",
    "alias": _MINIMAL % "" + "models: {fast: {route: openai/m, ~: 1}}",
    "ledger": _MINIMAL % "" + "ledger: {~: 1}",
    "state": _MINIMAL % "" + "state: {~: 1}",
    "logging": _MINIMAL % "" + "logging: {~: 1}",
    "telemetry": _MINIMAL % "" + "telemetry: {~: 1}",
    "traces": _MINIMAL % "" + "telemetry: {traces: {endpoint: 'http://127.0.0.1:4318', ~: 1}}",
    "cache": _MINIMAL % "" + "cache: {~: 1}",
    "responses": _MINIMAL % "" + "cache: {responses: {ttl: 1m, ~: 1}}",
    "limits": _MINIMAL % "" + "limits: {~: 1}",
    "scoped-limits": _MINIMAL % "" + "limits: {scopes: [{scope: 'key:a', concurrent: 1, ~: 1}]}",
    "budget": _MINIMAL % "" + "budgets: [{scope: global, daily: 1, ~: 1}]",
    "deadlines": _MINIMAL % "" + "deadlines: {~: 1}",
    "retry": _MINIMAL % "" + "retry: {~: 1}",
}
_NONSENSE = "zzzzzzzzzzzzzzzz"


@pytest.mark.parametrize("section", sorted(_PLACES))
def test_the_documented_keys_of_a_section_are_those_that_loading_knows(section: str) -> None:
    """Loading names all keys of a place when it meets one that resembles none."""
    documented = [row[0] for row in tool.settings_rows(section)]
    known = set(keys_that_loading_knows(_PLACES[section].replace("~", _NONSENSE)))
    # A digest takes the place of a plaintext: a file that has the one is not told of the other.
    digests = {"key_sha256", "token_sha256"}
    assert set(documented) - digests == known - digests
    assert len(documented) == len(set(documented))


def keys_that_loading_knows(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, {})
    (said,) = [problem for problem in caught.value.problems if _NONSENSE in problem]
    return said.partition("The keys here are ")[2].rstrip(".").split(", ")


def test_every_field_that_a_line_of_the_calls_log_can_have_is_documented() -> None:
    lines: list[bytes] = []
    log = CallsLog(lines.append)
    log.finished(full_record())
    log.flush()
    line = msgspec.json.decode(b"".join(lines))
    assert list(line) == ["at", *documented_fields("calls-log")]
    assert set(line["usage"]) == set(documented_fields("calls-log.usage"))
    assert set(line["attempts"][0]) == set(documented_fields("calls-log.attempts"))
    assert set(line["trace"]) == set(documented_fields("calls-log.trace"))


def test_a_call_of_which_nothing_is_known_has_the_fields_that_are_never_left_out() -> None:
    lines: list[bytes] = []
    log = CallsLog(lines.append)
    log.finished(CallRecord(id="req_1", started_at_us=1, door="anthropic"))
    log.flush()
    assert set(msgspec.json.decode(lines[0])) == {"at", *documented_fields("calls-log", "never")}


def full_record() -> CallRecord:
    """One whose every field has something to say."""
    counts = {field.name: 1 for field in msgspec.structs.fields(Usage) if field.name != "source"}
    words = {field.name: "x" for field in msgspec.structs.fields(CallRecord) if field.type is str}
    return CallRecord(
        **words,
        started_at_us=1,
        streamed=True,
        status=200,
        usage=Usage(**counts, source="reported"),
        cost_nano=1,
        first_byte_us=1,
        duration_us=1,
        attempts=(
            Attempt(
                provider="p",
                model="m",
                outcome="provider_refused",
                status=503,
                duration_us=1,
                was_sent=False,
                detail="no",
                began_us=1,
            ),
        ),
        wait_us=1,
        held_nano=1,
        settled_nano=1,
        tags={"team": "a"},
        trace=Trace(trace_id="a" * 32, span_id="b" * 16, parent_id="c" * 16, is_sampled=True),
    )


def documented_fields(region: str, left_out: str = "[^|]*") -> list[str]:
    page = (ROOT / "docs/logging.md").read_text()
    part = page.partition(f"<!-- generated: {region} -->")[2].partition("<!-- end:")[0]
    return re.findall(rf"^\| `(\w+)` \| {left_out} \|", part, re.MULTILINE)


def test_every_type_of_provider_stands_in_one_row() -> None:
    page = (ROOT / "docs/providers.md").read_text()
    rows = [line for line in page.partition("<!-- end: providers.types -->")[0].splitlines() if line.startswith("| `")]
    for name in PROVIDER_TYPES:
        assert sum(f"`{name}`" in row.split(" | ")[0] for row in rows) == 1, name


def test_every_error_code_stands_in_one_row() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    codes = {kind.code for kind in descendants(TollhouseError)}
    assert {code: page.count(f"\n| `{code}` |") for code in codes} == dict.fromkeys(codes, 1)


def descendants(kind: type[TollhouseError]) -> Iterator[type[TollhouseError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == "tollhouse.errors":
            yield from descendants(child)


# ----------------------------------------------------------------------------------------------------------------- links


def headings(page: Path) -> set[str]:
    """The anchors that a page has, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in _LINK.findall(prose(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in headings(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_place_in_the_code_that_is_named_exists(page: Path) -> None:
    """`gateway/plan.py` is below `src/tollhouse`; `tests/ledger` and `tools/build_docs.py` are below the root."""
    if page.parent.name == "decisions":
        return  # a decision speaks of the code of its day
    named_places = re.findall(r"`((?:src|tests|tools|bench|docs)/[\w/.-]+|[a-z_]+/[\w/]*\.py|[a-z_]+/)`", prose(page))
    roots = (ROOT, ROOT / "src/tollhouse")
    missing = [place for place in named_places if not any((root / place).exists() for root in roots)]
    assert missing == []


# -------------------------------------------------------------------------------------------------------------- examples


def load(text: str, environ: Mapping[str, str]) -> Config:
    return parse(text, environ=environ, provider_types=defaults_by_type())


def configurations() -> Iterator[tuple[str, str]]:
    """Every YAML block that is a whole configuration: it says who may call and what answers, or has the older form."""
    for page in PAGES:
        for number, (language, block) in enumerate(_FENCE.findall(page.read_text())):
            value = yaml.safe_load(block) if language == "yaml" else None
            if isinstance(value, dict) and ({"auth", "providers"} <= value.keys() or "llmproxy" in value):
                yield f"{named(page)}-{number}", block


EXAMPLES = dict(configurations())


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_whole_configuration_loads(example: str) -> None:
    text = EXAMPLES[example]
    variables = {kind.key_variable for kind in PROVIDER_TYPES.values() if kind.key_variable} | {"TOLLHOUSE_KEY"}
    environ = {name: f"value-of-{name}" for name in {*variables, *_VARIABLE.findall(text)}}
    config = load(text, environ)
    assert config.providers
    assert config.auth.keys or config.auth.jwt


def test_there_are_examples_to_load() -> None:
    pages = {name.rpartition("-")[0] for name in EXAMPLES}
    assert pages >= {"README.md", "docs/configuration.md", "docs/providers.md"}


def test_the_long_example_has_every_section() -> None:
    example = yaml.safe_load(next(text for name, text in EXAMPLES.items() if name.startswith("docs/configuration.md")))
    assert example.keys() == set(keys_that_loading_knows(_MINIMAL % "" + f"{_NONSENSE}: 1"))


# -------------------------------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_that_is_named_exists(page: Path) -> None:
    """Commands stand in code: after a backtick, or at the start of a line in a shell's block."""
    paths = {path for path, _ in tool.command_tree()}
    groups = {path.rpartition(" ")[0] for path in paths}
    code = re.findall(r"`([^`\n]+)`", prose(page))
    code += [
        line for language, block in _FENCE.findall(page.read_text()) if language == "sh" for line in block.splitlines()
    ]
    unknown = []
    for piece in code:
        for words in _COMMAND.findall(piece.partition("#")[0]):
            path = "tollhouse"
            for word in words.split():
                if path not in groups:
                    break  # what follows are a command's own arguments
                path = f"{path} {word}"
                if path not in paths:
                    unknown.append(path)
                    break
    assert unknown == []
