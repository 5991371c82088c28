"""Counting a prompt's tokens without asking for an answer.

A provider that can count is asked, and its number is passed on; it costs nothing, but it reached a provider, so it has its row
in the ledger.  For the others the gateway estimates, and says so: an estimate never passes for a count.
"""

import asyncio
from dataclasses import dataclass

from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.anthropic import decode_count
from tollhouse.errors import ClientLeft, ProviderError, TollhouseError
from tollhouse.gateway.call import Call
from tollhouse.gateway.estimate import input_tokens
from tollhouse.gateway.failures import MAX_ERROR_BYTES, is_unsent, refusal, without_address
from tollhouse.gateway.pipeline import Gateway
from tollhouse.gateway.routing import Candidate, allowed
from tollhouse.ledger.record import Attempt, CallRecord, opening_of
from tollhouse.policy.admission import NO_WEIGHT, Ask
from tollhouse.upstream.address import target
from tollhouse.upstream.transport import Outgoing


@dataclass(frozen=True, slots=True)
class Counted:
    """How many tokens a prompt has."""

    input_tokens: int
    is_estimate: bool


async def count_tokens(gateway: Gateway, call: Call) -> Counted:
    """Counts the prompt of `call` for the first candidate of its route.  Raises as a call does."""
    peek = call.peek()
    route = allowed(gateway.router.resolve(peek.model), call.principal)
    candidate = route.candidates[0]
    if candidate.provider.dialect is not call.dialect or candidate.provider.count_tokens_path is None:
        return Counted(input_tokens(call.decode()), is_estimate=True)
    record = CallRecord(
        id=call.id,
        started_at_us=call.arrived_at_us,
        door=call.door,
        tenant=call.principal.tenant,
        project=call.principal.project,
        key=call.principal.key,
        requested_model=peek.model[:200],
        provider=candidate.provider.name,
        model=candidate.model,
        lane="same",
        status=200,
        cost_nano=0,
        price_version=gateway.prices.version,
    )
    hold = await gateway.admission.admit(
        Ask(
            id=call.id,
            began_at_us=call.arrived_at_us,
            principal=call.principal,
            address=call.address,
            alias=route.name,
            target=candidate.name,
            weigh=lambda: NO_WEIGHT,
            note=opening_of(record, 0),
        )
    )
    try:
        body = call.dialect.patch(peek, candidate.model, candidate.traits, Receipt())
        counted = await _asked(gateway, call, candidate, body)
    except ProviderError as error:
        error.provider = error.provider or candidate.provider.name
        error.message = without_address(error, candidate)
        if not is_unsent(error):
            await _write(gateway, call, record, error)
        raise
    except asyncio.CancelledError:
        await _write(gateway, call, record, ClientLeft("The client left."))
        raise
    else:
        await _write(gateway, call, record, None)
    finally:
        hold.settle(cost_nano=0, input_tokens=0, output_tokens=0)
    return Counted(counted, is_estimate=False)


async def _write(gateway: Gateway, call: Call, record: CallRecord, error: TollhouseError | None) -> None:
    if error is not None:
        record.outcome, record.status = error.code, error.http_status
    record.duration_us = int((gateway.monotonic() - call.arrived) * 1e6)
    record.attempts = (
        Attempt(
            provider=record.provider,
            model=record.model,
            outcome=record.outcome,
            status=200 if error is None else getattr(error, "status", None),
            duration_us=record.duration_us,
        ),
    )
    waiting = gateway.books.write(record)
    gateway.finished(record)
    await waiting


async def _asked(gateway: Gateway, call: Call, candidate: Candidate, body: bytes) -> int:
    provider = candidate.provider
    incoming = await candidate.transport.send(
        Outgoing(
            address=candidate.address,
            method=b"POST",
            target=target(candidate.address, provider.count_tokens_path or ""),
            headers=provider.headers(gateway.wall(), call.headers, same_dialect=True),
            body=body,
        ),
        candidate.deadlines,
    )
    try:
        if incoming.status >= 300:
            raise await refusal(incoming, candidate, gateway.wall())
        answer = await incoming.read_all(MAX_ERROR_BYTES)
    finally:
        incoming.close()
    return decode_count(answer)
