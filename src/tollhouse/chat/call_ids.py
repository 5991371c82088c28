"""The ids of tool calls, in the form that a provider takes.

Whoever makes a call names it as they like, and a conversation goes on elsewhere with the ids that it has: a call that one
provider named may be refused by the next for its letters or its length.  So an id goes as it is to whom takes it, and to
others as a digest of itself: the same for the call and its result, and in every turn, without anything to remember.  The client
keeps the ids that it has, and so does the provider that made them, to some of which their own mean something.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal

import msgspec

Form = Literal["any", "plain", "up_to_64", "up_to_40", "nine"]
"""Which ids a provider takes:

- `plain`: letters, digits, hyphens and underscores (Anthropic refuses others as not matching `^[a-zA-Z0-9_-]+$`),
- `up_to_64`, `up_to_40`: so many characters (the Responses API, and Chat Completions, which says "string too long"),
- `nine`: letters and digits, nine of them ("Tool call id was … but must be a-z, A-Z, 0-9, with a length of 9", Mistral).
"""

Messages = list[dict[str, msgspec.Raw]]


@dataclass(frozen=True, slots=True)
class _Rule:
    takes: "re.Pattern[str]"
    prefix: str
    digits: int
    """How much of a digest an id has.  With nine, two of a conversation's 1,000 calls are the same once in 100,000."""


_RULES: Final[Mapping[Form, _Rule]] = {
    "plain": _Rule(re.compile(r"[a-zA-Z0-9_-]+"), "toolu_", 24),
    "up_to_64": _Rule(re.compile(r".{0,64}", re.DOTALL), "call_", 40),
    "up_to_40": _Rule(re.compile(r".{0,40}", re.DOTALL), "call_", 32),
    "nine": _Rule(re.compile(r"[a-zA-Z0-9]{9}"), "", 9),
}


def fitted(identity: str, form: Form) -> str:
    """The id for a provider that takes ids of this form."""
    if form == "any":
        return identity
    rule = _RULES[form]
    if rule.takes.fullmatch(identity):
        return identity
    return rule.prefix + sha256(identity.encode()).hexdigest()[: rule.digits]


# ------------------------------------------------------------------------------------------- bodies that are passed on

_TEXT: Final = re.compile(rb'\s*:\s*"([^"\\]*)"')
_string: Final = msgspec.json.Decoder(str)
_messages: Final = msgspec.json.Decoder(Messages)


def refitted(
    raw: msgspec.Raw, form: Form, key: bytes, refit: "Callable[[Messages, Callable[[msgspec.Raw], msgspec.Raw]], None]"
) -> msgspec.Raw:
    """A request's messages with ids that fit, byte for byte the same where all do.

    `key` is the field of a result that names its call, in its quotes: only where one is unfit is anything parsed.  `refit` then
    changes ids in place, with the function that it is given.
    """
    if form == "any" or not _has_unfit(bytes(raw), form, key):
        return raw

    def fit(value: msgspec.Raw) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(fitted(_string.decode(value), form)))

    try:
        messages = _messages.decode(raw)
        refit(messages, fit)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw  # the provider says best what is wrong with it
    return msgspec.Raw(msgspec.json.encode(messages))


def _has_unfit(data: bytes, form: Form, key: bytes) -> bool:
    takes = _RULES[form].takes
    place = data.find(key)
    while place >= 0:
        value = _TEXT.match(data, place + len(key))
        # One with an escape in it is looked at when it is parsed.
        if value is None or not takes.fullmatch(value[1].decode("latin-1")):
            return True
        place = data.find(key, place + len(key))
    return False
