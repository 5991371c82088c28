"""A credential that a provider quotes does not get further, whichever dialect it was quoted in."""

import json

import pytest

from tollhouse.dialects import anthropic, openai_chat
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.masking import without_credentials

SECRETS = [
    "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789",
    "sk-ant-api03-abcDEF_123-xyz",
    "sk-or-v1-0123456789abcdef",
    "sk-proj-abc123****xyz9",
    "gsk_abcdefghijklmnopqrstuv",
    "csk-abcdefghijklmnopqrstuv",
    "xai-abcdefghijklmnopqrstuv",
    "pplx-abcdefghijklmnopqrstuv",
    "AIzaSyA1234567890abcdefgh",
    "0123456789abcdef0123456789abcdef.AbCdEfGhIjKlMnOp",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijk",
    "Bearer abcdef1234567890abcdef",
]


@pytest.mark.parametrize("dialect", [openai_chat.DIALECT, anthropic.DIALECT], ids=["openai_chat", "anthropic"])
@pytest.mark.parametrize("secret", SECRETS)
def test_a_quoted_credential_is_masked_in_every_field(dialect: Dialect[object], secret: str):
    said = {"message": f"Incorrect API key provided: {secret}.", "type": secret, "code": secret, "param": secret}
    error = dialect.decode_error(403, json.dumps({"error": said}).encode())
    fields = [error.message, error.kind or "", error.provider_code or "", error.param or ""]
    assert not [field for field in fields if secret[-6:] in field]
    assert error.message.startswith("Incorrect API key provided: ")
    assert "***" in error.message


@pytest.mark.parametrize(
    "text",
    [
        "The key verification failed: it is not active.",
        "The task-oriented prompt is too long.",
        "Use `max_completion_tokens` instead of 'max_tokens'.",
        "Request 0123456789abcdef0123456789abcdef was refused.",
    ],
)
def test_plain_words_stay(text: str):
    assert without_credentials(text) == text


def test_a_provider_cannot_make_a_name_long():
    said = {"message": "no", "type": "t" * 10_000, "code": "c" * 10_000, "param": "p" * 10_000}
    error = anthropic.DIALECT.decode_error(400, json.dumps({"error": said}).encode())
    assert {len(name or "") for name in (error.kind, error.provider_code, error.param)} == {100}
