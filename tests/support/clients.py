"""What a client of either dialect sends, and what it understands of the answer: plain JSON and bytes, no SDK.

    client = CLIENTS["anthropic"]
    answer = await gateway.ask(client.path, client.question("smart", stream=True))
    said = client.read(answer.body)
    assert said.is_whole and said.text == "…"

`LANES` are all pairs of a client's dialect and a provider's type; two of them forward bytes, two translate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from support.fake_provider import FakeProvider

PROMPT: Final = "What stood where roads met?"
PROVIDERS: Final = {"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5"}
"""Provider types that the tests configure, each with a model that has a price."""
KEYS: Final = {"openai": "sk-Qq7Zv1Xw9Kp3Lm5Nt8Rb2Yd", "anthropic": "sk-ant-Hj4Fs6Gc8Vb0Wn2Mx9Tz"}
LANES: Final = [(client, provider) for client in ("openai", "anthropic") for provider in ("openai", "anthropic")]


@dataclass(frozen=True, kw_only=True)
class Said:
    """An answer as its reader understood it."""

    text: str = ""
    finish: str | None = None
    ends: int = 0
    """How many end markers (`[DONE]`, `message_stop`) a stream had; a whole body has one."""
    is_last: bool = True
    """Whether nothing came after the first end marker or error."""
    error: str | None = None
    """The error's message."""
    error_type: str | None = None
    usage: dict[str, Any] | None = None

    @property
    def is_whole(self) -> bool:
        """A complete answer, ended once and without an error."""
        return self.ends == 1 and self.is_last and self.error is None and self.finish is not None

    @property
    def is_broken(self) -> bool:
        """An answer that says itself that it is not complete."""
        return self.ends == 0 and self.is_last and bool(self.error)


class Client(Protocol):
    """One dialect, as its clients know it."""

    path: str
    door: str

    def question(self, model: str, *, stream: bool = False, **fields: object) -> dict[str, object]:
        """A request body."""
        ...

    def read(self, body: bytes) -> Said:
        """A streamed answer."""
        ...

    def read_whole(self, body: bytes) -> Said:
        """An answer, or an error, in one piece."""
        ...


class OpenAIClient:
    """Chat Completions."""

    path = "/v1/chat/completions"
    door = "openai_chat"

    def question(self, model: str, *, stream: bool = False, **fields: object) -> dict[str, object]:
        return {"model": model, "messages": [{"role": "user", "content": PROMPT}], "stream": stream, **fields}

    def read(self, body: bytes) -> Said:
        text, finish, ends, error, usage, is_last = "", None, 0, None, None, True
        for _, data in _events(body):
            if ends or error:
                is_last = False
            if data == "[DONE]":
                ends += 1
                continue
            chunk = msgspec.json.decode(data)
            error = chunk.get("error") or error
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices", ()):
                text += choice["delta"].get("content") or ""
                finish = choice["finish_reason"] or finish
        return _said(text, finish, ends, error, usage, is_last=is_last)

    def read_whole(self, body: bytes) -> Said:
        answer = msgspec.json.decode(body)
        if "error" in answer:
            return _said("", None, 0, answer["error"], None)
        choice = answer["choices"][0]
        return _said(choice["message"]["content"] or "", choice["finish_reason"], 1, None, answer["usage"])


class AnthropicClient:
    """The Messages API."""

    path = "/v1/messages"
    door = "anthropic"

    def question(self, model: str, *, stream: bool = False, **fields: object) -> dict[str, object]:
        messages = [{"role": "user", "content": PROMPT}]
        return {"model": model, "max_tokens": 500, "messages": messages, "stream": stream, **fields}

    def read(self, body: bytes) -> Said:
        text, finish, ends, error, usage, is_last = "", None, 0, None, None, True
        for name, data in _events(body):
            if ends or error:
                is_last = False
            event = msgspec.json.decode(data)
            assert name == event["type"], "Anthropic's SDK goes by the event's name"
            match event:
                case {"type": "message_stop"}:
                    ends += 1
                case {"type": "error", "error": told}:
                    error = told
                case {"type": "content_block_delta", "delta": {"text": piece}}:
                    text += piece
                case {"type": "message_delta", "delta": delta}:
                    finish = delta["stop_reason"] or finish
                    usage = event.get("usage") or usage
                case _:
                    pass
        return _said(text, finish, ends, error, usage, is_last=is_last)

    def read_whole(self, body: bytes) -> Said:
        answer = msgspec.json.decode(body)
        if answer["type"] == "error":
            return _said("", None, 0, answer["error"], None)
        text = "".join(block.get("text", "") for block in answer["content"])
        return _said(text, answer["stop_reason"], 1, None, answer["usage"])


CLIENTS: Final[dict[str, Client]] = {"openai": OpenAIClient(), "anthropic": AnthropicClient()}


def settings(fake: FakeProvider, *, deadlines: str = "{}", **routes: str) -> str:
    """A configuration of both provider types at the fake, with an alias for each (`to-openai`, `to-anthropic`) and `routes`.

    A third provider, `spare`, is there to take over.  `deadlines` are not its, so that it may take its time.
    """
    providers = ", ".join(
        f"{name}: {{base_url: '{fake.base_url(name)}', api_key: {KEYS[name]}, deadlines: {deadlines}, models: [{model}]}}"
        for name, model in PROVIDERS.items()
    )
    providers += f", spare: {{type: openai-compatible, base_url: '{fake.url}/v1', api_key: x}}"
    aliases = {f"to-{name}": f"{name}/{model}" for name, model in PROVIDERS.items()} | {
        name.replace("_", "-"): route for name, route in routes.items()
    }
    models = ", ".join(f"{name}: {route}" for name, route in aliases.items())
    return f"providers: {{{providers}}}\nmodels: {{{models}}}"


def _events(body: bytes) -> Iterator[tuple[str, str]]:
    """Name and data of each event; comments are skipped."""
    blocks = body.decode().replace("\r\n", "\n").split("\n\n")
    assert blocks[-1] == "", "a stream ends with a whole event"
    for block in blocks[:-1]:
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        name = "".join(line[6:].strip() for line in lines if line.startswith("event:"))
        data = "\n".join(line[5:].strip() for line in lines if line.startswith("data:"))
        if data:
            yield name, data


def _said(
    text: str,
    finish: str | None,
    ends: int,
    error: dict[str, Any] | None,
    usage: dict[str, Any] | None,
    *,
    is_last: bool = True,
) -> Said:
    return Said(
        text=text,
        finish=finish,
        ends=ends,
        is_last=is_last,
        error=None if error is None else error["message"],
        error_type=None if error is None else error["type"],
        usage=usage,
    )
