"""Guesses for calls whose provider never said what they used."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.chat.model import (
    Document,
    Image,
    Inline,
    Message,
    Part,
    Remote,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from tollhouse.gateway.estimate import (
    BYTES_PER_TOKEN,
    TOKENS_PER_IMAGE,
    TOKENS_PER_MEDIA_KIB,
    TOKENS_PER_MESSAGE,
    input_tokens,
    unreported,
)


def said(*parts: Part) -> Request:
    return Request(model="m", messages=(Message(role="user", parts=parts),))


def test_text_counts_by_its_bytes_and_each_message_has_its_frame():
    assert input_tokens(said(Text("a" * 400))) == TOKENS_PER_MESSAGE + 400 // BYTES_PER_TOKEN
    assert input_tokens(said(Text("東京"))) == TOKENS_PER_MESSAGE + 2, "six bytes, rounded up"
    assert input_tokens(Request(model="m", messages=())) == 0


def test_a_picture_counts_the_same_however_it_comes():
    inline = input_tokens(said(Image(Inline("image/png", "A" * 400_000))))
    assert (
        inline
        == input_tokens(said(Image(Remote("https://example.com/a.png"))))
        == TOKENS_PER_MESSAGE + TOKENS_PER_IMAGE
    )


def test_a_document_counts_by_its_size_and_a_text_as_text():
    a_quarter_mib = Document(Inline("application/pdf", "A" * (256 * 1024 * 4 // 3)))
    assert input_tokens(said(a_quarter_mib)) == pytest.approx(256 * TOKENS_PER_MEDIA_KIB, rel=0.02)
    text = Document(Inline("text/plain", "a" * 400))
    assert input_tokens(said(text)) == input_tokens(said(Text("a" * 400)))
    assert input_tokens(said(Document(Remote("https://example.com/a.pdf")))) == TOKENS_PER_MESSAGE + TOKENS_PER_IMAGE


def test_tool_calls_and_their_results_count_with_what_is_in_them():
    call = ToolCall(id="c", name="add", arguments='{"a":1,"b":2}')
    result = ToolResult(call_id="c", content=(Text("a" * 40), Image(Remote("https://example.com/a.png"))))
    assert input_tokens(said(call)) == 2 * TOKENS_PER_MESSAGE + 4
    assert input_tokens(said(result)) == 2 * TOKENS_PER_MESSAGE + 10 + TOKENS_PER_IMAGE


def test_declared_tools_count():
    tool = Tool(name="add", description="Adds two numbers.", schema=msgspec.Raw(b'{"type":"object"}'))
    with_tool = msgspec.structs.replace(said(Text("hi")), tools=(tool,))
    assert input_tokens(with_tool) > input_tokens(said(Text("hi"))) + 10


def test_what_was_sent_and_never_answered_is_marked_as_a_guess():
    usage = unreported(said(Text("a" * 400)))
    assert (usage.source, usage.input_tokens, usage.output_tokens) == ("estimated", 104, 0)


@given(st.text(max_size=200), st.text(max_size=200))
def test_more_text_is_never_fewer_tokens(first: str, more: str):
    assert input_tokens(said(Text(first))) <= input_tokens(said(Text(first + more)))
