"""Placing a claim: all of its parts or none."""

from tollhouse.policy.counters import (
    MAX_CLAIM_PARTS,
    MAX_LIMIT_NANO,
    MAX_NOTE_BYTES,
    MAX_TOKENS,
    MINUTE_NS,
    Answer,
    Claim,
    Parts,
    Placed,
    PurseEmpty,
    RateFull,
    SeatsTaken,
    Unseeded,
)
from tollhouse.policy.shared_memory.berths import MAX_ID_BYTES
from tollhouse.policy.shared_memory.layout import UNSEEDED
from tollhouse.policy.shared_memory.sites import Sites


def checked_name(claim: Claim) -> bytes:
    """The claim's id in bytes.  Raises `ValueError` for what no caller means, and what the files could not keep."""
    name, hold_nano = claim.id.encode(), claim.hold_nano
    if not 0 < len(name) <= MAX_ID_BYTES or 0 in name:
        raise ValueError(f"the id of a claim has 1 to {MAX_ID_BYTES} bytes")
    if len(claim.note) > MAX_NOTE_BYTES:
        raise ValueError(f"the note of a claim has at most {MAX_NOTE_BYTES} bytes")
    if hold_nano < 0 or hold_nano > MAX_LIMIT_NANO or claim.began_at_us < 0 or not 0 <= claim.tokens <= MAX_TOKENS:
        raise ValueError(f"claim {claim.id!r} holds {hold_nano} for {claim.tokens} tokens from {claim.began_at_us}")
    return name


def check_parts(parts: Parts) -> None:
    """As `checked_name`."""
    if len(parts.rates) + len(parts.seats) + len(parts.purses) > MAX_CLAIM_PARTS:
        raise ValueError(f"a claim has at most {MAX_CLAIM_PARTS} parts")
    for rate in parts.rates:
        if rate.per_minute < 1 or rate.amount < 0:
            raise ValueError(f"a claim takes {rate.amount} of {rate.per_minute} a minute")


def answer_to(claim: Claim, sites: Sites, words: "memoryview[int]", now_ns: int) -> Answer:
    """Whether a claim would pass at the monotonic `now_ns`.  Changes nothing: `take` does, when it is `Placed`."""
    hold, tokens = claim.hold_nano, claim.tokens
    for spent, held, limit in sites.purses:
        if words[spent] + words[held] + hold > limit:
            return _refused_by_purse(sites, hold, words)
    ahead_ns: list[int] = []
    for word, take_ns, most_tokens, per_minute in sites.rates:
        ahead = words[word] - now_ns
        if ahead < 0:  # noqa: PLR1730 - half the time of `max`, and this is the hot path
            ahead = 0
        ahead += take_ns if tokens >= most_tokens else tokens * MINUTE_NS // per_minute
        if ahead > MINUTE_NS:
            return _refused_by_rate(claim, sites, words, now_ns)
        ahead_ns.append(ahead)
    for word, seats in sites.seats:
        if words[word] >= seats.limit:
            return SeatsTaken(seats)
    return Placed(claim.parts.rates, tuple(ahead_ns))


def take(placed: Placed, hold_nano: int, sites: Sites, words: "memoryview[int]", now_ns: int) -> None:
    """Takes all parts of a claim, whose berth has it already."""
    for word, ahead in zip(sites.rate_words, placed.ahead_ns, strict=True):
        words[word] = now_ns + ahead
    for word, _ in sites.seats:
        words[word] += 1
    for _, held, _ in sites.purses:
        words[held] += hold_nano


def _refused_by_purse(sites: Sites, hold_nano: int, words: "memoryview[int]") -> PurseEmpty | Unseeded:
    """Why a claim is refused of which some purse has too little or is unseeded."""
    purses = sites.parts.purses
    unseeded = tuple(
        purse for purse, (spent, _, _) in zip(purses, sites.purses, strict=True) if words[spent] >= UNSEEDED
    )
    if unseeded:
        return Unseeded(unseeded)
    return next(
        PurseEmpty(purse, words[spent], words[held])
        for purse, (spent, held, limit) in zip(purses, sites.purses, strict=True)
        if words[spent] + words[held] + hold_nano > limit
    )


def _refused_by_rate(claim: Claim, sites: Sites, words: "memoryview[int]", now_ns: int) -> RateFull:
    rates = claim.parts.rates
    ahead_ns = [max(words[word] - now_ns, 0) for word in sites.rate_words]
    after_ns = [
        ahead + claim.takes(rate) * MINUTE_NS // rate.per_minute for ahead, rate in zip(ahead_ns, rates, strict=True)
    ]
    longest = max(after_ns)
    return RateFull(
        rates,
        tuple(ahead_ns),
        rate=rates[after_ns.index(longest)],
        wait_seconds=(longest - MINUTE_NS) / 1e9,
    )
