"""The model's process and its supervisor.

llama.cpp runs in a process of its own so that it can crash, be cancelled and be limited without harming whoever started
it.  What is started here answers llama.cpp's own HTTP API on 127.0.0.1: OpenAI's chat dialect under `/v1`, token counts
under `/tokenize` and `/v1/messages/count_tokens`; a request whose connection closes is cancelled.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from tollhouse.errors import LocalModelUnavailable, NotInstalled, TollhouseError
from tollhouse.extras import LOCAL
from tollhouse.local.gguf import read_head
from tollhouse.local.lifecycle import Event, Restarts, State, advance
from tollhouse.local.settings import LocalSettings, Order, Ready, Refused, Word, default_threads

TAIL_BYTES: Final = 8192
"""How much of the process's last words on stderr is kept."""
CHILD: Final = (sys.executable, "-P", "-m", "tollhouse.local.child")
"""-P: nothing in the current folder takes the place of a module."""

_SETTLED: Final[frozenset[State]] = frozenset({"ready", "failed", "stopping", "stopped"})
"""States that whoever waits for the model shall hear of."""

# What the child needs of the environment.  The rest stays here: it may hold the providers' keys.
_PASSED: Final = frozenset(
    {"HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "VIRTUAL_ENV"}
)
_PASSED_PREFIXES: Final = ("CUDA_", "DYLD_", "GGML_", "HIP_", "LC_", "OMP_", "PYTHON", "ROCR_", "VK_")


class LocalModel:
    """One model, running in a process that is started again when it dies.

    Belongs to the event loop in which `start` is called, and on Linux to its thread: when that thread ends, so does the
    process.  `api_key` stays the same for the object's life; `base_url` survives restarts unless its port was taken
    meanwhile, so read it for each call.
    """

    def __init__(
        self,
        settings: LocalSettings,
        *,
        restarts: Restarts | None = None,
        environ: Mapping[str, str] | None = None,
        on_state: Callable[[State], None] | None = None,
        command: Sequence[str] = CHILD,
    ) -> None:
        self.settings = settings
        self.api_key = secrets.token_urlsafe(32)
        self.state: State = "stopped"
        self.restarts = 0
        """How often a process took the place of one that died."""
        self.supports_tools = False
        """Whether the model's template knows tools; if not, see `tollhouse.local.tools`.  Known once ready."""
        self.failure: TollhouseError | None = None
        """Why the last process died or the start failed."""
        self._policy = restarts or Restarts()
        self._environ = os.environ if environ is None else environ
        self._on_state = on_state
        self._command = tuple(command)
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._waiters: set[asyncio.Future[State]] = set()

    @property
    def base_url(self) -> str:
        """Where it answers, `/v1` included; `LocalModelUnavailable` before the first time that it was ready."""
        if not self._port:
            raise LocalModelUnavailable("The embedded model was not started.")
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def pid(self) -> int | None:
        """The process id while there is a process."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Starts the process and waits until it serves; again and again, or by many at once, does no harm.

        Raises `NotInstalled` without llama.cpp and `LocalModelUnavailable`, with the reason, when the file is no usable
        model or its first process dies.  Cancelling it stops what it began.
        """
        if self.state not in {"stopped", "failed"}:
            await self.wait_ready()
            return
        self._step("start")
        self.failure = None
        # The task's owner is this object: `stop` cancels and awaits it.
        self._supervisor = asyncio.create_task(self._supervise(), name="local-model")  # noqa: TID251
        try:
            await self.wait_ready()
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def wait_ready(self, timeout_seconds: float | None = None) -> None:
        """Waits until it serves; raises the reason if it has failed or was stopped, or when the time is up."""
        state = self.state
        if state not in _SETTLED:
            waiter: asyncio.Future[State] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                async with asyncio.timeout(timeout_seconds):
                    state = await waiter  # not self.state: by the time we run, it may have moved on
            except TimeoutError:
                raise LocalModelUnavailable(f"The embedded model is still {self.state}.") from self.failure
            finally:
                self._waiters.discard(waiter)
        if state != "ready":
            raise self._reason()

    async def stop(self) -> None:
        """Ends the process, by force after `stop_seconds`; idempotent.  Returns when it is gone."""
        self._step("stop")
        supervisor = self._supervisor
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.wait({supervisor})
            self._supervisor = None
        if self.state == "stopping":
            self._step("ended")

    def _reason(self) -> TollhouseError:
        if self.failure is None:
            return LocalModelUnavailable("The embedded model was stopped.")
        return type(self.failure)(self.failure.message, hint=self.failure.hint)  # fresh, so tracebacks do not pile up

    def _step(self, event: Event) -> None:
        self.state = advance(self.state, event)
        if self.state in _SETTLED:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(self.state)
        if self._on_state:
            self._on_state(self.state)

    async def _supervise(self) -> None:
        try:
            await self._keep_running()
        except Exception as error:  # noqa: BLE001 - the task's outer edge: nobody shall wait for a dead supervisor
            self.failure = LocalModelUnavailable(f"The embedded model's supervisor failed: {error!r}.")
            self.failure.__cause__ = error
            self._step("broke")

    async def _keep_running(self) -> None:
        deaths = 0
        was_ready = False
        try:
            await asyncio.to_thread(read_head, self.settings.model_path)
        except LocalModelUnavailable as error:
            self.failure = error
            self._step("refused")
            return
        while True:
            run = _Run(self)
            self.failure = await run.to_its_end()
            if run.was_refused:
                self._step("refused")
                return
            self._step("died")
            was_ready |= run.was_ready
            deaths = self._policy.deaths_in_a_row(deaths, served_seconds=run.served_seconds)
            delay = self._policy.delay_seconds(deaths)
            # What has never served is not started again: whoever waits in `start` shall hear of it now.
            if delay is None or not was_ready:
                self._step("give_up")
                return
            await asyncio.sleep(delay)
            self.restarts += 1
            self._step("retry")

    def _order(self) -> Order:
        settings = self.settings
        return Order(
            model_path=str(settings.model_path),
            name=settings.name,
            slots=settings.slots,
            context_tokens=settings.context_tokens,
            threads=settings.threads or default_threads(),
            temperature=settings.temperature,
            top_p=settings.top_p,
            nice=settings.nice,
            api_key=self.api_key,
            port=self._port,
            parent_pid=os.getpid(),
        )


class _Run:
    """One process from its start to its end."""

    def __init__(self, model: LocalModel) -> None:
        self._model = model
        self._tail = bytearray()
        self._ready_at: float | None = None
        self.was_refused = False
        self.served_seconds = 0.0

    @property
    def was_ready(self) -> bool:
        return self._ready_at is not None

    async def to_its_end(self) -> TollhouseError:
        """Returns why it ended.  Cancelling ends the process."""
        model = self._model
        try:
            process = await asyncio.create_subprocess_exec(
                *model._command,  # noqa: SLF001 - one class in two pieces
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=child_environment(model._environ),  # noqa: SLF001
                start_new_session=True,  # Ctrl-C in a terminal goes to the gateway, which then ends the child
            )
        except OSError as error:
            return LocalModelUnavailable(f"The embedded model's process could not be started: {error}.")
        model._process = process  # noqa: SLF001
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_tail(process))
                try:
                    ending = await self._converse(process)
                finally:
                    await _end(process, model.settings.stop_seconds)
        finally:
            model._process = None  # noqa: SLF001
            if self._ready_at is not None:
                self.served_seconds = time.monotonic() - self._ready_at
        return ending or self._death(process.returncode)

    async def _converse(self, process: asyncio.subprocess.Process) -> TollhouseError | None:
        """Waits for its one word, then for its end.  `None`: it died, and its exit status says how."""
        assert process.stdin is not None
        assert process.stdout is not None
        settings = self._model.settings
        line = b"?"
        try:
            async with asyncio.timeout(settings.start_seconds):
                with contextlib.suppress(ConnectionError):  # it died at once; there is no word then either
                    process.stdin.write(msgspec.json.encode(self._model._order()) + b"\n")  # noqa: SLF001
                    await process.stdin.drain()
                with contextlib.suppress(ValueError):  # longer than the reader's bound: no word of our child's
                    line = await process.stdout.readline()
        except TimeoutError:
            return LocalModelUnavailable(
                f"The embedded model did not load within {settings.start_seconds:.0f} s.",
                hint="Give it more time, or use a smaller model.",
            )
        if not line:
            await process.wait()
            return None
        try:
            word: Ready | Refused = msgspec.json.decode(line, type=Word)
        except msgspec.DecodeError:
            return LocalModelUnavailable("The embedded model's process does not speak the gateway's language.")
        if isinstance(word, Refused):
            self.was_refused = True
            return self._refusal(word)
        self._ready_at = time.monotonic()
        self._model._port = word.port  # noqa: SLF001
        self._model.supports_tools = word.supports_tools
        self._model._step("ready")  # noqa: SLF001
        await process.wait()
        return None

    async def _keep_tail(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while piece := await process.stderr.read(4096):
            self._tail += piece
            del self._tail[:-TAIL_BYTES]

    def _refusal(self, word: Refused) -> TollhouseError:
        if word.not_installed:
            return NotInstalled(
                f"The embedded model needs llama.cpp: {word.reason}.",
                hint=f"Run `{LOCAL.command}`, or give the provider the `base_url` of any llama-server or Ollama.",
            )
        path = self._model.settings.model_path
        return LocalModelUnavailable(f"{word.reason[:1].upper()}{word.reason[1:]}: {why(self._tail)} ({path}).")

    def _death(self, status: int | None) -> TollhouseError:
        how = f"ended with status {status}"
        hint = None
        if status is not None and status < 0:
            with contextlib.suppress(ValueError):
                how = f"was killed by {signal.Signals(-status).name}"
            if -status == getattr(signal, "SIGILL", None):
                hint = "This processor lacks instructions that the prebuilt llama.cpp needs (AVX2)."
            if -status == getattr(signal, "SIGKILL", None):
                hint = "If nobody did that, the system was short of memory: lower `slots` or `context_tokens`."
        last = why(self._tail)
        return LocalModelUnavailable(f"The embedded model's process {how}{f': {last}' if last else ''}.", hint=hint)


async def _end(process: asyncio.subprocess.Process, grace_seconds: float) -> None:
    """Closes its stdin, at which it leaves, and kills it when it has not done so in time."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(grace_seconds):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the environment that the child gets: what Python and the hardware's libraries read, and no secrets."""
    return {
        name: value for name, value in environ.items() if name in _PASSED or name.upper().startswith(_PASSED_PREFIXES)
    }


def why(stderr_tail: bytes | bytearray) -> str:
    """The line of llama.cpp's last words that gives the reason, bounded; empty when there are none."""
    lines = [line.strip() for line in stderr_tail.decode("utf-8", "replace").splitlines() if line.strip()]
    for line in lines:
        # 0.00.029.973 E llama_model_load: error loading model: tensor 'x' data is not within the file bounds, …
        _, found, reason = line.partition("error loading model: ")
        if found:
            return reason[:300]
    return lines[-1][:300] if lines else ""
