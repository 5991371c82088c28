"""A provider that sends an agent on an errand: run a command, and say what came of it.

The answer to a request with a tool that runs commands is a call of it; the answer to a request with what the command prints is
a sentence with that in it.  What the command prints stands nowhere in it, so that the sentence proves that the call crossed the
gateway, the agent ran it, and its result crossed the gateway on the way back.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from support.fake_provider import Exchange
from support.fake_replies import Answer, Call, Reply

COMMAND: Final = "printf TOOL-RAN-%d 42"
RESULT: Final = "TOOL-RAN-42"
SENTENCE: Final = f"The tool said {RESULT}."
NOTHING: Final = "There is nothing to run."

ARGUMENTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "Bash": {"command": COMMAND, "description": "Print a word"},
    "exec_command": {"cmd": COMMAND},
    # Qwen Code loses what a program prints that ends at once (0.24.4: one run in four said `Output: (empty)`).
    "run_shell_command": {"command": f"{COMMAND}; sleep 0.5", "description": "Print a word", "is_background": False},
    "bash": {"command": COMMAND, "description": "Print a word"},
    "run_command": {"command": COMMAND},
}
"""The tools that run commands, by the names that agents have for them, and how they are called."""


def errand(exchange: Exchange) -> Reply:
    """What the provider says to a call."""
    body = exchange.body.decode()
    if found := re.search(r"TOOL-RAN-\d+", body):
        return Answer(text=f"The tool said {found[0]}.")
    for name in re.findall(r'"name"\s*:\s*"(\w+)"', body):
        if name in ARGUMENTS:
            call = Call(name, json.dumps(ARGUMENTS[name]))
            return Answer(thinking="It wants me to run it.", text="I run it.", calls=(call,))
    return Answer(text=NOTHING)
