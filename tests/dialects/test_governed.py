"""No field goes to a provider past the one that was checked."""

import pytest

from tollhouse.dialects import anthropic, openai_chat, openai_completions, openai_responses
from tollhouse.dialects.dialect import Dialect
from tollhouse.dialects.governed import check_governed
from tollhouse.dialects.openai_chat.embeddings import EMBEDDINGS
from tollhouse.errors import BadRequest


@pytest.mark.parametrize("name", ["Model", "MODEL", "Stream", "N", "Max_Tokens", "models", "Models", "fallbacks"])
def test_a_field_that_could_stand_for_a_governed_one_is_refused(name: str):
    with pytest.raises(BadRequest) as refused:
        check_governed(["model", name])
    assert refused.value.param == name


def test_other_fields_may_be_written_as_they_like():
    check_governed(["model", "n", "max_tokens", "enableThinking", "X-Other", "größe", "123", ""])


@pytest.mark.parametrize(
    "dialect",
    [anthropic.DIALECT, openai_chat.DIALECT, openai_completions.DIALECT, openai_responses.DIALECT, EMBEDDINGS],
    ids=lambda dialect: type(dialect).__name__,
)
def test_every_dialect_with_json_of_its_own_looks_at_them(dialect: Dialect[object]):
    with pytest.raises(BadRequest, match="models"):
        dialect.peek(b'{"model":"cheap","models":["dear"],"messages":[],"input":"a","prompt":"a","max_tokens":1}')
