"""OpenAI's Responses API, both ways: `DIALECT` speaks it, `ResponsesTraits` says how a provider's form of it differs."""

from tollhouse.dialects.openai_responses.count import decode_count, encode_count, question_of
from tollhouse.dialects.openai_responses.dialect import DIALECT
from tollhouse.dialects.openai_responses.traits import ResponsesTraits

__all__ = ["DIALECT", "ResponsesTraits", "decode_count", "encode_count", "question_of"]
