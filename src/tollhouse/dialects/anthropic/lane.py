"""The same-dialect lane: what the gateway peeks at in a request, patches, and glances at in a whole answer."""

from collections.abc import Callable
from typing import Final

import msgspec

from tollhouse.chat.call_ids import Messages, refitted
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.anthropic.failure import decode_failure
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.dialects.anthropic.wire import Fields, WireUsage, finish_of, usage_of
from tollhouse.dialects.dialect import Glance, Peek
from tollhouse.dialects.fields import (
    ARRAY,
    COUNT,
    FLAG,
    NULL,
    TEXT,
    UNREADABLE,
    Value,
    WireFault,
    bad_request,
    describe,
    read_object,
)
from tollhouse.dialects.governed import check_governed
from tollhouse.errors import BadRequest, UpstreamMalformed

_ABSENT: Final = msgspec.Raw(b"null")


def top_level(body: bytes) -> dict[str, msgspec.Raw]:
    """A request's fields, still raw.  Raises `BadRequest`."""
    fields = read_object(body, "`model`, `max_tokens` and `messages`")
    check_governed(fields)
    return fields


def peek(body: bytes) -> Peek:
    """Reads the top level only."""
    fields = top_level(body)
    limit = _peek_at(fields, "max_tokens", COUNT)
    if limit is not None and limit < 0:
        raise BadRequest("max_tokens: Input should be 0 or more.", param="max_tokens")
    return Peek(
        fields=fields,
        model=_peek_at(fields, "model", TEXT) or "",
        stream=_peek_at(fields, "stream", FLAG) is True,
        max_output_tokens=limit,
        include_usage=True,
        choices=1,
    )


def _peek_at(fields: dict[str, msgspec.Raw], name: str, decoder: "msgspec.json.Decoder[Value | None]") -> Value | None:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return Fields.read(name, raw, decoder)
    except WireFault as fault:
        raise bad_request(fault) from fault


def patch(
    peeked: Peek, model: str, traits: AnthropicTraits, receipt: Receipt, max_output_tokens: int | None = None
) -> bytes:
    """The same request for `model`: other fields verbatim, unless the provider is known to refuse them.

    Ids of calls that were made elsewhere are put in Anthropic's form.  What else is left out or put in another
    form is noted in `receipt`.  `max_output_tokens` replaces the client's own.
    """
    fields = dict(peeked.fields)
    for name in traits.drop_fields:
        if bytes(fields.pop(name, _ABSENT)) != b"null":
            receipt.dropped(name, "this model refuses it")
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if max_output_tokens is not None:
        fields["max_tokens"] = msgspec.Raw(b"%d" % max_output_tokens)
    messages = fields.get("messages")
    if messages is not None:
        messages = fields["messages"] = refitted(messages, "plain", b'"tool_use_id"', _refit)
    if not traits.system_in_messages and messages is not None and b'"system"' in bytes(messages):
        try:
            folded = _fold_system(messages)
        except WireFault as fault:
            raise bad_request(fault) from fault
        if folded is not None:
            fields["messages"] = folded
            receipt.changed("messages", "system turns became text of the user's")
    return msgspec.json.encode(fields)


_blocks: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def _refit(messages: Messages, fit: Callable[[msgspec.Raw], msgspec.Raw]) -> None:
    for message in messages:
        content = message.get("content")
        if content is None or not bytes(content).startswith(b"["):
            continue
        blocks = _blocks.decode(content)
        for block in blocks:
            for name, kind in (("id", b'"tool_use"'), ("tool_use_id", b'"tool_result"')):
                if name in block and bytes(block.get("type", b"")) == kind:
                    block[name] = fit(block[name])
        message["content"] = msgspec.Raw(msgspec.json.encode(blocks))


SYSTEM_REMINDER: Final = "<system-reminder>\n{}\n</system-reminder>"
"""How Claude Code itself puts a system text into a user's turn, for the models that it knows not to take the role."""


def _fold_system(messages: msgspec.Raw) -> msgspec.Raw | None:
    """The messages with every system turn made a user's turn; `None` if there is none.

    Neighbouring user turns are one turn to Anthropic.
    A system turn that would come between tool calls and their results waits for the results, which must come first.
    """
    folded: list[object] = []
    waiting: list[object] = []
    follows_assistant = False
    has_system = False
    turns = Fields(b'{"messages":%b}' % bytes(messages), "").take("messages", ARRAY) or []
    for index, raw in enumerate(turns):
        turn = Fields(raw, f"messages.{index}")
        role = turn.take("role", TEXT)
        if role == "system":
            has_system = True
            reminder = {"role": "user", "content": _reminder(turn)}
            (waiting if follows_assistant else folded).append(reminder)
            continue
        follows_assistant = role == "assistant"
        folded += [*waiting, raw] if follows_assistant else [raw, *waiting]
        waiting = []
    return msgspec.Raw(msgspec.json.encode(folded + waiting)) if has_system else None


def _reminder(turn: Fields) -> object:
    content = turn.text_or_array("content")
    if content is None or isinstance(content, str):
        return SYSTEM_REMINDER.format(content or "")
    blocks: list[object] = []
    for index, raw in enumerate(content):
        block = Fields(raw, turn.at(f"content.{index}"))
        text = block.take("text", TEXT)
        blocks.append(raw if text is None else {**block.left, "text": SYSTEM_REMINDER.format(text)})
    return blocks


# --------------------------------------------------------------------------------------------------------- the answer


class _Answer(msgspec.Struct):
    type: str = ""
    stop_reason: str | None = None
    usage: WireUsage | None = None
    error: msgspec.Raw = NULL


_ANSWER: Final = msgspec.json.Decoder(_Answer)


def glance(body: bytes) -> Glance:
    """Usage and finish of a whole answer.  Raises `UpstreamMalformed`."""
    try:
        answer = _ANSWER.decode(body)
    except UNREADABLE as error:
        raise UpstreamMalformed(f"The answer is not what Anthropic sends: {describe(error)}.") from error
    if answer.type == "error" or (answer.error != NULL and not answer.type):
        return Glance(usage=Usage(), finish=None, error=decode_failure(body))
    if answer.type != "message":
        raise UpstreamMalformed("The answer is JSON, but not a message of Anthropic's dialect.")
    return Glance(
        usage=usage_of(answer.usage),
        finish=None if answer.stop_reason is None else finish_of(answer.stop_reason),
    )
