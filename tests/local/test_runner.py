"""The supervisor against scripted children: real processes that say and do what the real one might."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.local_model import SMALL_GGUF
from tollhouse.errors import LocalModelUnavailable, NotInstalled
from tollhouse.local.lifecycle import Restarts, State
from tollhouse.local.runner import LocalModel, child_environment, why
from tollhouse.local.settings import LocalSettings

PRELUDE = """
import json, os, sys
order = json.loads(sys.stdin.readline())
def ready(port=4242):
    print(json.dumps({"type": "ready", "port": order["port"] or port, "supports_tools": True}), flush=True)
"""
SERVES = PRELUDE + "ready(); sys.stdin.read()"
AT_ONCE = Restarts(first_delay_seconds=0.0, limit=2)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(SMALL_GGUF)
    return path


class Watched:
    """A model with a scripted child, and the states that it goes through."""

    def __init__(self, path: Path, script: str, **settings: float) -> None:
        self.states: asyncio.Queue[State] = asyncio.Queue()
        self.model = LocalModel(
            LocalSettings(model_path=path, start_seconds=settings.get("start_seconds", 60.0), stop_seconds=0.5),
            restarts=AT_ONCE,
            on_state=self.states.put_nowait,
            command=(sys.executable, "-c", script),
        )

    async def until(self, state: State) -> None:
        async with asyncio.timeout(60):
            while await self.states.get() != state:
                pass


@asynccontextmanager
async def watched(path: Path, script: str, **settings: float) -> AsyncIterator[Watched]:
    it = Watched(path, script, **settings)
    try:
        yield it
    finally:
        await it.model.stop()
        assert it.model.pid is None


async def test_a_model_starts_serves_and_stops(gguf: Path) -> None:
    async with watched(gguf, SERVES) as it:
        model = it.model
        with pytest.raises(LocalModelUnavailable, match="was not started"):
            _ = model.base_url
        await asyncio.gather(model.start(), model.start())
        await model.start()
        assert (model.state, model.base_url, model.supports_tools) == ("ready", "http://127.0.0.1:4242/v1", True)
        pid = model.pid
        assert pid is not None
        await model.stop()
        await model.stop()
        assert it.model.state == "stopped"
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(LocalModelUnavailable, match="was stopped"):
            await model.wait_ready()


async def test_the_secret_is_in_neither_arguments_nor_environment(gguf: Path) -> None:
    script = PRELUDE + "assert order['api_key'] not in str(sys.argv) + str(os.environ); ready(); sys.stdin.read()"
    async with watched(gguf, script) as it:
        await it.model.start()
        assert len(it.model.api_key) >= 32


async def test_a_process_that_dies_is_started_again_on_the_same_port(gguf: Path) -> None:
    async with watched(gguf, SERVES) as it:
        await it.model.start()
        await it.until("ready")
        pid, address = it.model.pid, it.model.base_url
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await it.until("ready")
        assert it.model.restarts == 1
        assert it.model.pid != pid
        assert it.model.base_url == address
        assert "SIGKILL" in str(it.model.failure)


async def test_a_process_that_keeps_dying_is_given_up_and_can_be_started_by_hand(gguf: Path) -> None:
    async with watched(gguf, PRELUDE + "ready(); print('boom', file=sys.stderr); sys.exit(3)") as it:
        await it.model.start()
        await it.until("failed")
        assert it.model.restarts == AT_ONCE.limit
        with pytest.raises(LocalModelUnavailable, match="ended with status 3: boom"):
            await it.model.wait_ready()
        await it.model.start()
        await it.until("failed")


async def test_a_first_start_that_dies_is_not_tried_again(gguf: Path) -> None:
    async with watched(gguf, PRELUDE + "os.kill(os.getpid(), 4)") as it:
        with pytest.raises(LocalModelUnavailable, match=r"SIGILL.*AVX2"):
            await it.model.start()
        assert (it.model.state, it.model.restarts) == ("failed", 0)


async def test_a_process_that_dies_before_it_reads_its_order_is_an_error(gguf: Path) -> None:
    async with watched(gguf, "import sys; sys.exit('no such module')") as it:
        with pytest.raises(LocalModelUnavailable, match="status 1: no such module"):
            await it.model.start()


async def test_a_word_that_is_none_of_the_child_s_is_an_error(gguf: Path) -> None:
    async with watched(gguf, PRELUDE + "print('hello', flush=True); sys.stdin.read()") as it:
        with pytest.raises(LocalModelUnavailable, match="does not speak"):
            await it.model.start()


@pytest.mark.parametrize(
    ("missing", "kind"), [("false", LocalModelUnavailable), ("true", NotInstalled)], ids=["bad file", "no llama.cpp"]
)
async def test_a_child_that_refuses_ends_the_start_with_its_reason(
    gguf: Path, missing: str, kind: type[Exception]
) -> None:
    script = (
        PRELUDE
        + f"""
print("0.1 E llama_model_load: error loading model: tensor is missing", file=sys.stderr, flush=True)
print('{{"type": "refused", "reason": "it cannot", "not_installed": {missing}}}', flush=True)
"""
    )
    async with watched(gguf, script) as it:
        with pytest.raises(kind, match=r"[Ii]t cannot"):
            await it.model.start()
        assert it.model.state == "failed"


async def test_a_load_that_takes_too_long_is_ended(gguf: Path) -> None:
    async with watched(gguf, PRELUDE + "sys.stdin.read()", start_seconds=0.3) as it:
        with pytest.raises(LocalModelUnavailable, match="did not load within"):
            await it.model.start()


async def test_a_process_that_ignores_its_orders_is_killed(gguf: Path) -> None:
    async with watched(gguf, PRELUDE + "ready()\nwhile True: __import__('time').sleep(60)") as it:
        await it.model.start()
        await it.model.stop()
        assert it.model.state == "stopped"


async def test_cancelling_a_start_ends_what_it_began(gguf: Path) -> None:
    async with watched(gguf, PRELUDE + "print('up', file=sys.stderr); sys.stdin.read()") as it:
        async with asyncio.TaskGroup() as tasks:
            start = tasks.create_task(it.model.start())
            await it.until("starting")
            start.cancel()
        assert it.model.state == "stopped"
        assert it.model.pid is None


async def test_waiting_for_a_restart_has_an_end(gguf: Path) -> None:
    async with watched(gguf, PRELUDE + "sys.stdin.read()") as it, asyncio.TaskGroup() as tasks:
        start = tasks.create_task(it.model.start())
        await it.until("starting")
        with pytest.raises(LocalModelUnavailable, match="still starting"):
            await it.model.wait_ready(0.0)
        start.cancel()


async def test_a_file_that_is_no_model_is_refused_before_any_process(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"PK\x03\x04")
    async with watched(wrong, "raise SystemExit('never run')") as it:
        with pytest.raises(LocalModelUnavailable, match="zip archive"):
            await it.model.start()


async def test_the_last_words_are_bounded(gguf: Path) -> None:
    async with watched(gguf, PRELUDE + "sys.stderr.write('x' * 10_000_000 + '\\nlast'); sys.exit(1)") as it:
        with pytest.raises(LocalModelUnavailable, match="last"):
            await it.model.start()
        assert len(str(it.model.failure)) < 1000


def test_the_child_gets_what_it_needs_of_the_environment_and_no_secrets() -> None:
    environ = {"PATH": "/bin", "PYTHONPATH": "x", "CUDA_VISIBLE_DEVICES": "0", "OPENAI_API_KEY": "s", "AWS_SECRET": "s"}
    assert child_environment(environ) == {"PATH": "/bin", "PYTHONPATH": "x", "CUDA_VISIBLE_DEVICES": "0"}


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"", ""),
        (b"one\ntwo\n\n", "two"),
        (
            b"0.03 E llama_model_load: error loading model: too short\n0.04 E srv init: exiting\nRuntimeError",
            "too short",
        ),
        (b"\xff\xfe cut", "\ufffd\ufffd cut"),
    ],
)
def test_the_reason_is_found_in_the_last_words(tail: bytes, reason: str) -> None:
    assert why(tail) == reason
