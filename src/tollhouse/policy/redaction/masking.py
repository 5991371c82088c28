"""Keeps personal data out of a provider's sight: placeholders go out, and what they stand for comes back.

`Masker` reads a whole request and replaces each hit by a placeholder of its own: `[EMAIL_1]`, `[CARD_2]`; the same value has
the same placeholder throughout the call, and numbers are given in the order of the conversation, so that the next turn of it
begins with the same ones (a provider's prompt cache, and a signature over earlier reasoning, need that).  `Unmasker` puts the
values into the answer, whole or streamed, and only for placeholders that this very call made: one that the model invents,
or that stood in the prompt as text, stays as it is.

Left alone is what no provider could use when changed: pictures, sounds, encrypted reasoning, signatures, names and schemas of
tools, and everything that only one dialect knows (`Extra`, `Foreign`).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from tollhouse.chat.events import Cited, Delta, Event, Failed, PartClosed, PartOpened
from tollhouse.chat.model import (
    Choice,
    Citation,
    Document,
    Extra,
    Foreign,
    Inline,
    Message,
    Part,
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
from tollhouse.policy.redaction.documents import Json, digits_of
from tollhouse.policy.redaction.redactor import Hit, Redactor, replaced

MAX_PLACEHOLDER_CHARACTERS: Final = 64
"""The longest that is looked for in an answer; the names of custom patterns are cut to fit."""

_PLACEHOLDER: Final = re.compile(r"\[[A-Z0-9_]{1,50}_[0-9]{1,9}\]")
_BEGUN: Final = re.compile(r"\[[A-Z0-9_]{0,62}\Z")
_NOT_NAME: Final = re.compile(r"[^A-Z0-9]+")
_LABELS: Final = {"secrets": "SECRET"}


class Masked(msgspec.Struct, frozen=True):
    """A request as the provider may see it."""

    request: Request
    values: Mapping[str, str]
    """What stands behind each placeholder.  Never logged, never stored."""


def mask(redactor: Redactor, request: Request) -> Masked:
    """Replaces what the redactor finds in the request's texts."""
    shown: list[str] = []

    def collect(text: str) -> tuple[Hit, ...]:
        shown.extend(_PLACEHOLDER.findall(text))
        return ()

    Masker(collect).request(request)
    masker = Masker(redactor.find, taken=shown)
    return Masked(masker.request(request), masker.values)


def mask_texts(redactor: Redactor, texts: Sequence[str]) -> tuple[str, ...]:
    """The same for texts of which nothing comes back."""
    masker = Masker(redactor.find, taken=[found for text in texts for found in _PLACEHOLDER.findall(text)])
    return tuple(masker.text(text) for text in texts)


class Masker:
    """The placeholders of one call."""

    __slots__ = ("_counts", "_find", "_made", "_taken", "values")

    def __init__(self, find: Callable[[str], Sequence[Hit]], *, taken: Iterable[str] = ()) -> None:
        """`find` gives a text's hits, as `Redactor.find` does; `taken` are texts that look like placeholders and are none."""
        self._find = find
        self._taken = frozenset(taken)
        self._made: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        self.values: dict[str, str] = {}
        """What stands behind each placeholder made so far."""

    def text(self, text: str) -> str:
        """A text with placeholders."""
        return replaced(text, self._find(text), lambda hit: self._placeholder(hit.kind, text[hit.start : hit.end]))

    def arguments(self, text: str) -> str:
        """JSON text with placeholders inside of its strings; text that is not JSON is masked as it stands.

        Raises `BadRequest` for what is nested too deeply: as text, what is escaped in it would not be found.
        """
        try:
            value: Json = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return self.text(text)
        except RecursionError as error:
            raise _too_deep() from error
        masked = self._value(value, 0)
        return text if masked == value else msgspec.json.encode(masked).decode()

    def request(self, request: Request) -> Request:
        """The request with placeholders."""
        return msgspec.structs.replace(
            request,
            messages=tuple(self._message(message) for message in request.messages),
            tools=tuple(
                msgspec.structs.replace(tool, description=self.text(tool.description))
                if isinstance(tool, Tool) and tool.description
                else tool
                for tool in request.tools
            ),
            stop=tuple(self.text(stop) for stop in request.stop),
            user=None if request.user is None else self.text(request.user),
        )

    def _message(self, message: Message) -> Message:
        name = None if message.name is None else self.text(message.name)
        return msgspec.structs.replace(message, parts=tuple(self._part(part) for part in message.parts), name=name)

    def _part(self, part: Part) -> Part:
        match part:
            case Text() | Thinking() | Refusal():
                return msgspec.structs.replace(part, text=self.text(part.text))
            case ToolCall():
                masked = self.text(part.arguments) if part.custom else self.arguments(part.arguments)
                return msgspec.structs.replace(part, arguments=masked)
            case ToolResult():
                return msgspec.structs.replace(part, content=tuple(self._content(inner) for inner in part.content))
            case Document():
                return self._document(part)
            case _:
                return part

    def _content(self, part: "Text | Document | Part") -> "Text | Document":
        masked: Text | Document = self._part(part)  # type: ignore[assignment]  # a part stays of its kind
        return masked

    def _document(self, part: Document) -> Document:
        source = part.source
        if isinstance(source, Inline) and source.media_type == "text/plain":
            source = Inline(source.media_type, self.text(source.data))
        return msgspec.structs.replace(
            part,
            source=source,
            title=None if part.title is None else self.text(part.title),
            context=None if part.context is None else self.text(part.context),
        )

    def _value(self, value: Json, level: int) -> Json:
        match value:
            case str():
                return self.text(value)
            case dict() | list() if level >= MAX_LEVELS:
                raise _too_deep()
            case dict():
                return {self.text(name): self._value(inner, level + 1) for name, inner in value.items()}
            case list():
                return [self._value(inner, level + 1) for inner in value]
            case bool() | None:
                return value
            case _:
                digits = digits_of(value)
                masked = self.text(digits)
                return value if masked == digits else masked

    def _placeholder(self, kind: str, value: str) -> str:
        made = self._made.get((kind, value))
        if made is None:
            name = _LABELS.get(kind) or _NOT_NAME.sub("_", kind.upper()).strip("_")[:48] or "HIDDEN"
            while made is None or made in self._taken:
                self._counts[name] = self._counts.get(name, 0) + 1
                made = f"[{name}_{self._counts[name]}]"
            self._made[kind, value] = made
            self.values[made] = value
        return made


# ------------------------------------------------------------------------------------------------------------- the answer


def _too_deep() -> BadRequest:
    return BadRequest(
        f"A tool call's arguments are nested more than {MAX_LEVELS} levels deep, and cannot be searched for personal data.",
        param="messages",
        hint="Flatten them.",
    )


class Unmasker:
    """Puts the values of one call back into its answer.  Holds the tail of each part that may be half a placeholder."""

    __slots__ = ("_held", "_is_json", "_values")

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._held: dict[int, Delta] = {}
        """By choice: of its one open part."""
        self._is_json: dict[int, bool] = {}

    def text(self, text: str) -> str:
        """A whole text with its values."""
        return _PLACEHOLDER.sub(lambda found: self._values.get(found[0], found[0]), text)

    def json(self, text: str) -> str:
        """JSON text with its values, escaped as strings of JSON are: a placeholder can only stand inside of one."""
        return _PLACEHOLDER.sub(lambda found: self._escaped(found[0]), text)

    def _escaped(self, placeholder: str) -> str:
        value = self._values.get(placeholder)
        return placeholder if value is None else msgspec.json.encode(value).decode()[1:-1]

    def response(self, response: Response) -> Response:
        """A whole answer with its values."""
        return msgspec.structs.replace(response, choices=tuple(self._choice(choice) for choice in response.choices))

    def events(self, events: Iterable[Event]) -> Iterator[Event]:
        """A streamed answer with its values.  May be called for each piece of the stream in turn."""
        for event in events:
            match event:
                case Delta():
                    yield from self._delta(event)
                case PartOpened():
                    yield self._opened(event)
                case PartClosed():
                    held = self._held.pop(event.choice, None)
                    if held is not None:
                        yield held
                    yield event
                case Failed():
                    yield from self._held.values()
                    yield event
                case Cited():
                    yield Cited(event.index, self._citation(event.citation), event.choice)
                case _:
                    yield event

    def _opened(self, event: PartOpened) -> PartOpened:
        part = event.part
        self._held.pop(event.choice, None)
        self._is_json[event.choice] = isinstance(part, Foreign) or (isinstance(part, ToolCall) and not part.custom)
        return PartOpened(event.index, self._part(part), event.choice)

    def _delta(self, event: Delta) -> Iterator[Delta]:
        held = self._held.pop(event.choice, None)
        text = event.text if held is None else held.text + event.text
        begun = _BEGUN.search(text, max(0, len(text) - MAX_PLACEHOLDER_CHARACTERS))
        if begun is not None:
            self._held[event.choice] = Delta(event.index, begun[0], event.choice)
            text = text[: begun.start()]
        if text:
            restored = self.json(text) if self._is_json.get(event.choice) else self.text(text)
            yield Delta(event.index, restored, event.choice)

    def _choice(self, choice: Choice) -> Choice:
        return msgspec.structs.replace(choice, parts=tuple(self._part(part) for part in choice.parts))

    def _part(self, part: Part) -> Part:
        match part:
            case Text():
                citations = tuple(self._citation(citation) for citation in part.citations)
                return msgspec.structs.replace(part, text=self.text(part.text), citations=citations)
            case Thinking() | Refusal():
                return msgspec.structs.replace(part, text=self.text(part.text))
            case ToolCall():
                restored = self.text(part.arguments) if part.custom else self.json(part.arguments)
                return msgspec.structs.replace(part, arguments=restored)
            case Foreign():
                return Foreign(part.dialect, part.kind, self._raw(part.raw))
            case _:
                return part

    def _citation(self, citation: Citation) -> Citation:
        extra = citation.extra
        if extra is not None:
            extra = Extra(extra.dialect, {name: self._raw(value) for name, value in extra.fields.items()})
        return msgspec.structs.replace(
            citation,
            title=None if citation.title is None else self.text(citation.title),
            quote=None if citation.quote is None else self.text(citation.quote),
            extra=extra,
        )

    def _raw(self, raw: msgspec.Raw) -> msgspec.Raw:
        text = bytes(raw).decode()
        restored = self.json(text)
        return raw if restored == text else msgspec.Raw(restored.encode())
