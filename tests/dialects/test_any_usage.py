"""Token counts in answers that are passed through."""

import json

import pytest

from tollhouse.chat.usage import Usage
from tollhouse.dialects.any_usage import MAX_BODY_BYTES, Watch, usage_in

OPENAI = {
    "input_tokens": 50,
    "output_tokens": 4_160,
    "total_tokens": 4_210,
    "input_tokens_details": {"text_tokens": 50},
}
PICTURE = "A" * 5_000_000


def test_a_streamed_picture_hides_no_counts():
    """The last event of OpenAI's images holds the picture and the usage; a large one has well over 4 MiB."""
    event = {"type": "image_generation.completed", "b64_json": PICTURE, "usage": OPENAI}
    data = b"data: %b\n\n" % json.dumps(event).encode()
    watch = Watch(is_stream=True)
    for start in range(0, len(data), 65_536):
        watch.feed(data[start : start + 65_536])
    assert watch.usage().output_tokens == 4_160


def test_ten_pictures_hide_no_counts():
    watch = Watch(is_stream=False)
    body = json.dumps({"data": [{"b64_json": PICTURE[:4_000_000]}] * 10, "usage": OPENAI}).encode()
    assert len(body) < MAX_BODY_BYTES
    watch.feed(body)
    assert watch.usage().output_tokens == 4_160


@pytest.mark.parametrize(
    "body",
    [
        b'{"\xff": 1}',
        b'{"usage": {"\xff": 1}}',
        b'{"usage": {"input_tokens": "\xff"}}',
        b'{"usage": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b'{"usageMetadata": {"promptTokenCount": "\xff"}}',
        b'{"usageMetadata": 7, "response": {"usage": []}}',
    ],
)
def test_what_cannot_be_read_has_no_usage(body: bytes):
    assert usage_in(body) == Usage()
    for is_stream in (False, True):
        watch = Watch(is_stream=is_stream)
        watch.feed(b"data: %b\n\n" % body if is_stream else body)
        assert watch.usage() == Usage()


def test_google_s_counts_are_the_dialect_s():
    """A count of nothing is left out there, and the total says what is missing."""
    said = {"promptTokenCount": 10, "toolUsePromptTokenCount": 5, "totalTokenCount": 40}
    assert usage_in(json.dumps({"usageMetadata": said}).encode()) == Usage(
        input_tokens=15, output_tokens=25, source="reported"
    )


def test_what_only_an_early_report_said_stays():
    """Anthropic's first event tells the prompt and its cache, the last one what was said."""
    creation = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 30}
    first = {"input_tokens": 5, "cache_creation_input_tokens": 30, "cache_creation": creation, "output_tokens": 1}
    watch = Watch(is_stream=True)
    for event in (
        {"type": "message_start", "message": {"usage": {**first, "cache_read_input_tokens": 0}}},
        {"type": "message_delta", "usage": {"output_tokens": 9}},
    ):
        watch.feed(b"data: %b\n\n" % json.dumps(event).encode())
    usage = watch.usage()
    assert (usage.input_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens) == (35, 30, 30)
    assert usage.output_tokens == 9
