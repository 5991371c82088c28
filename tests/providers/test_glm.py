"""GLM's keys of the form `id.secret` become short-lived tokens; everything else is a bearer key."""

import warnings

import jwt
import pytest

from tollhouse.providers.glm import RENEW_SECONDS, TOKEN_SECONDS, authenticate

KEY_ID = "0123456789abcdef0123456789abcdef"
SECRET = "Sixteen16Letters"
NOW = 1_790_000_000.25


def token(fields: tuple[tuple[bytes, bytes], ...]) -> str:
    ((name, value),) = fields
    assert name == b"authorization"
    scheme, _, credential = value.decode().partition(" ")
    assert scheme == "Bearer"
    return credential


def claims(minted: str) -> dict[str, object]:
    """Verified with a library that did not make it; `exp` is in milliseconds, so that check is ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the secret is shorter than RFC 7518 wants; ZhipuAI's are
        decoded: dict[str, object] = jwt.decode(minted, SECRET, algorithms=["HS256"], options={"verify_exp": False})
    return decoded


def test_a_split_key_is_minted_into_the_documented_token():
    minted = token(authenticate(f"{KEY_ID}.{SECRET}")(NOW))

    assert jwt.get_unverified_header(minted) == {"alg": "HS256", "sign_type": "SIGN"}
    assert claims(minted) == {
        "api_key": KEY_ID,
        "timestamp": 1_790_000_000_250,
        "exp": 1_790_000_000_250 + TOKEN_SECONDS * 1000,
    }


def test_the_secret_itself_never_leaves():
    assert SECRET not in token(authenticate(f"{KEY_ID}.{SECRET}")(NOW))


def test_a_token_is_kept_until_shortly_before_it_expires():
    mint = authenticate(f"{KEY_ID}.{SECRET}")
    first = mint(NOW)
    last_moment = NOW + TOKEN_SECONDS - RENEW_SECONDS

    assert mint(last_moment - 1) is first
    renewed = mint(last_moment)
    assert renewed != first
    assert claims(token(renewed))["timestamp"] == int(last_moment * 1000)


def test_a_clock_that_was_set_back_gets_a_token_of_its_own_time():
    mint = authenticate(f"{KEY_ID}.{SECRET}")
    mint(NOW)

    assert claims(token(mint(NOW - 7200)))["timestamp"] == int((NOW - 7200) * 1000)


@pytest.mark.parametrize("key", ["plainkey", "header.payload.signature", ".secret", "id."])
def test_every_other_key_is_sent_as_it_is(key):
    assert token(authenticate(key)(NOW)) == key


@pytest.mark.parametrize("key", ["", "id.se cret", "id.secret\n", "schlüssel.geheim"])
def test_a_key_that_no_header_can_hold_is_refused_without_repeating_it(key):
    with pytest.raises(ValueError, match="copied whole") as caught:
        authenticate(key)

    assert not key.strip() or key.strip() not in str(caught.value)
