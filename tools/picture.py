"""Takes the README's picture of the demonstration: runs it in a pseudo-terminal and has Chromium draw what it printed.

`python -m tools.picture docs/pictures/demo.png` (Chromium on PATH, Debian's package `chromium`).
"""

import os
import pty
import shutil
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS = 92
HEAD = "$ make demo\n"


def run(command: list[str]) -> str:
    """What a command prints to a terminal of `COLUMNS` columns; its last screen, without what a progress bar erased."""
    pieces: list[bytes] = []

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        pieces.append(data)
        return data

    os.environ.update(COLUMNS=str(COLUMNS), TERM="xterm-256color", FORCE_COLOR="1")
    status = pty.spawn(command, read)
    if status:
        sys.exit(f"{command[0]} ended with status {status}")
    # A progress bar goes back to the start of its line and erases it; what was there before is not on the screen.
    lines = b"".join(pieces).decode().replace("\r\n", "\n").split("\n")
    shown = [line.rpartition("\x1b[2K")[2].rpartition("\r")[2] for line in lines]
    return "\n".join(line for line in shown if "Starting the gateway" not in line)


def page(ansi: str) -> str:
    """The terminal as HTML."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi(HEAD + ansi), soft_wrap=True)
    body = console.export_html(
        inline_styles=True,
        theme=MONOKAI,
        code_format='<pre style="font:15px/1.45 DejaVu Sans Mono,monospace;margin:0">{code}</pre>',
    )
    return f'<body style="margin:0;background:#0c0c0c;color:#d9d9d9;padding:22px 26px">{body}</body>'


def main() -> None:
    """Writes the picture."""
    target = Path(sys.argv[1]).resolve()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("This needs Chromium on PATH (Debian: chromium).")
    ansi = run([sys.executable, "-m", "tollhouse", "demo"]).strip("\n")
    height = 44 + 22 * (ansi.count("\n") + 3)
    with tempfile.TemporaryDirectory() as folder:
        html = Path(folder) / "demo.html"
        html.write_text(page(ansi))
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        subprocess.run(
            [
                browser,
                *flags,
                f"--user-data-dir={folder}/profile",
                f"--window-size=900,{height}",
                "--hide-scrollbars",
                f"--screenshot={target}",
                html.as_uri(),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )


if __name__ == "__main__":
    main()
