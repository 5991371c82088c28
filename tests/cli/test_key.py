"""`tollhouse key`, `tenant` and `project`, as a person types them."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tollhouse.cli import key, project, tenant
from tollhouse.cli.register import actor, read_count, read_dollars, read_fractions, read_names, read_span
from tollhouse.errors import BadRequest, ConfigError, Conflict, NotFound
from tollhouse.ledger.audit_store import Filter, open_audit
from tollhouse.ledger.moments import EPOCH
from tollhouse.policy.identity import digest
from tollhouse.policy.register import Key, read
from tollhouse.policy.register import key as read_key

GROUPS = {"key": key.command, "tenant": tenant.command, "project": project.command}
SECRET = re.compile(r"th-[0-9A-Za-z]{49}")

CONFIG = """
auth:
  keys: [{name: dev, key: "a-long-enough-key"}]
providers:
  openai: {api_key: sk-test}
models: {fast: openai/gpt-4o-mini}
ledger: {url: "sqlite:///LEDGER"}
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """Runs a command on a ledger of this test."""

    def command(group: str, *arguments: str) -> Result:
        options = [] if "--config" in arguments else ["--ledger", f"sqlite:///{tmp_path / 't.db'}"]
        place = 1 + arguments.index("--") if "--" in arguments else None
        words = [*arguments, *options] if place is None else [arguments[0], *options, *arguments[1:]]
        return CliRunner().invoke(GROUPS[group], words, catch_exceptions=False)

    return command


def stored(tmp_path: Path, name: str) -> Key:
    return read(f"sqlite:///{tmp_path / 't.db'}", lambda transaction: read_key(transaction, name))


def test_a_new_key_stands_alone_on_standard_output(run: Callable[..., Result], tmp_path: Path):
    done = run("key", "create", "ci")

    assert done.exit_code == 0
    assert SECRET.fullmatch(done.stdout.removesuffix("\n"))
    assert "cannot be shown again" in done.stderr
    assert not SECRET.search(done.stderr)
    assert stored(tmp_path, "ci").fingerprint == digest(done.stdout.strip().encode()).hex()[:8]


def test_a_key_takes_every_option(run: Callable[..., Result], tmp_path: Path):
    run("tenant", "create", "research")
    run("project", "create", "research/paper")
    run(
        "key", "create", "ci", "--tenant", "research", "--project", "paper", "--models", "fast, openai/*",
        "--providers", "openai", "--ip", "10.0.0.0/8,2001:db8::/32", "--expires-in", "30d",
        "--requests-per-minute", "60", "--tokens-per-minute", "100k", "--concurrent", "4", "--hourly", "0.5",
        "--daily", "5.0", "--weekly", "20", "--monthly", "$50", "--total", "100", "--soft", "--alert-at", "0.9,0.5",
        "--clamp-output", "--tag", "team=x", "--tag", "who=ann lee",
    )  # fmt: skip

    made = stored(tmp_path, "ci")
    assert (made.tenant, made.project) == ("research", "paper")
    assert made.terms.models == ("fast", "openai/*")
    assert made.terms.ip_ranges == ("10.0.0.0/8", "2001:db8::/32")
    assert (made.terms.requests_per_minute, made.terms.tokens_per_minute, made.terms.concurrent) == (60, 100_000, 4)
    nano = (made.terms.hourly_nano, made.terms.daily_nano, made.terms.weekly_nano, made.terms.monthly_nano)
    assert nano == (5 * 10**8, 5 * 10**9, 20 * 10**9, 50 * 10**9)
    assert (made.terms.total_nano, made.terms.is_soft, made.terms.clamp_output) == (100 * 10**9, True, True)
    assert (made.terms.alert_at, made.terms.tags) == ((0.5, 0.9), {"team": "x", "who": "ann lee"})
    assert made.expires_at_us is not None
    assert abs(EPOCH + timedelta(microseconds=made.expires_at_us - made.created_at_us) - EPOCH - timedelta(days=30)) < (
        timedelta(minutes=1)
    )


def test_every_limit_and_budget_of_the_records_has_an_option():
    """The options are named for the fields, so none can be forgotten without this failing."""
    for kind, edits in (("create", False), ("edit", True)):
        options = {parameter.name for parameter in key.command.commands[kind].params}
        from tollhouse.policy.registrar import KeyEdit
        from tollhouse.policy.terms import KeyTerms

        fields = set((KeyEdit if edits else KeyTerms).__struct_fields__)
        assert fields <= options


def test_an_edit_changes_what_is_named_and_none_takes_away(run: Callable[..., Result], tmp_path: Path):
    run("key", "create", "ci", "--daily", "5", "--concurrent", "4", "--models", "fast", "--tag", "a=1", "--tag", "b=2")
    done = run("key", "edit", "ci", "--daily", "none", "--models", "none", "--concurrent", "9", "--tag", "a=", "--hard")

    assert "Changed the key ci: good." in done.stdout
    terms = stored(tmp_path, "ci").terms
    assert (terms.daily_nano, terms.models, terms.concurrent, terms.tags) == (None, (), 9, {"b": "2"})
    assert run("key", "edit", "ci").exit_code == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--daily", "five"),
        ("--daily", "none"),
        ("--daily", "0.0000000001"),
        ("--requests-per-minute", "60/min"),
        ("--requests-per-minute", "-1"),
        ("--models", "a,,b"),
        ("--alert-at", "50%"),
        ("--expires-in", "soon"),
        ("--tag", "x"),
        ("--balance", "lots"),
    ],
)
def test_an_option_that_cannot_be_read_is_named(run: Callable[..., Result], option: str, value: str):
    done = run("key", "create", "ci", option, value)

    assert done.exit_code == 2
    assert option in done.stderr


def test_a_value_that_may_not_be_is_refused_by_the_registrar(run: Callable[..., Result]):
    with pytest.raises(BadRequest, match="fractions above 0 and up to 1"):
        run("key", "create", "ci", "--daily", "5", "--alert-at", "2")


def test_the_list_and_the_show_never_hold_a_secret(run: Callable[..., Result]):
    secret = run("key", "create", "ci", "--daily", "5", "--providers", "openai").stdout.strip()
    run("key", "create", "other", "--balance", "20", "--expires-in", "1h")
    run("key", "revoke", "other")

    for arguments in (["list"], ["list", "--all"], ["list", "--json"], ["show", "ci"], ["show", "ci", "--json"]):
        text = run("key", *arguments).output
        assert "ci" in text
        assert not SECRET.search(text)
        assert digest(secret.encode()).hex() not in text
    assert "other" not in run("key", "list").output
    listed = run("key", "list", "--all").output
    assert re.search(r"ci +- +good +all by openai +- +\$5\.00 a day", listed)
    assert re.search(r"other +- +revoked on \d{4}-\d\d-\d\d \d\d:\d\d UTC +all +- +\$20\.00 prepaid", listed)
    assert [json.loads(line)["name"] for line in run("key", "list", "--json", "--all").stdout.splitlines()] == [
        "ci",
        "other",
    ]


def test_a_rotation_prints_the_new_secret_alone(run: Callable[..., Result], tmp_path: Path):
    first = run("key", "create", "ci").stdout
    done = run("key", "rotate", "ci", "--overlap", "24h")

    assert SECRET.fullmatch(done.stdout.removesuffix("\n"))
    assert done.stdout != first
    assert "The old one is good until 2" in done.stderr
    assert "former secret  good until" in run("key", "show", "ci").stdout
    assert "good until now" in run("key", "rotate", "ci").stderr
    assert "former secret" not in run("key", "show", "ci").stdout


def test_several_keys_are_revoked_together_or_not_at_all(run: Callable[..., Result], tmp_path: Path):
    run("key", "create", "a")
    run("key", "create", "b")
    with pytest.raises(NotFound, match="no key 'c'"):
        run("key", "revoke", "a", "b", "c")
    assert stored(tmp_path, "a").revoked_at_us is None

    assert "Revoked the key b and cut its calls." in run("key", "revoke", "a", "b", "--cut").stdout
    assert stored(tmp_path, "a").cut


def test_a_prepaid_key_is_topped_up(run: Callable[..., Result]):
    run("key", "create", "ci", "--balance", "20")
    assert (
        "Paid $10.50 into the key ci; $30.50 was paid in" in run("key", "topup", "ci", "10.5", "--note", "no 7").stdout
    )
    assert "Took $0.50 back from the key ci; $30.00" in run("key", "topup", "ci", "--", "-0.5").stdout
    shown = run("key", "show", "ci").stdout
    assert re.search(r"\$10\.50 +2\S+ \S+ UTC +cli:\S+ +no 7", shown)
    assert "$30.00 prepaid" in shown


def test_tenants_and_projects_are_made_shown_changed_and_removed(run: Callable[..., Result]):
    assert (
        "Made the tenant research." in run("tenant", "create", "research", "--monthly", "500", "--balance", "9").stdout
    )
    assert "Made the project research/paper." in run("project", "create", "research/paper", "--concurrent", "2").stdout
    run("tenant", "edit", "research", "--monthly", "600", "--soft")
    run("project", "edit", "research/paper", "--concurrent", "3")
    run("tenant", "topup", "research", "1")
    run("key", "create", "ci", "--tenant", "research", "--project", "paper")

    shown = run("tenant", "show", "research").stdout
    assert "$600.00 a month (soft), $10.00 prepaid" in shown
    assert re.search(r"paper +3 at once", shown)
    assert re.search(r"research/paper +- +3 at once", run("project", "list").stdout)
    assert "3 at once" in run("project", "show", "research/paper").stdout
    assert json.loads(run("tenant", "list", "--json").stdout)["terms"]["monthly_nano"] == 600 * 10**9
    assert re.search(r"ci +research/paper", run("key", "list", "--tenant", "research", "--project", "paper").stdout)

    with pytest.raises(Conflict, match="--revoke-keys"):
        run("tenant", "remove", "research")
    assert "Removed the tenant research." in run("tenant", "remove", "research", "--revoke-keys").stdout
    assert "No tenants" in run("tenant", "list").stdout
    assert "No projects" in run("project", "list").stdout
    assert run("project", "create", "research").exit_code == 2


def test_every_change_is_in_the_audit_log_under_the_users_name(run: Callable[..., Result], tmp_path: Path):
    run("tenant", "create", "research")
    secret = run("key", "create", "ci", "--tenant", "research").stdout.strip()
    run("key", "revoke", "ci", "--cut")

    log = open_audit(f"sqlite:///{tmp_path / 't.db'}")
    records = log.newest(Filter(), 10)
    assert log.verify().is_whole
    log.close()
    assert [(one.actor, one.action, one.object) for one in reversed(records)] == [
        (actor(), "tenant.create", "tenant:research"),
        (actor(), "key.create", "key:ci"),
        (actor(), "key.revoke", "key:ci"),
    ]
    assert secret not in repr(records)


# -------------------------------------------------------------------------------------------------------------- configuration


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "tollhouse.yaml"
    path.write_text(CONFIG.replace("LEDGER", str(tmp_path / "t.db")))
    return str(path)


def test_the_ledger_is_the_configurations_and_its_keys_names_are_taken(run: Callable[..., Result], config: str):
    run("key", "create", "ci", "--config", config)
    with pytest.raises(Conflict, match="configuration has a key named 'dev'"):
        run("key", "create", "dev", "--config", config)

    done = run("key", "list", "--config", config)
    assert "ci" in done.stdout
    assert "1 more key is in the configuration" in done.stderr


def test_names_that_nothing_has_are_warned_of(run: Callable[..., Result], config: str):
    done = run("key", "create", "ci", "--config", config, "--models", "fsat,openai/*,opnai/x", "--providers", "opnai")

    assert done.exit_code == 0
    assert "no alias 'fsat'. Did you mean 'fast'?" in done.stderr
    assert done.stderr.count("no provider 'opnai'. Did you mean 'openai'?") == 1
    assert SECRET.fullmatch(done.stdout.strip())


def test_a_configuration_that_does_not_load_is_said(run: Callable[..., Result], tmp_path: Path):
    path = tmp_path / "tollhouse.yaml"
    path.write_text("auth: {kyes: []}\n")
    with pytest.raises(ConfigError, match=r"--ledger URL"):
        run("key", "list", "--config", str(path))


def test_nothing_is_made_by_looking(run: Callable[..., Result], tmp_path: Path):
    with pytest.raises(NotFound, match="no ledger there yet"):
        run("key", "list")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("amount", ["-3", "9000001"])
def test_a_budget_out_of_bounds_is_refused_in_dollars(run: Callable[..., Result], amount: str):
    done = run("key", "create", "y", "--daily", amount)

    assert done.exit_code == 2
    assert f"'{amount}' is not an amount of dollars from 0 to 9,000,000." in done.stderr


def test_spans_may_be_of_seconds(run: Callable[..., Result], tmp_path: Path):
    began_us = (datetime.now(UTC) - EPOCH) // timedelta(microseconds=1)
    run("key", "create", "brief", "--expires-in", "45s")
    expires_at_us = stored(tmp_path, "brief").expires_at_us
    assert expires_at_us is not None
    assert expires_at_us >= began_us + 45_000_000
    assert run("key", "rotate", "brief", "--overlap", "3s").exit_code == 0
    assert stored(tmp_path, "brief").former_until_us is not None


def test_help_speaks_of_an_hour(run: Callable[..., Result]):
    assert "Budget of an hour (UTC)." in run("key", "create", "--help").stdout


@pytest.mark.parametrize(
    ("read_value", "text", "value"),
    [
        (read_count, "60", 60),
        (read_count, "100k", 100_000),
        (read_count, "2M", 2_000_000),
        (read_count, "1_000", 1000),
        (read_dollars, "0.000000001", 1),
        (read_dollars, "$5", 5 * 10**9),
        (read_dollars, "-2.5", -2_500_000_000),
        (read_names, "a, b", ("a", "b")),
        (read_fractions, "0.5,1", (0.5, 1.0)),
        (read_span, "0", timedelta(0)),
        (read_span, "45s", timedelta(seconds=45)),
        (read_span, "90m", timedelta(minutes=90)),
        (read_span, "2w", timedelta(days=14)),
        (read_span, "1y", timedelta(days=365)),
    ],
)
def test_values_are_read(read_value: Callable[[str], object], text: str, value: object):
    assert read_value(text) == value


def test_a_date_is_an_expiry_too(run: Callable[..., Result], tmp_path: Path):
    next_year = datetime.now(UTC).year + 1
    run("key", "create", "ci", "--expires-in", f"{next_year}-06-01")
    wanted = (datetime(next_year, 6, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    assert stored(tmp_path, "ci").expires_at_us == wanted


def test_the_commands_import_nothing_heavy_until_they_run():
    code = (
        "import sys, tollhouse.cli.key, tollhouse.cli.tenant, tollhouse.cli.project;"
        "print(sorted({'sqlalchemy', 'alembic', 'asyncpg', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
