"""The fake provider and the load generator, over real sockets: the load generator must not believe a wrong answer."""

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from bench.compiled import BenchError, Load, compile_all, fake_provider, run_load
from bench.payloads import Dialect, Stream, end_of, http_request

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the bench measures on Linux only"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler"),
]
ANYWHERE = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


@pytest.fixture(scope="module")
def provider_port() -> Iterator[int]:
    compile_all()
    with fake_provider(ANYWHERE) as port:
        yield port


def load_of(port: int, dialect: Dialect, stream: Stream | None) -> Load:
    request = http_request(dialect, model="chat", key="k", stream=stream)
    return Load(port=port, request=request, end=end_of(dialect, stream), requests=12, connections=4, warmup=4)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_json_answers_are_read_whole(provider_port, dialect):
    result = run_load(load_of(provider_port, dialect, None), ANYWHERE)
    assert (result.requests, result.events) == (12, 0)
    assert 1300 < result.body_bytes / 12 < 2000


@pytest.mark.parametrize(("dialect", "around"), [(Dialect.OPENAI, 4), (Dialect.ANTHROPIC, 5)])
@pytest.mark.parametrize("gap_us", [0, 500])
def test_a_stream_has_the_events_that_its_request_asks_for(provider_port, dialect, around, gap_us):
    """`around` counts the format's own: role, finish, usage and [DONE]; or the starts, stops and the usage of Anthropic's."""
    result = run_load(load_of(provider_port, dialect, Stream(events=30, gap_us=gap_us)), ANYWHERE)
    assert result.events == 12 * (30 + around)


def test_at_a_rate_every_request_is_sent_once(provider_port):
    result = run_load(replace(load_of(provider_port, Dialect.OPENAI, None), rate=2000.0), ANYWHERE)
    assert result.requests == 12


def test_the_clocks_are_read_between_warm_up_and_measurement(provider_port):
    calls: list[str] = []
    run_load(load_of(provider_port, Dialect.OPENAI, None), ANYWHERE, before=lambda: calls.append("read"))
    assert calls == ["read"]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 1\r\n\r\n}", "not a 200"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "closed in the middle"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n}\r\n", "closed in the middle"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nError", "does not end with"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n}more", "after the end of an answer"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "chunk size"),
        (b"HTTP/1.1 200 OK\r\n\r\n}", "neither a length nor chunks"),
    ],
)
def test_a_wrong_answer_ends_the_run(provider_port, answer, complaint):
    with scripted_peer(answer) as port, pytest.raises(BenchError, match=complaint):
        run_load(replace(load_of(port, Dialect.OPENAI, None), connections=1, warmup=0), ANYWHERE)


def test_an_unknown_path_is_refused_by_the_fake_provider(provider_port):
    load = replace(
        load_of(provider_port, Dialect.OPENAI, None), request=b"POST /v2/chat HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
    )
    with pytest.raises(BenchError, match="404 Not Found"):
        run_load(load, ANYWHERE)


@contextmanager
def scripted_peer(answer: bytes) -> Iterator[int]:
    """Answers one request with these bytes and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
