"""`tollhouse serve` as a person runs it: a process of its own, its signals, its workers, and what it says when it cannot start."""

import asyncio
import os
import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import pytest

from support.clients import CLIENTS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Failure, Stall, faulty, words
from support.processes import ANNOUNCED, PATIENCE_SECONDS, Process, serving, started, until, workers_of, written
from support.serving import KEY
from tollhouse.errors import ConnectFailed, ConnectionLost
from tollhouse.upstream.wire import WireTransport

TEXT: Final = words(12)


# ---------------------------------------------------------------------------------------------------- a process's life


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_signal_lets_streams_end_and_takes_no_new_calls(
    tmp_path: Path, fake_provider: FakeProvider, number: signal.Signals
):
    go = asyncio.Event()
    fake_provider.reply(Answer(text=TEXT), faulty(Answer(text=TEXT), Stall(5, until=go)))
    asks = CLIENTS["openai"]
    async with started(tmp_path, settings(fake_provider)) as process:
        assert (await process.get("/health/ready"))[0] == 200
        assert (await process.get("/health/ready", at=process.admin))[0] == 200
        assert await process.chat("to-openai") == 200
        assert await process.metric("tollhouse_calls_total") == 1
        stream = await process.open(asks.path, asks.question("to-openai", stream=True))
        body = await stream.read_some()

        process.child.send_signal(number)
        await until(lambda: refuses(process))
        assert (await process.get("/health/live", at=process.admin))[0] == 200
        assert (await process.get("/health/ready", at=process.admin))[0] == 503
        go.set()
        said = asks.read(body + await stream.read_all(1 << 20))

        assert said.is_whole
        assert said.text == TEXT
        assert await process.ends() == 0
        assert [(row["outcome"], row["status"]) for row in process.rows()] == [("ok", 200), ("ok", 200)]
        assert not any("Traceback" in line for line in process.lines)


async def refuses(process: Process) -> bool:
    """Whether a new call is turned away: no connection, one that is closed at once, or a 503."""
    try:
        # Nobody has this model: as long as calls are taken it is a 404, and no row.
        return await process.chat("nothing") == 503
    except (ConnectFailed, ConnectionLost):
        return True


async def test_a_stream_that_outlives_the_drain_ends_with_an_error_and_is_settled(
    tmp_path: Path, fake_provider: FakeProvider
):
    fake_provider.default = faulty(Answer(text=TEXT), Stall(8))
    fake_provider.reply_to("gpt-4o-mini", faulty(Answer(text=TEXT), Stall("before_head")))
    config = settings(fake_provider) + "\nserver: {drain_seconds: 200ms}"
    async with started(tmp_path, config) as process:
        streams = {}
        for name, asks in CLIENTS.items():
            stream = await process.open(asks.path, asks.question("to-anthropic", stream=True))
            streams[name] = stream, await stream.read_some()
        async with asyncio.TaskGroup() as group:
            silent = group.create_task(process.chat("to-openai"))
            await fake_provider.call(2)
            process.child.send_signal(signal.SIGTERM)
        assert silent.result() == 503
        for name, (stream, first) in streams.items():
            said = CLIENTS[name].read(first + await stream.read_all(1 << 20))
            assert said.is_broken
            assert said.error is not None
            assert "shut down" in said.error
        assert await process.ends() == 0
        rows = process.rows()
        assert {row["outcome"] for row in rows} == {"draining"}
        assert sorted(row["status"] for row in rows) == [200, 200, 503]
        assert all(row["input_tokens"] for row in rows), "what was sent may be billed"
        assert not any("Traceback" in line for line in process.lines)


async def test_a_reload_swaps_a_good_configuration_in_and_leaves_a_bad_one_out(
    tmp_path: Path, fake_provider: FakeProvider
):
    base = settings(fake_provider)
    async with started(tmp_path, base) as process:
        assert await process.chat("brand-new") == 404
        written(tmp_path, base.replace("models: {", "models: {brand-new: openai/gpt-4o-mini, "))
        process.child.send_signal(signal.SIGHUP)
        swapped = await process.says("the configuration was reloaded")
        assert "models.brand-new" in swapped
        assert await process.chat("brand-new") == 200

        written(tmp_path, base.replace("models: {", "models: {lost: nobody/x, ") + "\nserver: {prot: 1}")
        process.child.send_signal(signal.SIGHUP)
        refused = await process.says("the new configuration is refused")
        assert "models.lost" in refused
        assert "server.prot" in refused
        assert await process.chat("brand-new") == 200

        process.child.send_signal(signal.SIGTERM)
        assert await process.ends() == 0
        # The ports came from the command line; the file says nothing of them, before or after.
        assert not any("restart" in line for line in process.lines)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_reload_that_is_asked_for_too_early_waits_until_the_gateway_serves(
    tmp_path: Path, fake_provider: FakeProvider, workers: str
):
    """SIGHUP ends a process that has not said otherwise; and it may come to all processes of the gateway."""
    file = written(tmp_path, settings(fake_provider))
    later = tmp_path / "later.yaml"
    later.write_text(file.read_text().replace("models: {", "models: {brand-new: openai/gpt-4o-mini, "))
    ports = ("--port", "0", "--admin-port", "0", "--grpc-port", "0")
    async with serving(tmp_path, "--config", str(file), *ports, "--workers", workers) as process:
        await until(lambda: holds_back(process.child.pid, signal.SIGHUP))
        later.replace(file)  # in one step, for it may be read at this moment
        os.killpg(process.child.pid, signal.SIGHUP)
        announced = ANNOUNCED.search(await process.says("answers at"))
        assert announced is not None
        process.url = announced[1]
        await until(lambda: process.all_say(200, KEY, "brand-new"))
        process.child.send_signal(signal.SIGTERM)
        assert await process.ends() == 0
        assert not any("a worker ended" in line for line in process.lines)


async def holds_back(pid: int, number: signal.Signals) -> bool:
    """Whether the kernel keeps this signal until the process wants it."""
    blocked = next(line for line in told_of(pid).splitlines() if line.startswith("SigBlk:"))
    return bool(int(blocked.split()[1], 16) & 1 << number - 1)


def told_of(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


# ------------------------------------------------------------------------------------------------ that does not start


async def complaint(folder: Path, *arguments: str, **environ: str) -> list[str]:
    """What the process says before it ends, having failed."""
    async with serving(folder, *arguments, **environ) as process:
        assert await process.ends() == 1
    assert not any("Traceback" in line for line in process.lines)
    return process.lines


async def test_no_configuration_is_one_line_that_names_the_way_on(tmp_path: Path):
    (line,) = await complaint(tmp_path)
    assert line.startswith("tollhouse: There is no configuration.")
    assert "tollhouse config init" in line


async def test_a_bad_configuration_is_a_line_for_each_problem(tmp_path: Path):
    text = (
        "providers: {lab: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}}\nserver: {prot: 1, workers: 0}"
    )
    lines = await complaint(tmp_path, "--config", str(written(tmp_path, text)))
    assert len(lines) == 2
    assert any("`server.port`" in line or "port" in line for line in lines)
    assert all("tollhouse.yaml:2" in line for line in lines)


async def test_a_missing_key_variable_is_named(tmp_path: Path):
    (line,) = await complaint(
        tmp_path, "--config", str(written(tmp_path, "providers: {openai: {api_key: '${MY_KEY}'}}"))
    )
    assert "MY_KEY" in line
    (line,) = await complaint(tmp_path, "--config", str(written(tmp_path, "providers: {openai: {}}")))
    assert "OPENAI_API_KEY" in line


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
async def test_a_taken_port_is_one_line(tmp_path: Path, option: str):
    file = written(tmp_path, "providers: {lab: {type: openai-compatible, base_url: 'http://127.0.0.1:9/v1'}}")
    other = "--port" if option == "--admin-port" else "--admin-port"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        (line,) = await complaint(tmp_path, "--config", str(file), option, port, other, "0")
    assert f"127.0.0.1:{port}" in line
    assert "something else listens there already" in line


# ------------------------------------------------------------------------------------------------------------- workers


async def test_two_workers_answer_as_one_and_one_that_dies_is_replaced(tmp_path: Path, fake_provider: FakeProvider):
    async with started(tmp_path, settings(fake_provider) + "\nbudgets: {total: 5}", "--workers", "2") as process:
        (first, second) = workers_of(process.child.pid)
        calls = 0

        async def both_have_answered() -> bool:
            nonlocal calls
            # A connection belongs to one worker for good, so each question comes on a new one.
            await process.transport.aclose()
            process.transport = WireTransport()
            assert await process.chat("to-openai") == 200
            calls += 1
            return have_answered(tmp_path) == {first, second}

        await until(both_have_answered)
        await until(lambda: is_metric(process, "tollhouse_calls_total", calls))
        # A budget is there once, however many workers share it, and each worker counts for itself.
        assert await process.metric("tollhouse_budget_limit_usd") == 5
        assert await process.metric("tollhouse_budget_spent_usd") > 0
        assert await process.metric("tollhouse_workers") == 2
        assert await process.metric("tollhouse_store_up") == 2

        fake_provider.default = Failure(status=500)
        await process.chat("to-anthropic")
        await until(lambda: state_is(process, "anthropic", "degraded"))
        await until(lambda: is_metric(process, "tollhouse_calls_total", calls + 1))
        health = await process.health()
        assert [worker["ready"] for worker in health["workers"]] == [True, True]
        states = {provider["provider"]: provider["state"] for provider in health["providers"]}
        assert states["openai"] == "healthy"
        fake_provider.default = Answer(text=TEXT)

        os.kill(first, signal.SIGKILL)
        await process.says("a worker ended and is started again")
        await until(lambda: is_replaced(process, {first, second}))
        for _ in range(4):
            await process.transport.aclose()
            process.transport = WireTransport()
            assert await process.chat("to-openai") == 200
        # What the dead worker had counted still counts; what it was, it is no more.
        await until(lambda: is_metric(process, "tollhouse_calls_total", calls + 1 + 4))
        await until(lambda: is_metric(process, "tollhouse_workers", 2))
        assert await process.metric("tollhouse_worker_restarts_total") == 1

        go = asyncio.Event()
        fake_provider.default = faulty(Answer(text=TEXT), Stall(5, until=go))
        asks = CLIENTS["openai"]
        stream = await process.open(asks.path, asks.question("to-openai", stream=True))
        body = await stream.read_some()
        process.child.send_signal(signal.SIGTERM)
        await until(lambda: refuses(process))
        go.set()
        assert asks.read(body + await stream.read_all(1 << 20)).is_whole
        assert await process.ends() == 0
        assert [row["outcome"] for row in process.rows()].count("ok") == calls + 5
        assert not any("Traceback" in line for line in process.lines)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_store_that_is_away_shows_on_both_listeners_and_calls_go_on(
    tmp_path: Path, fake_provider: FakeProvider, workers: str
):
    async with started(tmp_path, settings(fake_provider), "--workers", workers) as process:
        with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            assert await process.chat("to-openai") == 200
            await until(lambda: is_said(process, "serving, store down", ready="serving, store down"))
            assert (await process.health())["missing"].keys() == {"ledger"}
            assert await process.metric("tollhouse_store_up") == 1
            assert await process.metric("tollhouse_ledger_journal_bytes") > 0
            connection.execute("ROLLBACK")
        await until(lambda: is_said(process, "serving", ready="ready"))
        assert (await process.health())["missing"] == {}


async def is_said(process: Process, status: str, *, ready: str) -> bool:
    """Whether the operator, and on a connection of its own the public, are told how the gateway is."""
    await process.transport.aclose()
    process.transport = WireTransport()  # to any of the workers, but only one of them may have noticed
    code, body = await process.get("/health/ready", at=process.admin)
    assert code == 200
    _, public = await process.get("/health/ready")
    said = [msgspec.json.decode(each)["status"] for each in (body, public)]
    return bool((await process.health())["status"] == status and said == [ready, ready])


async def test_workers_whose_supervisor_is_killed_end(tmp_path: Path, fake_provider: FakeProvider):
    """Otherwise they would hold the port for good, and nobody could tell them anything."""
    async with started(tmp_path, settings(fake_provider), "--workers", "2") as process:
        process.child.kill()
        await process.says("the supervisor is gone", times=2)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await process.is_silent.wait()
        await until(lambda: refuses(process))


def have_answered(folder: Path) -> set[int]:
    """The workers that have answered calls, by their own reports."""
    reports = [msgspec.json.decode(file.read_bytes()) for file in folder.glob("tollhouse-workers-*/*.json")]
    return {report["pid"] for report in reports if report["metrics"]["series"]}


async def is_metric(process: Process, name: str, value: float) -> bool:
    return await process.metric(name) == value


async def state_is(process: Process, provider: str, state: str) -> bool:
    states = {found["provider"]: found["state"] for found in (await process.health())["providers"]}
    return states.get(provider) == state


async def is_replaced(process: Process, before: set[int]) -> bool:
    health = await process.health()
    is_whole = all(worker["ready"] for worker in health["workers"])
    return (
        is_whole
        and sum(worker["restarts"] for worker in health["workers"]) == 1
        and before != set(workers_of(process.child.pid))
    )
