"""Rolls: made from rows, never changed, advanced by what changed."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.config.schema import BudgetSettings, RateSettings, Scope, ScopedRates
from tollhouse.errors import StoreUnavailable
from tollhouse.policy.identity import Ending, digest
from tollhouse.policy.roll import (
    EMPTY,
    Delta,
    HolderRow,
    KeyRow,
    Mark,
    Roll,
    SigningKeyRow,
    SubjectRow,
    TokenRow,
    advance,
)
from tollhouse.policy.roll_file import mark_on_disk, read_roll, write_roll
from tollhouse.policy.terms import KeyTerms, Terms, encode

EPOCH = "0123456789abcdef"


def row(name: str, *, secret: str = "", **fields: Any) -> KeyRow:
    base = KeyRow(name, "", "", digest((secret or name).encode()), None, None, None, None, 0, "{}", None, 1)
    return base._replace(**fields)


def subject(name: str, **fields: Any) -> SubjectRow:
    return SubjectRow(name, "", "", None, None, 0, "{}", None, 1)._replace(**fields)


def tenant(name: str, terms: Terms, project: str = "", **fields: Any) -> HolderRow:
    return HolderRow(name, project, encode(terms), None, None, 1)._replace(**fields)


def delta(
    *keys: KeyRow,
    holders: Iterable[HolderRow] = (),
    subjects: Iterable[SubjectRow] = (),
    revision: int = 1,
    epoch: str = EPOCH,
    is_whole: bool = False,
    tokens: Iterable[TokenRow] = (),
    signing_keys: Iterable[SigningKeyRow] = (),
) -> Delta:
    return Delta(
        Mark(epoch, revision), is_whole, list(holders), list(subjects), list(keys), list(tokens), list(signing_keys)
    )


def rolled(*keys: KeyRow, **fields: Any) -> Roll:
    return advance(EMPTY, replace(delta(*keys, is_whole=True), **fields)).roll


def named(roll: Roll, secret: str) -> str | None:
    found = roll.key(digest(secret.encode()))
    return None if found is None else found.principal.key


def test_a_tenant_that_has_tokens_alone_is_known_as_long_as_it_is_there():
    """Nobody keeps a list of tokens; the first call after a start may be another tenant's."""
    roll = rolled(
        row("ci", tenant="a"), holders=[tenant("a", Terms()), tenant("b", Terms()), tenant("a", Terms(), "p")]
    )
    assert set(roll.tenants()) == {"a", "b"}
    assert roll.shared("b", "") == roll.shared("nobody", "")
    gone = delta(row("ci", tenant="a"), holders=[tenant("b", Terms(), removed_at_us=1)], revision=2)
    assert set(advance(roll, gone).roll.tenants()) == {"a"}


def test_a_key_is_found_by_its_digest_and_carries_its_terms():
    terms = KeyTerms(requests_per_minute=60, daily_nano=5, models=("fast",), ip_ranges=("10.0.0.0/8",), tags={"a": "b"})
    found = rolled(row("ci", terms=encode(terms), tenant="acme", expires_at_us=7)).key(digest(b"ci"))

    assert found is not None
    assert found.ending == Ending("expired", 7)
    principal = found.principal
    assert (principal.key, principal.tenant, principal.expires_at_us) == ("ci", "acme", 7)
    assert principal.limits == RateSettings(requests_per_minute=60)
    assert principal.budgets == (BudgetSettings(scope=Scope("key", "ci"), period="day", limit_nano=5),)
    assert principal.tags == (("a", "b"),)
    assert not principal.access.may_use("slow", "openai/x")
    assert principal.networks is not None


def test_equal_terms_are_read_once():
    text = encode(KeyTerms(models=("fast",)))
    roll = rolled(row("a", terms=text), row("b", terms=text))
    first, second = roll.key(digest(b"a")), roll.key(digest(b"b"))

    assert first is not None
    assert second is not None
    assert first.principal.access is second.principal.access


def test_advancing_leaves_the_roll_before_as_it_was():
    before = rolled(row("a"), row("b"))
    after = advance(before, delta(row("a", secret="new"), row("c"), revision=2)).roll

    assert [named(before, name) for name in ("a", "b", "c", "new")] == ["a", "b", None, None]
    assert [named(after, name) for name in ("a", "b", "c", "new")] == [None, "b", "c", "a"]
    assert (len(before), len(after)) == (2, 3)


def test_a_whole_delta_forgets_what_is_not_in_it():
    after = advance(rolled(row("a"), row("b")), delta(row("b"), is_whole=True)).roll
    assert [named(after, name) for name in "ab"] == [None, "b"]


def test_a_former_secret_is_good_until_the_overlap_ends_and_no_longer_than_the_key():
    def endings(**fields: Any) -> list[Ending | None]:
        roll = rolled(row("ci", former_digest=digest(b"old"), former_until_us=100, **fields))
        return [found.ending for secret in (b"ci", b"old") if (found := roll.key(digest(secret))) is not None]

    assert endings() == [None, Ending("replaced", 100)]
    assert endings(expires_at_us=50) == [Ending("expired", 50), Ending("expired", 50)]
    assert endings(expires_at_us=150) == [Ending("expired", 150), Ending("replaced", 100)]
    assert endings(revoked_at_us=999) == [Ending("revoked", 999), Ending("revoked", 999)]


def test_a_second_rotation_ends_the_first_secret():
    first = rolled(row("ci", secret="1"))
    second = advance(first, delta(row("ci", secret="2", former_digest=digest(b"1"), former_until_us=9))).roll
    third = advance(second, delta(row("ci", secret="3", former_digest=digest(b"2"), former_until_us=9))).roll

    assert [named(third, secret) for secret in "123"] == [None, "ci", "ci"]
    assert len(third) == 1


# ------------------------------------------------------------------------------------------------------------ what is shared


def test_keys_share_what_their_project_and_tenant_have():
    holders = [tenant("acme", Terms(concurrent=9, daily_nano=5)), tenant("acme", Terms(concurrent=2), project="x")]
    roll = rolled(row("a", tenant="acme", project="x"), row("b", tenant="acme"), row("c"), holders=holders)

    of_project = ScopedRates(scope=Scope("project", "acme/x"), rates=RateSettings(concurrent=2))
    of_tenant = ScopedRates(scope=Scope("tenant", "acme"), rates=RateSettings(concurrent=9))
    budget = BudgetSettings(scope=Scope("tenant", "acme"), period="day", limit_nano=5)
    shared = {name: key.principal.shared for name in "abc" if (key := roll.key(digest(name.encode()))) is not None}
    assert shared["a"].limits == (of_project, of_tenant)
    assert shared["b"].limits == (of_tenant,)
    assert shared["c"].limits == ()
    assert [one.budgets for one in shared.values()] == [(budget,), (budget,), ()]
    assert roll.shared("acme", "other") == shared["b"]


def test_a_tenants_change_reaches_its_keys_and_no_others():
    before = rolled(
        row("a", tenant="acme"), row("b", tenant="other"), holders=[tenant("acme", Terms(concurrent=9))],
        subjects=[subject("sub", tenant="acme")],
    )  # fmt: skip
    after = advance(before, delta(holders=[tenant("acme", Terms(concurrent=1))], revision=2)).roll

    changed, same = after.key(digest(b"a")), after.key(digest(b"b"))
    known = after.subject("sub")
    assert changed is not None
    assert known is not None
    assert [limit.rates.concurrent for limit in changed.principal.shared.limits] == [1]
    assert [limit.rates.concurrent for limit in known.principal.shared.limits] == [1]
    assert same is before.key(digest(b"b"))

    removed = advance(after, delta(holders=[tenant("acme", Terms(concurrent=1), removed_at_us=5)], revision=3)).roll
    found = removed.key(digest(b"a"))
    assert found is not None
    assert found.principal.shared.limits == ()


def test_a_subject_is_known_by_its_name_and_counted_apart_from_keys():
    roll = rolled(row("alice"), subjects=[subject("alice", terms=encode(KeyTerms(daily_nano=5)))])
    found = roll.subject("alice")

    assert found is not None
    assert (found.principal.key, found.principal.subject) == ("subject:alice", "alice")
    assert [str(budget.scope) for budget in found.principal.budgets] == ["key:subject:alice"]


# ------------------------------------------------------------------------------------------------------------ what is closed


def test_what_a_newer_version_wrote_is_closed_and_named_until_it_can_be_read():
    before = rolled(row("a"), row("b"))
    closed = advance(before, delta(row("a", terms='{"per_fortnight":3}'), revision=2)).roll
    assert [named(closed, name) for name in "ab"] == [None, "b"]
    assert closed.unreadable == ("key:a",)

    later = advance(closed, delta(row("c"), revision=3)).roll
    assert later.unreadable == ("key:a",)
    again = advance(later, delta(row("a"), revision=4)).roll
    assert (named(again, "a"), again.unreadable) == ("a", ())


def test_keys_of_a_tenant_that_cannot_be_read_are_marked_so():
    """Its budget is not known, so letting them in would be letting them spend without one."""
    newer = HolderRow("acme", "", '{"per_fortnight":3}', None, None, 1)
    roll = rolled(row("a", tenant="acme"), holders=[newer])
    found = roll.key(digest(b"a"))

    assert found is not None
    assert found.principal.shared.is_unreadable
    assert roll.unreadable == ("tenant:acme",)


# --------------------------------------------------------------------------------------------------------------- what is cut


def test_revoked_keys_are_cut_once_and_when_asked():
    before = rolled(row("a"), row("b"))
    step = advance(
        before,
        delta(row("a", revoked_at_us=5, cut=1, revision=2), row("b", revoked_at_us=5, cut=0, revision=2), revision=2),
    )
    assert step.cut == {"a"}

    whole = delta(row("a", revoked_at_us=5, cut=1, revision=2), row("b"), revision=2, is_whole=True)
    assert advance(step.roll, whole).cut == frozenset()
    missed = delta(row("a", revoked_at_us=5, cut=1, revision=2), row("b"), revision=3, is_whole=True)
    assert advance(before, missed).cut == {"a"}


def test_revoked_tokens_and_subjects_are_cut_when_asked():
    before = rolled(row("a"), subjects=[subject("ann"), subject("bob")])
    step = advance(
        before,
        delta(
            subjects=[subject("ann", revoked_at_us=5, cut=1, revision=2), subject("bob", revoked_at_us=5, revision=2)],
            tokens=[TokenRow("t1", 9, 5, 1, 2), TokenRow("t2", None, 6, 0, 2)],
            revision=2,
        ),
    )
    assert step.cut == {"subject:ann", "token:t1"}
    assert step.touches_known, "the copy on disk is written at once"
    assert [step.roll.token_revoked_at(jti) for jti in ("t1", "t2", "t3")] == [5, 6, None]
    assert before.token_revoked_at("t1") is None
    later = advance(step.roll, delta(row("b"), revision=3))
    assert later.cut == frozenset()
    assert later.roll.token_revoked_at("t1") == 5


def test_a_signing_key_of_a_newer_version_is_closed_until_it_can_be_read():
    step = advance(EMPTY, delta(signing_keys=[SigningKeyRow("k1", "ML-DSA-44", b"x", None, 1)]))
    assert step.roll.signing_key("k1") is None
    assert step.roll.unreadable == ("signing-key:k1",)
    mended = advance(step.roll, delta(signing_keys=[SigningKeyRow("k1", "HS256", None, 7, 2)], revision=2)).roll
    assert mended.unreadable == ()
    found = mended.signing_key("k1")
    assert found is not None
    assert (found.algorithm, found.until_us) == ("HS256", 7)


def test_new_keys_alone_touch_nothing_that_was_known():
    before = rolled(row("a"))
    assert not advance(before, delta(row("b"), revision=2)).touches_known
    assert advance(before, delta(row("a", revoked_at_us=5), revision=2)).touches_known
    assert advance(before, delta(holders=[tenant("acme", Terms())], revision=2)).touches_known


# ------------------------------------------------------------------------------------------------------------------- on disk

WHOLE = delta(
    row("a", tenant="acme", former_digest=digest(b"old"), former_until_us=9, expires_at_us=8),
    *(row(f"k{number}") for number in range(1200)),
    holders=[tenant("acme", Terms(concurrent=9))],
    subjects=[subject("alice")],
    tokens=[TokenRow("t1", None, 5, 0, 3), TokenRow("t2", 9, 5, 1, 4)],
    signing_keys=[SigningKeyRow("k1", "HS256", None, 9, 5), SigningKeyRow("k2", "EdDSA", bytes(32), None, 6)],
    revision=7,
    is_whole=True,
)


def test_a_roll_on_disk_is_the_roll(tmp_path: Path):
    path = tmp_path / "new" / "ledger.keys"
    write_roll(path, WHOLE)
    found = read_roll(path)

    assert found is not None
    assert advance(EMPTY, found).roll == advance(EMPTY, WHOLE).roll
    assert mark_on_disk(path) == Mark(EPOCH, 7)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["ledger.keys"]


def test_no_file_is_no_roll(tmp_path: Path):
    assert read_roll(tmp_path / "none") is None
    assert mark_on_disk(tmp_path / "none") is None


@given(st.integers(min_value=1))
def test_a_cut_file_is_not_taken_for_a_whole_one(tmp_path_factory: pytest.TempPathFactory, cut: int):
    path = tmp_path_factory.mktemp("roll") / "ledger.keys"
    write_roll(path, WHOLE)
    whole = path.read_bytes()
    path.write_bytes(whole[: -1 - cut % (len(whole) - 1)])

    def load() -> Roll:
        found = read_roll(path)
        assert found is not None
        return advance(EMPTY, found).roll

    with pytest.raises(StoreUnavailable, match=r"damaged|another version"):
        load()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_could_have_written_is_not_believed(tmp_path: Path, mode: int):
    path = tmp_path / "ledger.keys"
    write_roll(path, WHOLE)
    path.chmod(mode)

    with pytest.raises(StoreUnavailable, match="others could have written"):
        read_roll(path)


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path):
    path = tmp_path / "ledger.keys"
    write_roll(path, WHOLE)

    def failing() -> Iterable[KeyRow]:
        yield row("x")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_roll(path, replace(WHOLE, keys=failing()))
    assert mark_on_disk(path) == Mark(EPOCH, 7)
    assert [one.name for one in tmp_path.iterdir()] == ["ledger.keys"]
