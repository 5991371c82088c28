"""OpenAI's Completions of before the chat (platform.openai.com/docs/api-reference/completions): a prompt in, a text out.

Older tools and editors still speak it.  The prompt becomes a user's message, so that every model can answer.  What only a model
without a chat can do (to go on exactly where the prompt ends, to fill a gap before `suffix`, to echo) is refused with the
path that reaches such a model as it is: `/{provider}/v1/completions`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tollhouse.chat.events import (
    Cited,
    Delta,
    Ended,
    Event,
    Failed,
    Finished,
    LogprobsReported,
    PartOpened,
    Pinged,
    Started,
)
from tollhouse.chat.events import UsageReported as Used
from tollhouse.chat.fold import failure as failure_of
from tollhouse.chat.model import FinishReason, Message, Request, Response, Text, TokenLogprob
from tollhouse.chat.receipt import Receipt
from tollhouse.chat.usage import Usage
from tollhouse.dialects.client_side import ClientSide
from tollhouse.dialects.dialect import Dialect, ModelCard, Peek, StreamEncoder
from tollhouse.dialects.head_lines import HeadLines
from tollhouse.dialects.openai_chat import decode_request as chat
from tollhouse.dialects.openai_chat import failure, models
from tollhouse.dialects.openai_chat import peek as top
from tollhouse.dialects.openai_chat.counts import write_usage
from tollhouse.dialects.openai_chat.encoder import PING
from tollhouse.dialects.openai_chat.finish import finish_word
from tollhouse.dialects.openai_chat.observer import DONE
from tollhouse.dialects.quotas import openai_headers
from tollhouse.errors import BadRequest, Quota, TollhouseError

NAME: Final = "openai_completions"
DEFAULT_MAX_TOKENS: Final = 16
"""What the API documents for a request that says nothing."""
_RAW_PATH: Final = "For a model without a chat, use the provider's own path: /{provider}/v1/completions."
_CHAT_MESSAGES: Final = msgspec.Raw(b'[{"role":"user","content":""}]')
_NO_CITATIONS: Final = "a completion is text only, without what it cites"
_NOT_CHAT: Final = ("prompt", "suffix", "echo", "best_of", "logprobs")

_prompt: Final = msgspec.json.Decoder(str | list[str | int | list[int]])


class OpenAICompletions(ClientSide):
    """See `tollhouse.dialects.dialect.Dialect`; its client's side."""

    name = NAME

    def peek(self, body: bytes) -> Peek:
        """The top level of a request."""
        peek = top.peek(body)
        if peek.max_output_tokens is None:
            peek = msgspec.structs.replace(peek, max_output_tokens=DEFAULT_MAX_TOKENS)
        return peek

    def decode_request(self, body: bytes) -> Request:
        """The request, with its prompt as a user's message."""
        fields = top.read_fields(body, "`model` and `prompt`")
        _check(fields)
        prompt = _prompt_of(fields.get("prompt"))
        likely = top.whole_number_of(fields, "logprobs")
        asked = {name: raw for name, raw in fields.items() if name not in _NOT_CHAT}
        asked["messages"] = _CHAT_MESSAGES
        request = chat.decode_request(msgspec.json.encode(asked))
        return msgspec.structs.replace(
            request,
            messages=(Message("user", (Text(prompt),)),),
            max_output_tokens=request.max_output_tokens or DEFAULT_MAX_TOKENS,
            logprobs=likely is not None,
            top_logprobs=likely or None,
        )

    def encode_response(self, response: Response, request: Request, receipt: Receipt) -> bytes:  # noqa: ARG002
        """A whole answer."""
        choices = []
        for choice in response.choices:
            text = "".join(part.text for part in choice.parts if isinstance(part, Text))
            for part in choice.parts:
                if not isinstance(part, Text):
                    receipt.dropped(f"choices[{choice.index}]", _only_text(part))
                elif part.citations:
                    receipt.dropped(f"choices[{choice.index}]", _NO_CITATIONS)
            choices.append(
                {
                    "text": text,
                    "index": choice.index,
                    "logprobs": _logprobs(choice.logprobs, 0) if choice.logprobs else None,
                    "finish_reason": _finish(choice.finish, choice.finish_detail),
                }
            )
        body: dict[str, object] = {
            "id": response.id or "cmpl-unnamed",
            "object": "text_completion",
            "created": response.created or 0,
            "model": response.model,
            "choices": choices,
        }
        if not response.usage.is_empty:
            body["usage"] = write_usage(response.usage)
        return msgspec.json.encode(body)

    def stream_encoder(self, request: Request, receipt: Receipt) -> StreamEncoder:
        """An encoder for one answer."""
        return _Encoder(request, receipt)

    def encode_error(self, error: TollhouseError, request_id: str) -> bytes:
        """The JSON body for an error."""
        return failure.encode_error(error, request_id)

    def encode_stream_error(self, error: TollhouseError, request_id: str) -> bytes:
        """The event that ends a broken stream."""
        return failure.encode_stream_error(error, request_id)

    def encode_quotas(self, quotas: Sequence[Quota], now_seconds: float) -> HeadLines:
        """How the caller's rates stand."""
        return openai_headers(quotas, now_seconds)

    def encode_models(self, cards: Sequence[ModelCard]) -> bytes:
        """A model list."""
        return models.encode_models(cards)

    def encode_model(self, card: ModelCard) -> bytes:
        """One model."""
        return models.encode_model(card)


DIALECT: Final[Dialect[Any]] = OpenAICompletions()


def _check(fields: Mapping[str, msgspec.Raw]) -> None:
    """Refuses what a chat model cannot do."""
    if not top.is_null(fields.get("suffix")):
        raise BadRequest("`suffix` asks to fill a gap, which a chat model cannot.", param="suffix", hint=_RAW_PATH)
    if top.flag_of(fields, "echo"):
        raise BadRequest(
            "`echo` asks for the prompt back, which a chat model does not give.", param="echo", hint=_RAW_PATH
        )
    best_of, count = top.whole_number_of(fields, "best_of"), top.whole_number_of(fields, "n") or 1
    if best_of is not None and best_of > count:
        raise BadRequest("`best_of` over `n` is not known here: ask with `n`.", param="best_of", hint=_RAW_PATH)


def _prompt_of(raw: msgspec.Raw | None) -> str:
    if raw is None or top.is_null(raw):
        raise BadRequest("The request has no prompt: set `prompt` to a text.", param="prompt")
    try:
        given = _prompt.decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequest("`prompt` must be a text.", param="prompt") from error
    if isinstance(given, str):
        return given
    if len(given) == 1 and isinstance(given[0], str):
        return given[0]
    if any(not isinstance(entry, str) for entry in given):
        raise BadRequest(
            "`prompt` holds tokens, which only one model knows: send text.", param="prompt", hint=_RAW_PATH
        )
    raise BadRequest(f"`prompt` holds {len(given)} texts: send one a call.", param="prompt", hint=_RAW_PATH)


def _only_text(part: object) -> str:
    return f"a completion is text only, without the {type(part).__name__.lower()}"


def _finish(reason: FinishReason | None, detail: str | None) -> str:
    word = finish_word(reason, detail, is_legacy=False, has_refusal=False)
    return "stop" if word == "tool_calls" else word


def _logprobs(tokens: Iterable[TokenLogprob], offset: int) -> dict[str, object]:
    """The older form: lists side by side, with where each token stands in the text."""
    listed = list(tokens)
    offsets = []
    for token in listed:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in listed],
        "token_logprobs": [token.logprob for token in listed],
        "top_logprobs": [{other.token: other.logprob for other in token.top} for token in listed],
        "text_offset": offsets,
    }


class _Encoder:
    """See `tollhouse.dialects.dialect.StreamEncoder`."""

    __slots__ = ("_created", "_id", "_includes_usage", "_kinds", "_model", "_offsets", "_receipt", "_usage")

    def __init__(self, request: Request, receipt: Receipt) -> None:
        self._receipt = receipt
        self._includes_usage = request.include_usage
        self._id, self._model, self._created = "cmpl-unnamed", request.model, 0
        self._kinds: dict[int, type] = {}
        self._offsets: dict[int, int] = {}
        self._usage = Usage()

    def encode(self, event: Event) -> bytes:
        """Bytes for the client, often empty."""
        match event:
            case Delta():
                is_text = self._kinds.get(event.choice) is Text
                return self._chunk(event.choice, event.text) if is_text and event.text else b""
            case Started():
                self._id = event.id or self._id
                self._model, self._created = event.model or self._model, event.created or 0
            case PartOpened():
                self._kinds[event.choice] = type(event.part)
                if isinstance(event.part, Text):
                    if event.part.citations:
                        self._receipt.dropped(f"choices[{event.choice}]", _NO_CITATIONS)
                    return self._chunk(event.choice, event.part.text) if event.part.text else b""
                self._receipt.dropped(f"choices[{event.choice}]", _only_text(event.part))
            case LogprobsReported():
                offset = self._offsets.get(event.choice, 0)
                self._offsets[event.choice] = offset + sum(len(token.token) for token in event.tokens)
                return self._chunk(event.choice, "", logprobs=_logprobs(event.tokens, offset))
            case Finished():
                return self._chunk(event.choice, "", finish=_finish(event.reason, event.detail))
            case Used():
                self._usage = event.usage
            case Pinged():
                return PING
            case Cited():
                self._receipt.dropped(f"choices[{event.choice}]", _NO_CITATIONS)
            case Failed():
                return failure.encode_stream_error(failure_of(event), "")
            case Ended():
                return self._last() + DONE
            case _:
                pass
        return b""

    def ping(self) -> bytes:
        """A comment."""
        return PING

    def _chunk(self, index: int, text: str, *, logprobs: object = None, finish: str | None = None) -> bytes:
        choice = {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}
        return self._event([choice], None)

    def _last(self) -> bytes:
        if not self._includes_usage or self._usage.is_empty:
            return b""
        return self._event([], write_usage(self._usage))

    def _event(self, choices: list[object], usage: object) -> bytes:
        body: dict[str, object] = {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }
        if self._includes_usage:
            body["usage"] = usage
        return b"data: " + msgspec.json.encode(body) + b"\n\n"
