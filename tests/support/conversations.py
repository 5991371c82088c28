"""Hypothesis strategies for canonical answers."""

from collections.abc import Iterable

import msgspec
from hypothesis import strategies as st

from tollhouse.chat.model import (
    Choice,
    Citation,
    FinishReason,
    Foreign,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Response,
    Text,
    Thinking,
    TokenLogprob,
    ToolCall,
)
from tollhouse.chat.usage import Usage

words = st.text(st.characters(codec="utf-8"), max_size=12)
names = st.text("abcdefgh_", min_size=1, max_size=8)
counts = st.integers(0, 1_000_000)

opaques = st.builds(Opaque, names, st.sampled_from(["anthropic", "google", "openai"]))

citations = st.builds(Citation, url=st.none() | names, title=st.none() | words, quote=st.none() | words)

parts: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, words, citations=st.lists(citations, max_size=2).map(tuple)),
    st.builds(Thinking, words, st.none() | opaques),
    st.builds(RedactedThinking, opaques),
    st.builds(Refusal, words),
    st.builds(ToolCall, names, names, st.sampled_from(["", "{}", '{"a": 1}', '{"a": "\\u00e9'])),
    st.builds(Foreign, st.just("anthropic"), st.just("server_tool_use"), st.just(msgspec.Raw(b'{"type":"x"}'))),
)

logprobs = st.builds(TokenLogprob, words, st.floats(-10, 0))

FINISHES: list[FinishReason] = ["stop", "length", "tool_calls", "stop_sequence", "content_filter", "refusal", "other"]


def with_ids_apart(made: Iterable[Part]) -> tuple[Part, ...]:
    """The parts with no id twice: no provider gives two calls of one answer the same."""
    taken: set[str] = set()
    apart: list[Part] = []
    for number, part in enumerate(made):
        if isinstance(part, ToolCall):
            if part.id in taken:
                part = msgspec.structs.replace(part, id=f"{part.id}_{number}")  # noqa: PLW2901
            taken.add(part.id)
        apart.append(part)
    return tuple(apart)


def choices(index: int) -> st.SearchStrategy[Choice]:
    return st.builds(
        Choice,
        index=st.just(index),
        parts=st.lists(parts, max_size=5).map(with_ids_apart),
        finish=st.sampled_from(FINISHES),
        finish_detail=st.none() | names,
        logprobs=st.none() | st.lists(logprobs, max_size=3).map(tuple),
    )


@st.composite
def responses(draw: st.DrawFn) -> Response:
    """Whole answers with one to three choices."""
    return Response(
        id=draw(names),
        model=draw(names),
        created=draw(st.none() | counts),
        choices=tuple(draw(choices(i)) for i in range(draw(st.integers(1, 3)))),
        usage=draw(
            st.builds(Usage, input_tokens=counts, output_tokens=counts, source=st.just("reported")) | st.just(Usage())
        ),
    )
