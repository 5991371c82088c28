"""What the typed protocol says of a call beside the conversation: what became of it, and what went wrong."""

import msgspec

from tollhouse.chat.usage import Usage


class Attempted(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a provider's."""

    provider: str
    """Its configured name."""
    model: str
    outcome: str
    """`ok`, or the stable code of the error that ended it."""
    status: int | None = None
    """The provider's HTTP status, where an answer came."""
    duration_us: int = 0


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a call, as it stands in the ledger: the last that a client hears of it."""

    request_id: str
    outcome: str
    """`ok`, or the stable code of the error that the client saw."""
    usage: Usage = Usage()
    """What is paid for."""
    cost_nano_usd: int | None = None
    """`None` where the price is not known: unknown is not free."""
    duration_us: int = 0
    first_byte_us: int | None = None
    """From the request's arrival to the first of the answer."""
    attempts: tuple[Attempted, ...] = ()
    receipt: str = ""
    """What translation dropped or changed, `; ` between the entries."""
    provider: str = ""
    model: str = ""
    cache: str = ""
    """`hit` for a kept answer, `shared` for that of another call under way."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """An error as it travels; `failure` makes one of our errors."""

    code: str
    """Stable: `model_not_found`, `rate_limited`, …"""
    message: str
    hint: str = ""
    param: str = ""
    status: int = 0
    """As an HTTP status; 0 where there is none."""
    retry_after_seconds: float | None = None
    request_id: str = ""
    kind: str = ""
    """The provider's own names of its error."""
    provider_code: str = ""
    suggestions: tuple[str, ...] = ()
    """Names that may have been meant, or that may be used."""


class Failure(msgspec.Struct, frozen=True):
    """The body of an answer whose status is an error's."""

    error: Trouble
    settlement: Settlement | None = None


class TokenCount(msgspec.Struct, frozen=True):
    """How many tokens a prompt has."""

    input_tokens: int
    is_estimate: bool = False


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a model list."""

    id: str
    owner: str = ""
    created: int = 0
    display_name: str | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None


class Models(msgspec.Struct, frozen=True):
    """A model list."""

    models: tuple[Listed, ...]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one caller may do; `None` is not limited."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    """Calls at a time."""
    request_bytes: int = 0
    call_seconds: float = 0.0
    """After which a call is given up, with all its attempts."""


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Who answers, and what it takes."""

    name: str
    version: str
    """The software's own."""
    protocols: tuple[str, ...] = ()
    """The versions of this protocol that are spoken: `v1`."""
    media_types: tuple[str, ...] = ()
    """What `POST /v1/chat` reads and writes."""
    tenant: str = ""
    """Whom the caller's credential belongs to."""
    key: str = ""
    limits: Limits = Limits()
    models: tuple[Listed, ...] = ()
    """What the caller may use."""
    default_model: str = ""
    """What a request without a model's name gets; empty where there is nothing for it."""
