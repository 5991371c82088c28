"""`tollhouse ask` in a process of its own: what it prints where, how it ends, and what it does on Ctrl-C."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from support.client_town import Town
from support.fake_replies import Answer, Cut, Failure, Stall, faulty, words
from tollhouse.cli.ask import command

TEXT = words(8)
AS_FROM_A_TERMINAL = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
"""What a shell starts in the background ignores Ctrl-C, and so would all that the tests start when they run there."""


@dataclass
class Ran:
    """A command that ended."""

    status: int
    out: str
    err: str


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {**environ, "PATH": os.environ["PATH"], "PYTHONUTF8": "1"}


def ask(environ: Mapping[str, str], *arguments: str, given: str = "") -> Ran:
    """Runs it with `given` piped in."""
    ran = subprocess.run(
        [sys.executable, "-m", "tollhouse", "ask", *arguments],
        input=given.encode(),
        capture_output=True,
        env=environment(environ),
        timeout=60,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


@pytest.fixture(params=["direct", "json"])
def environ(town: Town, request: pytest.FixtureRequest) -> dict[str, str]:
    return town.direct_environ() if request.param == "direct" else town.proxy_environ()


def test_an_answer_goes_to_standard_output_and_nothing_else_does(town: Town, environ: dict[str, str]):
    with town.saying(Answer(text=TEXT)) as fake:
        ran = ask(environ, "explain", "pods", "-m", "openai/gpt-4o-mini", "-s", "Be brief.", "--max-tokens", "40")

        assert (ran.status, ran.out, ran.err) == (0, TEXT + "\n", "")
        messages = fake.calls[0].json["messages"]
        assert [message["content"] for message in messages] == ["Be brief.", "explain pods"]
        assert fake.calls[0].streamed


def test_what_is_piped_in_follows_the_words(town: Town):
    with town.saying(Answer(text="ok")) as fake:
        ran = ask(town.proxy_environ(), "Summarise:", "--no-stream", given="a\nb\n")

        assert (ran.status, ran.out) == (0, "ok\n")
        assert fake.calls[0].json["messages"][0]["content"] == "Summarise:\n\na\nb"
        assert not fake.calls[0].streamed


def test_json_has_the_answer_and_all_about_it(town: Town):
    with town.saying(Answer(text=TEXT)):
        ran = ask(town.direct_environ(), "hi", "-m", "openai/gpt-4o-mini", "--json")

    fields = json.loads(ran.out)
    assert (fields["text"], fields["model"], fields["mode"]) == (TEXT, "openai/gpt-4o-mini", "direct")
    assert (fields["usage"]["output_tokens"], fields["cost_nano_usd"]) == (8, 6300)


def test_a_schema_is_asked_for(town: Town, tmp_path: Path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"type":"object","properties":{"n":{"type":"integer"}}}')
    with town.saying(Answer(text='{"n":1}')) as fake:
        ran = ask(town.proxy_environ(), "a number", "--schema", str(schema))

        assert ran.out == '{"n":1}\n'
        assert fake.calls[0].json["response_format"]["json_schema"]["schema"]["properties"] == {
            "n": {"type": "integer"}
        }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "What shall be asked?"),
        (("hi", "--schema", "/nowhere"), "No such file"),
        (("hi", "--direct", "--url", "http://localhost:1"), "asks no gateway"),
        (("hi", "--temperature", "3"), "0<=x<=2"),
    ],
)
def test_a_mistake_on_the_command_line_ends_with_2(town: Town, arguments: Sequence[str], says: str):
    ran = CliRunner().invoke(command, arguments, env=town.proxy_environ())

    assert ran.exit_code == 2
    assert says in ran.stderr
    assert not ran.stdout


def test_a_call_that_fails_ends_with_1_and_says_why_on_standard_error(town: Town):
    with town.saying(Failure(status=400, message="The prompt is too long.")):
        ran = ask(town.proxy_environ(), "hi")

    assert (ran.status, ran.out) == (1, "")
    assert "The prompt is too long." in ran.err
    assert "req_" in ran.err
    assert "Traceback" not in ran.err


def test_an_answer_that_breaks_off_ends_with_3_after_what_came(town: Town, environ: dict[str, str]):
    with town.saying(faulty(Answer(text=TEXT), Cut(3))):
        ran = ask(environ, "hi", "-m", "openai/gpt-4o-mini")

    assert ran.status == 3
    assert ran.out.strip()
    assert TEXT.startswith(ran.out.strip())
    assert ran.err.startswith("tollhouse: ")
    assert len(ran.err.splitlines()) == 1


def test_ctrl_c_ends_it_with_130_and_the_provider_hears_of_it(town: Town, environ: dict[str, str]):
    never = town.do(asyncio.Event)
    with town.saying(faulty(Answer(text=TEXT), Stall(3, until=never))) as fake:
        child = subprocess.Popen(
            [sys.executable, "-c", AS_FROM_A_TERMINAL, "-m", "tollhouse", "ask", "hi", "-m", "openai/gpt-4o-mini"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(environ),
        )
        assert child.stdout is not None
        first = child.stdout.read(4)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)

        assert (child.returncode, first, err) == (130, b"Toll", b"")
        assert TEXT.encode().startswith(out) or TEXT[4:].encode().startswith(out)
        town.run(fake.calls[0].client_left.wait())


def test_a_reader_who_has_had_enough_ends_it_without_complaints(town: Town):
    with town.saying(Answer(text=words(20_000))):
        child = subprocess.Popen(
            [sys.executable, "-m", "tollhouse", "ask", "hi"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(town.proxy_environ()),
        )
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(4)
        child.stdout.close()
        assert child.stderr.read() == b""
        child.stderr.close()
        assert child.wait(60) == 1


def test_a_person_at_a_terminal_is_told_who_answered_and_what_it_cost(town: Town):
    ours, theirs = pty.openpty()
    with town.saying(Answer(text="Hello \x1b[31m there")):
        ran = subprocess.run(
            [sys.executable, "-m", "tollhouse", "ask", "hi", "-m", "openai/gpt-4o-mini"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(town.direct_environ()),
            timeout=60,
            check=False,
        )
    os.close(theirs)
    shown = os.read(ours, 4096).decode()
    os.close(ours)

    assert ran.returncode == 0
    answer, summary = shown.splitlines()
    assert answer == "Hello [31m there"
    assert summary.startswith("openai/gpt-4o-mini · 10 in · 3 out · $0.0000")
    assert summary.endswith("directly")
