"""JSON without personal data."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import planted
from tollhouse.chat.nesting import MAX_LEVELS
from tollhouse.policy.redaction import Redactor
from tollhouse.policy.redaction.documents import Unreadable, redact_json
from tollhouse.policy.redaction.rules import KINDS

ALL = Redactor(KINDS)


def redacted(document: object) -> object:
    return msgspec.json.decode(redact_json(ALL, msgspec.json.encode(document)))


def test_strings_and_keys_are_redacted_wherever_they_stand():
    assert redacted({"a": ["bob@example.com", {"b@example.com": 1}], "n": 7, "t": True, "x": None, "f": 0.5}) == {
        "a": ["[email]", {"[email]": 1}],
        "n": 7,
        "t": True,
        "x": None,
        "f": 0.5,
    }


def test_escapes_hide_nothing():
    assert redact_json(ALL, rb'{"to": "bob\u0040example.com"}') == b'{"to":"[email]"}'
    assert (
        redact_json(ALL, rb'{"arguments": "{\"to\": \"bob\\u0040example.com\""}')
        == rb'{"arguments":"{\"to\": \"[email]\""}'
    )
    assert (
        redact_json(ALL, rb'{"arguments": "{\"a\": \"{\\\"to\\\": \\\"bob\\\\u0040example.com"}').count(b"[email]") == 1
    )
    assert redact_json(ALL, rb'"caf\\u00e9 \\ud83d"') == rb'"caf\\u00e9 \\ud83d"', "what hides nothing stays as it was"


def test_numbers_can_be_cards_and_phones():
    assert redacted({"card": 4111111111111111, "id": 1795262797123456, "float": 4111111111111111.0, "small": -3}) == {
        "card": "[card]",
        "id": 1795262797123456,
        "float": "[card]",
        "small": -3,
    }


def test_payloads_are_left_out_and_counted():
    picture = "iVBORw0KGgo" * 100
    assert redacted({"url": f"data:image/png;base64,{picture}", "data": picture, "word": "a" * 511}) == {
        "url": "[left out: 1122 characters of image/png]",
        "data": "[left out: 1100 characters of base64]",
        "word": "a" * 511,
    }
    long_text = "The mail is bob@example.com. " * 40
    assert "bob" not in str(redacted({"text": long_text}))


def test_an_answer_is_not_kept_token_by_token():
    """Log-probabilities spell the answer in pieces in which no rule knows it."""
    tokens = [{"token": "4111", "bytes": [52]}, {"token": "1111"}]
    assert redacted({"choices": [{"logprobs": {"content": tokens}}], "logprobs": True, "top_logprobs": 2}) == {
        "choices": [{"logprobs": "[left out: log-probabilities]"}],
        "logprobs": True,
        "top_logprobs": 2,
    }


@pytest.mark.parametrize("body", [b"", b"{", b"bob@example.com", b"\xff", b"[" * 100_000])
def test_what_is_not_json_is_refused_whole(body):
    with pytest.raises(Unreadable):
        redact_json(ALL, body)


def test_what_is_nested_too_deep_is_left_out():
    body = b'{"a":' * (MAX_LEVELS + 1) + b'"bob@example.com"' + b"}" * (MAX_LEVELS + 1)
    assert b"bob" not in redact_json(ALL, body)


JSON = st.recursive(
    planted.prose() | st.none() | st.booleans() | st.integers(-(10**20), 10**20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(planted.prose(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(JSON, planted.secrets(), st.booleans(), st.booleans())
def test_no_planted_secret_is_left_in_a_document(document, secret, is_key, is_escaped):
    text = "".join(f"\\u{ord(c):04x}" for c in secret) if is_escaped else msgspec.json.encode(secret).decode()[1:-1]
    shown = f'{{"{text}": 1}}' if is_key else f'"see {text}, please"'
    body = b'{"before": %b, "list": [%b]}' % (msgspec.json.encode(document), shown.encode())
    assert any(secret in each for each in strings(msgspec.json.decode(body)))
    assert not any(secret in each for each in strings(msgspec.json.decode(redact_json(ALL, body))))


def strings(value: object) -> list[str]:
    """Every string of a document."""
    match value:
        case str():
            return [value]
        case dict():
            return [each for pair in value.items() for part in pair for each in strings(part)]
        case list():
            return [each for part in value for each in strings(part)]
        case _:
            return []
