"""What a configuration says of an embedded model is looked at before any process starts."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support.local_model import gguf_bytes
from tollhouse.config.load import load
from tollhouse.config.secret import Secret
from tollhouse.errors import ConfigError, TollhouseError
from tollhouse.local.catalogue import DEFAULT_MODEL
from tollhouse.providers.registry import defaults_by_type
from tollhouse.server.embedded import ModelLives, local_settings, start_local
from tollhouse.server.listener import Place
from tollhouse.server.wiring import LocalAddress
from tollhouse.server.worker import Job, read_job, write_job


def configured(folder: Path, options: str) -> Path:
    """A configuration with one embedded model, whose file is there."""
    (folder / "model.gguf").write_bytes(gguf_bytes())
    file = folder / "tollhouse.yaml"
    file.write_text(
        f"auth: {{open: true}}\nproviders:\n  mine:\n    type: local\n    models: [tiny]\n"
        f"    options:\n      path: {folder / 'model.gguf'}\n      {options}\n"
    )
    return file


@pytest.mark.parametrize(
    "options", ["slots: four", "slots: true", "slots: 0", "context_tokens: -1", "threads: many", "threads: -1"]
)
async def test_an_option_that_is_no_count_is_refused_with_its_place(tmp_path: Path, options: str):
    config = load(configured(tmp_path, options), {}, defaults_by_type())
    name = options.partition(":")[0]
    async with AsyncExitStack() as stack:
        with pytest.raises(
            ConfigError, match=rf"tollhouse\.yaml:8:\d+: providers\.mine\.options\.{name}: .*whole number"
        ):
            await start_local(config, {}, stack)


@pytest.mark.parametrize(
    ("options", "model"), [("", DEFAULT_MODEL), (", options: {path: '/models/My own 7B.gguf'}", "My-own-7B")]
)
def test_a_model_that_is_not_named_is_listed_and_can_be_asked(tmp_path: Path, options: str, model: str):
    file = tmp_path / "tollhouse.yaml"
    file.write_text(
        f"auth: {{open: true}}\nproviders: {{mine: {{type: local{options}}}}}\nmodels: {{default: {model}}}\n"
    )
    config = load(file, {}, defaults_by_type())
    assert [each.name for each in config.providers["mine"].models] == [model]
    assert config.default_model == f"mine/{model}"


def test_a_model_behind_an_address_of_its_own_is_not_guessed(tmp_path: Path):
    file = tmp_path / "tollhouse.yaml"
    file.write_text("auth: {open: true}\nproviders: {mine: {type: local, base_url: 'http://127.0.0.1:9/v1'}}\n")
    assert not load(file, {}, defaults_by_type()).providers["mine"].models


def test_a_model_gets_no_more_context_than_it_knows(tmp_path: Path):
    config = load(configured(tmp_path, "slots: 3"), {}, defaults_by_type())
    settings = local_settings(config, config.providers["mine"], {})
    assert (settings.name, settings.slots, settings.context_tokens) == ("tiny", 3, 2048)


def test_a_context_that_is_asked_for_is_given(tmp_path: Path):
    config = load(configured(tmp_path, "context_tokens: 512"), {}, defaults_by_type())
    assert local_settings(config, config.providers["mine"], {}).context_tokens == 512


def test_workers_are_told_which_models_know_tools():
    local = {name: LocalAddress("http://127.0.0.1:9/v1", Secret("s"), name == "able") for name in ("tiny", "able")}
    job = Job(config_file="tollhouse.yaml", place=Place("127.0.0.1", 8080), local=local)
    assert read_job(write_job(job)) == job


async def test_how_a_models_process_fares_is_told_from_its_start_on(tmp_path: Path):
    config = load(configured(tmp_path, "slots: 1"), {}, defaults_by_type())
    lives = ModelLives()
    async with AsyncExitStack() as stack:
        with pytest.raises(TollhouseError):  # the file is no model that could be loaded
            await start_local(config, {}, stack, lives)
        assert lives.states == {"mine": "failed"}
    assert lives.states == {"mine": "stopped"}
    assert lives.deaths == {"mine": 0}, "it said itself that it could not"
