"""Going on from an answer that was given before: what its id stands for is put into the request.

The API lets a client send `previous_response_id` and only what is new, or an `item_reference` for an item that it has seen.
Such ids mean something to whoever kept the answers.  That is the gateway, so it puts the conversation together itself: any
candidate can then go on with it, and no provider's own ids decide whose conversation that is.

Pure functions on JSON; where answers are kept is the caller's business.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from tollhouse.chat import sse
from tollhouse.dialects.openai_chat.peek import flag_of, is_null, read_fields
from tollhouse.dialects.openai_responses.peek import NEEDS
from tollhouse.errors import BadRequest

MAX_REFERENCES: Final = 200
"""Items that one request may name by their ids."""
MAX_ID_CHARACTERS: Final = 200
_ENDS: Final = ("response.completed", "response.incomplete")
_OWN_IDENTITY: Final = 48
"""Characters of what our own ids are made of (`dialect.random_identity`)."""

_items: Final = msgspec.json.Decoder(list[msgspec.Raw])
_string: Final = msgspec.json.Decoder(str)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


_NULL: Final = msgspec.Raw(b"null")


class _Item(msgspec.Struct, gc=False):
    type: str | None = None
    id: str | None = None
    role: msgspec.Raw = _NULL
    result: msgspec.Raw = _NULL

    @property
    def is_reference(self) -> bool:
        """Whether it only names what its provider keeps: an item of whatever kind, or a picture to go on drawing."""
        if self.id is None:
            return False
        if self.type is None:  # may be left out here too (OpenAI's specification, `ItemReferenceParam`)
            return is_null(self.role)
        return self.type == "item_reference" or (self.type == "image_generation_call" and is_null(self.result))


class _Answer(msgspec.Struct):
    id: str
    object: str
    output: list[msgspec.Raw]
    status: str = "completed"


_item: Final = msgspec.json.Decoder(_Item)
_all_items: Final = msgspec.json.Decoder(list[_Item])
_answer: Final = msgspec.json.Decoder(_Answer)
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Asked(NamedTuple):
    """What a request wants of the answers that were kept."""

    fields: Mapping[str, msgspec.Raw]
    previous_id: str | None
    references: tuple[str, ...]
    """The ids of items that it names instead of sending them, in order."""
    keeps: bool
    """Whether its own answer is to be kept; the client's default."""

    @property
    def is_whole(self) -> bool:
        """Whether it brings all of its conversation along."""
        return self.previous_id is None and not self.references


class Turn(NamedTuple):
    """One answer with what led to it."""

    response_id: str
    input: bytes
    """A JSON array: the items that its request added."""
    body: bytes
    """The response."""


class Kept(NamedTuple):
    """An answer to be kept."""

    id: str
    body: bytes
    item_ids: tuple[str, ...]


def asked(body: bytes) -> Asked:
    """Raises `BadRequest`."""
    fields = read_fields(body, NEEDS)
    raw = fields.get("previous_response_id")
    previous = None if raw is None or is_null(raw) else _id_of(raw, "previous_response_id")
    raw_input = fields.get("input")
    references: tuple[str, ...] = ()
    if raw_input is not None and bytes(raw_input).startswith(b"["):
        references = tuple(_references(raw_input))
    return Asked(fields, previous, references, "store" not in fields or flag_of(fields, "store"))


def own_input(fields: Mapping[str, msgspec.Raw], found: Mapping[str, msgspec.Raw]) -> bytes:
    """The items that a request adds to its conversation, with `found` in place of what it names; a JSON array."""
    raw = fields.get("input")
    if raw is None or is_null(raw):
        return b"[]"
    text = bytes(raw).lstrip()
    if text.startswith(b'"'):
        return b'[{"type":"message","role":"user","content":%b}]' % text
    if not found:
        return text
    return _array(found.get(_reference(item) or "", item) for item in _items.decode(raw))


def whole_request(fields: Mapping[str, msgspec.Raw], turns: Sequence[Turn], added: bytes) -> bytes:
    """The request with its whole conversation: the turns before, oldest first, and what is `added` to them.

    `previous_response_id` stays for the answer to repeat; no dialect sends it on.
    """
    items: list[msgspec.Raw] = []
    for turn in turns:
        items += _items.decode(turn.input)
        items += output_of(turn)
    items += _items.decode(added)
    return msgspec.json.encode({**fields, "input": msgspec.Raw(_array(items))})


def output_of(turn: Turn) -> list[msgspec.Raw]:
    """The items of an answer as a request may hold them: ids that we made up mean nothing to a provider."""
    answer = _answer.decode(turn.body)
    identity = answer.id.removeprefix("resp_")
    if len(identity) != _OWN_IDENTITY:
        return answer.output
    return [_without_own_id(item, identity) for item in answer.output]


def items_by_id(turns: Sequence[Turn], wanted: Sequence[str]) -> dict[str, msgspec.Raw]:
    """Those of the wanted items that the answers hold, as a request may hold them."""
    found: dict[str, msgspec.Raw] = {}
    for turn in turns:
        answer = _answer.decode(turn.body)
        for item, usable in zip(answer.output, output_of(turn), strict=True):
            name = _item.decode(item).id
            if name is not None and name in wanted:
                found[name] = usable
    return found


def kept_answer(last: bytes) -> Kept | None:
    """The answer in the last bytes of a call: a JSON body, or the end of a stream.  `None` if there is none worth keeping."""
    body = last if last.lstrip().startswith(b"{") else _last_response(last)
    if body is None:
        return None
    try:
        answer = _answer.decode(body)
        ids = [_item.decode(item).id for item in answer.output]
    except _UNREADABLE:
        return None
    if answer.object != "response" or answer.status not in {"completed", "incomplete"} or not is_id(answer.id):
        return None
    return Kept(answer.id, bytes(body), tuple(name for name in ids if name is not None and is_id(name)))


def with_previous(body: bytes, previous_id: str | None) -> bytes:
    """A kept answer as it is shown: a provider that was sent the whole conversation knows of no answer before."""
    if previous_id is None:
        return body
    return msgspec.json.encode({**_fields.decode(body), "previous_response_id": previous_id})


def input_page(turn: Turn, *, limit: int, after: str | None, newest_first: bool) -> bytes:
    """The items that an answer's request added, as `GET …/input_items` lists them.  Items without an id get one.

    Raises `BadRequest` for an `after` that names none of them.
    """
    identity = turn.response_id.removeprefix("resp_")
    items = [_with_id(item, f"item_{identity}_{index}") for index, item in enumerate(_items.decode(turn.input))]
    if newest_first:
        items.reverse()
    start = 0
    if after is not None:
        names = [name for name, _ in items]
        if after not in names:
            raise BadRequest("`after` names no item of this response.", param="after")
        start = names.index(after) + 1
    page = items[start : start + limit]
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [item for _, item in page],
            "first_id": page[0][0] if page else None,
            "last_id": page[-1][0] if page else None,
            "has_more": start + limit < len(items),
        }
    )


# ----------------------------------------------------------------------------------------------------------------- pieces


def _array(items: Iterable[msgspec.Raw]) -> bytes:
    return msgspec.json.encode(list(items))


def is_id(text: str) -> bool:
    """Whether a text can be the id of anything that is kept."""
    return 0 < len(text) <= MAX_ID_CHARACTERS and text.isprintable()


def _id_of(raw: msgspec.Raw, param: str) -> str:
    try:
        text = _string.decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequest(f"`{param}` must be a string.", param=param) from error
    if not is_id(text):
        raise BadRequest(f"`{param}` must be the id of a response.", param=param)
    return text


def _references(raw: msgspec.Raw) -> list[str]:
    try:
        found = [item.id for item in _all_items.decode(raw) if item.is_reference and item.id is not None]
    except _UNREADABLE:  # one of them is: the dialect says what is wrong with it
        found = [name for item in _items.decode(raw) if (name := _reference(item)) is not None]
    if len(found) > MAX_REFERENCES:
        raise BadRequest(f"`input` must not name more than {MAX_REFERENCES} items by their ids.", param="input")
    if not all(is_id(name) for name in found):
        raise BadRequest("`input` names an item by what cannot be an id.", param="input")
    return found


def _reference(raw: msgspec.Raw) -> str | None:
    try:
        item = _item.decode(raw)
    except _UNREADABLE:
        return None  # whatever it is, the dialect says what is wrong with it
    return item.id if item.is_reference else None


def _last_response(data: bytes) -> bytes | None:
    # Bounded by whoever let it through; the last event repeats the whole answer, pictures included.
    parser = sse.Parser(max_event_bytes=len(data))
    for frame in reversed([*parser.feed(data), *parser.close()]):
        if frame.event.decode("latin-1") in _ENDS or (not frame.event and b'"response.' in frame.data[:200]):
            try:
                return bytes(_fields.decode(frame.data)["response"])
            except (msgspec.DecodeError, KeyError):
                return None
    return None


def _without_own_id(raw: msgspec.Raw, identity: str) -> msgspec.Raw:
    item = _fields.decode(raw)
    name = item.get("id")
    if name is None or identity.encode() not in bytes(name):
        return raw
    # An item without an id is new to a provider, and what is new has no status.
    del item["id"]
    item.pop("status", None)
    return msgspec.Raw(msgspec.json.encode(item))


def _with_id(raw: msgspec.Raw, invented: str) -> tuple[str, msgspec.Raw]:
    """An item in the form in which items are listed: with an id and a type, and content in parts."""
    item = _fields.decode(raw)
    item.setdefault("type", msgspec.Raw(b'"message"'))
    name = item.get("id")
    if name is None or is_null(name):
        item = {"id": msgspec.Raw(msgspec.json.encode(invented)), **item}
    content = item.get("content")
    if content is not None and bytes(content).lstrip().startswith(b'"'):
        kind = b"output_text" if bytes(item.get("role", _NULL)) == b'"assistant"' else b"input_text"
        item["content"] = msgspec.Raw(b'[{"type":"%b","text":%b}]' % (kind, bytes(content)))
    return _string.decode(item["id"]), msgspec.Raw(msgspec.json.encode(item))
