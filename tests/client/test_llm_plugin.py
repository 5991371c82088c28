"""The gateway's models in the `llm` tool: its own program and its library, over a real gateway."""

import asyncio
import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llm
import pytest

from support.client_town import MODELS, Town
from support.fake_replies import Answer, Call, Failure, Tokens, words

NAME = "openai/gpt-4o-mini"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def run(town: Town, folder: Path, *arguments: str, given: str = "") -> "subprocess.CompletedProcess[str]":
    """The `llm` program in a home of its own."""
    environ = {**town.proxy_environ(), "PATH": os.environ["PATH"], "LLM_USER_PATH": str(folder), "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, "-m", "llm", *arguments],
        input=given,
        capture_output=True,
        text=True,
        env=environ,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `llm` keeps what it knows: the gateway's models."""
    folder = tmp_path_factory.mktemp("llm")
    refreshed = run(town, folder, "tollhouse", "refresh")
    assert refreshed.returncode == 0, refreshed.stderr
    return folder


@pytest.fixture
def library(town: Town, folder: Path) -> Iterator[None]:
    """The same in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_USER_PATH", str(folder))
        for name, value in town.proxy_environ().items():
            patch.setenv(name, value)
        yield


def test_before_a_refresh_there_is_nothing_and_nobody_is_asked(town: Town, tmp_path: Path):
    shown = run(town, tmp_path, "tollhouse", "models")
    assert shown.returncode == 1
    assert "llm tollhouse refresh" in shown.stderr
    assert "tollhouse/" not in run(town, tmp_path, "models").stdout


def test_every_model_of_the_gateway_is_listed(town: Town, folder: Path):
    listed = run(town, folder, "models").stdout
    for provider, model in MODELS.items():
        assert f"Tollhouse: tollhouse/{provider}/{model}" in listed
        assert f"Tollhouse: tollhouse/any-{provider}" in listed
    assert (folder / "tollhouse-models.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("how", [(), ("--no-stream",), ("--async",)])
@pytest.mark.parametrize("name", [f"tollhouse/{NAME}", "any-anthropic"])
def test_the_program_prints_the_answer(town: Town, folder: Path, how: tuple[str, ...], name: str):
    with town.saying(Answer(text=words(20))) as fake:
        said = run(town, folder, "-m", name, "-s", "Be brief.", "-o", "max_tokens", "40", "Hi", *how)
        assert (said.returncode, said.stdout.strip()) == (0, words(20)), said.stderr
        assert fake.calls[0].streamed == ("--no-stream" not in how)
        assert "Be brief." in str(fake.calls[0].json)
        assert 40 in {fake.calls[0].json.get("max_tokens"), fake.calls[0].json.get("max_completion_tokens")}


def test_a_failure_is_one_line(town: Town, folder: Path):
    with town.saying(Failure(status=400, message="No such thing.")):
        failed = run(town, folder, "-m", NAME, "Hi")
    assert failed.returncode == 1
    assert "No such thing." in failed.stderr
    assert "Traceback" not in failed.stderr


def test_usage_and_who_answered_are_told(town: Town, library: None):
    with town.saying(Answer(text="a", tokens=Tokens(input=12, output=5, cache_read=4))):
        response = llm.get_model("any-openai").prompt("Hi")
        assert response.text() == "a"
    usage = response.usage()
    assert (usage.input, usage.output) == (12, 5)
    assert response.resolved_model == NAME
    kept = response.response_json
    assert kept is not None
    assert kept["request_id"].startswith("req_")
    assert kept["finish"] == "stop"


def test_a_schema_is_asked_for(town: Town, library: None):
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    with town.saying(Answer(text='{"name": "Ada"}')) as fake:
        response = llm.get_model(NAME).prompt("Who?", schema=schema)
        assert response.text() == '{"name": "Ada"}'
        assert fake.calls[0].json["response_format"]["json_schema"]["schema"] == schema


@pytest.mark.parametrize("name", ["any-openai", "any-anthropic"])
def test_tools_are_run_and_their_results_come_back(town: Town, library: None, name: str):
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        return str(a + b)

    with town.saying(
        Answer(text="", calls=(Call("add", '{"a": 1, "b": 2}'), Call("add", '{"a": 3, "b": 4}'))),
        Answer(text="3 and 7"),
    ) as fake:
        chain = llm.get_model(name).chain("Add.", tools=[add])
        assert chain.text() == "3 and 7"
        asked, answered = (call.json for call in fake.calls)
    assert "Add two numbers." in str(asked["tools"])
    assert '"3"' in str(answered).replace("'", '"')
    assert '"7"' in str(answered).replace("'", '"')


def test_an_attachment_is_shown(town: Town, library: None):
    with town.saying(Answer(text="red")) as fake:
        response = llm.get_model(NAME).prompt("What?", attachments=[llm.Attachment(type="image/png", content=PIXEL)])
        assert response.text() == "red"
        assert base64.b64encode(PIXEL).decode() in str(fake.calls[0].json)


@pytest.mark.parametrize("name", ["any-openai", "any-anthropic"])
def test_a_conversation_remembers_what_was_said_and_thought(town: Town, library: None, name: str):
    with town.saying(Answer(text="Ada.", thinking="hm"), Answer(text="Lovelace.")) as fake:
        talk = llm.get_model(name).conversation()
        assert talk.prompt("Name?", system="Be brief.").text() == "Ada."
        assert talk.prompt("And then?").text() == "Lovelace."
        turns = str(fake.calls[1].json)
    for said in ("Be brief.", "Name?", "Ada.", "And then?"):
        assert said in turns
    if name == "any-anthropic":
        (blocks,) = [turn["content"] for turn in fake.calls[1].json["messages"] if turn["role"] == "assistant"]
        (thought,) = [block for block in blocks if block["type"] == "thinking"]
        assert thought["signature"], "what was signed goes back to whom signed it"


async def test_a_program_with_a_loop_has_its_own_form(town: Town, library: None):
    def ask() -> Any:
        async def asked() -> tuple[str, str | None]:
            response = llm.get_async_model("any-anthropic").prompt("Hi")
            return await response.text(), response.resolved_model

        return asyncio.run(asked())

    with town.saying(Answer(text="Hello")):
        assert await asyncio.to_thread(ask) == ("Hello", f"anthropic/{MODELS['anthropic']}")
