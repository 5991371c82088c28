from typing import Any

import pytest

from tollhouse.dialects import openai_chat
from tollhouse.gateway.call import Call
from tollhouse.policy.identity import ANONYMOUS

BODY = b'{"model":"in-the-body","stream":false,"messages":[{"role":"user","content":"Hi"}]}'


def call(**fields: Any) -> Call:
    return Call(
        id="req_1",
        door="openai_chat",
        dialect=openai_chat.DIALECT,
        body=BODY,
        headers=(),
        principal=ANONYMOUS,
        address="",
        arrived=0.0,
        arrived_at_us=0,
        **fields,
    )


@pytest.mark.parametrize(
    ("fields", "model", "stream"),
    [
        ({}, "in-the-body", False),
        ({"model": "in-the-path"}, "in-the-path", False),
        ({"stream": True}, "in-the-body", True),
        ({"model": "in-the-path", "stream": True}, "in-the-path", True),
    ],
)
def test_what_a_path_says_goes_before_what_a_body_says(fields: dict[str, Any], model: str, stream: bool):
    asked = call(**fields)
    peek, request = asked.peek(), asked.decode()
    assert (peek.model, peek.stream) == (request.model, request.stream) == (model, stream)
