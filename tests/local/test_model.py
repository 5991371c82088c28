"""The real model in its real process.  One process serves most tests; each of the others costs a load of about a second."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from support.local_model import shared_model
from tollhouse.errors import LocalModelUnavailable, ProviderRefused
from tollhouse.local.forced_calls import ForcedCalls
from tollhouse.local.lifecycle import Restarts, State
from tollhouse.local.runner import LocalModel
from tollhouse.local.settings import LocalSettings, settings_for
from tollhouse.local.store import StoredModel
from tollhouse.local.talk import Finished, Turn, Words, stream_answer
from tollhouse.upstream.address import parse_address, target
from tollhouse.upstream.transport import Deadlines, Outgoing, Transport
from tollhouse.upstream.wire import WireTransport

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

ASK = [Turn("user", "What is the capital of France? Answer in one sentence.")]
CONTEXT_TOKENS = 8192


@pytest.fixture(scope="module")
def stored() -> StoredModel:
    return shared_model()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model(stored: StoredModel) -> AsyncIterator[LocalModel]:
    model = LocalModel(settings_for(stored, slots=1, context_tokens=CONTEXT_TOKENS, threads=1))
    await model.start()
    try:
        yield model
    finally:
        await model.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def transport() -> AsyncIterator[Transport]:
    transport = WireTransport()
    try:
        yield transport
    finally:
        await transport.aclose()


def request_to(model: LocalModel, path: str, body: bytes, *, key: str | None = None) -> Outgoing:
    """A POST to the model's own port."""
    address = parse_address(model.base_url)
    authorization = f"Bearer {model.api_key if key is None else key}".encode()
    headers = ((b"authorization", authorization), (b"content-type", b"application/json"))
    return Outgoing(address=address, method=b"POST", target=target(address, path), headers=headers, body=body)


async def call(transport: Transport, request: Outgoing) -> tuple[int, bytes]:
    answer = await transport.send(request, Deadlines())
    return answer.status, await answer.read_all(1 << 20)


async def test_a_real_answer_streams_word_by_word_with_its_usage(transport: Transport, model: LocalModel) -> None:
    items = [item async for item in stream_answer(transport, model, ASK, max_tokens=40, temperature=0.0)]
    words = [item.text for item in items if isinstance(item, Words)]
    end = items[-1]
    assert "Paris" in "".join(words)
    assert len(words) > 3
    assert isinstance(end, Finished)
    assert (end.reason, end.output_tokens >= len(words), end.input_tokens > 10) == ("stop", True, True)


async def test_a_stream_that_is_left_frees_its_only_slot(transport: Transport, model: LocalModel) -> None:
    """The endless answer would hold the slot for minutes; the next one can only come because it was freed."""
    body = {"messages": ASK, "stream": True, "ignore_eos": True, "max_tokens": CONTEXT_TOKENS}
    endless = await transport.send(request_to(model, "/chat/completions", msgspec.json.encode(body)), Deadlines())
    assert b"data: " in await endless.read_some()
    endless.close()
    async with asyncio.timeout(30):
        answer = [item async for item in stream_answer(transport, model, ASK, max_tokens=2)]
    assert isinstance(answer[-1], Finished)


async def test_the_port_refuses_who_has_no_key(transport: Transport, model: LocalModel) -> None:
    body = msgspec.json.encode({"messages": ASK, "max_tokens": 1})
    status, _ = await call(transport, request_to(model, "/chat/completions", body, key="guess"))
    assert status == 401


async def test_a_prompt_that_does_not_fit_is_refused_with_its_numbers(transport: Transport, model: LocalModel) -> None:
    with pytest.raises(ProviderRefused, match="exceeds the available context size") as caught:
        async for _ in stream_answer(transport, model, [Turn("user", "word " * CONTEXT_TOKENS)], max_tokens=1):
            pass
    assert (caught.value.status, caught.value.kind) == (400, "exceed_context_size_error")


async def test_tokens_are_counted_without_an_answer(transport: Transport, model: LocalModel) -> None:
    body = msgspec.json.encode({"model": "x", "messages": ASK})
    status, counted = await call(transport, request_to(model, "/messages/count_tokens", body))
    assert status == 200
    assert msgspec.json.decode(counted)["input_tokens"] > 10


async def test_a_demanded_tool_call_is_a_tool_call(transport: Transport, model: LocalModel) -> None:
    assert not model.supports_tools
    parameters = {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/City"}},
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"City": {"type": "string", "maxLength": 20}},
    }
    tools = [
        {
            "type": "function",
            "function": {"name": name, "description": f"The {name} of a city", "parameters": parameters},
        }
        for name in ("weather", "mayor")
    ]
    ask = Turn("user", "What is the weather in Paris?")
    request = {
        "messages": [ask],
        "tools": tools,
        "tool_choice": "required",
        "max_tokens": 200,
        "temperature": 0,
    }
    forced = ForcedCalls(transport)
    status, answer = await call(forced, request_to(model, "/chat/completions", msgspec.json.encode(request)))
    assert status == 200
    choice = msgspec.json.decode(answer)["choices"][0]
    function = choice["message"]["tool_calls"][0]["function"]
    assert choice["finish_reason"] == "tool_calls"
    assert function["name"] in {"weather", "mayor"}
    assert list(msgspec.json.decode(function["arguments"])) == ["city"]

    told = {"role": "tool", "tool_call_id": choice["message"]["tool_calls"][0]["id"], "content": "18 degrees, sunny"}
    after = {"messages": [ask, choice["message"], told], "max_tokens": 40, "temperature": 0}
    status, answer = await call(forced, request_to(model, "/chat/completions", msgspec.json.encode(after)))
    assert status == 200
    assert "18" in msgspec.json.decode(answer)["choices"][0]["message"]["content"]


async def test_a_killed_process_comes_back_and_answers(stored: StoredModel) -> None:
    states: asyncio.Queue[State] = asyncio.Queue()
    model = LocalModel(
        settings_for(stored, slots=1, context_tokens=256, threads=1),
        restarts=Restarts(first_delay_seconds=0.0),
        on_state=states.put_nowait,
    )
    transport = WireTransport()
    try:
        await model.start()
        assert model.pid is not None
        os.kill(model.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while await states.get() != "waiting":
                pass
        await model.wait_ready(60)
        items = [item async for item in stream_answer(transport, model, ASK, max_tokens=2)]
        assert isinstance(items[-1], Finished)
        assert model.restarts == 1
    finally:
        await transport.aclose()
        await model.stop()


ORPHANING_PARENT = """
import asyncio, os, sys
from pathlib import Path
from tollhouse.local.runner import LocalModel
from tollhouse.local.settings import LocalSettings

async def main():
    model = LocalModel(LocalSettings(model_path=Path(sys.argv[1]), slots=1, context_tokens=256, threads=1))
    await model.start()
    print(model.pid, flush=True)
    await asyncio.sleep(3600)

if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="waits for the child's end through its pidfd")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_killed_parent_takes_the_model_with_it(stored: StoredModel, loop: str) -> None:
    with subprocess.Popen(  # noqa: ASYNC220 - a process that another loop starts and that is killed
        [sys.executable, "-c", ORPHANING_PARENT, str(stored.path), loop], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(await asyncio.to_thread(parent.stdout.readline)))
        try:
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(child, ended.set)
            parent.kill()
            async with asyncio.timeout(30):
                await ended.wait()
        finally:
            asyncio.get_running_loop().remove_reader(child)
            os.close(child)


async def test_a_file_that_llama_cpp_cannot_load_ends_the_start_with_its_reason(
    stored: StoredModel, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    with stored.path.open("rb") as whole:
        cut.write_bytes(whole.read(20_000_000))
    model = LocalModel(LocalSettings(model_path=cut, slots=1, context_tokens=256, threads=1))
    try:
        with pytest.raises(LocalModelUnavailable, match="data is not within the file bounds"):
            await model.start()
    finally:
        await model.stop()
