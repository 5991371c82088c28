"""`tollhouse demo` as it is ended: the gateway and the model that it started end with it, however it goes."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from support.local_model import shared_model
from support.processes import PATIENCE_SECONDS, serving, until, workers_of

pytest.importorskip("openai", reason="the SDKs are not installed (extra `demo`)")
pytest.importorskip("anthropic", reason="the SDKs are not installed (extra `demo`)")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
async def test_a_demonstration_leaves_no_gateway_and_no_model_behind(tmp_path: Path, number: signal.Signals):
    cache = tmp_path / "tollhouse" / "models"
    cache.parent.mkdir()
    cache.symlink_to(shared_model().path.parent)
    async with serving(tmp_path, "--keep", command="demo", XDG_CACHE_HOME=str(tmp_path)) as demo:
        await demo.says("Ctrl-C ends it")
        (gateway,) = workers_of(demo.child.pid)
        (model,) = workers_of(gateway)
        try:
            demo.child.send_signal(number)
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await demo.child.wait() == (-number if number == signal.SIGKILL else 128 + number)
            await until(lambda: have_ended(gateway, model))
        finally:
            for pid in (gateway, model):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert not any("Traceback" in line for line in demo.lines)


async def have_ended(*pids: int) -> bool:
    """Whether these processes are gone, or wait only to be buried."""
    return not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    """By the kernel's word (proc(5), `status`)."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
