"""Prompts and answers are kept as far as they may be, and nobody waits for it."""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import planted
from tollhouse.dialects import anthropic, openai_chat
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.dialects.dialect import StreamDecoder
from tollhouse.dialects.openai_chat.traits import OPENAI
from tollhouse.errors import NotFound, StoreUnavailable
from tollhouse.policy.redaction import Redactor
from tollhouse.policy.redaction.rules import KINDS
from tollhouse.telemetry.bodies import BodySettings, BodyStore, Entry
from tollhouse.telemetry.bodies_file import BodiesFile, Kept, Shown

ALL = Redactor(KINDS)
DECODERS: Mapping[str, Callable[[], StreamDecoder]] = {
    "openai_chat": lambda: openai_chat.DIALECT.stream_decoder(OPENAI),
    "anthropic": lambda: anthropic.DIALECT.stream_decoder(AnthropicTraits()),
}
SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
JSON = [(b"content-type", b"application/json")]


class Client:
    """A sink that takes everything."""

    def __init__(self) -> None:
        self.status = 0
        self.data = b""

    async def head(self, status: int, headers: object) -> None:
        self.status = status

    async def body(self, data: bytes, *, more: bool) -> None:
        self.data += data


def body_settings(path: Path, **changes: object) -> BodySettings:
    fields: dict[str, object] = {"path": path, "form": "redacted", "retention_seconds": 86_400.0, **changes}
    return BodySettings(**fields)  # type: ignore[arg-type]  # the tests' own words


def entry(name: str = "req_1", **changes: object) -> Entry:
    usual = Entry(
        id=name,
        at_us=1_795_262_400_000_000,
        door="openai_chat",
        dialect="openai_chat",
        tenant="acme",
        key="dev",
        request=b'{"messages":[{"role":"user","content":"I am bob@example.com"}]}',
        answer=b'{"choices":[{"message":{"content":"Hello bob@example.com"}}]}',
        status=200,
        is_stream=False,
        is_cut=False,
    )
    return msgspec.structs.replace(usual, **changes)


def stored(path: Path, *entries: Entry, redactor: Redactor = ALL, **changes: object) -> BodyStore:
    """A store that was handed these calls, and has ended."""
    store = BodyStore.start(body_settings(path, retention_seconds=1e12, **changes), redactor, DECODERS)
    for each in entries:
        store.take(each)
    assert store.close(20)
    return store


def shown(path: Path, name: str = "req_1") -> Shown:
    file = BodiesFile(path)
    try:
        return file.read(name)
    finally:
        file.close()


def openai_stream(texts: list[str], field: str = "content") -> bytes:
    """A stream of chat chunks, one for each text."""
    chunks: list[object] = [
        {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": {field: text}}]}
        for text in texts
    ]
    end = {
        "id": "c",
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    }
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(chunk) for chunk in [*chunks, end]) + b"data: [DONE]\n\n"


def anthropic_stream(texts: list[str]) -> bytes:
    events: list[tuple[str, object]] = [
        (
            "message_start",
            {
                "type": "message_start",
                "message": {
                    "id": "m",
                    "type": "message",
                    "role": "assistant",
                    "model": "m",
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": {"input_tokens": 1, "output_tokens": 1},
                },
            },
        ),
        (
            "content_block_start",
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "tool_use", "id": "t", "name": "send", "input": {}},
            },
        ),
        *(
            (
                "content_block_delta",
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "input_json_delta", "partial_json": text},
                },
            )
            for text in texts
        ),
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        (
            "message_delta",
            {
                "type": "message_delta",
                "delta": {"stop_reason": "tool_use", "stop_sequence": None},
                "usage": {"output_tokens": 2},
            },
        ),
        ("message_stop", {"type": "message_stop"}),
    ]
    return b"".join(f"event: {name}\n".encode() + b"data: %b\n\n" % msgspec.json.encode(data) for name, data in events)


def test_a_call_is_kept_without_what_is_personal(tmp_path):
    store = stored(tmp_path / "b.db", entry())
    kept = shown(tmp_path / "b.db")
    assert kept.request == b'{"messages":[{"role":"user","content":"I am [email]"}]}'
    assert kept.answer == b'{"choices":[{"message":{"content":"Hello [email]"}}]}'
    assert (kept.tenant, kept.key, kept.status, kept.form, kept.door) == ("acme", "dev", 200, "redacted", "openai_chat")
    assert (store.state().kept, store.state().waiting_bytes) == (1, 0)


def test_full_bodies_are_kept_as_they_are(tmp_path):
    stored(tmp_path / "b.db", entry(request=b"not JSON bob@example.com"), form="full")
    assert shown(tmp_path / "b.db").request == b"not JSON bob@example.com"


def test_only_the_owner_can_read_the_file(tmp_path):
    stored(tmp_path / "folder" / "b.db", entry())
    holder = BodiesFile(tmp_path / "folder" / "b.db")
    holder.count()
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "folder").iterdir()}
    holder.close()
    assert modes
    assert set(modes.values()) == {0o600}, modes


def test_a_number_split_over_five_deltas_is_judged_in_one_piece(tmp_path):
    stream = openai_stream(["card 41", "11 11", "11 1111 ", "1", "111 ok"])
    stored(tmp_path / "b.db", entry(answer=stream, is_stream=True))
    answer = msgspec.json.decode(shown(tmp_path / "b.db").answer or b"")
    assert answer["complete"] is True
    assert answer["answer"]["choices"][0]["parts"] == [{"type": "text", "text": "card [card] ok"}]


def test_a_cut_stream_is_kept_as_far_as_it_came(tmp_path):
    stream = openai_stream(["I am bob@exam", "ple.com and"]).rpartition(b"data: {")[0]
    stored(tmp_path / "b.db", entry(answer=stream, is_stream=True, is_cut=True))
    answer = msgspec.json.decode(shown(tmp_path / "b.db").answer or b"")
    assert answer["complete"] is False
    assert answer["answer"]["choices"][0]["parts"][0]["text"] == "I am [email] and"


def test_a_body_that_is_not_json_is_not_kept(tmp_path, caplog):
    store = stored(tmp_path / "b.db", entry(request=b"bob@example.com"), entry("req_2", request=b"{", answer=b""))
    assert shown(tmp_path / "b.db").request is None
    assert shown(tmp_path / "b.db").answer is not None
    assert store.state().refused == 2
    with pytest.raises(NotFound, match="No bodies are kept"):
        shown(tmp_path / "b.db", "req_2")


class Broken(Redactor):
    """Rules that fail, with the text in the error's words as errors like to have it."""

    def redact(self, text: str) -> str:
        raise RuntimeError(f"cannot read {text}")


def test_a_body_that_cannot_be_redacted_is_not_kept_and_its_words_are_not_logged(tmp_path, telemetry_log):
    store = stored(tmp_path / "b.db", entry(), redactor=Broken(()))
    assert store.state().refused == 2
    assert store.state().kept == 0
    assert '"not_redacted":{"RuntimeError":2}' in telemetry_log.getvalue()
    assert "bob" not in telemetry_log.getvalue()


def test_a_stream_that_cannot_be_read_is_not_kept(tmp_path):
    store = stored(tmp_path / "b.db", entry(answer=b"data: {}\n\n", is_stream=True, dialect="unheard of"))
    assert store.state().refused == 1
    assert shown(tmp_path / "b.db").answer is None


def test_a_long_body_is_cut_with_a_mark_and_a_huge_one_only_measured(tmp_path):
    long = msgspec.json.encode("wörd " * 1000)
    stored(tmp_path / "b.db", entry(request=long, answer=b"[" * 20_000), max_kept_bytes=1_000, max_read_bytes=10_000)
    kept = shown(tmp_path / "b.db")
    assert kept.request is not None
    assert len(kept.request) < 1_060
    assert kept.request.decode().endswith(f"…[left out: {len(long) - 1_000} more bytes]")
    assert kept.answer == b'"[left out: 20000 bytes]"'


def test_what_waits_is_bounded_and_what_is_dropped_is_counted(tmp_path, telemetry_log):
    store = BodyStore(body_settings(tmp_path / "b.db", max_waiting_bytes=5_000), ALL, DECODERS)
    taken = [store.take(entry(f"req_{number}")) for number in range(10)]
    assert taken == [True] * taken.count(True) + [False] * taken.count(False)
    assert 0 < taken.count(True) < 10
    store._thread.start()
    assert store.close(20)
    assert store.state().dropped == taken.count(False)
    assert store.state().kept == taken.count(True)
    assert not store.take(entry("late"))
    assert f'"no_room":{taken.count(False)}' in telemetry_log.getvalue()


def test_a_file_that_cannot_be_written_stops_nobody(tmp_path, telemetry_log):
    (tmp_path / "b.db").mkdir()
    store = stored(tmp_path / "b.db", entry())
    assert store.state().dropped == 1
    assert "cannot be used" in store.state().trouble
    assert '"not_written":1' in telemetry_log.getvalue()


def test_another_database_is_never_taken_for_one_of_bodies(tmp_path):
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as other:
        other.execute("CREATE TABLE calls (id)")
    with pytest.raises(StoreUnavailable, match="database of something else"):
        BodiesFile(tmp_path / "ledger.db").write([kept_row("a", 1)])


def kept_row(name: str, at_us: int) -> Kept:
    return Kept(
        id=name, at_us=at_us, door="d", tenant="", key="", status=200, form="full", request=b"x" * 2_000, answer=None
    )


def test_old_bodies_are_pruned_in_bounded_steps_and_the_file_shrinks(tmp_path):
    file = BodiesFile(tmp_path / "b.db")
    file.write([kept_row(f"r{number}", number) for number in range(500)])
    file._opened().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    before = (tmp_path / "b.db").stat().st_size
    steps = []
    while file.prune(450):
        steps.append(file.count())
    assert steps == [300, 100]
    assert file.count() == 50
    file._opened().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert (tmp_path / "b.db").stat().st_size < before / 2
    file.close()


def test_a_store_prunes_by_itself(tmp_path):
    file = BodiesFile(tmp_path / "b.db")
    file.write([kept_row("old", 1)])
    file.close()
    store = BodyStore.start(body_settings(tmp_path / "b.db"), ALL, DECODERS)
    assert store.close(20)
    with pytest.raises(NotFound):
        shown(tmp_path / "b.db", "old")


async def test_a_tap_passes_everything_on_and_hands_over_what_went_by(tmp_path):
    store = BodyStore.start(body_settings(tmp_path / "b.db", retention_seconds=1e12), ALL, DECODERS)
    client = Client()
    tap = store.tap(
        client,
        call_id="req_1",
        at_us=1,
        door="openai_chat",
        dialect="openai_chat",
        tenant="",
        key="dev",
        request=b'{"model":"m"}',
    )
    stream = openai_stream(["bob@", "example.com"])
    await tap.head(200, SSE)
    await tap.body(stream[:50], more=True)
    await tap.body(stream[50:], more=False)
    tap.finish()
    assert store.close(20)
    assert (client.status, client.data) == (200, stream)
    answer = msgspec.json.decode(shown(tmp_path / "b.db").answer or b"")
    assert (answer["complete"], answer["answer"]["choices"][0]["parts"][0]["text"]) == (True, "[email]")


async def test_a_tap_collects_no_more_than_would_be_read(tmp_path):
    store = BodyStore(body_settings(tmp_path / "b.db", max_read_bytes=10), ALL, DECODERS)
    client = Client()
    tap = store.tap(client, call_id="r", at_us=1, door="d", dialect="openai_chat", tenant="", key="", request=b"{}")
    await tap.head(200, JSON)
    for _ in range(5):
        await tap.body(b"123456", more=True)
    tap.finish()
    handed = store._inbox.get_nowait()
    assert handed is not None
    assert (handed.answer, handed.is_cut) == (b"123456", True)
    assert client.data == b"123456" * 5
    store._thread.start()
    store.close(20)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    planted.prose(),
    planted.secrets(),
    planted.prose(),
    st.lists(st.integers(0, 500), max_size=20),
    st.sampled_from(["content", "reasoning_content", "tool"]),
)
def test_no_planted_secret_reaches_the_store_whatever_the_cut(tmp_path, before, secret, after, cuts, field):
    """In the prompt, in the answer, in a stream's text, its reasoning or a tool's arguments, wherever the deltas are cut."""
    text = f"{before} {secret} {after}"
    if field == "tool":
        arguments = msgspec.json.encode({"note": text}).decode()
        stream, dialect = anthropic_stream(planted.pieces(arguments, cuts)), "anthropic"
    else:
        stream, dialect = openai_stream(planted.pieces(text, cuts), field), "openai_chat"
    path = tmp_path / "b.db"
    path.unlink(missing_ok=True)
    request = msgspec.json.encode({"messages": [{"role": "user", "content": text}], secret: 1})
    whole = msgspec.json.encode({"choices": [{"message": {"content": text}}]})
    stored(
        path,
        entry("req_1", request=request, answer=whole),
        entry("req_2", request=request, answer=stream, is_stream=True, dialect=dialect),
        entry("req_3", request=b"{}", answer=stream[: len(stream) // 2], is_stream=True, is_cut=True, dialect=dialect),
    )
    for name in ("req_1", "req_2"):
        kept = shown(path, name)
        assert kept.request is not None
        assert kept.answer is not None
        assert not any(secret in each for body in (kept.request, kept.answer) for each in strings(body))
    half = shown(path, "req_3").answer
    assert half is not None
    assert not any(secret in each for each in strings(half))


def strings(body: bytes) -> list[str]:
    """Every string of a document, and of JSON inside of them."""

    def walk(value: object) -> list[str]:
        match value:
            case str():
                inner: list[str] = []
                if value.startswith("{"):
                    try:
                        inner = walk(msgspec.json.decode(value))
                    except msgspec.DecodeError:
                        inner = []
                return [value, *inner]
            case dict():
                return [each for pair in value.items() for part in pair for each in walk(part)]
            case list():
                return [each for part in value for each in walk(part)]
            case _:
                return []

    return walk(msgspec.json.decode(body))
