"""`tollhouse serve`: one process when there is one worker, a small supervisor over several otherwise.

The process that a person starts always holds the admin listener, the embedded models and the signals.  With one worker it
also serves; with more it starts them, restarts those that die, hands signals on, and ends when they have drained.
"""

import asyncio
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import msgspec

from tollhouse._version import __version__
from tollhouse.config.load import load
from tollhouse.config.overrides import NOTHING_OVERRULED, Overrides
from tollhouse.config.schema import Config
from tollhouse.errors import ConfigError, GatewayError, NotInstalled, StoreUnavailable, TollhouseError
from tollhouse.extras import GRPC, is_installed
from tollhouse.ledger.address import is_postgresql
from tollhouse.ledger.store import prepare
from tollhouse.policy.tokens.issuing import Mint, make_first_key
from tollhouse.policy.tokens.secrets_file import SecretsFile, secrets_path
from tollhouse.providers.registry import defaults_by_type
from tollhouse.server import hangups, reports
from tollhouse.server.admin.app import AdminApp
from tollhouse.server.admin.office import Office
from tollhouse.server.admin.study import Study
from tollhouse.server.embedded import ModelLives, start_local
from tollhouse.server.fork_server import ForkServer
from tollhouse.server.http.asgi import App
from tollhouse.server.http1.listener import Http1Listener
from tollhouse.server.listener import Place, Server, reserve
from tollhouse.server.observation import House, note_journals
from tollhouse.server.tls import live_tls, watching
from tollhouse.server.worker import CUT_SECONDS, Job, Worker, calm_collector
from tollhouse.server.worker_process import WorkerProcess
from tollhouse.telemetry import logs
from tollhouse.telemetry.audit import GATEWAY, RegisterAudit, Trail
from tollhouse.telemetry.readings import joined

RESTART_BASE_SECONDS: Final = 0.5
RESTART_CAP_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 10.0
"""A worker that lived this long has started well; its next crash waits from the base again."""

log = logs.get("server")


AdminListener = Callable[[App], Server]
"""Makes the admin listener in front of an app."""


class Told(Protocol):
    """What the person who started the gateway gets to see."""

    def __call__(self, line: str) -> None:
        """Shows one line."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where a gateway answers."""

    http: Place | None
    """Callers' HTTP; `None` when gRPC alone is served."""
    admin: Place
    grpc: Place | None
    workers: int


Announcement = Callable[[Config, Listening], Iterable[str]]
"""The lines that say what is served, once it is."""


async def serve(
    config_file: Path,
    config: Config,
    environ: Mapping[str, str],
    told: Told,
    *,
    overrides: Overrides = NOTHING_OVERRULED,
    announcement: Announcement | None = None,
    forks: ForkServer | None = None,
) -> None:
    """Runs the gateway until SIGTERM or SIGINT.  Raises `TollhouseError` for whatever keeps it from starting.

    `config` is what the file says, and `overrides` what the command line says over it.  Several workers are forked by
    `forks`, which is left open, or are fresh interpreters without it.
    """
    config = overrides.over(config)
    server = config.server
    _prepare_ledger(config.ledger.url)
    await asyncio.to_thread(_prepare_signing_key, config, environ)  # PostgreSQL's driver has a loop of its own
    admin_tls = live_tls(config.admin.tls, "admin.tls")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(watching(admin_tls))
        public = Place(server.host, server.port, is_encrypted=server.tls is not None)
        sockets: tuple[socket.socket, ...] = ()
        if server.http:
            public, held = reserve(public, "gateway")
            stack.callback(held.close)
            sockets += (held,)
        admin, held_admin = reserve(
            Place(server.admin_host, server.admin_port, is_encrypted=admin_tls is not None), "admin listener"
        )
        stack.callback(held_admin.close)
        sockets += (held_admin,)
        grpc: Place | None = None
        if wants_grpc(config, is_asked_for=overrides.grpc_port is not None):
            grpc, held_grpc = reserve(
                Place(server.host, server.grpc_port, is_encrypted=server.tls is not None), "gRPC listener"
            )
            stack.callback(held_grpc.close)
            sockets += (held_grpc,)
        lives = ModelLives()
        local = await start_local(config, environ, stack, lives)
        job = Job(config_file=str(config_file), place=public, local=local, grpc=grpc, overrides=overrides)
        listening = Listening(http=public if server.http else None, admin=admin, grpc=grpc, workers=server.workers)
        announce = partial(_announce, told, config, listening, announcement or _one_line)
        admin_listener = partial(Http1Listener, place=admin, tls=admin_tls)
        if server.workers == 1:
            worker = await Worker.open(job, config, environ)
            office = Office(
                config=lambda: worker.config,
                config_file=config_file,
                environ=environ,
                ledger_url=config.ledger.url,
                reload=worker.reload,
                providers=worker.provider_states,
                purses=worker.stores.counters.purses,
                spent=worker.stores.past.spent,
                trail=worker.stores.trail,
                loop=asyncio.get_running_loop(),
            )
            await _serve_alone(worker, House(office=office, models=lives), admin_listener, announce, sockets)
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tollhouse-workers-"))
            supervisor = Supervisor(replace(job, reports_folder=folder), config, admin_listener, forks, lives)
            await supervisor.run(announce, sockets)


def _prepare_ledger(url: str) -> None:
    """Makes the ledger ready, or leaves it to the writer: a database that is away now must not keep a gateway from serving.

    A SQLite file that cannot be used is no outage but a mistake, and raises `StoreUnavailable`.
    """
    try:
        prepare(url)
    except StoreUnavailable as error:
        if not is_postgresql(url):
            raise
        log.warning("the ledger cannot be reached; calls are kept in a journal until it can", extra={"why": str(error)})


def _prepare_signing_key(config: Config, environ: Mapping[str, str]) -> None:
    """Makes the key that signs tokens, where tokens are let in and there is none yet.  A gateway serves without it, too."""
    if config.auth.jwt is None:
        return
    mint = Mint(config.auth.jwt, SecretsFile(secrets_path(environ, Path.home())))
    try:
        kid = make_first_key(config.ledger.url, mint, actor=GATEWAY, audit=RegisterAudit())
    except StoreUnavailable as error:
        log.warning("no key was made that signs tokens; `tollhouse token create` will", extra={"why": str(error)})
        return
    if kid is not None:
        log.info("a key was made that signs tokens", extra={"kid": kid, "file": str(mint.secrets.path)})


def wants_grpc(config: Config, *, is_asked_for: bool, is_installed: Callable[[str], bool] = is_installed) -> bool:
    """Whether gRPC is to be served.

    It is on by default; where the extra is missing that is not held against whoever never asked for it, and said in the log.
    Raises `NotInstalled` where it was asked for, in the file or by the command line (`is_asked_for`), or is all that is served.
    """
    server = config.server
    if not server.grpc_port:
        return False
    missing = GRPC.missing(is_installed)
    if not missing:
        return True
    place = config.places.get("server.grpc_port")
    if is_asked_for or not server.http or (place is not None and place.is_written):
        raise NotInstalled(f"`server.grpc_port` needs {missing[0]}, which is not installed.", hint=GRPC.command)
    log.info("gRPC is not served, for it is not installed: %s", GRPC.command, extra={"missing": list(missing)})
    return False


def _announce(told: Told, config: Config, listening: Listening, announcement: Announcement) -> None:
    for warning in config.warnings:
        told(f"warning: {warning}")
    for line in announcement(config, listening):
        told(line)


def _one_line(config: Config, listening: Listening) -> Iterable[str]:
    del config
    grpc = "" if listening.grpc is None else f"gRPC {listening.grpc.address}"
    also = f", {grpc}" if grpc and listening.http is not None else ""
    processes = f", {listening.workers} workers" if listening.workers > 1 else ""
    where = grpc if listening.http is None else listening.http.url
    yield f"tollhouse {__version__} answers at {where} (admin {listening.admin.url}{also}{processes})"


async def _serve_alone(
    worker: Worker,
    house: House,
    listen: "AdminListener",
    announce: Callable[[], None],
    held: tuple[socket.socket, ...],
) -> None:
    app = AdminApp(
        health=worker.health_json,
        is_ready=lambda: not worker.running.is_draining,
        readiness=worker.readiness,
        metrics=partial(worker.metrics_text, house.readings),
        office=house.office,
    )
    admin_listener = listen(app)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.drain)
    try:
        calm_collector()
        await worker.start()
        await admin_listener.start()
        hangups.heed(loop, worker.reload)
        announce()
        for one in held:
            one.close()
        await worker.wait()
    finally:
        await admin_listener.stop(CUT_SECONDS)
        app.close()
        await worker.aclose()


class Supervisor:
    """Keeps `workers` processes running."""

    def __init__(
        self, job: Job, config: Config, listen: AdminListener, forks: ForkServer | None, lives: ModelLives
    ) -> None:
        """Starts nothing."""
        self._job = job
        self._config = self._began_with = config
        self._lives = lives
        self._was_reload_good = True
        self._drain_seconds = config.server.drain_seconds
        self._listen = listen
        self._children = [WorkerProcess(job, number, forks) for number in range(1, config.server.workers + 1)]
        self._stopping = asyncio.Event()
        self._started = time.monotonic()

    async def run(self, announce: Callable[[], None], held: tuple[socket.socket, ...]) -> None:
        """Calls `announce` once the gateway answers, and returns after a drain.

        Raises `GatewayError` if the workers cannot start.
        """
        loop = asyncio.get_running_loop()
        url = self._config.ledger.url
        study, trail = Study(self._config, os.environ), Trail.of(url)
        office = Office(
            config=lambda: self._config,
            config_file=Path(self._job.config_file),
            environ=os.environ,
            ledger_url=url,
            reload=self._reload,
            providers=lambda: reports.providers_of(reports.read(Path(self._job.reports_folder))),
            purses=study.purses,
            spent=study.spent,
            trail=trail,
            loop=loop,
        )
        house = House(
            office=office,
            models=self._lives,
            restarts=lambda: sum(child.restarts for child in self._children),
            was_reload_good=lambda: self._was_reload_good,
        )
        app = AdminApp(
            health=self.health_json,
            is_ready=self._is_ready,
            readiness=lambda: "serving, store down" if self._missing() else "ready",
            metrics=partial(self._metrics, house),
            office=office,
        )
        listener = self._listen(app)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        try:
            await asyncio.gather(*(child.start() for child in self._children))
            await listener.start()
            hangups.heed(loop, self._reload)
            announce()
            for one in held:
                one.close()
            async with asyncio.TaskGroup() as group:
                for child in self._children:
                    group.create_task(self._watch(child))
        finally:
            for child in self._children:
                child.kill()
                child.close()
            await listener.stop(CUT_SECONDS)
            app.close()
            await study.aclose()
            await trail.aclose()

    async def _watch(self, child: WorkerProcess) -> None:
        """Restarts one worker until the supervisor stops, then lets it drain."""
        wait = RESTART_BASE_SECONDS
        while True:
            begun = time.monotonic()
            if await self._ended(child):
                return
            child.is_ready = False
            child.restarts += 1
            log.error(
                "a worker ended and is started again",
                extra={"worker": child.number, "exit_status": child.exit_status},
            )
            wait = RESTART_BASE_SECONDS if time.monotonic() - begun > STEADY_SECONDS else wait
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()
                    return
            wait = min(RESTART_CAP_SECONDS, wait * 2)
            try:
                await child.start()
            except GatewayError as error:
                log.error("a worker could not be started", extra={"worker": child.number, "reason": str(error)})  # noqa: TRY400

    async def _ended(self, child: WorkerProcess) -> bool:
        """Waits until the worker ends or the supervisor stops; true if it stops."""
        ended = asyncio.get_running_loop().create_task(child.wait())
        stopping = asyncio.get_running_loop().create_task(self._stopping.wait())
        try:
            await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stopping.is_set():
                return False
            child.signal(signal.SIGTERM)
            limit = self._drain_seconds + 3 * CUT_SECONDS
            done, _ = await asyncio.wait({ended}, timeout=limit)
            if not done:
                log.error("a worker did not end in time and is killed", extra={"worker": child.number})
                child.kill()
                await ended
            return True
        finally:
            stopping.cancel()
            ended.cancel()

    def _reload(self) -> None:
        try:
            read = load(Path(self._job.config_file), os.environ, defaults_by_type())
            self._config = self._job.overrides.over(read)
        except TollhouseError as error:
            self._was_reload_good = False
            problems = error.problems if isinstance(error, ConfigError) else (str(error),)
            log.error("the new configuration is refused, the old one goes on serving", extra={"problems": problems})  # noqa: TRY400
            return
        self._was_reload_good = True
        for child in self._children:
            child.reload()

    def _is_ready(self) -> bool:
        return not self._stopping.is_set() and any(child.is_ready for child in self._children)

    def _missing(self) -> dict[str, str]:
        return reports.missing_of(reports.read(Path(self._job.reports_folder)))

    def _metrics(self, house: House) -> tuple[bytes, str]:
        from tollhouse.telemetry.exposition import CONTENT_TYPE, render

        snapshot = reports.metrics_of(reports.read(Path(self._job.reports_folder)))
        note_journals(snapshot.readings, self._began_with, os.environ)
        snapshot.readings = joined([snapshot.readings, house.readings()])
        return render(snapshot), CONTENT_TYPE

    def health_json(self) -> bytes:
        """The body of `GET /health`.  Of the workers' opinions of a provider the worst is shown."""
        found = reports.read(Path(self._job.reports_folder))
        chained, missing = reports.chained_of(found), reports.missing_of(found)
        serving = "serving, store down" if missing else "serving"
        return msgspec.json.encode(
            {
                "status": "draining" if self._stopping.is_set() else serving if self._is_ready() else "starting",
                "version": __version__,
                "uptime_seconds": round(time.monotonic() - self._started, 1),
                "workers": [
                    {"number": child.number, "ready": child.is_ready, "restarts": child.restarts}
                    for child in self._children
                ],
                "missing": missing,
                "providers": reports.providers_of(found),
                **({"chained": chained} if chained else {}),
            }
        )
