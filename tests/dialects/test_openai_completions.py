from typing import Any

import msgspec
import pytest
from hypothesis import given

from support.conversations import responses
from tollhouse.chat.fold import unfold
from tollhouse.chat.model import Choice, Citation, Request, Response, Text, Thinking, TokenLogprob
from tollhouse.chat.receipt import Receipt
from tollhouse.dialects.openai_completions import DEFAULT_MAX_TOKENS, DIALECT
from tollhouse.errors import BadRequest


def body(**fields: Any) -> bytes:
    return msgspec.json.encode({"model": "m", "prompt": "Once", **fields})


def request(**fields: Any) -> Request:
    return DIALECT.decode_request(body(**fields))


def streamed(response: Response, asked: Request) -> list[dict[str, Any]]:
    encoder = DIALECT.stream_encoder(asked, Receipt())
    lines = b"".join(encoder.encode(event) for event in unfold(response)).split(b"\n\n")
    assert lines[-2:] == [b"data: [DONE]", b""]
    return [msgspec.json.decode(line.removeprefix(b"data: ")) for line in lines[:-2]]


def test_a_prompt_is_a_users_message():
    asked = request(max_tokens=5, temperature=0.5, stop=["\n"], n=2, seed=1, user="u", logprobs=3)
    (message,) = asked.messages
    assert (message.role, message.parts) == ("user", (Text("Once"),))
    assert (asked.max_output_tokens, asked.temperature, asked.stop, asked.choices) == (5, 0.5, ("\n",), 2)
    assert (asked.logprobs, asked.top_logprobs, asked.seed, asked.user) == (True, 3, 1, "u")


def test_who_says_no_limit_gets_the_documented_one():
    assert DIALECT.peek(body()).max_output_tokens == request().max_output_tokens == DEFAULT_MAX_TOKENS


@pytest.mark.parametrize("prompt", ["a", ["a"]])
def test_one_text_may_stand_in_a_list(prompt: object):
    assert request(prompt=prompt).messages[0].parts == (Text("a"),)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1], [2]]}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"suffix": "."}, "suffix"),
        ({"echo": True}, "echo"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": "many"}, "logprobs"),
    ],
)
def test_what_a_chat_cannot_do_is_refused(fields: dict[str, Any], param: str):
    with pytest.raises(BadRequest) as refused:
        request(**fields)
    assert refused.value.param == param


def test_log_probabilities_have_their_older_form():
    tokens = (TokenLogprob("He", -0.1, None, (TokenLogprob("Hi", -2.0),)), TokenLogprob("llo", -0.2))
    answer = Response(id="r", model="m", choices=(Choice(parts=(Text("Hello"),), finish="stop", logprobs=tokens),))
    whole = msgspec.json.decode(DIALECT.encode_response(answer, request(logprobs=1), Receipt()))
    form = {
        "tokens": ["He", "llo"],
        "token_logprobs": [-0.1, -0.2],
        "top_logprobs": [{"Hi": -2.0}, {}],
        "text_offset": [0, 2],
    }
    assert whole["choices"][0]["logprobs"] == form
    pieces = [piece["choices"][0]["logprobs"] for piece in streamed(answer, request(stream=True, logprobs=1))]
    assert [piece for piece in pieces if piece] == [form]


def test_what_is_no_text_is_named_in_the_receipt():
    answer = Response(id="r", model="m", choices=(Choice(parts=(Thinking("hm"), Text("a")), finish="stop"),))
    receipt = Receipt()
    whole = msgspec.json.decode(DIALECT.encode_response(answer, request(), receipt))
    assert whole["choices"][0]["text"] == "a"
    assert "thinking" in receipt.header()


@given(responses())
def test_a_stream_says_what_a_whole_answer_says(answer: Response):
    whole = msgspec.json.decode(DIALECT.encode_response(answer, request(), Receipt()))
    pieces = streamed(answer, request(stream=True, stream_options={"include_usage": True}))
    for choice in whole["choices"]:
        mine = [c for piece in pieces for c in piece["choices"] if c["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in mine) == choice["text"]
        assert [piece["finish_reason"] for piece in mine if piece["finish_reason"]] == [choice["finish_reason"]]
    assert pieces[-1].get("usage") == whole.get("usage")


def test_what_a_text_cites_is_named_in_the_receipt():
    text = Text("Hi", citations=(Citation(url="https://example.com"),))
    answer = Response(id="x", model="m", choices=(Choice(parts=(text,), finish="stop"),))
    whole, stream = Receipt(), Receipt()
    DIALECT.encode_response(answer, request(), whole)
    encoder = DIALECT.stream_encoder(request(), stream)
    for event in unfold(answer):
        encoder.encode(event)
    assert whole.entries == stream.entries
    assert "cites" in whole.header()
