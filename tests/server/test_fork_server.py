"""Workers that are forked: nothing of one is another's, and whoever is killed, the gateway goes on."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

from support.clients import settings
from support.fake_provider import FakeProvider
from support.forking_parent import FAILS, MODULES, WORKERS, Found
from support.processes import (
    PATIENCE_SECONDS,
    Process,
    children_of,
    fork_server_of,
    kept_environment,
    serving,
    started,
    until,
    workers_of,
    written,
)
from support.serving import KEY
from tollhouse.config.load import load
from tollhouse.config.schema import Config
from tollhouse.providers.registry import defaults_by_type
from tollhouse.server.late_imports import needed_for
from tollhouse.upstream.wire import WireTransport

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can fork what has imported libraries")

TESTS: Final = Path(__file__).parents[1]
LOST: Final = "the process that workers are forked from is lost"


# ----------------------------------------------------------------------------------------------- what a fork hands down


@pytest.fixture(scope="module")
def found() -> Found:
    return asyncio.run(_found())


async def _found() -> Found:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.forking_parent"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=TESTS,
        env=kept_environment(),
    )
    said, errors = await child.communicate()
    assert child.returncode == 0, errors.decode()
    assert errors.count(b"RuntimeError: a fault of the worker's own") == 1
    assert errors.count(LOST.encode()) == 1
    return msgspec.json.decode(said, type=Found)


def test_no_two_workers_draw_the_same_random_numbers(found: Found):
    """Each generator that a library or a module of ours made at its import is seeded anew, or request ids would repeat."""
    drawn = [number for said in found.workers for number in said.chances]
    assert len(drawn) >= 2 * WORKERS, "our own generator and Python's"
    assert len(set(drawn)) == len(drawn)
    assert len({said.request_id[-12:] for said in found.workers}) == WORKERS


def test_nothing_is_forked_that_must_not_be(found: Found):
    for said in found.workers:
        assert said.threads == 1
        assert said.living == []
        assert said.opened == 4, (
            "the standard ones, and its own line: not that of another worker, nor the fork server's"
        )


def test_a_worker_finds_imported_what_it_needs_late(found: Found):
    assert {tuple(said.modules) for said in found.workers} == {MODULES}


def test_a_worker_hears_signals_and_has_no_standard_input(found: Found):
    for said in found.workers:
        assert said.blocked == []
        assert said.stdin == os.devnull


def test_an_exit_status_is_told_as_that_of_any_process(found: Found):
    assert found.statuses == {"ended": 0, "failed": FAILS, "raised": 1, "killed": -signal.SIGKILL}


def test_a_lost_fork_server_is_said_to_be_lost(found: Found):
    assert found.lost == "ForkServerLost"


# ------------------------------------------------------------------------------------------------- as a person runs it


async def chats_anew(process: Process) -> int:
    """The status of a chat on a connection of its own, which any of the workers may get."""
    await process.transport.aclose()
    process.transport = WireTransport()
    return await process.chat("to-openai")


async def are_ready_again(process: Process) -> bool:
    workers = (await process.health())["workers"]
    return all(worker["ready"] for worker in workers) and any(worker["restarts"] for worker in workers)


async def all_end(process: Process) -> None:
    """Waits for every process of the gateway."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await process.is_silent.wait()


def told_of(pid: int, what: str) -> str:
    return Path(f"/proc/{pid}/{what}").read_text()


async def test_a_worker_that_dies_is_forked_again(tmp_path: Path, fake_provider: FakeProvider):
    async with started(tmp_path, settings(fake_provider), "--workers", "2") as process:
        forks = fork_server_of(process.child.pid)
        assert forks is not None
        first, second = children_of(forks)
        assert {told_of(pid, "comm") for pid in (first, second)} == {"tollhouse-w1\n", "tollhouse-w2\n"}
        os.kill(first, signal.SIGKILL)
        assert "exit_status=-9" in await process.says("a worker ended and is started again")
        await until(lambda: are_ready_again(process))
        assert fork_server_of(process.child.pid) == forks
        assert len(set(children_of(forks)) - {first, second}) == 1
        assert await chats_anew(process) == 200
        process.child.send_signal(signal.SIGTERM)
        assert await process.ends() == 0


async def test_without_the_fork_server_calls_go_on_and_a_dead_worker_is_replaced(
    tmp_path: Path, fake_provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
):
    """And where the replacement cannot even import what it needs, it says why, and is tried again."""
    site = tmp_path / "libraries"
    site.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
    async with started(tmp_path, settings(fake_provider), "--workers", "2") as process:
        forks = fork_server_of(process.child.pid)
        assert forks is not None
        first, _ = children_of(forks)
        os.kill(forks, signal.SIGKILL)
        for _ in range(4):
            assert await chats_anew(process) == 200

        broken = site / "uvloop.py"
        broken.write_text("raise ImportError('this library is broken')\n")
        os.kill(first, signal.SIGKILL)
        await process.says(LOST)
        await process.says("a worker could not be started")
        assert any("ImportError: this library is broken" in line for line in process.lines)
        assert await chats_anew(process) == 200
        broken.unlink()
        await until(lambda: are_ready_again(process))
        (fresh,) = workers_of(process.child.pid)
        assert "tollhouse.server.worker" in told_of(fresh, "cmdline")
        assert await chats_anew(process) == 200

        process.child.send_signal(signal.SIGTERM)
        assert await process.ends() == 0
        await all_end(process)  # also the worker that is nobody's child any more
        assert sum(LOST in line for line in process.lines) == 1


async def test_a_worker_that_cannot_start_says_why_and_is_tried_again(tmp_path: Path, fake_provider: FakeProvider):
    text = settings(fake_provider)
    async with started(tmp_path, text, "--workers", "2") as process:
        written(tmp_path, text + "\nserver: {prot: 1}")
        os.kill(workers_of(process.child.pid)[0], signal.SIGKILL)
        await process.says("a worker could not be started")
        (said,) = [line for line in process.lines if line.startswith("tollhouse: ")][:1]
        assert "server.prot" in said
        assert await chats_anew(process) == 200
        written(tmp_path, text)
        await until(lambda: are_ready_again(process))
        assert not any("Traceback" in line for line in process.lines)


async def test_what_keeps_several_workers_from_starting_is_one_line(tmp_path: Path, fake_provider: FakeProvider):
    """And nobody stays behind who would hold on to the output."""
    file = written(tmp_path, settings(fake_provider))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ports = ("--port", port, "--admin-port", "0", "--grpc-port", "0")
        async with serving(tmp_path, "--config", str(file), *ports, "--workers", "2") as process:
            assert await process.ends() == 1
            await all_end(process)
    (line,) = process.lines
    assert f"127.0.0.1:{port}" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_a_signal_to_the_whole_group_ends_the_gateway_as_one_to_its_supervisor_does(
    tmp_path: Path, fake_provider: FakeProvider, number: signal.Signals
):
    """A terminal sends Ctrl-C to all processes at once, and a service manager its SIGTERM."""
    async with started(tmp_path, settings(fake_provider), "--workers", "2") as process:
        assert await process.chat("to-openai") == 200
        os.killpg(process.child.pid, number)
        assert await process.ends() == 0
        await all_end(process)
        assert not any(word in line for line in process.lines for word in ("Traceback", LOST, "is killed"))


async def test_several_workers_end_with_the_program_that_holds_their_standard_input(
    tmp_path: Path, fake_provider: FakeProvider
):
    async with started(tmp_path, settings(fake_provider), "--workers", "2", "--end-with-stdin") as process:
        assert await process.chat("to-openai") == 200
        assert process.child.stdin is not None
        process.child.stdin.close()
        assert await process.ends() == 0
        await all_end(process)


# ------------------------------------------------------------------------------------------------- what is imported early


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("server: {http2: true}", "tollhouse.server.http2"),
        ("ledger: {url: 'postgresql://db/x'}", "tollhouse.ledger.postgres"),
        ("state: {url: 'valkey://cache'}", "tollhouse.policy.valkey.store"),
        ("auth: {jwt: {}}", "tollhouse.policy.tokens.signatures"),
        ("telemetry: {traces: {endpoint: 'http://127.0.0.1:4318'}}", "tollhouse.telemetry.traces"),
    ],
)
def test_only_what_the_configuration_asks_for_is_imported_early(tmp_path: Path, text: str, module: str):
    assert module not in needed_for(configured(tmp_path, "{}"))
    assert module in needed_for(configured(tmp_path, text))


def test_grpc_is_imported_early_unless_it_is_turned_off(tmp_path: Path):
    assert "tollhouse.server.grpc.services" in needed_for(configured(tmp_path, "{}"))
    assert "tollhouse.server.grpc.services" not in needed_for(configured(tmp_path, "server: {grpc_port: none}"))


def test_every_module_that_can_be_imported_early_is_there_and_was_tried(tmp_path: Path):
    """A name that is misspelt would be passed over, as one that is not installed is."""
    text = (
        "server: {http2: true}\nledger: {url: 'postgresql://db/x'}\nstate: {url: 'valkey://cache'}\n"
        "auth: {jwt: {}}\ntelemetry: {traces: {endpoint: 'http://127.0.0.1:4318'}}"
    )
    assert set(needed_for(configured(tmp_path, text))) == set(MODULES)


def configured(folder: Path, text: str) -> Config:
    file = folder / "tollhouse.yaml"
    auth = "" if text.startswith("auth") or "\nauth" in text else f"auth: {{keys: [{{name: test, key: {KEY}}}]}}"
    lab = "providers: {lab: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}}"
    file.write_text("\n".join((lab, auth, "" if text == "{}" else text)))
    return load(file, {}, defaults_by_type())
