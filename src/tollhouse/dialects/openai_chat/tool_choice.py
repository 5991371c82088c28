"""What a request's `tool_choice` asks of the model, in all the spellings that are about.

Some models can be made to call a tool, by a grammar, but were never taught to choose: for them `tool_choice_free` is off.
"""

from collections.abc import MutableMapping
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from tollhouse.chat.receipt import Receipt

ValueT = TypeVar("ValueT")

_OF_TOOLS: Final = ("tool_choice", "parallel_tool_calls")
"""What means nothing without tools."""
_OF_FUNCTIONS: Final = ("functions", "function_call")
"""What there was before tools."""
_NOTHING: Final = frozenset({b"null", b"[]"})


def demands_call(choice: object) -> bool:
    """Whether the answer must be a call.  `choice` is JSON, raw or read; what nobody understands is a demand too."""
    if isinstance(choice, msgspec.Raw):
        try:
            choice = msgspec.json.decode(choice)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return True  # whoever has to meet the demand says what is wrong with it
    match choice:
        case None | "auto" | "none" | {"type": "auto" | "none"}:
            return False
        case {"type": "allowed_tools", "allowed_tools": {"mode": "required"}}:
            return True
        case {"type": "allowed_tools"}:
            return False
        case _:
            return True


def leave_out_free_tools(fields: MutableMapping[str, ValueT], receipt: Receipt) -> None:
    """Takes the tools out of a request that leaves it to the model whether to call one, and notes that.

    In one that demands a call it notes the tools that no grammar of functions makes the model call.
    """
    for name in _OF_FUNCTIONS:
        if _is_something(fields.pop(name, None)):
            receipt.dropped(name, "this model knows only `tools`")
    if "tools" not in fields:
        return
    if demands_call(fields.get("tool_choice")):
        _note_other_tools(fields["tools"], receipt)
        return
    if _is_something(fields.pop("tools")):
        receipt.dropped("tools", "this model cannot choose to call one, only be made to by `tool_choice`")
    for name in _OF_TOOLS:
        fields.pop(name, None)


class _Tool(msgspec.Struct, frozen=True):
    type: str = "function"


def _note_other_tools(tools: object, receipt: Receipt) -> None:
    """Of a request in the client's own bytes only: of what is translated all have become functions."""
    if not isinstance(tools, msgspec.Raw):
        return
    with suppress(
        msgspec.DecodeError, UnicodeDecodeError
    ):  # whoever has to meet the demand says what is wrong with them
        for number, tool in enumerate(msgspec.json.decode(tools, type=tuple[_Tool, ...] | None) or ()):
            if tool.type != "function":
                receipt.dropped(f"tools[{number}]", "this model can only be made to call functions")


def _is_something(value: object) -> bool:
    return value is not None and not (isinstance(value, msgspec.Raw) and bytes(value) in _NOTHING)
