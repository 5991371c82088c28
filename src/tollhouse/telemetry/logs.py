"""What the gateway says about itself, for people and for machines: standard `logging`, one line an event.

JSON lines or plain text on standard error.  An event is a short sentence and a few named values
(`log.info("provider is down", extra={"provider": "openai"})`); no prompt, completion or credential is ever one of them.
The line about each call is not made here but in `calls_log`, straight from the record.
"""

import json
import logging
import sys
from collections.abc import Callable
from typing import Final, Literal, TextIO

import msgspec

from tollhouse.telemetry.clock import iso_utc
from tollhouse.telemetry.outlet import Outlet

ROOT: Final = "tollhouse"
_STANDARD: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}


def get(room: str) -> logging.Logger:
    """The logger of a room: `get("server")`."""
    return logging.getLogger(f"{ROOT}.{room}")


def configure(level: str, form: Literal["json", "text"], to: "TextIO | Outlet | None" = None) -> None:
    """Sends everything from `level` up to `to` (standard error by default).  Called by a process at its start.

    A process with an event loop hands in an `Outlet`, so that no line has to wait for whoever reads standard error.
    """
    handler = OutletHandler(to) if isinstance(to, Outlet) else logging.StreamHandler(sys.stderr if to is None else to)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger(ROOT)
    root.handlers = [handler]
    root.setLevel(level.upper())
    root.propagate = False


class OutletHandler(logging.Handler):
    """Hands lines to an outlet."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits; a line for which there is no room is dropped, and the outlet counts it."""
        self._outlet.put(self.format(record).encode("utf-8", "replace") + b"\n")


def tell_lost(what: str) -> Callable[[int, str], None]:
    """What an outlet calls when lines were lost: a warning with their number."""

    def lost(lines: int, reason: str) -> None:
        get("telemetry").warning("lines of a log were lost", extra={"log": what, "lines": lines, "reason": reason})

    return lost


def _values(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


class JsonLines(logging.Formatter):
    """`{"at":…,"level":…,"room":…,"event":…, …values, "error":…}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the values hold."""
        line: dict[str, object] = {
            "at": iso_utc(int(record.created * 1e6)),
            "level": record.levelname.lower(),
            "room": record.name.removeprefix(f"{ROOT}."),
            "event": record.getMessage(),
            **_values(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON from outside can bring
            return json.dumps(line, default=str, separators=(",", ":"))


class TextLines(logging.Formatter):
    """`12:00:00 info server: event key=value`, for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback after it if there is one."""
        values = "".join(f" {name}={value}" for name, value in _values(record).items())
        at = iso_utc(int(record.created * 1e6))[11:19]
        room = record.name.removeprefix(f"{ROOT}.")
        line = f"{at} {record.levelname.lower():7} {room}: {record.getMessage()}{values}"
        return line + "\n" + self.formatException(record.exc_info) if record.exc_info else line
