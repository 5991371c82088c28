"""The section `admin`."""

import hashlib

import pytest

from support.configs import MINIMAL, problem, problems, read
from tollhouse.config.admin import MAX_TOKENS, MIN_TOKEN_CHARACTERS
from tollhouse.config.schema import AdminSettings, AdminTokenSettings
from tollhouse.config.show import show

TOKEN = "tha-plaintext-of-the-admin"
WITH_KEY = "auth: {keys: [{name: dev, key: th-key-of-the-callers}]}\nproviders: {local: {}}\n"


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def test_without_the_section_there_is_no_admin_api():
    assert read(MINIMAL).admin == AdminSettings()


def test_a_token_is_kept_as_its_digest_and_never_shown():
    config = read(
        MINIMAL
        + 'admin: {tokens: [{name: ops, token: "${ADMIN}", role: admin}], hosts: [Admin.Example.org, 10.0.0.1]}\n',
        {"ADMIN": TOKEN},
    )

    assert config.admin == AdminSettings(
        tokens=(AdminTokenSettings(name="ops", digest=digest(TOKEN), role="admin"),),
        hosts=("admin.example.org", "10.0.0.1"),
    )
    assert TOKEN not in show(config.places)
    assert TOKEN not in repr(config)
    assert digest(TOKEN).hex() not in repr(config) + show(config.places)


def test_a_file_may_hold_the_digest_alone():
    text = f"admin: {{tokens: [{{name: ops, token_sha256: {digest(TOKEN).hex()}, role: viewer}}]}}\n"
    assert read(MINIMAL + text).admin.tokens[0].digest == digest(TOKEN)


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("{name: ops, role: admin}", "The entry has no `token`, and no `token_sha256` in its place."),
        (f"{{token: {TOKEN}, role: admin}}", "The token has no `name`"),
        (f"{{name: ops, token: {TOKEN}}}", "The token has no `role`"),
        (f"{{name: ops, token: {TOKEN}, role: owner}}", "role"),
        (f"{{name: gateway, token: {TOKEN}, role: admin}}", "The audit log calls something else 'gateway'"),
        (f"{{name: 'cli:ann', token: {TOKEN}, role: admin}}", "name"),
        (f"{{name: ops, token: {'x' * (MIN_TOKEN_CHARACTERS - 1)}, role: admin}}", "at least 16 characters"),
        (f"{{name: ops, token: {TOKEN}, token_sha256: {'0' * 64}, role: admin}}", "either the `token` or its"),
        (f"{{name: ops, token: {TOKEN}, role: admin, scope: all}}", "There is no such key"),
    ],
)
def test_a_token_that_is_not_right_is_refused(token: str, sentence: str):
    said = problem(MINIMAL + f"admin: {{tokens: [{token}]}}\n")

    assert sentence in said
    assert TOKEN not in said


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (
            f"{{name: a, token: {TOKEN}-1, role: admin}}, {{name: a, token: {TOKEN}-2, role: admin}}",
            "The name 'a' is already",
        ),
        (
            f"{{name: a, token: {TOKEN}, role: admin}}, {{name: b, token: {TOKEN}, role: viewer}}",
            "the same token as that of 'a'",
        ),
        ("{name: a, token: th-key-of-the-callers, role: admin}", "This is the caller's key 'dev' too"),
    ],
)
def test_names_and_tokens_are_unique_and_no_callers_keys(tokens: str, sentence: str):
    assert sentence in problem(WITH_KEY + f"admin: {{tokens: [{tokens}]}}\n")


def test_an_empty_list_and_too_many_are_refused():
    assert "The list is empty" in problem(MINIMAL + "admin: {tokens: []}\n")
    many = ", ".join(f"{{name: n{number}, token: {TOKEN}-{number}, role: viewer}}" for number in range(MAX_TOKENS + 1))
    assert "at most 100 admin tokens" in problem(MINIMAL + f"admin: {{tokens: [{many}]}}\n")


def test_a_host_is_a_name_without_a_port():
    assert len(problems(MINIMAL + "admin: {hosts: ['a:b:c', 'http://x', 'admin.example.org:9090']}\n")) == 3
