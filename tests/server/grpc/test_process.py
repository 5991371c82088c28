"""`tollhouse serve` with gRPC: its port, its workers, its end, and what it says when it cannot have it."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import grpc
import grpc.aio
import pytest

from support.clients import settings
from support.configs import MINIMAL, read
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Stall, faulty, words
from support.processes import serving, started, until, written
from support.vibectl_client import VibectlClient, prompt
from tollhouse.errors import NotInstalled
from tollhouse.server.supervisor import wants_grpc

TEXT = words(30)


@pytest.fixture
def port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def listening(port: int) -> int:
    """How many sockets listen on a port of this machine (state 0A); gRPC's are of IPv6, for addresses of IPv4 too."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return sum(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in lines)


def mapped(pid: int) -> str:
    """The files that a process has loaded."""
    return Path(f"/proc/{pid}/maps").read_text()


async def test_all_workers_listen_on_one_port_and_end_in_good_manner(
    tmp_path: Path, fake_provider: FakeProvider, port: int
):
    go = asyncio.Event()
    fake_provider.default = Answer(text=TEXT)
    async with started(tmp_path, settings(fake_provider), "--workers", "2", "--grpc-port", str(port)) as process:
        assert f"gRPC 127.0.0.1:{port}, 2 workers" in await process.says("answers at")
        assert listening(port) == 2
        for _ in range(6):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                assert (await VibectlClient(channel).execute(prompt())).success.response_text == TEXT
        fake_provider.default = faulty(Answer(text=TEXT), Stall(5, until=go))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.TaskGroup() as group:
            streaming = group.create_task(VibectlClient(channel).stream(prompt()))
            await fake_provider.call(6)
            process.child.send_signal(signal.SIGTERM)

            async def is_closed() -> bool:
                return listening(port) == 0

            await until(is_closed)
            go.set()
        assert streaming.result().text == TEXT
        assert streaming.result().kinds[-1] == "final_metrics"
        assert await process.ends() == 0
        assert not any("Traceback" in line for line in process.lines)
    assert {row["door"] for row in process.rows()} == {"vibectl"}
    assert len(process.rows()) == 7


async def test_a_port_that_another_program_has_is_told_in_a_line(
    tmp_path: Path, fake_provider: FakeProvider, port: int
):
    """Also where the other one would share it."""
    file = written(tmp_path, settings(fake_provider))
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        ports = ("--port", "0", "--admin-port", "0", "--grpc-port", str(port))
        async with serving(tmp_path, "--config", str(file), *ports) as process:
            assert await process.ends() == 1
            line = await process.says("gRPC listener")
    assert f"cannot listen on 127.0.0.1:{port}: something else listens there already" in line
    assert "server.grpc_port" in line


async def test_a_gateway_without_grpc_does_not_load_it(tmp_path: Path, fake_provider: FakeProvider):
    async with started(tmp_path, settings(fake_provider)) as process:
        assert "gRPC" not in await process.says("answers at")
        assert "cygrpc" not in mapped(process.child.pid)
        os.kill(process.child.pid, signal.SIGTERM)
        assert await process.ends() == 0


def test_a_missing_extra_is_an_error_only_where_grpc_was_asked_for():
    unasked, asked = read(MINIMAL), read(MINIMAL + "server: {grpc_port: 50051}\n")

    def without(name: str) -> bool:
        return name != "grpc_health"

    assert wants_grpc(unasked, is_asked_for=False)
    assert not wants_grpc(unasked, is_asked_for=False, is_installed=without)
    for config, is_asked_for in ((asked, False), (unasked, True)):
        with pytest.raises(NotInstalled, match="grpc_health") as caught:
            wants_grpc(config, is_asked_for=is_asked_for, is_installed=without)
        assert caught.value.hint == "pip install 'tollhouse[grpc]'"
    assert not wants_grpc(read(MINIMAL + "server: {grpc_port: none}\n"), is_asked_for=True, is_installed=without)
