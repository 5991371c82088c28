"""A model of the gateway as `llm` knows models."""

from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Any, Final

import llm
import msgspec
from llm.models import AsyncConversation, Conversation, EmbeddingModel
from llm.parts import StreamEvent

from tollhouse.client.answer import Answer
from tollhouse.client.asynchronous import AsyncClient
from tollhouse.client.failures import ClientError
from tollhouse.client.llm_plugin.turns import Pieces, request_of
from tollhouse.client.synchronous import Client

ATTACHMENTS: Final = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "application/pdf",
        "text/plain",
        "audio/wav",
        "audio/mpeg",
        "audio/mp3",
    }
)


class Gateway:
    """The way to the gateway, which all its models share.  It opens nothing before the first call."""

    def __init__(self) -> None:
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """For programs without an event loop.  Raises `BadSettings`."""
        if self._client is None:
            self._client = Client(**_settings())
        return self._client

    def asynchronous(self) -> AsyncClient:
        """For one call on an event loop; close it.  Raises `BadSettings`."""
        return AsyncClient(**_settings())

    def names(self) -> tuple[str, tuple[str, ...]]:
        """Where the gateway is, and what it has.  Raises `ClientError`."""
        with Client(**_settings()) as client:
            return client.settings.where, client.models().ids


def _settings() -> Any:
    """What `llm keys set tollhouse` or the environment says; all else is the client's own business (docs/client.md)."""
    token = llm.get_key(alias="tollhouse", env="TOLLHOUSE_TOKEN")
    settings: dict[str, Any] = {"mode": "proxy"}
    if token:
        settings["token"] = token
    return settings


class Asking(llm.Model.Options):
    """`-o temperature 0.2`"""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: str | None = None
    effort: str | None = None


class _Shared:
    """What both kinds of model are."""

    can_stream = True
    supports_schema = True
    supports_tools = True

    def __init__(self, model_id: str, name: str, gateway: Gateway) -> None:
        self.model_id = model_id
        self._name = name
        self._gateway = gateway

    def __str__(self) -> str:
        return f"Tollhouse: {self.model_id}"


class GatewayModel(_Shared, llm.Model):
    """One model, for programs without an event loop."""

    attachment_types = ATTACHMENTS
    Options = Asking

    def execute(self, prompt: Any, stream: bool, response: Any, conversation: Conversation | None) -> Iterator[Any]:  # noqa: FBT001  # as `llm` calls it
        """Yields the answer's pieces.  Raises `llm.ModelError`."""
        del conversation  # the prompt has all of it
        try:
            request = request_of(prompt, self._name)
            pieces = Pieces()
            if stream:
                with self._gateway.client.stream(request) as streamed:
                    for batch in streamed.batches():
                        yield from pieces.of(batch)
                    answer = streamed.answer
            else:
                answer = self._gateway.client.chat(request)
                yield from pieces.whole(answer)
            _finish(response, answer)
        except ClientError as error:
            raise llm.ModelError(str(error)) from error


class AsyncGatewayModel(_Shared, llm.AsyncModel):
    """The same on an event loop."""

    attachment_types = ATTACHMENTS
    Options = Asking

    async def execute(
        self,
        prompt: Any,
        stream: bool,  # noqa: FBT001  # as `llm` calls it
        response: Any,
        conversation: AsyncConversation | None,
    ) -> AsyncGenerator[str | StreamEvent, None]:
        """Yields the answer's pieces.  Raises `llm.ModelError`."""
        del conversation
        try:
            request = request_of(prompt, self._name)
            pieces = Pieces()
            async with self._gateway.asynchronous() as client:
                if stream:
                    async with client.stream(request) as streamed:
                        async for batch in streamed.batches():
                            for piece in pieces.of(batch):
                                yield piece
                        answer = streamed.answer
                else:
                    answer = await client.chat(request)
                    for piece in pieces.whole(answer):
                        yield piece
            _finish(response, answer)
        except ClientError as error:
            raise llm.ModelError(str(error)) from error


class EmbeddingGatewayModel(EmbeddingModel):
    """One model that makes vectors."""

    supports_text = True
    supports_binary = False

    def __init__(self, model_id: str, name: str, gateway: Gateway) -> None:
        self.model_id = model_id
        self._name = name
        self._gateway = gateway

    def embed_batch(self, items: Iterable[str | bytes], *, key: str | None = None) -> Iterator[list[float]]:
        """A vector for each text.  Raises `llm.ModelError`."""
        del key  # the client has its own
        texts = [item if isinstance(item, str) else item.decode() for item in items]
        try:
            embedded = self._gateway.client.embed(texts, model=self._name)
        except ClientError as error:
            raise llm.ModelError(str(error)) from error
        for vector in embedded.vectors:
            yield list(vector)


def _finish(response: Any, answer: Answer) -> None:
    """Tells `llm` what it keeps of an answer beside its words."""
    for call in answer.tool_calls:
        response.add_tool_call(
            llm.ToolCall(name=call.name, arguments=_arguments(call.name, call.arguments), tool_call_id=call.id)
        )
    usage = answer.usage
    details = {
        name: count
        for name, count in (
            ("cache_read_tokens", usage.cache_read_tokens),
            ("cache_write_tokens", usage.cache_write_tokens),
            ("reasoning_tokens", usage.reasoning_tokens),
        )
        if count
    }
    response.set_usage(input=usage.input_tokens, output=usage.output_tokens, details=details or None)
    if answer.model:
        response.set_resolved_model(answer.model)
    response.response_json = {
        "request_id": answer.request_id,
        "finish": answer.finish,
        "cost_nano": answer.cost_nano,
        "receipt": answer.receipt,
    }


def _arguments(name: str, text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise llm.ModelError(
            f"The model's call of {name} is no JSON object; its answer may have been cut off."
        ) from error
