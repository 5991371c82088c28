"""How the model's process is run, and what it and its parent say to each other."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from tollhouse.local.store import StoredModel

MAX_THREADS: Final = 8
DEFAULT_SLOTS: Final = 2
MAX_CONTEXT_TOKENS: Final = 8192
"""Default bound of a slot's context, however much more the model knows: memory is set aside for all of it."""


class LocalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and how much of the machine it may take."""

    model_path: Path
    name: str = "local"
    """The `model` in its answers."""
    slots: int = DEFAULT_SLOTS
    """Answers at the same time; more requests wait in llama.cpp's queue."""
    context_tokens: int = MAX_CONTEXT_TOKENS
    """Prompt and answer together, for each slot.  Memory grows with `slots * context_tokens`: SmolLM2-135M takes about
    23 KiB a token, so 520 MB in all with these defaults and 200 MB with one slot of 2048.  Slots never share: with a
    shared cache, two requests that overfill it both fail, also the one that would have fitted."""
    threads: int = 0
    """0 is `default_threads`: half of the CPUs that this process may use."""
    temperature: float | None = None
    """For requests that say nothing; `None` is llama.cpp's own default, 0.8."""
    top_p: float | None = None
    nice: int = 5
    """Added to the process's niceness, so that the gateway answers first (POSIX)."""
    start_seconds: float = 120.0
    """Deadline for loading the model."""
    stop_seconds: float = 3.0
    """How long a process may take to leave before it is killed."""


def settings_for(
    stored: "StoredModel", *, slots: int = DEFAULT_SLOTS, context_tokens: int | None = None, threads: int = 0
) -> LocalSettings:
    """Sensible settings for a stored model: its makers' sampling, and as much context as it knows up to the bound."""
    known = stored.known
    return LocalSettings(
        model_path=stored.path.resolve(),
        name=stored.name,
        slots=slots,
        context_tokens=context_tokens or min(MAX_CONTEXT_TOKENS, stored.head.context_tokens or MAX_CONTEXT_TOKENS),
        threads=threads,
        temperature=known.temperature if known else None,
        top_p=known.top_p if known else None,
    )


def default_threads() -> int:
    """Half of the CPUs that this process may use, at least 1 and at most `MAX_THREADS`.

    Half because llama.cpp gains nothing from a core's second hyper-thread, and the gateway needs some too.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return min(MAX_THREADS, max(1, available // 2))


# ------------------------------------------------------------------------------------- lines of JSON between the processes


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Parent to child: one line on stdin, which then stays open as long as the parent lives."""

    model_path: str
    name: str
    slots: int
    context_tokens: int
    threads: int
    temperature: float | None
    top_p: float | None
    nice: int
    api_key: str
    port: int
    """The port wished for, or 0; the child takes another one if it is not free."""
    parent_pid: int


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """Child to parent, on stdout: it serves."""

    port: int
    supports_tools: bool
    """Whether the model's own chat template knows tools; otherwise `tollhouse.local.tools` forces calls."""


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Child to parent, on stdout: it cannot, and trying again unchanged will not help."""

    reason: str
    not_installed: bool = False


Word = Ready | Refused
