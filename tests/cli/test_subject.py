"""`tollhouse subject`, as a person types it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tollhouse.cli import subject
from tollhouse.errors import NotFound

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command on a ledger of this test."""

    def command(*arguments: str) -> Result:
        ledger = ["--ledger", f"sqlite:///{tmp_path / 't.db'}"]
        return CliRunner().invoke(subject.command, [*arguments, *ledger], catch_exceptions=False)

    return command


def test_a_subject_is_made_listed_changed_revoked_and_restored(run: Run):
    made = run("create", "corp/ann", "--models", "fast", "--daily", "5", "--expires-in", "30d", "--tag", "team=web")
    assert made.stdout == "Made the subject corp/ann.\n"
    listed = run("list").stdout
    assert all(word in listed for word in ("corp/ann", "good until", "fast", "$5.00 a day"))
    shown = run("show", "corp/ann").stdout
    assert all(word in shown for word in ("models         fast", "spent in all   $0.00", "team=web"))
    assert "Changed the subject corp/ann: good." in run("edit", "corp/ann", "--expires-in", "none").stdout
    assert json.loads(run("show", "corp/ann", "--json").stdout)["expires_at_us"] is None
    assert run("revoke", "corp/ann", "--cut").stdout == "Revoked the subject corp/ann and cut its calls.\n"
    assert "No subjects in the database" in run("list").stdout
    assert json.loads(run("list", "--all", "--json").stdout)["cut"] is True
    assert "revoked on" in run("list", "--all").stdout
    assert run("restore", "corp/ann").stdout == "Restored the subject corp/ann.\n"
    assert run("edit", "corp/ann").exit_code == 2


def test_all_named_subjects_are_revoked_or_none(run: Run):
    run("create", "ann")
    with pytest.raises(NotFound, match="no subject 'bob'"):
        run("revoke", "ann", "bob")
    assert "ann" in run("list").stdout


def test_every_limit_and_budget_of_the_records_has_an_option():
    """The options are named for the fields, so none can be forgotten without this failing."""
    from tollhouse.cli import token
    from tollhouse.policy.registrar import KeyEdit
    from tollhouse.policy.terms import KeyTerms

    for group, kind, fields in (
        (subject, "create", KeyTerms.__struct_fields__),
        (subject, "edit", KeyEdit.__struct_fields__),
        (token, "create", KeyTerms.__struct_fields__),
    ):
        assert set(fields) <= {parameter.name for parameter in group.command.commands[kind].params}
