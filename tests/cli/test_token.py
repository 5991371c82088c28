"""`tollhouse token`, as a person types it, and as a script does."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner, Result

from tollhouse.cli import token
from tollhouse.cli.token import read_life
from tollhouse.errors import BadRequest, Conflict, NotFound
from tollhouse.ledger.audit_store import Filter, open_audit
from tollhouse.ledger.moments import moment_at
from tollhouse.policy.register import read
from tollhouse.policy.tokens.issuing import Token, all_tokens

TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command on a ledger of this test, with a configuration folder of its own."""

    def command(*arguments: str) -> Result:
        options = [] if "--config" in arguments else ["--ledger", f"sqlite:///{tmp_path / 't.db'}"]
        return CliRunner().invoke(
            token.command,
            [arguments[0], *options, *arguments[1:]],
            env={"XDG_CONFIG_HOME": str(tmp_path / "config")},
            catch_exceptions=False,
        )

    return command


def stored(tmp_path: Path) -> list[Token]:
    return list(read(f"sqlite:///{tmp_path / 't.db'}", all_tokens))


def claims_of(text: str) -> dict[str, object]:
    found: dict[str, object] = jwt.decode(text, options={"verify_signature": False})
    return found


def test_a_token_stands_alone_on_standard_output(run: Run, tmp_path: Path):
    done = run("create", "ann")
    assert TOKEN.fullmatch(done.stdout.removesuffix("\n"))
    assert not TOKEN.search(done.stderr)
    (record,) = stored(tmp_path)
    assert f"revoke it with: {record.jti}" in done.stderr
    assert claims_of(done.stdout.strip())["jti"] == record.jti


def test_an_id_can_be_copied_out_of_a_narrow_terminal(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run("create", "somebody-with-a-long-name", "--models", "fast")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("COLUMNS", "80")
    (record,) = stored(tmp_path)
    assert record.jti in run("list").stdout


def test_a_pipe_gets_one_line_and_nothing_else(tmp_path: Path):
    """The whole program, with the help for a person on the other output."""
    ledger = f"sqlite:///{tmp_path / 't.db'}"
    done = subprocess.run(
        [sys.executable, "-m", "tollhouse", "token", "create", "ann", "--ledger", ledger],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(TOKEN.pattern + "\n", done.stdout)
    assert "good until" in done.stderr
    (kept,) = (tmp_path / ".config/tollhouse/server/client-secrets").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_token_takes_every_option(run: Run, tmp_path: Path):
    done = run(
        "create", "ann", "--expires-in", "12h", "--models", "fast, openai/*", "--providers", "openai",
        "--ip", "10.0.0.0/8", "--requests-per-minute", "60", "--budget", "5", "--daily", "1", "--tag", "team=x",
    )  # fmt: skip
    assert claims_of(done.stdout.strip())["tollhouse"] == {
        "models": ["fast", "openai/*"], "providers": ["openai"], "ip_ranges": ["10.0.0.0/8"],
        "requests_per_minute": 60, "total_nano": 5 * 10**9, "daily_nano": 10**9, "tags": {"team": "x"},
    }  # fmt: skip
    (record,) = stored(tmp_path)
    assert record.expires_at_us is not None
    assert record.expires_at_us - record.issued_at_us in {43_200 * 10**6 - 10**6, 43_200 * 10**6}


def test_a_file_is_its_owner_s_alone_and_is_not_overwritten(run: Run, tmp_path: Path):
    target = tmp_path / "ann.jwt"
    done = run("create", "ann", "--output", str(target))
    assert done.stdout == ""
    assert str(target) in done.stderr
    first = target.read_text()
    assert TOKEN.fullmatch(first.strip())
    assert stat.S_IMODE(target.stat().st_mode) == 0o600

    again = run("create", "ann", "--output", str(target))
    assert again.exit_code == 2
    assert "is there already" in again.output
    assert len(stored(tmp_path)) == 1, "nothing is issued that nobody gets"
    assert target.read_text() == first
    assert run("create", "ann", "--output", str(target), "--force").exit_code == 0
    assert target.read_text() != first
    assert [path.name for path in tmp_path.iterdir() if "ann" in path.name] == ["ann.jwt"]


def test_a_token_that_cannot_be_written_is_taken_back(run: Run, tmp_path: Path):
    done = run("create", "ann", "--output", str(tmp_path / "nowhere" / "ann.jwt"))
    assert done.exit_code == 1
    assert "it was revoked" in done.output
    (record,) = stored(tmp_path)
    assert record.revoked_at_us is not None


@pytest.mark.parametrize(
    ("text", "days"),
    [("30d", 30), ("30", 30), ("6m", 180), ("1y", 365), ("12h", 0.5), ("2w", 14), ("1h", 1 / 24)],
)
def test_a_life_is_a_span(text: str, days: float):
    left = moment_at(read_life(text)) - datetime.now(UTC)
    assert timedelta(days=days) - timedelta(minutes=1) < left <= timedelta(days=days)


def test_a_life_may_end_on_a_date():
    assert moment_at(read_life("2090-01-31")) == datetime(2090, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["99999y", "0d", "0", "-1d", "", "d", "30s", "1.5d", "30 d", "tomorrow", "2020-01-01", "999999d", "none"]
)
def test_what_is_no_life_is_refused_with_examples(run: Run, tmp_path: Path, text: str):
    done = run("create", "ann", f"--expires-in={text}")
    assert done.exit_code == 2
    assert "12h, 30d, 2w, 6m (months of 30 days) or 1y" in done.output
    assert not (tmp_path / "t.db").exists()


def test_tokens_are_listed_shown_and_revoked(run: Run, tmp_path: Path):
    run("create", "ann", "--models", "fast", "--budget", "5")
    run("create", "bob")
    ann, bob = stored(tmp_path)
    listed = run("list").stdout
    assert ann.jti in listed
    assert "$5.00 in all" in listed
    assert "tenant" not in listed  # of which no token has one
    assert "bob" in listed
    assert json.loads(run("list", "--json", "--subject", "bob").stdout)["jti"] == bob.jti
    shown = run("show", ann.jti).stdout
    assert "models         fast" in shown
    assert ann.kid in shown

    assert run("revoke", ann.jti, "--cut").stdout == f"Revoked the token {ann.jti} of ann and cut its calls.\n"
    assert ann.jti not in run("list").stdout
    assert "revoked on" in run("list", "--all").stdout
    assert "Revoked the token" in run("revoke", "--subject", "bob").stdout
    assert "No tokens that are good" in run("list").stdout
    assert "has no token that is good" in run("revoke", "--subject", "bob").stdout
    assert run("revoke").exit_code == 2
    log = open_audit(f"sqlite:///{tmp_path / 't.db'}")
    actions = [record.action for record in log.newest(Filter(), 10)]
    log.close()
    assert sorted(actions) == ["token.create", "token.create", "token.create_key", "token.revoke", "token.revoke"]


def test_all_named_tokens_are_revoked_or_none(run: Run, tmp_path: Path):
    run("create", "ann")
    (ann,) = stored(tmp_path)
    with pytest.raises(NotFound, match="--foreign"):
        run("revoke", ann.jti, "their-id")
    assert stored(tmp_path)[0].revoked_at_us is None
    assert run("revoke", ann.jti, "their-id", "--foreign").exit_code == 0


def test_keys_are_rotated_and_no_secret_is_ever_shown(run: Run, tmp_path: Path):
    run("create", "ann")
    done = run("rotate-secret", "--overlap", "1d")
    listed = run("keys").stdout
    assert listed.count("HS256") == 2
    assert "accepted until" in listed
    secrets = json.loads((tmp_path / "config/tollhouse/server/client-secrets/signing-keys.json").read_text())
    for key in secrets["keys"]:
        assert key["kid"] in listed
        assert key["secret"] not in listed + done.output
    assert [json.loads(line)["algorithm"] for line in run("keys", "--json").stdout.splitlines()] == ["HS256", "HS256"]
    assert "good no longer" in run("rotate-secret", "--overlap", "0").stdout
    assert run("keys").stdout.count("refused since") == 2
    assert "No tokens that are good" in run("list").stdout
    with pytest.raises(BadRequest, match="An overlap"):
        run("rotate-secret", "--overlap", "9999d")


CONFIG = """
auth: {jwt: {secret: "SECRET", issuer: vibectl-server}}
providers: {openai: {api_key: sk-test}}
models: {fast: openai/gpt-4o-mini}
ledger: {url: "sqlite:///LEDGER"}
"""


def test_the_configuration_says_who_signs_and_how(run: Run, tmp_path: Path):
    secret = "the-older-tools-secret-0123456789abcdef"
    file = tmp_path / "tollhouse.yaml"
    file.write_text(CONFIG.replace("SECRET", secret).replace("LEDGER", str(tmp_path / "t.db")))
    done = run("create", "ann", "--config", str(file), "--models", "fats")
    assert "no alias 'fats'. Did you mean 'fast'?" in done.stderr
    found = jwt.decode(done.stdout.strip(), secret, algorithms=["HS256"])
    assert (found["iss"], found["sub"]) == ("vibectl-server", "ann")
    with pytest.raises(Conflict, match="former_secrets"):
        run("rotate-secret", "--config", str(file))
    assert "No key was made yet" in run("keys", "--config", str(file)).stdout
    assert not (tmp_path / "config").exists()


def test_a_budget_is_said_once(run: Run):
    assert run("create", "ann", "--budget", "5", "--total", "6").exit_code == 2


def test_nothing_is_read_where_there_is_no_ledger(run: Run, tmp_path: Path):
    with pytest.raises(NotFound, match="no ledger there yet"):
        run("list")
    assert not (tmp_path / "t.db").exists()
