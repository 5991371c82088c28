"""What the gateway says about itself, for people and for machines: standard `logging`, one line an event.

JSON lines or plain text on standard error.  An event is a short sentence and a few named values
(`log.info("provider is down", extra={"provider": "openai"})`); no prompt, completion or credential is ever one of them.
Errors are told without the words that could quote one, and credentials of a known form are masked whoever logs them.
The line about each call is not made here but in `calls_log`, straight from the record.
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, TextIO

import msgspec

from tollhouse.telemetry.clock import iso_utc
from tollhouse.telemetry.outlet import Outlet

if TYPE_CHECKING:
    from tollhouse.policy.redaction import Redactor

ROOT: Final = "tollhouse"
QUOTING: Final = (ValueError, LookupError, AssertionError, msgspec.MsgspecError)
"""Errors whose words quote what they could not read."""
MAX_WORDS_CHARACTERS: Final = 300
MAX_FRAMES: Final = 40
MAX_CHAIN: Final = 8
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

    @property
    def lost(self) -> int:
        """Lines that were lost."""
        return self._outlet.state().dropped_lines

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits; a line for which there is no room is dropped, and the outlet counts it."""
        self._outlet.put(self.format(record).encode("utf-8", "replace") + b"\n")


def lost_lines() -> int:
    """How many of this process's own lines were lost on their way out."""
    handlers = logging.getLogger(ROOT).handlers
    return sum(handler.lost for handler in handlers if isinstance(handler, OutletHandler))


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
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = described(record.exc_info[1])
        try:
            text = msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON from outside can bring
            text = json.dumps(line, default=str, separators=(",", ":"))
        redactor = _credentials()
        if not redactor.find(text):
            return text
        from tollhouse.policy.redaction.documents import redact_value

        # The values are redacted, not the text: what ends a credential there may be half of an escape.
        return msgspec.json.encode(redact_value(redactor, json.loads(text))).decode()


class TextLines(logging.Formatter):
    """`12:00:00 info server: event key=value`, for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback after it if there is one."""
        values = "".join(f" {name}={value}" for name, value in _values(record).items())
        at = iso_utc(int(record.created * 1e6))[11:19]
        room = record.name.removeprefix(f"{ROOT}.")
        line = f"{at} {record.levelname.lower():7} {room}: {record.getMessage()}{values}"
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + described(record.exc_info[1])
        return _credentials().redact(line)


def described(error: BaseException) -> str:
    """Where an error came from and what it is, the first one first.

    Without the words of those that like to quote what they could not read: that can be a prompt, and no prompt is logged.
    """
    chain: list[str] = []
    following: BaseException | None = error
    while following is not None and len(chain) < MAX_CHAIN:
        frames = "".join(traceback.format_tb(following.__traceback__, limit=-MAX_FRAMES))
        inner = "".join(
            f"\n  of {one}"
            for one in map(_named, following.exceptions if isinstance(following, BaseExceptionGroup) else ())
        )
        chain.append(f"{frames}{_named(following)}{inner}")
        cause = following.__cause__
        following = cause or (None if following.__suppress_context__ else following.__context__)
    return "\nand then:\n".join(reversed(chain))


def _named(error: BaseException) -> str:
    kind = type(error).__qualname__
    if isinstance(error, QUOTING):
        return f"{kind} (its words can quote a prompt and are not logged)"
    words = str(error)[:MAX_WORDS_CHARACTERS]
    return f"{kind}: {words}" if words else kind


@cache
def _credentials() -> "Redactor":
    """The last line of defence: whatever code logs what, no credential of a known form is in it."""
    # Here, because it would cost a command line that logs nothing 30 ms.
    from tollhouse.policy.redaction.configured import credentials_redactor

    return credentials_redactor()
