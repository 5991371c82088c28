"""Log-probabilities of tokens, both ways."""

from collections.abc import Iterable

from tollhouse.chat.model import TokenLogprob
from tollhouse.dialects.openai_chat.wire import Json


def read_logprobs(value: dict[str, Json] | None) -> tuple[TokenLogprob, ...] | None:
    """The tokens of a choice's `logprobs`, those of a refusal after those of the text; `None` where there are none."""
    if value is None:
        return None
    tokens = [
        token
        for key in ("content", "refusal")
        if isinstance(entries := value.get(key), list)
        for entry in entries
        if (token := _token(entry)) is not None
    ]
    return tuple(tokens) if tokens else None


def write_logprobs(tokens: Iterable[TokenLogprob], *, of_refusal: bool = False) -> Json:
    """The `logprobs` object."""
    written: Json = written_tokens(tokens)
    return {"content": None, "refusal": written} if of_refusal else {"content": written, "refusal": None}


def written_tokens(tokens: Iterable[TokenLogprob]) -> list[Json]:
    """The tokens, each with those that it was chosen from."""
    return [{**_written(token), "top_logprobs": [_written(other) for other in token.top]} for token in tokens]


def read_tokens(entries: Iterable[Json]) -> tuple[TokenLogprob, ...]:
    """The tokens of a list; what is none is passed over."""
    return tuple(token for entry in entries if (token := _token(entry)) is not None)


def _token(entry: Json) -> TokenLogprob | None:
    if not isinstance(entry, dict):
        return None
    token, logprob, top = entry.get("token"), entry.get("logprob"), entry.get("top_logprobs")
    if not isinstance(token, str) or not isinstance(logprob, int | float):
        return None
    others = [_token(other) for other in top] if isinstance(top, list) else []
    found = tuple(other for other in others if other is not None)
    return TokenLogprob(token, float(logprob), _bytes(entry.get("bytes")), found)


def _bytes(value: Json) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(item for item in value if isinstance(item, int))


def _written(token: TokenLogprob) -> dict[str, Json]:
    return {
        "token": token.token,
        "logprob": token.logprob,
        "bytes": None if token.bytes is None else list(token.bytes),
    }
