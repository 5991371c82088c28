"""The finished call: the one record from which the ledger row, the log line, the metrics and the traces are built.

The gateway fills it along the way and hands it over once.  It never holds prompts, completions or secrets.
"""

import msgspec

from tollhouse.chat.usage import Usage

NOTHING_USED = Usage()


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One upstream call and how it ended."""

    provider: str
    model: str
    outcome: str
    """`ok`, or the stable code of the error that ended it."""
    status: int | None = None
    """The provider's HTTP status, if an answer came."""
    duration_us: int = 0
    was_sent: bool = True
    """Whether anything went to the provider: not when no connection came about."""
    detail: str = ""
    """What went wrong, for the operator: it may name the provider's address.  Not in the ledger."""


class CallRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Everything we write down about one call.  Times are in microseconds; money in nano-USD."""

    id: str
    """The request id that the client saw."""
    started_at_us: int
    """Wall clock, microseconds since the epoch, UTC."""
    door: str
    """The front door's API: `openai_chat`, `anthropic`, …"""
    tenant: str = ""
    project: str = ""
    key: str = ""
    """The name of the key, never the credential."""
    requested_model: str = ""
    """As the client named it."""
    provider: str = ""
    """The configured name of the provider that answered, or that was tried last; empty when none was reached."""
    model: str = ""
    """The provider's own name of the model."""
    streamed: bool = False
    lane: str = ""
    """`same` (bytes forwarded) or `translated`."""
    status: int = 0
    """The HTTP status that the client got; 499 when it left before one."""
    outcome: str = "ok"
    """`ok`, or the stable code of the error that the client saw."""
    finish: str = ""
    """The canonical finish reason: `stop`, `length`, `tool_calls`, `refusal`, `content_filter`, …"""
    usage: Usage = NOTHING_USED
    cost_nano: int | None = None
    """`None` when the price or the usage is not known: unknown is not free."""
    price_version: str = ""
    """The version of the price book that `cost_nano` was made with."""
    receipt: str = ""
    """What translation dropped or changed, `; `-joined; empty when nothing."""
    first_byte_us: int | None = None
    """From the request's arrival to the first byte of content for the client (time to first token)."""
    duration_us: int = 0
    attempts: tuple[Attempt, ...] = ()

    @property
    def reached_provider(self) -> bool:
        """Whether bytes went to a provider: exactly these calls have a ledger row."""
        return any(attempt.was_sent for attempt in self.attempts)
