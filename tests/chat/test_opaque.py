import pytest

from tollhouse.chat.model import Opaque
from tollhouse.chat.opaque import SEAL, seal, unseal


def test_a_value_in_the_dialect_of_its_home_is_bare():
    assert seal(Opaque("EqQB+/=", "anthropic"), "anthropic") == "EqQB+/="
    assert unseal("EqQB+/=", "anthropic") == Opaque("EqQB+/=", "anthropic")


@pytest.mark.parametrize("value", ["EqQB+/=", "", "a.b.c", "line\nbreak", "tollhouse-sealed.openai.x", "é"])
@pytest.mark.parametrize("home", ["google", "anthropic-compatible", "x1"])
def test_a_value_abroad_comes_back_to_its_home(value: str, home: str):
    sealed = seal(Opaque(value, home), "anthropic")
    assert sealed.startswith(SEAL)
    assert unseal(sealed, "anthropic") == Opaque(value, home)


@pytest.mark.parametrize(
    "text", [SEAL, f"{SEAL}x", f"{SEAL}Upper.x", "tollhouse.x.y", f"{SEAL}{'a' * 41}.x"]
)
def test_what_is_no_seal_is_the_value_itself(text: str):
    assert unseal(text, "openai") == Opaque(text, "openai")
