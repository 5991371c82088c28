"""Programs of others, as a person would run them: in a home of their own, with nobody outside to ask, for so long and no longer."""

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

CLIENTS: Final = Path(os.environ.get("TOLLHOUSE_TEST_CLIENTS") or Path(__file__).parents[2] / ".clients")
"""Where `make clients` installs them."""
MODULES: Final = CLIENTS / "node_modules"
PATIENCE_SECONDS: Final = 120.0
"""How long a program may take that needs a few seconds on an idle machine."""
NOBODY: Final = "http://127.0.0.1:9"
"""A proxy that is not there: what is not on this machine is refused at once."""


@dataclass(frozen=True)
class Ran:
    """What a program said."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that a person would see."""
        return self.out + self.err


def installed(*patterns: str) -> str | None:
    """The first file below `node_modules` that fits one of the patterns."""
    for pattern in patterns:
        for found in sorted(MODULES.glob(pattern)):
            return str(found)
    return None


@cache
def node() -> str | None:
    """Node, of the version that the clients need rather than the machine's."""
    return installed("node-*/bin/node") or shutil.which("node")


async def run(
    command: Sequence[str], home: Path, environ: Mapping[str, str], *, limit_seconds: float = PATIENCE_SECONDS
) -> Ran:
    """Runs a program to its end, with all that it starts.  Raises `TimeoutError` with what it said until then."""
    work = home / "work"
    work.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=work,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(home),
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOBODY),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            **environ,
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    out, err = bytearray(), bytearray()
    try:
        async with asyncio.timeout(limit_seconds), asyncio.TaskGroup() as group:
            group.create_task(_gather(process.stdout, out))
            group.create_task(_gather(process.stderr, err))
            group.create_task(process.wait())
    except TimeoutError as error:
        raise TimeoutError(f"{command[0]} still ran after {limit_seconds:g} s: {out.decode()}{err.decode()}") from error
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return Ran(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))


async def _gather(stream: asyncio.StreamReader | None, into: bytearray) -> None:
    assert stream is not None
    while data := await stream.read(65_536):
        into += data
