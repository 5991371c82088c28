"""OpenAI's Responses API, both ways: `DIALECT` speaks it, `ResponsesTraits` says how a provider's form of it differs."""

from tollhouse.dialects.openai_responses.count import COUNTING, decode_count, encode_count
from tollhouse.dialects.openai_responses.dialect import DIALECT, ELSEWHERE
from tollhouse.dialects.openai_responses.traits import ResponsesTraits

__all__ = ["COUNTING", "DIALECT", "ELSEWHERE", "ResponsesTraits", "decode_count", "encode_count"]
