import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.local_model import gguf_bytes, shared_model
from tollhouse.local.catalogue import DEFAULT_MODEL


def tollhouse(*arguments: str, cache: Path, given: bytes = b"", columns: int = 200) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own, as a person does."""
    done = subprocess.run(
        [sys.executable, "-m", "tollhouse", "local", *arguments],
        input=given,
        capture_output=True,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "COLUMNS": str(columns)},
        timeout=120,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_the_list_says_what_is_known_and_how_to_get_it(tmp_path: Path) -> None:
    done = tollhouse("list", cache=tmp_path)
    assert done.returncode == 0
    assert DEFAULT_MODEL in done.stdout
    assert "Apache-2.0" in done.stdout
    assert f"tollhouse local pull {DEFAULT_MODEL}" in done.stdout


def test_on_a_narrow_terminal_names_and_commands_stay_whole(tmp_path: Path) -> None:
    lines = tollhouse("list", cache=tmp_path, columns=40).stdout.splitlines()
    assert lines[0] == DEFAULT_MODEL
    assert lines[-1].endswith(f"tollhouse local pull {DEFAULT_MODEL}")
    assert max(map(len, lines[:-1])) <= 40


def test_an_unknown_name_is_one_clear_line(tmp_path: Path) -> None:
    done = tollhouse("pull", "gpt-9", cache=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("tollhouse: There is no known model 'gpt-9'")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"random bytes", "does not begin with"), (b"<html", "web page"), (gguf_bytes(version=9), "version 9")],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "wrong.gguf"
    path.write_bytes(content)
    done = tollhouse("run", str(path), "--prompt", "hi", cache=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.model
@pytest.mark.parametrize("given", ["option", "standard input"])
def test_a_model_file_of_one_s_own_answers(tmp_path: Path, given: str) -> None:
    question = "What is the capital of France? Answer in one sentence."
    options = ["--temperature", "0", "--context", "256", "--threads", "1"]
    path = str(shared_model().path)
    if given == "option":
        done = tollhouse("run", path, *options, "--prompt", question, cache=tmp_path)
    else:
        done = tollhouse("run", path, *options, cache=tmp_path, given=question.encode())
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert "tokens in" in done.stderr
