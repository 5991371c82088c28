"""The chain of the audit log: what it holds together, and what it says of every way to break it."""

import hashlib
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.config.secret import Secret
from tollhouse.ledger.audit import (
    GENESIS,
    MAX_CHANGES_BYTES,
    MAX_NAME_CHARACTERS,
    Entry,
    Head,
    Record,
    Verdict,
    chain,
    entry,
    parse_head,
    walk,
)


def made(number: int) -> Entry:
    return entry(at_us=number, actor="cli:ada", action="key.create", object=f"key:{number}", changes={"n": number})


def whole(count: int) -> list[Record]:
    return chain(Head(), [made(number) for number in range(1, count + 1)])


def walked(records: Sequence[Record], kept: bytes | None = None) -> Verdict:
    """Walks records as a database gives them: by number."""
    stored = {record.hash: record.seq for record in records}
    return walk(sorted(records, key=lambda record: record.seq), find=stored.get, kept=kept)


def broken(records: Sequence[Record]) -> tuple[int, str, str]:
    verdict = walked(records)
    assert verdict.broken is not None
    return verdict.broken.seq, verdict.broken.kind, verdict.broken.message


# ------------------------------------------------------------------------------------------------------------- the chain


def test_an_empty_log_is_whole_and_its_head_is_the_beginning() -> None:
    assert walked([]) == Verdict(0, GENESIS)


def test_a_chain_is_whole_however_it_was_cut_into_appends() -> None:
    at_once = whole(5)
    first = chain(Head(), [made(1), made(2)])
    second = chain(Head(2, first[-1].hash), [made(3)])
    third = chain(Head(3, second[-1].hash), [made(4), made(5)])

    assert [*first, *second, *third] == at_once
    assert walked(at_once) == Verdict(5, at_once[-1].hash)


def test_what_is_hashed_is_what_the_documentation_says() -> None:
    """Written out by hand: somebody else must be able to check a log without this code."""
    record = chain(
        Head(41, b"\x07" * 32),
        [
            entry(
                at_us=1_700_000_000_000_000,
                actor="ops",
                action="key.revoke",
                object="key:dév",
                changes={"cut": True},
                address="127.0.0.1",
                outcome="ok",
                request_id="req_1",
            )
        ],
    )[0]
    netstrings = (
        b'2:42,16:1700000000000000,3:ops,10:key.revoke,8:key:d\xc3\xa9v,12:{"cut":true},9:127.0.0.1,2:ok,5:req_1,1:1,'
    )

    assert record.hash == hashlib.sha256(b"\x07" * 32 + netstrings).digest()


@given(st.integers(1, 6), st.integers(0, 5), st.sampled_from([f for f in Entry.__struct_fields__ if f != "outcome"]))
def test_a_change_of_any_field_of_any_record_is_found_at_that_record(count: int, at: int, field: str) -> None:
    records = whole(count)
    at %= count
    value = getattr(records[at], field)
    records[at] = msgspec.structs.replace(records[at], **{field: value + 1 if isinstance(value, int) else value + "x"})

    assert broken(records)[:2] == (at + 1, "altered")


def test_neighbouring_fields_cannot_lend_each_other_characters() -> None:
    one = chain(Head(), [entry(at_us=1, actor="ab", action="key.create", object="c")])[0]
    other = chain(Head(), [entry(at_us=1, actor="a", action="key.create", object="bc")])[0]

    assert one.hash != other.hash


# --------------------------------------------------------------------------------------------------- ways of breaking it


def test_an_altered_record_with_a_new_hash_of_its_own_is_found_by_the_next_one() -> None:
    records = whole(4)
    forged = chain(Head(1, records[0].hash), [made(99)])
    records[1:2] = forged

    assert broken(records) == (2, "altered", "Record 2 was replaced: record 3 was written after another one.")


def test_a_removed_record_is_missing() -> None:
    records = whole(5)
    assert broken(records[:1] + records[2:]) == (2, "removed", "Record 2 is missing.")
    assert broken(records[:1] + records[3:]) == (2, "removed", "Records 2 to 3 are missing.")
    assert broken(records[2:]) == (1, "removed", "Records 1 to 2 are missing.")


def test_a_removed_record_is_found_when_the_later_ones_were_renumbered() -> None:
    records = whole(5)
    records[1:] = [msgspec.structs.replace(record, seq=record.seq - 2) for record in records[3:]]

    assert broken(records) == (2, "removed", "2 records were removed: what is now record 2 was record 4.")


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 3), (2, 5), (1, 5)])
def test_two_records_that_changed_places_are_reordered(one: int, other: int) -> None:
    records = whole(5)
    first, second = records[one - 1], records[other - 1]
    records[one - 1] = msgspec.structs.replace(second, seq=one)
    records[other - 1] = msgspec.structs.replace(first, seq=other)

    # What it was written after is where it was, unless that is what it changed places with.
    after = other if other - one == 1 else other - 1
    assert broken(records) == (one, "reordered", f"Record {one} was moved: it was written after record {after}.")


def test_a_record_put_in_is_found() -> None:
    records = whole(3)
    inserted = chain(Head(1, records[0].hash), [made(99)])
    later = [msgspec.structs.replace(record, seq=record.seq + 1) for record in records[1:]]

    assert broken([records[0], *inserted, *later]) == (
        3,
        "reordered",
        "Record 3 was moved: it was written after record 1.",
    )


def test_a_first_record_that_follows_on_something_is_no_beginning() -> None:
    records = chain(Head(0, b"\x01" * 32), [made(1), made(2)])

    assert broken(records)[:2] == (1, "altered")


def test_what_holds_before_the_break_is_counted() -> None:
    records = whole(5)
    verdict = walked(records[:3] + records[4:])

    assert (verdict.records, verdict.head) == (3, records[2].hash)
    assert not verdict.is_whole


# -------------------------------------------------------------------------------------------------------------- kept heads


def test_a_cut_tail_shows_only_against_a_kept_head() -> None:
    records = whole(5)

    assert walked(records[:4]).is_whole
    assert walked(records[:4], records[4].hash).kept_at is None
    assert walked(records, records[4].hash).kept_at == 5
    assert walked(records, records[1].hash).kept_at == 2


def test_a_whole_log_written_anew_shows_against_a_kept_head() -> None:
    kept = whole(3)[-1].hash
    anew = chain(Head(), [made(number) for number in (7, 8, 9)])

    assert walked(anew).is_whole
    assert walked(anew, kept).kept_at is None


def test_the_head_of_an_empty_log_is_in_every_log() -> None:
    assert walked(whole(2), GENESIS).kept_at == 0


def test_a_head_is_64_hexadecimal_digits() -> None:
    head = whole(1)[0].hash
    assert parse_head(f" {head.hex().upper()}\n") == head
    for text in ("", "abc", head.hex()[:-1], head.hex() + "0", "g" * 64):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            parse_head(text)


# ------------------------------------------------------------------------------------------------------------------ entries


def test_an_action_is_a_noun_and_a_verb() -> None:
    for action in ("", "create", "key.", "Key.create", "key create", "key.create\n"):
        with pytest.raises(ValueError, match="is not an action"):
            entry(at_us=1, actor="x", action=action)


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": "th-plaintext"},
        {"token": "th-plaintext"},
        {"api_key": Secret("th-plaintext")},
        {"webhook": Secret("th-plaintext")},
        {"anything": b"th-plaintext"},
        {"deep": {"password": "th-plaintext"}},
        {"list": [{"digest": "th-plaintext"}, b"th-plaintext"]},
    ],
)
def test_no_secret_gets_into_the_log_whatever_a_caller_passes(changes: dict[str, object]) -> None:
    text = entry(at_us=1, actor="x", action="key.create", changes=changes).changes

    assert "***" in text
    assert "plaintext" not in text
    assert "cGxhaW50ZXh0" not in text  # nor as base64


def test_changes_are_json_in_one_order() -> None:
    one = entry(at_us=1, actor="x", action="key.edit", changes={"b": None, "a": [1, "two"], "c": {"z": 1.5, "y": True}})

    assert one.changes == '{"a":[1,"two"],"b":null,"c":{"y":true,"z":1.5}}'
    assert entry(at_us=1, actor="x", action="key.edit").changes == ""


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_every_entry_is_bounded_printable_and_storable(text: str, changes: dict[str, str]) -> None:
    one = entry(at_us=1, actor=text, action="key.edit", object=text, address=text, request_id=text, changes=changes)

    for value in (one.actor, one.object, one.address, one.request_id, one.changes):
        assert value.isprintable()
        value.encode()
    assert len(one.actor) <= MAX_NAME_CHARACTERS
    assert len(one.changes.encode()) <= MAX_CHANGES_BYTES


def test_changes_that_are_too_long_keep_their_names() -> None:
    changes = {f"field_{number:03}": "x" * 150 for number in range(200)}
    text = entry(at_us=1, actor="x", action="key.edit", changes=changes).changes

    assert len(text.encode()) <= MAX_CHANGES_BYTES
    assert msgspec.json.decode(text)["field_000"] == "(too long)"


def test_a_surrogate_and_a_nul_are_replaced() -> None:
    one = entry(at_us=1, actor="a\x00b\ud800c\x1b[31m", action="key.edit")

    assert one.actor == "a\ufffdb\ufffdc\ufffd[31m"
