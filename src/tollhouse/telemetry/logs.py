"""What the gateway says about itself, for people and for machines: standard `logging`, one line an event.

JSON lines or plain text on standard error.  An event is a short sentence and a few named values
(`log.info("provider is down", extra={"provider": "openai"})`); no prompt, completion or credential is ever one of them.
The line about each call is not made here but in `calls_log`, straight from the record.
"""

import logging
import sys
from typing import Final, Literal, TextIO

import msgspec

from tollhouse.telemetry.clock import iso_utc

ROOT: Final = "tollhouse"
_STANDARD: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}


def get(room: str) -> logging.Logger:
    """The logger of a room: `get("server")`."""
    return logging.getLogger(f"{ROOT}.{room}")


def configure(level: str, form: Literal["json", "text"], stream: TextIO | None = None) -> None:
    """Sends everything from `level` up to `stream` (standard error by default).  Called once by a process, at its start."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    root = logging.getLogger(ROOT)
    root.handlers = [handler]
    root.setLevel(level.upper())
    root.propagate = False


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
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextLines(logging.Formatter):
    """`12:00:00 info server: event key=value`, for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback after it if there is one."""
        values = "".join(f" {name}={value}" for name, value in _values(record).items())
        at = iso_utc(int(record.created * 1e6))[11:19]
        room = record.name.removeprefix(f"{ROOT}.")
        line = f"{at} {record.levelname.lower():7} {room}: {record.getMessage()}{values}"
        return line + "\n" + self.formatException(record.exc_info) if record.exc_info else line
