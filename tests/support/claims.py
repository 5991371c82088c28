"""Claims, as short as tests write them."""

from tollhouse.policy.counters import MAX_TOKENS, Claim, Parts, Purse, Rate, Seats


def claim_of(
    *,
    id: str,  # noqa: A002 - the field's name
    began_at_us: int,
    rates: tuple[Rate, ...] = (),
    seats: tuple[Seats, ...] = (),
    purses: tuple[Purse, ...] = (),
    tokens: int = MAX_TOKENS,
    hold_nano: int = 0,
    note: bytes = b"",
) -> Claim:
    """A claim whose parts are nobody else's."""
    parts = Parts(rates, seats, purses)
    return Claim(id=id, began_at_us=began_at_us, parts=parts, tokens=tokens, hold_nano=hold_nano, note=note)
