"""What a call brings back, and how a stream becomes it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from tollhouse.chat.events import Delta, Ended, Event, Failed, PartClosed, PartOpened
from tollhouse.chat.fold import Folder
from tollhouse.chat.model import Choice, FinishReason, Message, Part, Refusal, Response, Text, Thinking, ToolCall
from tollhouse.chat.opaque import rejoin
from tollhouse.chat.usage import Usage
from tollhouse.client.failures import AnswerBroken, CallFailed
from tollhouse.client.settings import Mode

NANO: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """How an answer came: who gave it, on which way, and what it cost."""

    mode: Mode
    protocol: str
    """`json`, `protobuf`, `grpc` or `vibectl`; of a direct call the provider's dialect."""
    where: str
    """The gateway's `host:port`, or the provider's name."""
    requested_model: str = ""
    model: str = ""
    """Who answered: `provider/model`, as far as it is known."""
    request_id: str = ""
    """The gateway's id, to quote when asking for help; of a direct call the provider's own."""
    receipt: str = ""
    """What could not be said in the provider's dialect, if anything."""
    cost_nano: int | None = None
    """A billionth of a dollar; `None` where it is not known, which is not free."""
    cache: str = ""
    """`hit`, `shared`, …: what the gateway's cache had to do with it."""
    attempts: int = 1
    """Tries until this answer came."""
    fell_back_to_model: bool = False
    """Whether a model of `fallback_models` answered, and not the one that was asked for."""
    fell_back_to_direct: bool = False
    """Whether the gateway was down, and the provider was asked without it."""
    fallback_cause: str = ""
    """The code of the error that led there."""
    server_version: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    response: Response
    """The canonical form, with everything in it."""
    marks: Marks

    @property
    def text(self) -> str:
        """The words, without reasoning."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, in order."""
        return self._choice.parts

    @property
    def reasoning(self) -> str:
        """What the model showed of its thinking."""
        return "".join(part.text for part in self.parts if isinstance(part, Thinking))

    @property
    def refusal(self) -> str:
        """The model's words for why it will not answer; empty if it does."""
        return "".join(part.text for part in self.parts if isinstance(part, Refusal))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of the program's tools."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def message(self) -> Message:
        """The answer as the turn to send back with the next question."""
        return Message("assistant", self.parts)

    @property
    def finish(self) -> FinishReason | None:
        """Why it ended."""
        return self._choice.finish

    @property
    def usage(self) -> Usage:
        """Token counts."""
        return self.response.usage

    @property
    def model(self) -> str:
        """Who answered."""
        return self.marks.model or self.response.model

    @property
    def request_id(self) -> str:
        """The id to quote when asking for help."""
        return self.marks.request_id

    @property
    def cost_nano(self) -> int | None:
        """Nano-USD; `None` where it is not known."""
        return self.marks.cost_nano

    @property
    def cost_usd(self) -> float | None:
        """Dollars, for showing; count money in `cost_nano`."""
        return None if self.marks.cost_nano is None else self.marks.cost_nano / NANO

    @property
    def receipt(self) -> str:
        """What translation dropped or changed."""
        return self.marks.receipt

    def json(self, kind: Any = Any) -> Any:
        """The text as JSON, checked against a type if one is given.  Raises `msgspec.DecodeError`."""
        return msgspec.json.decode(self.text.encode(), type=kind)

    @property
    def _choice(self) -> Choice:
        return self.response.choices[0] if self.response.choices else Choice()


class Texts:
    """Picks the words of the first choice out of a stream's events."""

    __slots__ = ("_is_text",)

    def __init__(self) -> None:
        self._is_text = False

    def of(self, events: Iterable[Event]) -> Iterator[str]:
        """The pieces of text among the events."""
        for event in events:
            match event:
                case Delta(text=text, choice=0) if self._is_text and text:
                    yield text
                case PartOpened(part=part, choice=0):
                    self._is_text = isinstance(part, Text)
                    if isinstance(part, Text) and part.text:
                        yield part.text
                case PartClosed(choice=0):
                    self._is_text = False
                case _:
                    pass


class Reading:
    """A stream as it is read, until it is an answer.  Without I/O."""

    __slots__ = ("_folder", "failed", "has_content", "is_ended", "marks")

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self._folder = Folder()
        self.is_ended = False
        self.failed: Failed | None = None
        self.has_content = False
        """Whether anything of the answer was seen, which nothing may be tried after."""

    def feed(self, events: Iterable[Event]) -> None:
        """Takes events, in order."""
        feed = self._folder.feed
        for event in events:
            feed(event)
            match event:
                case Delta() | PartOpened():
                    self.has_content = True
                case Failed():
                    self.failed = event
                case Ended():
                    self.is_ended = True
                case _:
                    pass

    @property
    def usage(self) -> Usage:
        """The last report so far."""
        return self._folder.usage

    def answer(self) -> Answer:
        """The whole answer.  Raises `AnswerBroken` if it is not whole."""
        if not self.is_ended:
            raise AnswerBroken("The answer is not whole yet, or never will be.", where=self.marks.where)
        return self.partial()

    def partial(self) -> Answer:
        """What has come so far."""
        response = self._folder.partial()
        choices = tuple(msgspec.structs.replace(choice, parts=rejoin(choice.parts)) for choice in response.choices)
        return Answer(msgspec.structs.replace(response, choices=choices), self.marks)


@dataclass(frozen=True, slots=True)
class Embedded:
    """Texts as vectors, in the order in which they were given."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage
    marks: Marks


@dataclass(frozen=True, slots=True)
class Counted:
    """How many tokens a prompt has."""

    input_tokens: int
    is_estimate: bool
    """Whether it is a guess from sizes, because the provider cannot count."""
    marks: Marks


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """One model that can be asked."""

    id: str
    """What a call names."""
    owner: str = ""
    context_tokens: int | None = None
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Models:
    """What can be asked."""

    models: tuple[ModelInfo, ...]
    marks: Marks
    failures: Mapping[str, CallFailed] = field(default_factory=dict)
    """Providers that did not say what they have, and why; in direct mode only."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The names."""
        return tuple(model.id for model in self.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """Who answers at the gateway's address, as far as it says."""

    name: str
    version: str
    """Empty where it is not said."""
    protocol: str
    """What it was asked in."""
    where: str
    latency_seconds: float
    """Of one question on an open connection."""
    models: tuple[ModelInfo, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names that stand for a model; the model is empty where the server does not say which."""
    default_model: str = ""
    limits: Mapping[str, int] = field(default_factory=dict)
    """By what they limit: `requests per minute`, …"""


def with_attempts(marks: Marks, attempts: int, *, model: bool, direct: bool, cause: str) -> Marks:
    """The marks of an answer that did not come at the first try."""
    return replace(marks, attempts=attempts, fell_back_to_model=model, fell_back_to_direct=direct, fallback_cause=cause)
