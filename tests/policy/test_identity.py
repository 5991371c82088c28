"""Who calls."""

import pytest

from tollhouse.config.schema import BudgetSettings, KeySettings, RateSettings, Scope, ScopedRates
from tollhouse.errors import (
    AddressNotAllowed,
    KeyDamaged,
    KeyExpired,
    KeyRevoked,
    ModelNotAllowed,
    StoreUnavailable,
    Unauthenticated,
)
from tollhouse.policy.access import allow, networks
from tollhouse.policy.identity import (
    ANONYMOUS,
    Ending,
    KeyRing,
    Principal,
    Shared,
    StoredKey,
    StoredSubject,
    allowed_targets,
    check_address,
    digest,
    may_use,
    stored_key,
)
from tollhouse.policy.key_text import key_text

DEV = Principal(key="dev", tenant="acme", project="x")
RING = KeyRing([StoredKey(digest(b"th-secret-secret"), DEV)])
NOON_US = 1_795_262_400_000_000


class FixedRoll:
    """A roll of a few keys, which is also where it is found."""

    def __init__(
        self, *keys: StoredKey, subjects: tuple[StoredSubject, ...] = (), shared: Shared | None = None
    ) -> None:
        self._keys = {key.digest: key for key in keys}
        self._subjects = {subject.principal.subject: subject for subject in subjects}
        self._shared = shared or Shared()

    def key(self, digest: bytes) -> StoredKey | None:
        return self._keys.get(digest)

    def subject(self, name: str) -> StoredSubject | None:
        return self._subjects.get(name)

    def shared(self, tenant: str, project: str) -> Shared:
        return self._shared

    def signing_key(self, kid: str) -> None:
        return None

    def token_revoked_at(self, jti: str) -> None:
        return None


class Rolls:
    def __init__(self, roll: FixedRoll) -> None:
        self.roll = roll


def ring(
    *issued: StoredKey, configured: tuple[StoredKey, ...] = (), is_open: bool = False, now_us: int = NOON_US
) -> KeyRing:
    return KeyRing(configured, is_open=is_open, rolls=Rolls(FixedRoll(*issued)), now_us=lambda: now_us)


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


def test_a_mistyped_key_is_told_from_an_unknown_one():
    key = key_text(bytes(32)).encode()
    with pytest.raises(KeyDamaged, match="missing, added or changed"):
        RING.identify(key[:-1] + b"x")
    with pytest.raises(Unauthenticated, match="not known") as refused:
        RING.identify(key)
    assert "just now, try again" in (refused.value.hint or ""), "workers hear of a new key a moment later"
    with pytest.raises(Unauthenticated) as refused:
        RING.identify(b"sk-of-some-provider")
    assert "just now" not in (refused.value.hint or "")


# ------------------------------------------------------------------------------------------------------ keys of the database


def test_keys_of_the_database_are_known_beside_those_of_the_configuration():
    issued = StoredKey(digest(b"issued-key"), Principal(key="ci"))
    both = ring(issued, configured=(StoredKey(digest(b"th-secret-secret"), DEV),))

    assert both.identify(b"issued-key").key == "ci"
    assert both.identify(b"th-secret-secret").key == "dev"


def test_a_new_roll_is_seen_by_the_next_call():
    rolls = Rolls(FixedRoll())
    keys = KeyRing([], rolls=rolls)
    with pytest.raises(Unauthenticated):
        keys.identify(b"issued-key")

    rolls.roll = FixedRoll(StoredKey(digest(b"issued-key"), Principal(key="ci")))
    assert keys.identify(b"issued-key").key == "ci"
    rolls.roll = FixedRoll()
    with pytest.raises(Unauthenticated):
        keys.identify(b"issued-key")


def test_a_key_is_made_once_and_not_once_a_call():
    keys = ring(
        StoredKey(digest(b"issued-key"), Principal(key="ci")), configured=(StoredKey(digest(b"th-secret-secret"), DEV),)
    )
    for credential in (b"issued-key", b"th-secret-secret"):
        assert keys.identify(credential) is keys.identify(credential)


@pytest.mark.parametrize(
    ("ending", "error", "words"),
    [
        (Ending("expired", NOON_US), KeyExpired, r"'ci' expired on 2026-11-21 12:00:00 UTC.*key edit ci --expires-in"),
        (Ending("replaced", NOON_US - 1), KeyExpired, r"secret of the key 'ci' was replaced.*new secret"),
        (Ending("revoked", NOON_US), KeyRevoked, r"'ci' was revoked on 2026-11-21"),
        (Ending("revoked", NOON_US + 9_000_000), KeyRevoked, "'ci' was revoked"),
    ],
)
def test_a_key_that_has_ended_says_when_and_what_to_do(ending: Ending, error: type[Unauthenticated], words: str):
    """A revocation counts whatever the clock says: that of the machine that revoked it may be ahead."""
    for is_open in (False, True):
        with pytest.raises(error, match=words):
            ring(StoredKey(digest(b"k"), Principal(key="ci"), ending), is_open=is_open).identify(b"k")


@pytest.mark.parametrize("kind", ["expired", "replaced"])
def test_a_key_is_good_until_its_end(kind: str):
    ending = Ending("expired" if kind == "expired" else "replaced", NOON_US + 1)
    assert ring(StoredKey(digest(b"k"), Principal(key="ci"), ending)).identify(b"k").key == "ci"


def test_of_two_keys_of_one_name_only_the_configurations_is_let_in():
    """Their budgets and rows would be one: whoever could make keys in the database could spend another's."""
    both = ring(
        StoredKey(digest(b"other"), Principal(key="dev")), configured=(StoredKey(digest(b"th-secret-secret"), DEV),)
    )

    assert both.identify(b"th-secret-secret") == DEV
    with pytest.raises(Unauthenticated, match="both have a key named 'dev'"):
        both.identify(b"other")


def test_keys_of_the_configuration_share_what_their_tenant_has_in_the_database():
    limit = ScopedRates(scope=Scope("tenant", "acme"), rates=RateSettings(concurrent=1))
    rolls = Rolls(FixedRoll(shared=Shared(limits=(limit,))))
    keys = KeyRing([StoredKey(digest(b"k"), DEV)], rolls=rolls)
    assert keys.identify(b"k").shared.limits == (limit,)

    rolls.roll = FixedRoll()
    assert keys.identify(b"k").shared.limits == ()


def test_no_key_is_let_in_whose_tenants_terms_cannot_be_read():
    closed = Principal(key="ci", tenant="acme", shared=Shared(is_unreadable=True))
    with pytest.raises(StoreUnavailable, match="'acme' may spend was written by a newer version"):
        ring(StoredKey(digest(b"k"), closed)).identify(b"k")


def test_a_stored_key_does_not_print_its_digest():
    assert repr(StoredKey(digest(b"short"), DEV)) == "StoredKey('dev')"


# --------------------------------------------------------------------------------------------------------- what it may do


def test_a_key_of_the_configuration_carries_all_that_stands_there():
    budget = BudgetSettings(scope=Scope("key", "dev"), period="day", limit_nano=5)
    settings = KeySettings(
        name="dev",
        digest=digest(b"k"),
        tenant="acme",
        limits=RateSettings(concurrent=2),
        budgets=(budget,),
        models=("fast",),
        providers=("openai",),
        ip_ranges=("10.0.0.0/8",),
        tags={"team": "x"},
    )
    principal = KeyRing([stored_key(settings)]).identify(b"k")

    assert (principal.limits.concurrent, principal.budgets, principal.tags) == (2, (budget,), (("team", "x"),))
    assert may_use(principal, "fast", "openai/gpt-5")
    assert not may_use(principal, "fast", "groq/llama")
    check_address(principal, "10.1.2.3")
    with pytest.raises(AddressNotAllowed):
        check_address(principal, "11.1.2.3")


def test_an_address_outside_is_refused_by_name():
    principal = Principal(key="ci", networks=networks(["10.0.0.0/8"]))
    with pytest.raises(AddressNotAllowed, match=r"'ci' may not be used from 192\.0\.2\.1"):
        check_address(principal, "192.0.2.1")
    with pytest.raises(AddressNotAllowed, match="from this address"):
        check_address(principal, "")
    check_address(Principal(key="ci"), "192.0.2.1")


def test_a_route_keeps_only_what_the_key_may_use_in_its_order():
    principal = Principal(key="ci", access=allow((), ("openai", "groq")))
    targets = ("anthropic/claude", "groq/llama", "openai/gpt-5")

    assert list(allowed_targets(principal, "smart", targets)) == ["groq/llama", "openai/gpt-5"]
    assert allowed_targets(Principal(key="dev"), "smart", targets) is targets


@pytest.mark.parametrize(
    ("models", "providers", "words"),
    [
        (("fast", "openai/*"), (), r"'smart'; it may use the models fast, openai/\*\."),
        ((), ("openai",), r"'smart'; it may use the providers openai\."),
        (("fast",), ("openai",), r"'smart'; it may use the models fast of the providers openai\."),
    ],
)
def test_a_refused_model_names_what_may_be_used(models: tuple[str, ...], providers: tuple[str, ...], words: str):
    principal = Principal(key="ci", access=allow(models, providers))
    with pytest.raises(ModelNotAllowed, match=words) as caught:
        allowed_targets(principal, "smart", ["anthropic/claude"])
    assert caught.value.http_status == 403
    assert caught.value.allowed == models
