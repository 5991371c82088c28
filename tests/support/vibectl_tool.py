"""The published tool vibectl, as somebody has it installed: in an environment of its own, with a `kubectl` that answers.

It cannot live in this project's environment: it holds old releases of several libraries.  `make vibectl` installs it into
`.venv-vibectl`; the variable `TOLLHOUSE_VIBECTL` names another place.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

VERSION = "0.11.6"
PATIENCE_SECONDS = 90.0
_INSTALLED = Path(__file__).parents[2] / ".venv-vibectl" / "bin" / "vibectl"
_KUBECTL = """\
#!/bin/sh
case "$*" in
  *version*) echo "Client Version: v1.29.0" ;;
  *) echo "NAME    READY   STATUS"; echo "web-1   1/1     Running" ;;
esac
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    output: str
    """Both outputs, without line breaks that depend on a terminal."""


@dataclass(frozen=True)
class Vibectl:
    """The tool, with a home of its own."""

    program: Path
    home: Path

    async def run(self, *arguments: str) -> Done:
        """Runs a command to its end, in an environment that knows nothing of whoever runs the tests."""
        child = await asyncio.create_subprocess_exec(
            self.program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={
                "HOME": str(self.home),
                "PATH": f"{self.home / 'bin'}:/usr/bin:/bin",
                "LANG": "C.UTF-8",
                "COLUMNS": "1000",
            },
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, _ = await child.communicate()
        return Done(child.returncode or 0, output.decode())


def installed(home: Path) -> Vibectl:
    """The tool with an empty home; skips the test where it is not installed."""
    program = Path(os.environ.get("TOLLHOUSE_VIBECTL") or _INSTALLED)
    if not program.exists():
        pytest.skip(
            "the tool vibectl is not installed; `make vibectl` installs it, or TOLLHOUSE_VIBECTL says where it is"
        )
    kubectl = home / "bin" / "kubectl"
    kubectl.parent.mkdir(parents=True)
    kubectl.write_text(_KUBECTL)
    kubectl.chmod(0o755)
    return Vibectl(program, home)
