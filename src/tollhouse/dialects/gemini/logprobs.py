"""Log-probabilities of tokens, both ways: chosen tokens and their rivals stand in two lists of the same length."""

from collections.abc import Sequence

import msgspec

from tollhouse.chat.model import TokenLogprob
from tollhouse.dialects.gemini.wire import Block


class WireToken(msgspec.Struct):
    """One token; the field that is 0 is not written."""

    token: str = ""
    logProbability: float = 0.0  # noqa: N815  # the wire's name


class WireRivals(msgspec.Struct):
    """The likeliest tokens at one place."""

    candidates: list[WireToken] | None = None


class WireLogprobs(msgspec.Struct):
    """`logprobsResult`."""

    chosenCandidates: list[WireToken] | None = None  # noqa: N815
    topCandidates: list[WireRivals] | None = None  # noqa: N815


def read_logprobs(result: WireLogprobs | None) -> tuple[TokenLogprob, ...] | None:
    """The tokens; `None` where there are none."""
    if result is None or not result.chosenCandidates:
        return None
    rivals = result.topCandidates or []
    return tuple(
        TokenLogprob(
            chosen.token,
            chosen.logProbability,
            top=tuple(
                TokenLogprob(each.token, each.logProbability)
                for each in (rivals[index].candidates if index < len(rivals) else None) or ()
            ),
        )
        for index, chosen in enumerate(result.chosenCandidates)
    )


def write_logprobs(tokens: Sequence[TokenLogprob]) -> Block:
    """`logprobsResult` for a client."""
    result: Block = {"chosenCandidates": [_written(token) for token in tokens]}
    if any(token.top for token in tokens):
        result["topCandidates"] = [{"candidates": [_written(each) for each in token.top]} for token in tokens]
    return result


def _written(token: TokenLogprob) -> Block:
    return {"token": token.token, "logProbability": token.logprob}
