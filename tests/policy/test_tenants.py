"""Whether there is more than one tenant: from the configuration, from the database, and from those who called."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from support.configs import MINIMAL, read
from tollhouse.policy.tenants import Tenants


@dataclass
class Listed:
    """A roll of so many callers; says how often it was looked through."""

    names: tuple[str, ...] = ()
    looked: int = 0

    def tenants(self) -> Iterator[str]:
        self.looked += 1
        yield from self.names


@dataclass
class Book:
    roll: Listed


def keys(*tenants: str) -> str:
    lines = [f"{{name: k{n}, key: th-key-{n}-0123{f', tenant: {t}' if t else ''}}}" for n, t in enumerate(tenants)]
    return f"auth: {{keys: [{', '.join(lines)}]}}\nproviders: {{local: {{}}}}\n"


@pytest.mark.parametrize(
    ("config", "roll", "caller", "several"),
    [
        (keys(""), (), "", False),
        (keys("", ""), ("", ""), "", False),
        (keys("a", "a"), ("a",), "a", False),
        (keys("a", "b"), (), "a", True),
        (keys("a", ""), (), "a", True),
        (keys("a"), ("a", "b"), "a", True),
        (keys(""), ("b",), "", True),
        (MINIMAL, (), "", False),
        (MINIMAL, ("b",), "", True),
        (keys("a"), (), "of-a-token", True),
    ],
)
def test_there_are_several_where_two_may_call(config: str, roll: tuple[str, ...], caller: str, several: bool):
    assert Tenants(read(config).auth, Book(Listed(roll))).are_several(caller) is several


def test_a_roll_is_looked_through_once():
    book = Book(Listed(("a", "a")))
    tenants = Tenants(read(keys("a")).auth, book)
    assert not any(tenants.are_several("a") for _ in range(3))
    assert book.roll.looked == 1
    book.roll = Listed(("a", "b"))
    assert tenants.are_several("a")


def test_those_whom_tokens_may_be_without_a_tenant_are_one():
    jwt = "auth: {jwt: {}}\nproviders: {local: {}}\n"
    assert not Tenants(read(jwt).auth, Book(Listed())).are_several("")
    assert Tenants(read(jwt).auth, Book(Listed(("a",)))).are_several("a")
    ours = jwt.replace("jwt: {}", "jwt: {defaults: {tenant: a}}")
    assert not Tenants(read(ours).auth, Book(Listed(("a",)))).are_several("a")


def test_issuers_that_say_whose_a_token_is_speak_of_several():
    oidc = "auth: {oidc: [{name: idp, issuer: 'https://idp.example', audience: us, tenant_claim: org}]}\nproviders: {local: {}}\n"
    assert Tenants(read(oidc).auth, Book(Listed())).are_several("a")
    assert not Tenants(read(oidc.replace(", tenant_claim: org", "")).auth, Book(Listed())).are_several("")


def test_who_called_once_is_known_from_then_on():
    tenants = Tenants(read(keys("")).auth, Book(Listed()))
    assert not tenants.are_several("")
    assert tenants.are_several("of-a-token")
    assert tenants.are_several("")
