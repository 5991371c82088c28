"""Finished calls as tests need them, and what the ledger made of them."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tollhouse.chat.usage import Usage
from tollhouse.ledger.record import Attempt, CallRecord

NOON_US = 1_795_262_400_000_000
"""21 November 2026, 12:00 UTC."""

USUAL = Usage(input_tokens=1200, cache_read_tokens=800, output_tokens=340, source="reported")


def make_call(
    name: str,
    *,
    at: int = 0,
    usage: Usage = USUAL,
    cost_nano: int | None = 1_234_567,
    requested_model: str = "fast",
    provider: str = "openai",
    model: str = "gpt-4o-mini-2024-07-18",
    key: str = "dev",
    tenant: str = "acme",
    outcome: str = "ok",
    attempts: tuple[Attempt, ...] | None = None,
    door: str = "openai_chat",
) -> CallRecord:
    """A usual streamed call, `at` seconds after `NOON_US`."""
    return CallRecord(
        id=name,
        started_at_us=NOON_US + at * 1_000_000,
        door=door,
        tenant=tenant,
        project="web",
        key=key,
        requested_model=requested_model,
        provider=provider,
        model=model,
        streamed=True,
        lane="same",
        status=200,
        outcome=outcome,
        finish="stop",
        usage=usage,
        cost_nano=cost_nano,
        price_version="0.2.3+20261121.796a39dd",
        first_byte_us=234_567,
        duration_us=1_234_567,
        attempts=(Attempt(provider=provider, model=model, outcome="ok", status=200),) if attempts is None else attempts,
    )


def ids_in(path: Path) -> list[str]:
    """The ids of all rows, in the order of writing."""
    with closing(sqlite3.connect(path)) as reader:
        return [name for (name,) in reader.execute("SELECT id FROM calls ORDER BY seq")]
