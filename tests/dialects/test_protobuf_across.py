"""What a typed client may say reaches every provider's dialect, or is refused; it never breaks the gateway."""

import pytest
from hypothesis import HealthCheck, given, settings

from support.typed_values import requests
from tollhouse.chat.model import Request
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.protobuf import TypedTraits, typed
from tollhouse.errors import CallerError
from tollhouse.providers.registry import PROVIDER_TYPES

TYPES = sorted(PROVIDER_TYPES.keys() - {"grok", "anthropic-compatible"})


@pytest.mark.parametrize("name", TYPES)
def test_every_request_can_be_translated_or_is_refused(name: str):
    kind = PROVIDER_TYPES[name]
    client = typed("protobuf")

    @settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
    @given(requests)
    def law(request: Request) -> None:
        body = client.encode_request(request, TypedTraits(), Receipt())
        try:
            decoded = client.decode_request(body)
            sent = kind.dialect.encode_request(decoded, kind.traits_for("m"), Receipt())
        except CallerError:
            return
        assert sent

    law()
