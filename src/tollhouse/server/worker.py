"""One worker: the parts that a configuration became, and the listener in front of them.

A worker is an object, so that one process can hold it beside the admin listener (`workers: 1`) and a supervisor can run
several, each in a process of its own, forked (`fork_server`) or fresh (`python -m tollhouse.server.worker`).
"""

import asyncio
import gc
import importlib
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import msgspec

from tollhouse._version import __version__
from tollhouse.config.load import diff, load
from tollhouse.config.overrides import NOTHING_OVERRULED, Overrides
from tollhouse.config.schema import Config, TraceSettings
from tollhouse.config.secret import Secret
from tollhouse.dialects import anthropic, openai_chat, openai_responses
from tollhouse.dialects.anthropic.traits import AnthropicTraits
from tollhouse.dialects.openai_chat.traits import OPENAI
from tollhouse.dialects.openai_responses import ResponsesTraits
from tollhouse.dialects.protobuf.readable import READABLES
from tollhouse.errors import AddressNotAllowed, ConfigError, NotInstalled, TollhouseError, Unauthenticated
from tollhouse.extras import HTTP2, OTEL
from tollhouse.ledger import price_books
from tollhouse.ledger.record import CallRecord
from tollhouse.policy.admission import Admission
from tollhouse.policy.redaction import Redactor
from tollhouse.policy.redaction.configured import redactor_of
from tollhouse.policy.tokens.secrets_file import SecretsFile, secrets_path
from tollhouse.providers.registry import defaults_by_type
from tollhouse.server import hangups, observation, reports
from tollhouse.server.chained import Chained
from tollhouse.server.http.app import PublicApp
from tollhouse.server.http.asgi import App
from tollhouse.server.http.status import Status
from tollhouse.server.http1.listener import Http1Listener
from tollhouse.server.listener import Place, Server, SilentServer
from tollhouse.server.running_calls import RunningCalls
from tollhouse.server.stores import Stores
from tollhouse.server.tls import LiveTls, live_tls
from tollhouse.server.wiring import Engine, LocalAddress, assemble, bounds_of
from tollhouse.telemetry import logs, readings
from tollhouse.telemetry.bodies import BodySettings, BodyStore, Readable
from tollhouse.telemetry.bodies_file import path_of
from tollhouse.telemetry.calls_log import CallsLog
from tollhouse.telemetry.metrics import Metrics, Snapshot
from tollhouse.telemetry.outlet import Outlet
from tollhouse.telemetry.readings import Readings, joined
from tollhouse.telemetry.trace_context import Tracing
from tollhouse.upstream.health import ProviderHealth

if TYPE_CHECKING:
    from tollhouse.telemetry.traces import Traces

LOG_FLUSH_SECONDS: Final = 0.25
CUT_SECONDS: Final = 5.0
"""What a stream that outlived the drain limit gets to send its error event and settle."""

log = logs.get("server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker needs to know; a supervisor sends it to its workers as JSON."""

    config_file: str
    place: Place
    local: Mapping[str, LocalAddress] = field(default_factory=dict)
    reports_folder: str = ""
    """Where the workers' reports meet; empty when there is only one."""
    grpc: Place | None = None
    """Where gRPC listens; `None` when it does not."""
    overrides: Overrides = NOTHING_OVERRULED
    """What the command line says over the file, each time that it is read."""


class Worker:
    """Serves one listener.  `start`, then `wait` until `drain` was called from a signal handler."""

    def __init__(
        self,
        job: Job,
        config: Config,
        environ: Mapping[str, str],
        stores: Stores,
        *,
        listen: Callable[[App, Place], Server] | None = None,
    ) -> None:
        """Use `open`."""
        loop = asyncio.get_running_loop()
        self.config = self._began_with = config
        self._job = job
        self._environ = environ
        self._started = time.monotonic()
        self._metrics = Metrics()
        self._was_reload_good = True
        self._reloaded_at = time.time()
        self._reports = Path(job.reports_folder) if job.reports_folder else None
        redactor = redactor_of(config, "secrets")
        self._outlet = _outlet(config.logging.calls)
        self._calls_log = (
            CallsLog(self._outlet.put, redactor, hides_client="ip" in config.logging.redact) if self._outlet else None
        )
        self._bodies = _bodies(config, environ)
        traces = config.telemetry.traces
        self._traces = None if traces is None else _traces(traces, redactor, self._type_of)
        self.stores = stores
        self._engine = Engine(
            stores=stores,
            signing=SecretsFile(secrets_path(environ, Path.home())),
            bodies=self._bodies,
            finished=self._finished,
            unexpected=_unexpected,
            masked=self._metrics.note_masked,
            tracing=None if traces is None else Tracing(traces.sample, random.getrandbits),
            local=job.local,
        )
        self.running = RunningCalls()
        self.app = PublicApp(
            assemble(config, self._engine),
            Status(health=self.public_health_json, readiness=self.readiness, metrics=self.metrics_text),
            unexpected=_unexpected,
            refused=self._refused,
            running=self.running,
        )
        self._places = observation.places_of(self.app.serving.gateway.router.providers.values())
        self._engine.issuers.watch(config.auth.oidc)
        self._chained = Chained(self._engine.transport)
        self._chained.watch(config)
        self.tls = live_tls(config.server.tls, "server.tls")
        self._listener = (listen or _server(config, self.tls))(self.app, job.place)
        self._grpc: Server | None = None
        self._flushing = loop.create_task(self._flush_often())
        self._housekeeping = loop.create_task(
            stores.keep_house(self._admission, self._finished, lambda: bounds_of(self.config.responses))
        )
        self._watching = None if self.tls is None else loop.create_task(self.tls.watch())
        self._draining: asyncio.Task[None] | None = None
        self._keeping = self._keep_prices()

    @classmethod
    async def open(
        cls,
        job: Job,
        config: Config,
        environ: Mapping[str, str],
        *,
        listen: Callable[[App, Place], Server] | None = None,
    ) -> Self:
        """Opens the stores and builds everything, but no port.  Raises `ConfigError`.  `listen` makes another HTTP server."""
        workers: list[Worker] = []

        def cut(keys: frozenset[str]) -> None:
            for worker in workers:
                worker.running.cut_keys(keys)

        stores = await Stores.open(config, environ, on_cut=cut)
        try:
            worker = cls(job, config, environ, stores, listen=listen)
        except BaseException:
            await stores.aclose()
            raise
        workers.append(worker)
        return worker

    async def start(self) -> None:
        """Begins to listen, and returns when connections are accepted."""
        await self._listener.start()
        if self._job.grpc is not None:
            # The library takes its time to load, and HTTP is answered meanwhile.
            grpc = await asyncio.to_thread(importlib.import_module, "tollhouse.server.grpc.services")
            listener: Server = grpc.listener(
                self._job.grpc,
                self.config,
                tls=self.tls,
                serving=lambda: self.app.serving,
                running=self.running,
                refused=self._refused,
                unexpected=_unexpected,
            )
            if self.running.is_draining:
                return
            await listener.start()
            self._grpc = listener

    async def wait(self) -> None:
        """Returns after a drain."""
        await self._listener.wait()
        if self._grpc is not None:
            await self._grpc.wait()
        if self._draining is not None:
            await self._draining

    def drain(self) -> None:
        """Stops accepting, lets streams end up to the limit, then cuts them with an error event.  For signal handlers."""
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        self.running.is_draining = True
        limit = self.config.server.drain_seconds
        if not await self._stop_listening(limit):
            log.warning("cutting the streams that outlived the drain limit", extra={"limit_seconds": limit})
            self.running.cut()
            await self._stop_listening(CUT_SECONDS)

    async def _stop_listening(self, limit_seconds: float) -> bool:
        listeners = [self._listener] if self._grpc is None else [self._listener, self._grpc]
        return all(await asyncio.gather(*(listener.stop(limit_seconds) for listener in listeners)))

    async def aclose(self) -> None:
        """Settles and flushes what is left.  Call it after `wait`."""
        self._flushing.cancel()
        self._housekeeping.cancel()
        if self._watching is not None:
            self._watching.cancel()
        await self._chained.aclose()
        self._keeping.cancel()
        if self._engine.coalescer is not None:
            await self._engine.coalescer.aclose()
        await self.stores.aclose()
        await self._engine.aclose()
        self._flush()
        for closing in (self._outlet, self._bodies, self._traces):
            if closing is not None:
                await asyncio.to_thread(closing.close)

    def _keep_prices(self) -> asyncio.Task[None]:
        """Writes down the prices that rows are made with, so that every bill can be explained later."""
        gateway = self.app.serving.gateway
        return asyncio.get_running_loop().create_task(
            price_books.keep_soon(
                self.config.ledger.url,
                gateway.prices,
                gateway.router.kinds,
                complain=lambda why: log.warning("the prices are not kept yet", extra={"why": why}),
            )
        )

    def _admission(self) -> Admission:
        return self.app.serving.gateway.admission

    def reload(self) -> None:
        """Reads the configuration again and swaps it in; if anything is wrong with it, the old one goes on serving."""
        try:
            read = load(Path(self._job.config_file), self._environ, defaults_by_type())
            config = self._job.overrides.over(read)
            serving = assemble(config, self._engine)
        except TollhouseError as error:
            self._was_reload_good = False
            problems = error.problems if isinstance(error, ConfigError) else (str(error),)
            log.error("the new configuration is refused, the old one goes on serving", extra={"problems": problems})  # noqa: TRY400
            return
        changes = diff(self.config, config)
        later = [change.path for change in changes if change.needs_restart]
        if later:
            log.warning("these changes take effect only with a restart", extra={"paths": later})
        self._was_reload_good, self._reloaded_at = True, time.time()
        self._places = observation.places_of(serving.gateway.router.providers.values())
        self.config = config
        self.app.serving = serving
        self._engine.issuers.watch(config.auth.oidc)
        self._chained.watch(config)
        self._keeping.cancel()
        self._keeping = self._keep_prices()
        log.info("the configuration was reloaded", extra={"changed": [change.path for change in changes]})

    def provider_states(self) -> Sequence[ProviderHealth]:
        """How the providers of the configuration that serves now are."""
        return self.app.serving.gateway.health.snapshot()

    def public_health_json(self) -> bytes:
        """The body of `GET /health` for callers: how it is, without why."""
        return msgspec.json.encode(
            {
                **self._health(),
                "ledger": self.stores.books.state().status,
                "stores": self.stores.states(),
                "providers": {each.provider: each.state for each in self.app.serving.gateway.health.snapshot()},
                **({"chained": states} if (states := self._chained.states()) else {}),
            }
        )

    def health_json(self) -> bytes:
        """The body of `GET /health` for the operator, on the admin listener."""
        ledger = self.stores.books.state()
        return msgspec.json.encode(
            {
                **self._health(),
                "ledger": {"status": ledger.status, "reason": ledger.reason},
                "missing": self.stores.complaints(),
                "issuers": self._engine.issuers.problems(),
                "providers": self.app.serving.gateway.health.snapshot(),
                **({"chained": seen} if (seen := self._chained.reports()) else {}),
            }
        )

    def readiness(self) -> str:
        """The status in the body of `GET /health/ready` while calls are answered."""
        return "serving, store down" if self.stores.complaints() else "ready"

    def _health(self) -> dict[str, object]:
        return {
            "status": "draining" if self.running.is_draining else _standing(self.stores),
            "version": __version__,
            "uptime_seconds": round(time.monotonic() - self._started, 1),
        }

    def metrics_text(self, more: Callable[[], Readings] = Readings) -> tuple[bytes, str]:
        """The exposition text, summed over all workers, and its content type; with what `more` has to say.

        Reads files: for a thread.
        """
        from tollhouse.telemetry.exposition import CONTENT_TYPE, render

        found = [self._report()]
        if self._reports is not None:
            found += [report for report in reports.read(self._reports) if report.pid != os.getpid()]
        snapshot = reports.metrics_of(found)
        observation.note_journals(snapshot.readings, self._began_with, self._environ)
        snapshot.readings = joined([snapshot.readings, more()])
        return render(snapshot), CONTENT_TYPE

    def _report(self) -> reports.Report:
        return reports.Report(
            os.getpid(),
            self._snapshot(),
            self.app.serving.gateway.health.snapshot(),
            dict(self._chained.states()),
            dict(self.stores.complaints()),
        )

    def _snapshot(self) -> Snapshot:
        self._metrics.in_flight = len(self.running)
        snapshot = self._metrics.snapshot()
        self._note(snapshot.readings)
        return snapshot

    def _note(self, to: Readings) -> None:
        """What this worker's parts are, besides what was counted of calls."""
        engine, serving = self._engine, self.app.serving
        observation.note_process(to)
        observation.note_stores(to, self.stores)
        observation.note_waits(to, engine.waits)
        observation.note_sharing(to, engine)
        observation.note_connections(to, list(engine.transports.values()), self._places)
        lost_spans = None if self._traces is None else self._traces.state().lost
        observation.note_losses(to, self.stores, calls_log=self._outlet, bodies=self._bodies, lost_spans=lost_spans)
        to.put(readings.IN_FLIGHT_LIMIT, serving.max_concurrent_calls)
        to.put(readings.DRAINING, float(self.running.is_draining))
        to.put(readings.RELOADED, float(self._was_reload_good))
        to.put(readings.RELOADED_AT, self._reloaded_at)

    def _refused(self, request_id: str, address: str, error: TollhouseError) -> None:
        self._metrics.refused(request_id, error.code)
        log.info(
            "a request was refused", extra={"request_id": request_id, "code": error.code, "status": error.http_status}
        )
        if isinstance(error, Unauthenticated | AddressNotAllowed):
            self.stores.trail.fail(address=address, code=error.code, door="public", request_id=request_id)

    def _finished(self, record: CallRecord) -> None:
        self._metrics.finished(record)
        if self._calls_log is not None and self._calls_log.finished(record):
            self._calls_log.flush()
        if self._traces is not None:
            self._traces.finished(record)

    def _type_of(self, provider: str) -> str:
        """The type of a provider by its name; of one that is configured no more, the name."""
        settings = self.config.providers.get(provider)
        return provider if settings is None else settings.type

    async def _flush_often(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOG_FLUSH_SECONDS
            await asyncio.sleep(LOG_FLUSH_SECONDS)
            self._metrics.note_lag(loop.time() - due)
            self._flush()

    def _flush(self) -> None:
        if self._calls_log is not None:
            self._calls_log.flush()
        if self._reports is not None:
            reports.write(self._reports, self._report())


def _outlet(place: str) -> Outlet | None:
    """The way out for the lines about calls; `None` when there are to be none."""
    return None if place == "off" else Outlet(place, lost=logs.tell_lost("calls"))


def _bodies(config: Config, environ: Mapping[str, str]) -> BodyStore | None:
    """The store of prompts and answers, if there is to be one."""
    settings = config.logging
    if settings.bodies == "off":
        return None
    return BodyStore.start(
        BodySettings(path=path_of(config, environ), form=settings.bodies, retention_seconds=settings.retention_seconds),
        redactor_of(config),
        {
            openai_chat.DIALECT.name: lambda: openai_chat.DIALECT.stream_decoder(OPENAI),
            anthropic.DIALECT.name: lambda: anthropic.DIALECT.stream_decoder(AnthropicTraits()),
            openai_responses.DIALECT.name: lambda: openai_responses.DIALECT.stream_decoder(ResponsesTraits()),
        },
        {"vibectl": _vibectl_as_json, **READABLES},
    )


def _traces(settings: TraceSettings, redactor: Redactor, type_of: Callable[[str], str]) -> "Traces":
    try:
        from tollhouse.telemetry.traces import Traces
    except ImportError as error:
        raise NotInstalled(
            "`telemetry.traces` needs the OpenTelemetry SDK, which is not installed.",
            hint=OTEL.command,
        ) from error

    def lost(spans: int, reason: str) -> None:
        logs.get("telemetry").warning("spans were lost", extra={"spans": spans, "reason": reason})

    return Traces(settings, redactor, type_of=type_of, lost=lost)


def _vibectl_as_json() -> Readable:
    from tollhouse.dialects.vibectl.readable import READABLE

    return READABLE


def _server(config: Config, tls: LiveTls | None) -> Callable[[App, Place], Server]:
    if not config.server.http:
        return lambda _app, _place: SilentServer()
    if not config.server.http2:
        return partial(Http1Listener, tls=tls)
    try:
        from tollhouse.server.http2 import Http2Listener
    except ImportError as error:
        raise NotInstalled("`server.http2` needs granian, which is not installed.", hint=HTTP2.command) from error
    return partial(Http2Listener, tls=tls)


def _standing(stores: Stores) -> str:
    """How readiness reads to a person: a gateway whose store is down serves all the same."""
    return "serving, store down" if stores.complaints() else "serving"


def _unexpected(request_id: str, error: BaseException) -> None:
    log.error("a call failed by our own fault", extra={"request_id": request_id}, exc_info=error)


def calm_collector() -> None:
    """Tells Python's garbage collector that what is alive now stays alive, and to look less often at the rest.

    Calls leave little behind that is not freed at once; looking for it took 5 to 10 % of their CPU time.  Called once by a
    process, when everything is built.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def read_job(text: str) -> Job:
    """A job as the supervisor wrote it."""
    fields = json.loads(text)
    return Job(
        config_file=fields["config_file"],
        place=Place(fields["host"], fields["port"]),
        local={
            name: LocalAddress(entry["base_url"], Secret(entry["api_key"]), entry["supports_tools"])
            for name, entry in fields["local"].items()
        },
        reports_folder=fields["reports_folder"],
        grpc=Place(fields["host"], fields["grpc_port"]) if fields["grpc_port"] else None,
        overrides=msgspec.convert(fields["overrides"], Overrides),
    )


def write_job(job: Job) -> str:
    """The text for `read_job`.  It holds the embedded models' secrets: send it over the line, never as an argument."""
    return json.dumps(
        {
            "config_file": job.config_file,
            "host": job.place.host,
            "port": job.place.port,
            "local": {
                name: {
                    "base_url": entry.base_url,
                    "api_key": entry.api_key.reveal(),
                    "supports_tools": entry.supports_tools,
                }
                for name, entry in job.local.items()
            },
            "reports_folder": job.reports_folder,
            "grpc_port": 0 if job.grpc is None else job.grpc.port,
            "overrides": msgspec.to_builtins(job.overrides),
        }
    )


async def run(job: Job, config: Config, line: socket.socket) -> None:
    """The life of a worker in a process of its own; `line` leads to the supervisor."""
    worker = await Worker.open(job, config, os.environ)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, worker.drain)
    _drain_without_supervisor(worker, line)
    calm_collector()
    try:
        await worker.start()
        hangups.heed(loop, worker.reload)
        with suppress(ConnectionError):  # without a supervisor it drains
            line.sendall(b"ready\n")
        await worker.wait()
    finally:
        await worker.aclose()


def _drain_without_supervisor(worker: Worker, line: socket.socket) -> None:
    """Drains when the supervisor's end of `line` is closed: it is gone, and nobody would ever end or replace this worker."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        with suppress(ConnectionError):
            if line.recv(4096):
                return
        loop.remove_reader(line)
        log.error("the supervisor is gone, so this worker ends")
        worker.drain()

    loop.add_reader(line, heard)


def live(line: socket.socket) -> int:
    """All that a process does that is a worker: reads its job from `line`, serves, and returns its exit status.

    Whatever keeps it from starting is said on standard error.
    """
    with hangups.held_back():  # until it serves
        return _live(line)


def _live(line: socket.socket) -> int:
    import uvloop

    with line.makefile("rb") as heard:
        text = heard.readline()
    if not text:  # the supervisor is gone already
        return 1
    job = read_job(text.decode())
    outlet = Outlet("stderr", lost=logs.tell_lost("gateway"))
    try:
        config = job.overrides.over(load(Path(job.config_file), os.environ, defaults_by_type()))
        logs.configure(config.logging.level, config.logging.format, outlet)
        uvloop.run(run(job, config, line))
    except TollhouseError as error:
        print(f"tollhouse: {error}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        outlet.close()
    return 0


def main() -> None:
    """`python -m tollhouse.server.worker`: a worker that was not forked; its line is its standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor hears it too and decides
    with socket.socket(fileno=sys.stdin.fileno()) as line:
        sys.exit(live(line))


if __name__ == "__main__":
    main()
