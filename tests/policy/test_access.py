"""What a key may use, and from where."""

import pytest

from tollhouse.policy.access import ANYTHING, MAX_SHOWN, allow, networks


@pytest.mark.parametrize(
    ("models", "providers", "alias", "target", "may"),
    [
        ((), (), "fast", "openai/gpt-5", True),
        (("fast",), (), "fast", "openai/gpt-5", True),
        (("fast",), (), "faster", "openai/gpt-5", False),
        (("fast",), (), "openai/gpt-5", "openai/gpt-5", False),
        (("openai/*",), (), "fast", "openai/gpt-5", True),
        (("openai/*",), (), "fast", "openaix/gpt-5", False),
        (("openai/gpt-5",), (), "openai/gpt-5", "openai/gpt-5", True),
        (("openai/gpt-5",), (), "openai/gpt-5-pro", "openai/gpt-5-pro", False),
        (("openai/gpt-5*",), (), "x", "openai/gpt-5-pro", True),
        (("f*",), (), "fast", "anthropic/claude", True),
        (("*",), (), "anything", "anthropic/claude", True),
        ((), ("openai",), "fast", "openai/gpt-5", True),
        ((), ("openai",), "fast", "anthropic/claude", False),
        (("fast",), ("openai",), "fast", "anthropic/claude", False),
        (("fast",), ("openai",), "slow", "openai/gpt-5", False),
        ((), ("openrouter",), "x", "openrouter/meta/llama-4", True),
        ((), ("openrouter/meta",), "x", "openrouter/meta/llama-4", False),
    ],
)
def test_a_model_is_allowed_by_its_alias_or_its_own_name_and_by_its_provider(
    models: tuple[str, ...], providers: tuple[str, ...], alias: str, target: str, may: bool
):
    assert allow(models, providers).may_use(alias, target) is may


def test_nothing_said_allows_all_and_costs_nothing():
    assert allow() is ANYTHING


def test_a_refusal_lists_what_is_allowed_but_not_for_ever():
    assert allow(["openai/*", "fast"]).shown() == ["fast", "openai/*"]
    many = allow([f"m{number:03}" for number in range(100)]).shown()
    assert len(many) == MAX_SHOWN + 1
    assert many[-1] == "…"


@pytest.mark.parametrize(
    ("address", "is_in"),
    [
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("9.255.255.255", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8::1", True),
        ("2001:db9::", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:11.1.2.3", False),
        ("::10.1.2.3", False),
        ("", False),
        ("unix", False),
        ("10.0.0.1:443", False),
        ("0xa000001", False),
        ("010.0.0.1", False),
    ],
)
def test_an_address_lies_in_a_network_or_not(address: str, is_in: bool):
    ranges = networks(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])
    assert ranges is not None
    assert ranges.contain(address) is is_in


def test_no_ranges_are_no_networks():
    assert networks([]) is None
