"""Verdicts and waits are tables; so are their tests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.errors import (
    BadRequest,
    ClientLeft,
    ConnectFailed,
    ConnectionLost,
    Overloaded,
    ProviderRefused,
    StreamFailed,
    TollhouseError,
    UpstreamMalformed,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamTruncated,
)
from tollhouse.upstream.failure import (
    BACKOFF_CAP_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
    Verdict,
    backoff_seconds,
    parse_retry_after,
    verdict,
    verdict_of_status,
)

RETRY, NEXT, FINAL = Verdict.RETRY_SAME_OR_NEXT, Verdict.NEXT_CANDIDATE, Verdict.FINAL
NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, RETRY) for status in (408, 409, 425, 429, 500, 502, 503, 504, 520, 529, 599)),
        *((status, NEXT) for status in (401, 402, 403, 501, 505)),
        *((status, FINAL) for status in (301, 400, 404, 405, 413, 415, 418, 422, 451)),
    ],
)
def test_a_status_has_one_verdict(status: int, expected: Verdict):
    assert verdict_of_status(status) is expected
    assert verdict(ProviderRefused("no", status=status)) is expected


@pytest.mark.parametrize(("status", "expected"), [(429, NEXT), (502, NEXT), (503, NEXT), (400, FINAL)])
def test_what_a_gateway_tells_of_its_provider_is_not_asked_of_it_again(status: int, expected: Verdict):
    error = ProviderRefused("no", status=status)
    error.is_relayed = True
    assert verdict(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectFailed("x"), RETRY),
        (ConnectionLost("x"), RETRY),
        (UpstreamTruncated("x"), RETRY),
        (UpstreamTimeout("x", phase="connect"), RETRY),
        (UpstreamTimeout("x", phase="first_byte"), NEXT),
        (UpstreamTimeout("x", phase="between_chunks"), NEXT),
        (UpstreamTimeout("x", phase="total"), FINAL),
        (UpstreamMalformed("x"), NEXT),
        (UpstreamTooLarge("x"), FINAL),
        (StreamFailed("x"), NEXT),
        (StreamFailed("x", status=529), RETRY),
        (StreamFailed("x", provider_code="insufficient_quota"), NEXT),
        (ProviderRefused("x", status=429, provider_code="insufficient_quota"), NEXT),
        (ProviderRefused("x", status=429, kind="insufficient_quota"), NEXT),
        (BadRequest("x"), FINAL),
        (ClientLeft("x"), FINAL),
        (Overloaded("x"), FINAL),
        (TollhouseError("x"), FINAL),
    ],
)
def test_an_error_has_one_verdict(error: TollhouseError, expected: Verdict):
    assert verdict(error) is expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({b"retry-after": b"2"}, 2.0),
        ({b"retry-after": b" 2.5 "}, 2.5),
        ({b"retry-after": b"0"}, 0.0),
        ({b"retry-after": b"Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({b"retry-after": b"Tue, 14 Nov 2023 22:00:00 GMT"}, 0.0),
        ({b"retry-after": b"999999"}, MAX_RETRY_AFTER_SECONDS),
        ({b"retry-after": b"Fri, 31 Dec 9999 23:59:59 GMT"}, MAX_RETRY_AFTER_SECONDS),
        ({b"retry-after": b"9" * 400}, None),
        ({b"retry-after": b"soon"}, None),
        ({b"retry-after": b"-1"}, None),
        ({b"retry-after": b"nan"}, None),
        ({b"retry-after": b"\xff"}, None),
        ({b"retry-after-ms": b"1500", b"retry-after": b"2"}, 1.5),
        ({b"retry-after-ms": b"0", b"retry-after": b"1"}, 1.0),
        ({b"retry-after-ms": b"0"}, 0.0),
        ({b"Retry-After-Ms": b"250"}, 0.25),
    ],
)
def test_the_wait_that_a_provider_asks_for(fields: dict[bytes, bytes], expected: float | None):
    assert parse_retry_after(tuple(fields.items()), now_seconds=NOW) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error":{"details":[{"@type":"x"},{"retryDelay":"48s"}]}}', 48.0),
        (b'{"error":{"details":[{"retryDelay":"0.5s"}]}}', 0.5),
        (b'{"error":{"details":[{"retryDelay":"later"}]}}', None),
        (b'{"error":{"message":"retryDelay"}}', None),
        (b"retryDelay", None),
        (b'{"error":{"details":"retryDelay"}}', None),
    ],
)
def test_googles_wait_stands_in_the_body(body: bytes, expected: float | None):
    assert parse_retry_after((), now_seconds=NOW, body=body) == expected
    assert parse_retry_after(((b"retry-after", b"1"),), now_seconds=NOW, body=body) == 1.0


@given(st.binary(max_size=60))
def test_no_value_of_the_header_breaks_the_reader(value: bytes):
    wait = parse_retry_after(((b"retry-after", value),), now_seconds=NOW)
    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER_SECONDS


def test_back_off_doubles_up_to_its_cap():
    assert [backoff_seconds(attempt, lambda: 1.0) for attempt in range(1, 9)] == [0.25, 0.5, 1, 2, 4, 8, 8, 8]
    assert backoff_seconds(10**9, lambda: 1.0) == BACKOFF_CAP_SECONDS


def test_back_off_has_full_jitter():
    assert (backoff_seconds(3, lambda: 0.0), backoff_seconds(3, lambda: 0.5)) == (0.0, 0.5)
