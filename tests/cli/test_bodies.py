"""`tollhouse bodies`, over a file as a serving process leaves it."""

import json
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tollhouse.cli import tollhouse
from tollhouse.errors import NotFound
from tollhouse.telemetry.bodies_file import BodiesFile, Kept


def kept(name: str, *, at_us: int = 4_102_488_000_000_000, answer: bytes | None = b'{"said":"[email]"}') -> Kept:
    return Kept(
        id=name,
        at_us=at_us,
        door="openai_chat",
        tenant="acme",
        key="dev",
        status=200,
        form="redacted",
        request=zlib.compress('{"model":"m","n":["ü"]}'.encode()),
        answer=None if answer is None else zlib.compress(answer),
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A file with two calls, one of them long ago, and a configuration that leads to it."""
    file = BodiesFile(tmp_path / "bodies.db")
    file.write(
        [
            kept("req_1"),
            kept("req_0", at_us=1_000_000, answer=None),
            kept("req_2", answer=b'{"cut":"he\xe2\x80\xa6[left'),
        ]
    )
    file.close()
    (tmp_path / "tollhouse.yaml").write_text(
        f"auth: {{open: true}}\nproviders: {{local: {{}}}}\nledger: {{url: 'sqlite:///{tmp_path}/ledger.db'}}\n"
    )
    return tmp_path / "bodies.db"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tollhouse, ["bodies", *arguments])


def test_a_call_is_shown_with_its_prompt_and_answer(store):
    result = run("show", "req_1", "--config", str(store.parent / "tollhouse.yaml"))
    assert result.output.splitlines() == [
        "req_1  2100-01-01T12:00:00.000+00:00  openai_chat  status 200  key dev  redacted",
        "",
        "request:",
        "  {",
        '    "model": "m",',
        '    "n": [',
        '      "ü"',
        "    ]",
        "  }",
        "",
        "answer:",
        "  {",
        '    "said": "[email]"',
        "  }",
    ]


def test_what_was_not_kept_or_cut_is_shown_as_such(store):
    assert run("show", "req_0", "--file", str(store)).output.endswith("answer:\n  (not kept)\n")
    assert run("show", "req_2", "--file", str(store)).output.endswith('answer:\n  {"cut":"he…[left\n')


def test_a_call_is_shown_as_json(store):
    shown = json.loads(run("show", "req_1", "--json", "--file", str(store)).output)
    assert (shown["id"], shown["form"], shown["answer"]) == ("req_1", "redacted", '{"said":"[email]"}')


def test_an_unknown_call_and_a_missing_store_are_said_so(store, tmp_path):
    assert isinstance(run("show", "req_9", "--file", str(store)).exception, NotFound)
    missing = run("show", "req_1", "--file", str(tmp_path / "nothing.db"))
    assert isinstance(missing.exception, NotFound)
    assert not (tmp_path / "nothing.db").exists()


def test_old_bodies_are_deleted_on_request(store):
    config = str(store.parent / "tollhouse.yaml")
    assert run("prune", "--config", config).output == "Deleted the bodies of 1 calls; those of 2 are left.\n"
    assert run("prune", "--config", config).output == "Deleted the bodies of 0 calls; those of 2 are left.\n"
    assert run("prune", "--older-than", "soon", "--file", str(store)).exit_code == 2
    assert run("prune", "--older-than", "0d", "--file", str(store)).output.endswith("those of 2 are left.\n")
