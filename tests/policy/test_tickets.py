"""A ticket opens for its address, for a day, under its secret, and for nothing else."""

import pytest

from tollhouse.policy.tickets import LIFETIME_SECONDS, MAX_CREDENTIAL_BYTES, NoTicket, seal, unseal

SECRET, ADDRESS, NOW = b"of all who have this configuration", b"google/upload/v1beta/files?upload_id=1", 1_800_000_000.5


def test_a_ticket_gives_back_what_was_sealed():
    ticket = seal(b"th-key", secret=SECRET, address=ADDRESS, now_seconds=NOW)
    assert unseal(ticket.encode(), secret=SECRET, address=ADDRESS, now_seconds=NOW + 60) == b"th-key"
    assert "th-key" not in ticket


def test_two_tickets_of_one_caller_have_nothing_in_common():
    first, second = (seal(b"th-key", secret=SECRET, address=ADDRESS, now_seconds=NOW) for _ in range(2))
    assert first[8:] != second[8:]


@pytest.mark.parametrize(
    ("secret", "address", "later"),
    [
        (b"of others", ADDRESS, 0),
        (SECRET, ADDRESS + b"2", 0),
        (SECRET, b"other" + ADDRESS, 0),
        (SECRET, ADDRESS, LIFETIME_SECONDS),
    ],
)
def test_a_ticket_opens_for_nothing_else(secret: bytes, address: bytes, later: float):
    ticket = seal(b"th-key", secret=SECRET, address=ADDRESS, now_seconds=NOW)
    with pytest.raises(NoTicket):
        unseal(ticket.encode(), secret=secret, address=address, now_seconds=NOW + later)


def test_a_ticket_lasts_no_longer_for_being_changed():
    ticket = seal(b"th-key", secret=SECRET, address=ADDRESS, now_seconds=NOW).encode()
    for place in range(len(ticket)):
        other = b"A" if ticket[place : place + 1] != b"A" else b"Q"
        with pytest.raises(NoTicket):
            unseal(ticket[:place] + other + ticket[place + 1 :], secret=SECRET, address=ADDRESS, now_seconds=NOW)


@pytest.mark.parametrize("ticket", [b"", b"A", b"AAAA", b"%20", b"\xff" * 40, b"A" * 100, b"A" * 20_000])
def test_what_is_no_ticket_is_refused(ticket: bytes):
    with pytest.raises(NoTicket):
        unseal(ticket, secret=SECRET, address=ADDRESS, now_seconds=NOW)


def test_a_credential_that_fills_an_address_is_not_sealed():
    seal(b"k" * MAX_CREDENTIAL_BYTES, secret=SECRET, address=ADDRESS, now_seconds=NOW)
    with pytest.raises(ValueError, match="too long"):
        seal(b"k" * (MAX_CREDENTIAL_BYTES + 1), secret=SECRET, address=ADDRESS, now_seconds=NOW)
