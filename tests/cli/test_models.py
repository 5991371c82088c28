"""What `tollhouse models` prints, from configurations as people write them, with providers that answer over real sockets."""

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from support.fake_provider import FakeProvider
from support.fake_replies import Failure
from tollhouse.cli import models
from tollhouse.config.load import parse
from tollhouse.errors import ConfigError
from tollhouse.ledger.prices import PriceBook
from tollhouse.providers.registry import defaults_by_type

CONFIG = """\
auth: {keys: [{name: dev, key: th-test-key-0123456789abcdef}]}
providers:
  openai: {api_key: sk-openai}
  anthropic: {api_key: sk-ant}
  lab: {type: openai-compatible, base_url: "http://127.0.0.1:9/v1", models: [{name: in-house, context_tokens: 32000}]}
  mine: {type: local}
  groq: {api_key: gsk-x}
models:
  fast: openai/gpt-4o-mini
  smart: {route: [anthropic/claude-sonnet-4-5, openai/gpt-4o], strict: true}
  default: fast
"""


class Hosted:
    """A fake provider on a loop of its own, because the command brings its own loop."""

    def __init__(self) -> None:
        self.fake = FakeProvider()
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    async def _run(self) -> None:
        async with self.fake:
            self._started.set()
            await self._stop.wait()

    def __enter__(self) -> FakeProvider:
        self._thread.start()
        self._started.wait()
        return self.fake

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def fake() -> Iterator[FakeProvider]:
    with Hosted() as running:
        yield running


def run(folder: Path, text: str, *arguments: str) -> Result:
    path = folder / "tollhouse.yaml"
    path.write_text(text)
    return CliRunner().invoke(models.command, ["--config", str(path), *arguments])


def shown(text: str, width: int) -> str:
    config = parse(text, environ={}, provider_types=defaults_by_type())
    report = models.gather(config, PriceBook.load(), only=None, live=False)
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    models.render(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_aliases_are_shown_with_their_routes(tmp_path):
    lines = run(tmp_path, CONFIG).output.splitlines()

    assert any(line.split() == ["fast", "(default)", "openai/gpt-4o-mini"] for line in lines)
    assert any("smart (strict)" in line and "anthropic/claude-sonnet-4-5, openai/gpt-4o" in line for line in lines)


def test_json_has_exact_prices_limits_and_capabilities(tmp_path):
    said = json.loads(run(tmp_path, CONFIG, "--json").output)
    by_id = {model["id"]: model for provider in said["providers"] for model in provider["models"]}
    mini = by_id["openai/gpt-4o-mini"]

    assert said["default"] == "fast"
    assert mini["aliases"] == ["fast"]
    assert mini["price"] == {"input": 150_000_000, "output": 600_000_000, "cache_read": 75_000_000}
    assert (mini["context_tokens"], mini["max_output_tokens"], mini["free"]) == (128_000, 16_384, False)
    assert "tools" in mini["capabilities"]
    assert by_id["lab/in-house"] == {
        "id": "lab/in-house",
        "aliases": [],
        "context_tokens": 32_000,
        "max_output_tokens": None,
        "capabilities": None,
        "free": None,
        "price": None,
    }


def test_what_is_not_known_is_not_called_free(tmp_path):
    (line,) = [line for line in run(tmp_path, CONFIG).output.splitlines() if line.startswith("lab/in-house")]

    assert line.split() == ["lab/in-house", "-", "-", "-", "32k", "-", "-"]


def test_configured_prices_replace_those_of_the_book(tmp_path):
    text = CONFIG + "prices: {lab/in-house: {input: 0.5, output: 1.25}}\n"
    result = run(tmp_path, text, "--json")
    by_id = {model["id"]: model for provider in json.loads(result.output)["providers"] for model in provider["models"]}

    assert by_id["lab/in-house"]["price"] == {"input": 500_000_000, "output": 1_250_000_000}


def test_a_provider_without_named_models_says_how_to_call_them(tmp_path):
    output = run(tmp_path, CONFIG).output

    assert "groq: no models named; any of its own can be called as groq/<model>" in output
    assert "mine/smollm2-135m-instruct" in output, "an embedded model has a name all the same"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width):
    lines = shown(CONFIG, width).splitlines()

    assert max(len(line.rstrip()) for line in lines) <= width
    assert any("openai/gpt-4o-mini" in line and "0.15" in line and "0.60" in line for line in lines)


def test_a_wide_terminal_gets_all_columns_and_a_narrow_one_the_main_ones():
    assert "Cached" in shown(CONFIG, 200)
    assert "Cached" not in shown(CONFIG, 80)


def test_one_provider_can_be_chosen(tmp_path):
    said = json.loads(run(tmp_path, CONFIG, "--json", "--provider", "anthropic").output)

    assert [provider["name"] for provider in said["providers"]] == ["anthropic"]
    assert [alias["name"] for alias in said["aliases"]] == ["smart"]


def test_an_unknown_provider_is_refused_with_those_that_there_are(tmp_path):
    result = run(tmp_path, CONFIG, "--provider", "gorq")

    assert result.exit_code == 2
    assert "openai, anthropic, lab, mine, groq" in " ".join(result.output.split())


def test_without_a_configuration_the_way_to_one_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOLLHOUSE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    result = CliRunner().invoke(models.command, [])

    assert isinstance(result.exception, ConfigError)
    assert "config init" in str(result.exception)


def live_config(fake: FakeProvider, *flavours: str, **more: str) -> str:
    lines = [f"  {name}: {{type: openai-compatible, base_url: {fake.base_url(name)}, api_key: k}}" for name in flavours]
    lines += [f"  {name}: {entry}" for name, entry in more.items()]
    return "auth: {keys: [{name: dev, key: th-test-key-0123456789abcdef}]}\nproviders:\n" + "\n".join(lines) + "\n"


def live(folder: Path, text: str) -> tuple[dict[str, Any], int]:
    result = run(folder, text, "--live", "--json")
    return {provider["name"]: provider for provider in json.loads(result.output)["providers"]}, result.exit_code


def test_live_lists_what_the_providers_say_they_have(tmp_path, fake):
    anthropic = f"{{type: anthropic, base_url: {fake.base_url('anthropic')}, api_key: sk-ant}}"
    said, status = live(tmp_path, live_config(fake, "groq", "xai", anthropic=anthropic))

    assert status == 0
    assert [model["id"] for model in said["groq"]["models"]] == ["groq/fake-large", "groq/fake-small"]
    assert [model["id"] for model in said["anthropic"]["models"]] == ["anthropic/fake-large", "anthropic/fake-small"]
    assert all(provider["live"] and provider["problem"] is None for provider in said.values())
    asked = {call.flavour: call for call in fake.other_calls}
    assert asked["groq"].headers["authorization"] == "Bearer k"
    assert asked["anthropic"].headers["x-api-key"] == "sk-ant"
    assert asked["anthropic"].headers["anthropic-version"] == "2023-06-01"


def test_a_provider_that_fails_gets_a_line_and_does_not_fail_the_rest(tmp_path, fake):
    fake.failing_models = {"xai": Failure(status=403, message="Key sk-abcdefghijklmnop is blocked.")}
    closed = "{type: openai-compatible, base_url: 'http://127.0.0.1:9/v1', api_key: k}"
    said, status = live(tmp_path, live_config(fake, "groq", "xai", closed=closed, mine="{type: local}"))

    assert status == 0
    assert said["groq"]["live"]
    assert not said["xai"]["live"]
    assert said["xai"]["problem"].startswith("It answered 403: Key")
    assert "sk-abcdefghijklmnop" not in said["xai"]["problem"]
    assert "127.0.0.1:9" in said["closed"]["problem"]
    assert "runs only with the gateway" in said["mine"]["problem"]
    assert "\n" not in said["xai"]["problem"] + said["closed"]["problem"]


def test_when_no_provider_answers_the_status_says_so(tmp_path):
    closed = "{type: openai-compatible, base_url: 'http://127.0.0.1:9/v1', api_key: k}"
    text = f"auth: {{keys: [{{name: dev, key: th-test-key-0123456789abcdef}}]}}\nproviders:\n  closed: {closed}\n"

    assert run(tmp_path, text, "--live").exit_code == 1
