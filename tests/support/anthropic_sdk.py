"""What the official `anthropic` SDK reads in an answer, without a network: the bytes come from a transport in memory."""

from typing import Any

import httpx2
from anthropic import Anthropic


def _client(body: bytes, content_type: str, status: int) -> Anthropic:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": content_type}, content=body)

    return Anthropic(
        api_key="k",
        base_url="http://provider.test",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )


def read_stream(body: bytes) -> dict[str, Any]:
    """The final message that the SDK's stream helper gathers.  Raises the SDK's own errors."""
    with (
        _client(body, "text/event-stream", 200) as client,
        client.messages.stream(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}]) as stream,
    ):
        message: dict[str, Any] = stream.get_final_message().model_dump(mode="json", warnings=False)
        return message


def read_message(body: bytes, *, status: int = 200) -> dict[str, Any]:
    """A whole answer as the SDK reads it.  Raises the SDK's own errors."""
    with _client(body, "application/json", status) as client:
        message = client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
        read: dict[str, Any] = message.model_dump(mode="json", warnings=False)
        return read


def read_models(body: bytes) -> list[dict[str, Any]]:
    """A model list as the SDK reads it."""
    with _client(body, "application/json", 200) as client:
        return [model.model_dump(mode="json", warnings=False) for model in client.models.list()]


def read_count(body: bytes) -> int:
    """A token count as the SDK reads it."""
    with _client(body, "application/json", 200) as client:
        return client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "hi"}]).input_tokens
