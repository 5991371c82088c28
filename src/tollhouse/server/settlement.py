"""What the typed protocol tells a client of its finished call, and of the server."""

from typing import Final

from tollhouse._version import __version__
from tollhouse.dialects.protobuf import has_protobuf
from tollhouse.dialects.protobuf.dialect import listed
from tollhouse.dialects.protobuf.reports import Attempted, Limits, ServerInfo, Settlement
from tollhouse.ledger.record import CallRecord
from tollhouse.policy.identity import Principal
from tollhouse.server.serving import Serving

NAME: Final = "tollhouse"
PROTOCOLS: Final = ("v1",)
JSON_NAMES: Final = ("application/json", "text/event-stream")
PROTOBUF_NAMES: Final = (
    "application/x-protobuf",
    "application/protobuf",
    "application/vnd.google.protobuf",
)


def settlement_of(record: CallRecord, *, shows_receipts: bool) -> Settlement:
    """A finished record as its client may see it: without what is the operator's alone."""
    return Settlement(
        request_id=record.id,
        outcome=record.outcome,
        usage=record.usage,
        cost_nano_usd=record.cost_nano,
        duration_us=record.duration_us,
        first_byte_us=record.first_byte_us,
        attempts=tuple(
            Attempted(
                provider=attempt.provider,
                model=attempt.model,
                outcome=attempt.outcome,
                status=attempt.status,
                duration_us=attempt.duration_us,
            )
            for attempt in record.attempts
        ),
        receipt=record.receipt if shows_receipts else "",
        provider=record.provider,
        model=record.model,
        cache=record.cache,
    )


def server_info(serving: Serving, principal: Principal) -> ServerInfo:
    """Who answers, and what it takes from this caller."""
    rates = serving.rates_of(principal)
    router = serving.gateway.router
    cards = router.cards(principal.access)
    default = router.default_name()
    return ServerInfo(
        name=NAME,
        version=__version__,
        protocols=PROTOCOLS,
        media_types=(JSON_NAMES[0], PROTOBUF_NAMES[0]) if has_protobuf() else JSON_NAMES[:1],
        tenant=principal.tenant,
        key=principal.key,
        limits=Limits(
            requests_per_minute=rates.requests_per_minute,
            tokens_per_minute=rates.tokens_per_minute,
            concurrent=rates.concurrent,
            request_bytes=serving.max_body_bytes,
            call_seconds=serving.gateway.retry.total,
        ),
        models=tuple(map(listed, cards)),
        default_model=default if any(card.id in {default, "default"} for card in cards) else "",
    )
