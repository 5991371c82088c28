"""Errors: stable codes, sentences of our own, and what to do."""

import pytest

from tollhouse import errors
from tollhouse.dialects.delimited import Splitter
from tollhouse.dialects.vibectl import DIALECT
from tollhouse.dialects.vibectl.failure import code_of, listed
from tollhouse.errors import TollhouseError
from tollhouse.proto.vibectl_pb2 import ExecuteError, StreamChunk

SECRET = "sk-secret at http://10.0.0.7:9000, said of 'my prompt'"
BUDGET = errors.BudgetExceeded(
    budget="key:dev/day", spent_nano=9, limit_nano=10, resets_in_seconds=60.0, resets_at="2027-01-01 00:00:00 UTC"
)
CODES: list[tuple[TollhouseError, str]] = [
    (errors.ModelNotFound("gtp"), "MODEL_NOT_FOUND"),
    (errors.ModelMissing(), "NO_MODEL"),
    (errors.ModelNotAllowed("no"), "MODEL_NOT_ALLOWED"),
    (errors.RateLimited("full", retry_after_seconds=3.2), "RATE_LIMITED"),
    (BUDGET, "BUDGET_EXCEEDED"),
    (errors.NoPrice("no"), "NO_PRICE"),
    (errors.BadRequest("no"), "INVALID_REQUEST"),
    (errors.Untranslatable("no", lost=["dropped x: y"]), "UNTRANSLATABLE"),
    (errors.BodyTooLarge(limit_bytes=1 << 20), "BODY_TOO_LARGE"),
    (errors.KeyRevoked("no"), "KEY_REVOKED"),
    (errors.Draining("no"), "DRAINING"),
    (errors.Overloaded("no"), "OVERLOADED"),
    (errors.StoreUnavailable("no"), "STORE_UNAVAILABLE"),
    (errors.GatewayError("no"), "INTERNAL_ERROR"),
    (errors.UpstreamTimeout(SECRET, phase="total", provider="lab"), "PROVIDER_TIMEOUT"),
    (errors.ProviderRefused(SECRET, status=400, provider="lab"), "PROVIDER_ERROR"),
    (errors.ConnectFailed(SECRET, provider="lab"), "PROVIDER_ERROR"),
    (errors.ConnectionLost(SECRET, provider="lab"), "PROVIDER_ERROR"),
    (errors.UpstreamTruncated(SECRET, provider="lab"), "PROVIDER_ERROR"),
    (errors.UpstreamMalformed(SECRET, provider="lab"), "PROVIDER_ERROR"),
    (errors.UpstreamTooLarge(SECRET, provider="lab"), "PROVIDER_ERROR"),
    (errors.StreamFailed(SECRET, provider="lab"), "PROVIDER_ERROR"),
    (errors.ProviderError(SECRET), "PROVIDER_ERROR"),
]


def told(error: TollhouseError) -> ExecuteError:
    return ExecuteError.FromString(DIALECT.encode_error(error, "req_1"))


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda value: type(value).__name__)
def test_every_error_has_a_stable_code_and_names_the_request(error: TollhouseError, code: str):
    assert code_of(error) == code
    assert told(error).error_code == code
    assert told(error).error_message
    assert told(error).error_details.endswith("Request req_1.")


@pytest.mark.parametrize(
    "error", [error for error, _ in CODES if isinstance(error, errors.ProviderError)], ids=lambda e: type(e).__name__
)
def test_a_provider_s_words_are_never_repeated(error: errors.ProviderError):
    for said in (told(error), StreamChunk.FromString(Splitter().feed(DIALECT.encode_stream_error(error, "r"))[0])):
        for word in ("secret", "10.0.0.7", "prompt"):
            assert word not in str(said)
    assert "provider" in told(error).error_message.lower()


@pytest.mark.parametrize(
    ("provider_code", "is_shown"),
    [
        ("context_length_exceeded", True),
        ("overloaded", True),
        ("sk-abcdef", False),
        ("AKIA1234", False),
        ("https://elsewhere", False),
        ("x" * 60, False),
        (None, False),
    ],
)
def test_a_provider_s_code_is_shown_only_where_it_is_plainly_a_name(provider_code: str | None, *, is_shown: bool):
    error = errors.ProviderRefused("words", status=400, provider="lab", provider_code=provider_code)
    assert (str(provider_code) in told(error).error_message) is is_shown


@pytest.mark.parametrize(
    "error",
    [
        errors.RateLimited("full", retry_after_seconds=3.2),
        errors.ProviderRefused("words", status=429, provider="lab", retry_after_seconds=3.2),
    ],
    ids=["ours", "the provider's"],
)
def test_who_is_over_a_rate_hears_when_to_try_again(error: TollhouseError):
    assert "Try again in 4 s." in told(error).error_details


def test_the_gateway_s_own_key_is_the_operator_s_business():
    error = told(errors.ProviderRefused("words", status=401, provider="lab"))
    assert "the gateway's own key" in error.error_details


def test_a_budget_is_told_with_its_amounts_and_its_end():
    error = told(BUDGET)
    assert "key:dev/day" in error.error_message
    assert "2027-01-01" in error.error_message


def test_a_long_list_of_models_ends_in_a_number():
    names = [f"model-{number}" for number in range(50)]
    assert listed(names).endswith("model-39 and 10 more")
    assert listed(names[:2]) == "model-0, model-1"
