"""Builds the compiled part of Tollhouse where a C compiler is at hand; without one the gateway does the same in Python.

The stable ABI makes one file good for every Python from 3.11 on.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("src/tollhouse/policy/shared_memory/_quick.c")
BUILT = SOURCE.with_name("_quick.abi3.so")


class CompiledParts(BuildHookInterface[BuilderConfig]):
    """Compiles `SOURCE` beside itself, and says so in the wheel's name."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is `editable` or `standard`: the file is needed beside its source for both."""
        del version
        root = Path(self.root)
        problem = compile_shared(root / SOURCE, root / BUILT)
        if problem:
            self.app.display_warning(f"{SOURCE.name} was not compiled, so its work is done in Python. {problem}")
            return
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"
        build_data["artifacts"].append(BUILT.as_posix())


def compile_shared(source: Path, built: Path) -> str:
    """Compiles a module of the stable ABI.  Returns what went wrong, or nothing."""
    built.unlink(missing_ok=True)
    if sys.platform == "win32":
        return "It needs a system with flock."
    linker = os.environ.get("LDSHARED") or sysconfig.get_config_var("LDSHARED") or "cc -shared"
    include = sysconfig.get_path("include")
    command = [*shlex.split(linker), "-O2", "-fPIC", f"-I{include}", str(source), "-o", str(built)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - Python's own compiler
    except OSError as error:
        return f"{command[0]}: {error}."
    return "" if done.returncode == 0 else done.stderr.strip()[-500:] or f"{command[0]} ended with {done.returncode}."
