"""Generates the Python of `src/tollhouse/proto/*.proto`: messages and their types, no stubs.

python -m tools.build_proto            writes them beside their sources
python -m tools.build_proto --check    says which are not what their sources make, and exits with 1

The compiler writes into its output that it needs a runtime as new as itself, and that would keep Tollhouse out of every
environment where another package holds protobuf back.  What it writes for messages has not changed since protobuf 4 (a
serialised descriptor and two calls of `google.protobuf.internal.builder`), so the check is lowered to `LEAST_RUNTIME`, which
is what the extra `grpc` asks for.
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from grpc_tools import protoc

SOURCE: Final = Path(__file__).parents[1] / "src"
PROTO: Final = SOURCE / "tollhouse" / "proto"
LEAST_RUNTIME: Final = (6, 31, 1)
_SAID_RUNTIME: Final = re.compile(r"^# Protobuf Python Version: .*$", re.MULTILINE)
_ASKED_RUNTIME: Final = re.compile(r"(Domain\.PUBLIC,\n)    \d+,\n    \d+,\n    \d+,\n")


def main(arguments: list[str]) -> int:
    """Writes or checks."""
    stale = []
    for path, text in generated():
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path)
        if arguments != ["--check"]:
            path.write_text(text)
    for path in stale:
        print(f"{path.relative_to(SOURCE)} {'is stale' if arguments == ['--check'] else 'written'}")
    return 1 if stale and arguments == ["--check"] else 0


def generated() -> Iterator[tuple[Path, str]]:
    """Every generated file and what stands in it."""
    sources = sorted(PROTO.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        done = protoc.main(
            ["protoc", f"-I{SOURCE}", f"--python_out={folder}", f"--pyi_out={folder}", *map(str, sources)]
        )
        if done != 0:
            raise SystemExit("protoc refused the sources; its own message stands above")
        for made in sorted(Path(folder).rglob("*_pb2.py*")):
            yield SOURCE / made.relative_to(folder), _lowered(made.read_text())


def _lowered(text: str) -> str:
    major, minor, patch = LEAST_RUNTIME
    text = _SAID_RUNTIME.sub(f"# Runtime: {major}.{minor}.{patch} or newer; see tools/build_proto.py.", text)
    return _ASKED_RUNTIME.sub(rf"\g<1>    {major},\n    {minor},\n    {patch},\n", text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
