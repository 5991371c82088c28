"""What is told before a start of what would keep the gateway from it."""

from pathlib import Path

import pytest

from support.configs import MINIMAL, read
from tollhouse.config.load import load
from tollhouse.config.schema import Config
from tollhouse.errors import ConfigError
from tollhouse.local.catalogue import DEFAULT_MODEL
from tollhouse.providers.registry import defaults_by_type
from tollhouse.server.rehearsal import rehearse

OPEN = "auth: {open: true}\n"


def loaded(folder: Path, text: str) -> Config:
    file = folder / "tollhouse.yaml"
    file.write_text(OPEN + text)
    return load(file, {}, defaults_by_type())


@pytest.mark.parametrize(
    ("text", "module", "path", "extra"),
    [
        ("ledger: {url: 'postgresql://localhost/x'}", "asyncpg", "ledger.url", "postgres"),
        ("state: {url: 'redis://localhost'}", "redis", "state.url", "valkey"),
        ("server: {http2: true}", "granian", "server.http2", "http2"),
        (
            "telemetry: {traces: {endpoint: 'http://127.0.0.1:4318'}}",
            "opentelemetry.exporter.otlp.proto.http",
            "telemetry.traces",
            "otel",
        ),
        ("server: {grpc_port: 50051}", "grpc_health", "server.grpc_port", "grpc"),
        ("providers: {mine: {type: local}}", "xllamacpp", "providers.mine", "local"),
    ],
)
def test_an_extra_that_is_asked_for_and_missing_is_a_problem(
    tmp_path: Path, text: str, module: str, path: str, extra: str
):
    more = (
        ""
        if "providers" in text
        else "providers: {lab: {type: openai-compatible, base_url: 'http://127.0.0.1:1/v1'}}\n"
    )
    config = loaded(tmp_path, more + text)
    with pytest.raises(ConfigError) as refused:
        rehearse(config, {"HOME": str(tmp_path)}, is_there=lambda name: name != module)
    (problem,) = refused.value.problems
    assert f": {path}: " in problem
    assert f"pip install 'tollhouse[{extra}]'" in problem
    rehearse(config, {"HOME": str(tmp_path)}, is_there=lambda _: True)


def test_all_problems_come_at_once(tmp_path: Path):
    config = loaded(
        tmp_path,
        "providers: {mine: {type: local, models: [a, b]}}\nlogging: {patterns: {badge: 'B-[0-9]+'}}\n",
    )
    with pytest.raises(ConfigError) as refused:
        rehearse(config, {"HOME": str(tmp_path)}, is_there=lambda _: True)
    text = "\n".join(refused.value.problems)
    assert "providers.mine.models: One provider of type local runs one model" in text
    assert "logging.patterns.badge" in text


def test_a_model_that_was_not_fetched_is_a_warning(tmp_path: Path):
    config = loaded(tmp_path, "providers: {mine: {type: local}}")
    (warning,) = rehearse(config, {"XDG_CACHE_HOME": str(tmp_path)}, is_there=lambda _: True)
    assert f"tollhouse local pull {DEFAULT_MODEL}" in warning
    assert "providers.mine" in warning


def test_what_can_be_served_passes_without_a_word(tmp_path: Path):
    assert rehearse(read(MINIMAL), {"HOME": str(tmp_path)}) == ()
