"""Every stream that any test lets a dialect write is held to the dialect's grammar, whether the test thinks of it or not.

`tests/conftest.py` calls `watch` once: from then on each encoder that one of the four dialects gives out is watched, in the
dialects' own tests, in the gateway's, and behind every server that runs in the test's process.  When the last event is written,
the checker of the dialect (`grammar_openai_chat`, `grammar_openai_responses`, `grammar_anthropic`, `grammar_gemini`) reads the
whole stream.  A fault is raised where the stream is written, and fails the test in which that happens even if a server swallows
it.  Streams that are forwarded as they came are not ours to check: those tests compare bytes.

A test that gives an encoder events that no decoder may produce says so:

    with unchecked("events after the end"):
        ...
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from support import grammar_anthropic, grammar_gemini, grammar_openai_chat, grammar_responses
from tollhouse.chat.events import Ended, Event, Failed
from tollhouse.dialects import anthropic, gemini, openai_chat, openai_responses


def _check_responses(body: bytes) -> object:
    return grammar_responses.check(body, fails=b"event: response.failed" in body)


CHECKS: Final[Mapping[type, Callable[[bytes], object]]] = {
    type(openai_chat.DIALECT): grammar_openai_chat.check_stream,
    type(openai_responses.DIALECT): _check_responses,
    type(anthropic.DIALECT): grammar_anthropic.check_stream,
    type(gemini.DIALECT): grammar_gemini.check_stream,
}

faults: Final[list[str]] = []
"""What was found since the last test."""
checked: Final[dict[str, int]] = {}
"""How many streams were read, by dialect."""
_excuses: Final[list[str]] = []


@contextmanager
def unchecked(why: str) -> Iterator[None]:
    """Streams that are written in here may break the grammar."""
    _excuses.append(why)
    try:
        yield
    finally:
        _excuses.pop()


class Watched:
    """An encoder whose bytes are read along."""

    def __init__(self, encoder: Any, name: str, check: Callable[[bytes], object]) -> None:
        self._encoder = encoder
        self._name = name
        self._check = check
        self._written: list[bytes] = []

    def encode(self, event: Event) -> bytes:
        """What the encoder writes; raises the grammar's fault with the last event."""
        data: bytes = self._encoder.encode(event)
        self._written.append(data)
        if isinstance(event, Ended | Failed) and not _excuses:
            body = b"".join(self._written)
            checked[self._name] = checked.get(self._name, 0) + 1
            try:
                self._check(body)
            except AssertionError as fault:
                faults.append(f"{self._name}: {fault}")
                raise
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


def watch() -> None:
    """Has every encoder watched from now on."""
    for dialect, check in CHECKS.items():
        _watch(dialect, check)


def _watch(dialect: Any, check: Callable[[bytes], object]) -> None:
    original = dialect.stream_encoder

    def stream_encoder(self: Any, *arguments: Any) -> Watched:
        return Watched(original(self, *arguments), self.name, check)

    dialect.stream_encoder = stream_encoder
