"""Anthropic's Messages API, both ways: `DIALECT` speaks it, `AnthropicTraits` says how a provider's form of it differs."""

from typing import Final

from tollhouse.dialects.anthropic import failure, lane, wire
from tollhouse.dialects.anthropic.observer import AnthropicObserver
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.dialects.dialect import Glance, Observer, Peek
from tollhouse.errors import ProviderRefused, TollhouseError

__all__ = ["DIALECT", "Anthropic", "AnthropicTraits"]


class Anthropic:
    """`tollhouse.dialects.dialect.Dialect` for the Messages API.  It has no state."""

    name: Final = wire.NAME

    def peek(self, body: bytes) -> Peek:
        return lane.peek(body)

    def patch(self, peek: Peek, model: str, traits: AnthropicTraits) -> bytes:
        return lane.patch(peek, model, traits)

    def glance(self, body: bytes, traits: AnthropicTraits) -> Glance:  # noqa: ARG002
        return lane.glance(body)

    def observer(self, peek: Peek, traits: AnthropicTraits) -> Observer:  # noqa: ARG002
        return AnthropicObserver()

    def encode_error(self, error: TollhouseError, request_id: str) -> bytes:
        return failure.encode_error(error, request_id)

    def encode_stream_error(self, error: TollhouseError, request_id: str) -> bytes:
        return failure.encode_stream_error(error, request_id)

    def decode_error(self, status: int, body: bytes) -> ProviderRefused:
        return failure.decode_error(status, body)


DIALECT: Final = Anthropic()
