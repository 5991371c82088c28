"""Who calls."""

import pytest

from tollhouse.errors import Unauthenticated
from tollhouse.policy.identity import ANONYMOUS, KeyRing, Principal, StoredKey, digest

DEV = Principal(key="dev", tenant="acme", project="x")
RING = KeyRing([StoredKey(digest(b"th-secret-secret"), DEV)])


def test_a_known_key_is_its_principal():
    assert RING.identify(b"th-secret-secret") == DEV


@pytest.mark.parametrize("credential", [None, b""])
def test_no_key_says_how_to_send_one(credential: bytes | None):
    with pytest.raises(Unauthenticated, match=r"carries no key.*Authorization"):
        RING.identify(credential)


@pytest.mark.parametrize(
    "credential", [b"th-secret-secre", b"th-secret-secret ", b"TH-SECRET-SECRET", b"\xff", b"x" * 10_000]
)
def test_anything_but_the_exact_key_is_unknown(credential: bytes):
    with pytest.raises(Unauthenticated, match="not known"):
        RING.identify(credential)


def test_an_empty_ring_lets_nobody_in():
    with pytest.raises(Unauthenticated):
        KeyRing([]).identify(b"anything")


def test_an_open_ring_lets_anyone_in_and_still_knows_its_keys():
    ring = KeyRing([StoredKey(digest(b"th-secret-secret"), DEV)], is_open=True)
    assert ring.identify(None) == ANONYMOUS
    assert ring.identify(b"sk-whatever-an-sdk-insists-on") == ANONYMOUS
    assert ring.identify(b"th-secret-secret") == DEV
