"""Placeholders go to the provider, values come back to the caller."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import planted
from tollhouse.chat.events import (
    Cited,
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    PartClosed,
    PartOpened,
    Started,
)
from tollhouse.chat.fold import fold, unfold
from tollhouse.chat.grammar import check
from tollhouse.chat.model import (
    Choice,
    Citation,
    Document,
    Extra,
    Foreign,
    Image,
    Inline,
    Message,
    Opaque,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from tollhouse.chat.nesting import MAX_LEVELS
from tollhouse.errors import BadRequest
from tollhouse.policy.redaction import Redactor
from tollhouse.policy.redaction.masking import Unmasker, mask
from tollhouse.policy.redaction.rules import KINDS

ALL = Redactor((*KINDS, "staff id"), {"staff id": r"ID-\d{3}"})


def said(*texts: str) -> Request:
    return Request(model="m", messages=tuple(Message("user", (Text(text),)) for text in texts))


def texts(request: Request) -> list[str]:
    return [part.text for message in request.messages for part in message.parts if isinstance(part, Text)]


def test_values_become_placeholders_and_equal_values_the_same_one():
    masked = mask(ALL, said("bob@example.com and eve@example.com", "again bob@example.com, ID-123"))
    assert texts(masked.request) == ["[EMAIL_1] and [EMAIL_2]", "again [EMAIL_1], [STAFF_ID_1]"]
    assert masked.values == {
        "[EMAIL_1]": "bob@example.com",
        "[EMAIL_2]": "eve@example.com",
        "[STAFF_ID_1]": "ID-123",
    }


def test_the_next_turn_begins_with_the_same_placeholders():
    first = mask(ALL, said("bob@example.com", "eve@example.com"))
    second = mask(ALL, said("bob@example.com", "eve@example.com", "and kim@example.com, bob@example.com"))
    assert texts(second.request)[:2] == texts(first.request)
    assert dict(first.values).items() <= dict(second.values).items()


def test_every_text_of_a_request_is_masked_and_nothing_else():
    mail = "bob@example.com"
    picture = Image(Inline("image/png", mail))
    foreign = Foreign("anthropic", "x", msgspec.Raw(b'{"a":"bob@example.com"}'))
    request = Request(
        model="m",
        messages=(
            Message("system", (Text(mail),)),
            Message(
                "user", (Text(mail), picture, Document(Inline("text/plain", mail), title=mail, context=mail)), mail
            ),
            Message(
                "assistant",
                (
                    Thinking(mail, signature=Opaque(mail, "x")),
                    Refusal(mail),
                    ToolCall("1", "send", f'{{"to": "{mail}"}}'),
                ),
            ),
            Message("tool", (ToolResult("1", (Text(mail), picture)),)),
            Message("assistant", (ToolCall("2", "run", f'say "{mail}', custom=True), foreign)),
        ),
        tools=(Tool(name="send", description=mail, schema=msgspec.Raw(b'{"const":"bob@example.com"}')),),
        stop=(mail,),
        user=mail,
    )
    masked = mask(ALL, request).request
    kept = msgspec.structs.replace(masked, tools=(), messages=())
    assert (kept.stop, kept.user) == (("[EMAIL_1]",), "[EMAIL_1]")
    system, user, assistant, tool, custom = masked.messages
    assert system.parts == (Text("[EMAIL_1]"),)
    assert user.parts == (
        Text("[EMAIL_1]"),
        picture,
        Document(Inline("text/plain", "[EMAIL_1]"), title="[EMAIL_1]", context="[EMAIL_1]"),
    )
    assert user.name == "[EMAIL_1]"
    assert assistant.parts == (
        Thinking("[EMAIL_1]", signature=Opaque(mail, "x")),
        Refusal("[EMAIL_1]"),
        ToolCall("1", "send", '{"to":"[EMAIL_1]"}'),
    )
    assert tool.parts == (ToolResult("1", (Text("[EMAIL_1]"), picture)),)
    assert custom.parts == (ToolCall("2", "run", 'say "[EMAIL_1]', custom=True), foreign)
    assert masked.tools[0] == msgspec.structs.replace(request.tools[0], description="[EMAIL_1]")


def test_arguments_are_masked_inside_of_their_strings():
    request = Request(
        model="m",
        messages=(
            Message("assistant", (ToolCall("1", "pay", r'{"to":"bob\u0040example.com","card":4111111111111111}'),)),
        ),
    )
    masked = mask(ALL, request)
    (call,) = masked.request.messages[0].parts
    assert call == ToolCall("1", "pay", '{"to":"[EMAIL_1]","card":"[CARD_1]"}')
    assert masked.values["[EMAIL_1]"] == "bob@example.com"


def calling(arguments: str) -> Request:
    return Request(model="m", messages=(Message("assistant", (ToolCall("1", "f", arguments),)),))


def test_arguments_are_masked_as_deep_down_as_may_be():
    deepest = '{"a":' * MAX_LEVELS + r'"bob\u0040example.com"' + "}" * MAX_LEVELS
    (call,) = mask(ALL, calling(deepest)).request.messages[0].parts
    assert call == ToolCall("1", "f", '{"a":' * MAX_LEVELS + '"[EMAIL_1]"' + "}" * MAX_LEVELS)


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 500, 900, 2000, 50_000])
def test_arguments_that_are_nested_deeper_are_refused_and_never_sent_unsearched(levels: int):
    deeper = '{"a":' * levels + r'"bob\u0040example.com"' + "}" * levels
    with pytest.raises(BadRequest, match=f"more than {MAX_LEVELS} levels") as caught:
        mask(ALL, calling(deeper))
    assert caught.value.param == "messages"


def test_untouched_arguments_stay_byte_for_byte():
    call = ToolCall("1", "f", '{ "a" : 1.0 , "b":"\\u00e9" }')
    assert mask(ALL, Request(model="m", messages=(Message("assistant", (call,)),))).request.messages[0].parts == (call,)


def test_a_placeholder_that_stands_in_the_prompt_is_never_restored():
    masked = mask(ALL, said("What does [EMAIL_1] mean?", "I am bob@example.com"))
    assert texts(masked.request) == ["What does [EMAIL_1] mean?", "I am [EMAIL_2]"]
    assert Unmasker(masked.values).text("[EMAIL_1] [EMAIL_2] [EMAIL_3] [CARD_1]") == (
        "[EMAIL_1] bob@example.com [EMAIL_3] [CARD_1]"
    )


VALUES = {"[EMAIL_1]": "bob@example.com", "[SECRET_1]": 'line "one"\nline two', "[CARD_12]": "4111 1111 1111 1111"}
ANSWER = Response(
    id="r",
    model="m",
    choices=(
        Choice(
            index=0,
            parts=(
                Thinking("so [EMAIL_1]…", signature=Opaque("[EMAIL_1]", "x")),
                Text(
                    "Hi [EMAIL_1], [CARD_12] and [x] [EMAIL_9] [", citations=(Citation(quote="[EMAIL_1]", title="t"),)
                ),
                ToolCall("1", "send", '{"to":"[EMAIL_1]","key":"[SECRET_1]"}'),
                ToolCall("2", "run", "echo [SECRET_1]", custom=True),
                Refusal("[CARD_12]"),
            ),
            finish="stop",
        ),
        Choice(index=1, parts=(Text("[EMAIL_1]"),), finish="stop"),
    ),
)


def test_a_whole_answer_gets_its_values_back():
    first, second = Unmasker(VALUES).response(ANSWER).choices
    thinking, text, send, run, refusal = first.parts
    assert thinking == Thinking("so bob@example.com…", signature=Opaque("[EMAIL_1]", "x")), "a signature is not text"
    assert isinstance(text, Text)
    assert text.text == "Hi bob@example.com, 4111 1111 1111 1111 and [x] [EMAIL_9] ["
    assert text.citations[0].quote == "bob@example.com"
    assert isinstance(send, ToolCall)
    assert msgspec.json.decode(send.arguments) == {"to": "bob@example.com", "key": 'line "one"\nline two'}
    assert isinstance(run, ToolCall)
    assert run.arguments == 'echo line "one"\nline two'
    assert refusal == Refusal("4111 1111 1111 1111")
    assert second.parts == (Text("bob@example.com"),)


def test_what_only_its_own_dialect_reads_gets_its_values_too():
    raw = msgspec.Raw(b'{"q":"[SECRET_1]"}')
    citation = Citation(extra=Extra("anthropic", {"cited_text": msgspec.Raw(b'"[EMAIL_1]"')}))
    answer = Response(
        id="r",
        model="m",
        choices=(Choice(parts=(Foreign("a", "k", raw), Text("x", citations=(citation,))), finish="stop"),),
    )
    foreign, text = Unmasker(VALUES).response(answer).choices[0].parts
    assert isinstance(foreign, Foreign)
    assert msgspec.json.decode(foreign.raw) == {"q": 'line "one"\nline two'}
    assert isinstance(text, Text)
    assert text.citations[0].extra is not None
    assert bytes(text.citations[0].extra.fields["cited_text"]) == b'"bob@example.com"'


def split(events: list[Event], sizes: list[int]) -> list[Event]:
    """The same stream with its deltas cut into pieces."""
    out: list[Event] = []
    for number, event in enumerate(events):
        if not isinstance(event, Delta):
            out.append(event)
            continue
        cuts = [size * (number + 1) + place * size for place, size in enumerate(sizes)]
        out += [Delta(event.index, piece, event.choice) for piece in planted.pieces(event.text, cuts)]
    return out


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 60), max_size=40))
def test_a_streamed_answer_gets_its_values_back_wherever_it_is_cut(sizes):
    unmasker = Unmasker(VALUES)
    restored: list[Event] = []
    for event in split(list(unfold(ANSWER)), sizes):
        restored += unmasker.events([event])
    check(restored)
    assert fold(restored) == Unmasker(VALUES).response(ANSWER)


def test_citations_and_failures_in_a_stream_are_minded():
    unmasker = Unmasker(VALUES)
    events: list[Event] = [
        Started(id="r", model="m"),
        PartOpened(0, Text("")),
        Cited(0, Citation(quote="[EMAIL_1]")),
        Delta(0, "half [EMAIL_"),
        Failed(message="gone"),
    ]
    assert list(unmasker.events(events)) == [
        Started(id="r", model="m"),
        PartOpened(0, Text("")),
        Cited(0, Citation(quote="bob@example.com")),
        Delta(0, "half "),
        Delta(0, "[EMAIL_"),
        Failed(message="gone"),
    ]


def test_an_opening_bracket_does_not_hold_back_what_cannot_be_a_placeholder():
    unmasker = Unmasker(VALUES)
    events: list[Event] = [
        PartOpened(0, Text("")),
        Delta(0, "a list [1, "),
        Delta(0, "[" + "A" * 80),
        PartClosed(0),
        Finished("stop"),
        Ended(),
    ]
    given = list(unmasker.events(events[:3]))
    assert given == [PartOpened(0, Text("")), Delta(0, "a list [1, "), Delta(0, "[" + "A" * 80)]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(planted.prose() | planted.secrets(), max_size=6).map(" ".join))
def test_masking_and_restoring_gives_the_text_back(text):
    masked = mask(ALL, said(text))
    (shown,) = texts(masked.request)
    assert Unmasker(masked.values).text(shown) == text


@settings(max_examples=100, deadline=None, derandomize=True)
@given(planted.prose(), planted.secrets(), planted.prose())
def test_no_planted_secret_leaves_for_a_provider(before, secret, after):
    arguments = msgspec.json.encode({"note": f"{before} {secret} {after}"}).decode()
    request = Request(
        model="m",
        messages=(
            Message("user", (Text(f"{before} {secret} {after}"),)),
            Message("assistant", (ToolCall("1", "f", arguments),)),
        ),
    )
    shown = mask(ALL, request).request
    assert secret not in texts(shown)[0]
    (call,) = shown.messages[1].parts
    assert isinstance(call, ToolCall)
    assert secret not in msgspec.json.decode(call.arguments)["note"]
