"""Events to a whole answer, and back.

`fold(unfold(response)) == response` for every response whose choices are finished: that is the law that the tests hold both
to.  A provider that cannot stream is streamed by `unfold`; a client that does not stream is answered by `fold`.
"""

from collections.abc import Iterable, Iterator
from typing import assert_never

import msgspec

from tollhouse.chat.events import (
    Cited,
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    LogprobsReported,
    PartClosed,
    PartOpened,
    Pinged,
    Signed,
    Started,
    UsageReported,
)
from tollhouse.chat.model import (
    Choice,
    Citation,
    FinishReason,
    Foreign,
    Opaque,
    Part,
    Refusal,
    Response,
    Text,
    Thinking,
    TokenLogprob,
    ToolCall,
)
from tollhouse.chat.usage import Usage
from tollhouse.errors import StreamFailed, UpstreamTruncated


class _OpenPart:
    """One part as it grows."""

    __slots__ = ("citations", "part", "signature", "texts")

    def __init__(self, part: Part) -> None:
        self.part = part
        self.texts: list[str] = []
        self.citations: list[Citation] = []
        self.signature: Opaque | None = None

    def close(self) -> Part:
        part = self.part
        added = "".join(self.texts)
        match part:
            case Text():
                if added or self.citations or self.signature is not None:
                    return msgspec.structs.replace(
                        part,
                        text=part.text + added,
                        citations=(*part.citations, *self.citations),
                        signature=self.signature or part.signature,
                    )
            case Thinking():
                if added or self.signature is not None:
                    return msgspec.structs.replace(
                        part, text=part.text + added, signature=self.signature or part.signature
                    )
            case Refusal():
                return Refusal(part.text + added)
            case ToolCall():
                if added or self.signature is not None:
                    return msgspec.structs.replace(
                        part, arguments=part.arguments + added, signature=self.signature or part.signature
                    )
            case Foreign():
                if added:
                    return Foreign(part.dialect, part.kind, _with_input(part.raw, added))
            case _:
                pass
        return part


def _with_input(raw: msgspec.Raw, streamed: str) -> msgspec.Raw:
    """A server-side call whose `input` object arrived in pieces; left as it was if the pieces are not JSON (cut off)."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        msgspec.json.decode(streamed)
    except msgspec.DecodeError:
        return raw
    fields["input"] = msgspec.Raw(streamed.encode())
    return msgspec.Raw(msgspec.json.encode(fields))


class _OpenChoice:
    __slots__ = ("current", "detail", "finish", "logprobs", "parts")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.current: _OpenPart | None = None
        self.finish: FinishReason | None = None
        self.detail: str | None = None
        self.logprobs: list[TokenLogprob] | None = None


class Folder:
    """Gathers the events of one stream.  Feed it everything, then take `response`."""

    __slots__ = ("_choices", "_ended", "_failed", "_started", "_usage")

    def __init__(self) -> None:
        self._started: Started | None = None
        self._choices: dict[int, _OpenChoice] = {}
        self._usage = Usage()
        self._failed: Failed | None = None
        self._ended = False

    def feed(self, event: Event) -> None:
        """Takes the next event.  The events keep the grammar; `tollhouse.chat.grammar` checks it where that is in doubt."""
        match event:
            case Delta():
                self._part(event.choice).texts.append(event.text)
            case PartOpened():
                self._choice(event.choice).current = _OpenPart(event.part)
            case PartClosed():
                choice = self._choice(event.choice)
                choice.parts.append(self._part(event.choice).close())
                choice.current = None
            case Signed():
                self._part(event.choice).signature = event.signature
            case Cited():
                self._part(event.choice).citations.append(event.citation)
            case LogprobsReported():
                choice = self._choice(event.choice)
                choice.logprobs = [*(choice.logprobs or ()), *event.tokens]
            case Finished():
                choice = self._choice(event.choice)
                choice.finish, choice.detail = event.reason, event.detail
            case UsageReported():
                self._usage = event.usage
            case Started():
                self._started = event
                if event.usage is not None:
                    self._usage = event.usage
            case Failed():
                self._failed = event
            case Ended():
                self._ended = True
            case Pinged():
                pass
            case _:
                assert_never(event)

    @property
    def usage(self) -> Usage:
        """The last report so far."""
        return self._usage

    def partial(self) -> Response:
        """What has come so far, with the open parts closed as they stand; for counting, not for clients."""
        started = self._started or Started(id="", model="")
        choices = []
        for index, choice in sorted(self._choices.items()):
            parts = [*choice.parts, choice.current.close()] if choice.current else choice.parts
            choices.append(
                Choice(
                    index=index,
                    parts=tuple(parts),
                    finish=choice.finish,
                    finish_detail=choice.detail,
                    logprobs=None if choice.logprobs is None else tuple(choice.logprobs),
                )
            )
        return Response(
            id=started.id,
            model=started.model,
            created=started.created,
            service_tier=started.service_tier,
            choices=tuple(choices),
            usage=self._usage,
        )

    def response(self) -> Response:
        """The whole answer; `StreamFailed` if the provider broke off, `UpstreamTruncated` if the stream just stopped."""
        if self._failed is not None:
            raise failure(self._failed)
        if not self._ended:
            raise UpstreamTruncated("The provider's stream stopped before its end.")
        return self.partial()

    def _choice(self, number: int) -> _OpenChoice:
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _OpenChoice()
        return choice

    def _part(self, number: int) -> _OpenPart:
        part = self._choice(number).current
        if part is None:
            raise ValueError(f"no part is open in choice {number}")
        return part


def failure(event: Failed) -> StreamFailed:
    """The error that a `Failed` event reports."""
    return StreamFailed(event.message, status=event.status, kind=event.kind, provider_code=event.provider_code)


def fold(events: Iterable[Event]) -> Response:
    """The whole answer that `events` stream.  Raises as `Folder.response` does."""
    folder = Folder()
    for event in events:
        folder.feed(event)
    return folder.response()


def unfold(response: Response) -> Iterator[Event]:
    """A whole answer as the events of a stream, one delta a part.  An unfinished choice is finished as `other`."""
    yield Started(
        id=response.id,
        model=response.model,
        created=response.created,
        service_tier=response.service_tier,
        usage=None if response.usage.is_empty else response.usage,
    )
    for choice in response.choices:
        if choice.logprobs is not None:
            yield LogprobsReported(choice.logprobs, choice.index)
        for index, part in enumerate(choice.parts):
            yield from _unfold_part(index, part, choice.index)
        yield Finished(choice.finish or "other", choice.finish_detail, choice.index)
    if not response.usage.is_empty:
        yield UsageReported(response.usage)
    yield Ended()


def _unfold_part(index: int, part: Part, choice: int) -> Iterator[Event]:
    match part:
        case Text():
            yield PartOpened(index, msgspec.structs.replace(part, text="", citations=(), signature=None), choice)
            if part.text:
                yield Delta(index, part.text, choice)
            for citation in part.citations:
                yield Cited(index, citation, choice)
            if part.signature is not None:
                yield Signed(index, part.signature, choice)
        case Thinking():
            yield PartOpened(index, msgspec.structs.replace(part, text="", signature=None), choice)
            if part.text:
                yield Delta(index, part.text, choice)
            if part.signature is not None:
                yield Signed(index, part.signature, choice)
        case Refusal():
            yield PartOpened(index, Refusal(""), choice)
            if part.text:
                yield Delta(index, part.text, choice)
        case ToolCall():
            # With its signature: where that has no place of its own, it rides in the call's id, which goes out first.
            yield PartOpened(index, msgspec.structs.replace(part, arguments=""), choice)
            if part.arguments:
                yield Delta(index, part.arguments, choice)
        case _:
            yield PartOpened(index, part, choice)
    yield PartClosed(index, choice)
