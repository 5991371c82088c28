import json

import pytest

from bench.gateway import KEY
from bench.payloads import Dialect, Stream, end_of, http_request


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("stream", [None, Stream(events=50, gap_us=1000)])
def test_the_length_in_the_head_is_the_body_s(dialect, stream):
    head, _, body = http_request(dialect, model="chat", key=KEY, stream=stream).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.split(b"\r\n")
    assert json.loads(body)["model"] == "chat"


@pytest.mark.parametrize("dialect", list(Dialect))
def test_the_pacing_stands_in_the_last_prompt_where_no_translation_drops_it(dialect):
    body = json.loads(http_request(dialect, model="chat", key=KEY, stream=Stream(7, 20_000)).partition(b"\r\n\r\n")[2])
    assert body["stream"] is True
    assert body["messages"][-1]["content"].endswith("events=7 gap_us=20000")


def test_a_whole_stream_ends_in_its_dialect_s_own_way():
    stream = Stream(1, 0)
    assert end_of(Dialect.OPENAI, stream) == "data: [DONE]"
    assert end_of(Dialect.ANTHROPIC, stream) == '{"type":"message_stop"}'
