"""What a conversation leaves behind at its provider is noted before its answer has ended."""

import asyncio
import json
from collections.abc import Iterable, Mapping

import pytest

from tollhouse.config.schema import ProviderSettings
from tollhouse.config.secret import Secret
from tollhouse.dialects.openai_responses import DIALECT
from tollhouse.gateway.by_products import ByProducts, may_make
from tollhouse.gateway.call import Call, Headers
from tollhouse.gateway.ownership import Ownership
from tollhouse.ledger.belongings import Note
from tollhouse.policy.identity import Principal
from tollhouse.providers.registry import build

PROVIDER = build(ProviderSettings(name="openai", type="openai", api_key=Secret("sk-test")))
CALL = Call(
    id="req_1",
    door="openai_responses",
    dialect=DIALECT,
    body=b"",
    headers=(),
    principal=Principal(key="ann", tenant="research"),
    address="",
    arrived=0.0,
    arrived_at_us=7,
)


class Book:
    """Notes in a list."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def note(self, notes: Iterable[Note]) -> "asyncio.Future[None]":
        self.notes.extend(notes)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def owners(self, provider: str, ids: Iterable[str]) -> Mapping[str, str]:
        return {note.id: note.tenant for note in self.notes if note.provider == provider and note.id in set(ids)}

    async def forget(self, provider: str, thing: str, tenant: str) -> None:
        self.notes = [note for note in self.notes if note[:3] != (provider, thing, tenant)]


class Client:
    """A client's end that looks into the book when the last byte comes."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.got = b""
        self.noted_at_end: list[str] = []

    async def head(self, status: int, headers: Headers) -> None:
        self.status = status, len(headers)

    async def body(self, data: bytes, *, more: bool) -> None:
        self.got += data
        if not more:
            self.noted_at_end = [note.id for note in self.book.notes]


async def noted(answer: bytes, kind: bytes, status: int = 200) -> list[str]:
    """What is noted when an answer has come, byte by byte."""
    book = Book()
    client = Client(book)
    sink = ByProducts(Ownership(book, lambda _: True), PROVIDER, CALL, client)
    await sink.head(status, [(b"content-type", kind)])
    for place in range(len(answer)):
        await sink.body(answer[place : place + 1], more=True)
    await sink.body(b"", more=False)
    assert client.got == answer
    assert all(note[:3] == ("openai", note.id, "research") for note in book.notes)
    return client.noted_at_end


RAN = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": '{"container_id": "cntr_9"}'}
CALLED = {"type": "function_call", "call_id": "c", "arguments": '{"file_id": "file-9", "container_id": "cntr_9"}'}
USED = {"type": "tool_use", "input": {"file_id": "file_9", "container": {"id": "container_9"}, "container_id": "x"}}
WHOLE = {"id": "resp_1", "output": [RAN, CALLED], "metadata": {"container_id": "cntr_9"}}
EVENTS: tuple[dict[str, object], ...] = (
    {"type": "response.created", "response": {"id": "resp_1", "output": []}},
    {"type": "response.output_item.added", "item": RAN},
    {"type": "response.completed", "response": WHOLE},
)


async def test_the_container_of_a_response_is_noted():
    assert await noted(json.dumps(WHOLE).encode(), b"application/json") == ["cntr_1"]


async def test_the_container_of_a_stream_is_noted():
    stream = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in EVENTS)
    assert await noted(stream, b"text/event-stream; charset=utf-8") == ["cntr_1"]


async def test_what_a_model_says_is_nothing_that_was_made():
    """Otherwise a caller would have it say another's id."""
    said = {"content": [USED, {"type": "text", "text": '"container_id": "cntr_9", "file_id": "file_9"'}]}
    assert await noted(json.dumps(said).encode(), b"application/json") == []


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (b'{"container": ', b"application/json", 200),
        (b"[" * 100 + b"container", b"application/json", 200),
        (b'data: {"container_id": \xff\n\n', b"text/event-stream", 200),
        (json.dumps(WHOLE).encode(), b"application/json", 400),
    ],
)
async def test_an_answer_that_cannot_be_read_is_given_on(answer: bytes, kind: bytes, status: int):
    assert await noted(answer, kind, status) == []


def test_requests_that_let_code_be_run_are_found():
    assert may_make(b'{"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]}')
    assert may_make(b'{"tools":[{"type":"code_execution_20250825","name":"code_execution"}]}')
    assert not may_make(b'{"messages":[{"role":"user","content":"Write code in a container."}]}')
