"""The process that runs llama.cpp: `python -m tollhouse.local.child`, started by `runner` and by nobody else.

It reads one `Order` from stdin, loads the model, serves llama.cpp's HTTP API on 127.0.0.1 and says `Ready` or `Refused`
on stdout.  It ends when its stdin does, whatever llama.cpp is doing, so it cannot outlive its parent; on Linux the
kernel makes sure even of a stopped one.  The API key comes over stdin because arguments and environments can be read by
others.
"""

import contextlib
import ctypes
import http.client
import os
import re
import signal
import socket
import sys
import threading
from typing import IO, TYPE_CHECKING, Final

import msgspec

from tollhouse.local.settings import Order, Ready, Refused, Word

if TYPE_CHECKING:
    import xllamacpp

HOST: Final = "127.0.0.1"
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_OOM_SCORE: Final = b"500"
"""Out of 1000, added to the kernel's own score: when memory runs out the model goes first, not the gateway."""
_MAX_INHERITED: Final = 1 << 16
_QUIET: Final = -1
_WORDY: Final = 3


def main() -> None:
    """Runs until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business; it ends us by closing stdin
    if os.name == "posix":
        # uvloop's subprocesses inherit more than they should; a copy of the gateway's listening socket, or of the
        # parent's end of our stdin, would outlive the gateway here.
        os.closerange(3, _MAX_INHERITED)
    # llama.cpp may print; only our words go to the real stdout.
    words = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    _end_with_parent(order.parent_pid)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    _yield_to_gateway(order.nice)
    server: object = None
    try:
        import xllamacpp
    except ImportError as error:
        _say(words, Refused(reason=str(error), not_installed=True))
    else:
        server = _serve(xllamacpp, order, words)
    if server is not None:
        threading.Event().wait()  # the watcher thread ends the process; `server` must stay alive until then


def _serve(llama: "xllamacpp", order: Order, words: IO[bytes]) -> object:
    try:
        server = llama.Server(_parameters(llama, order, verbosity=_QUIET))
    except RuntimeError:
        # Quiet failures have no reason.  Load again, aloud: the reason goes to stderr, whose end the parent keeps.
        with contextlib.suppress(RuntimeError):
            llama.Server(_parameters(llama, order, verbosity=_WORDY))
        _say(words, Refused(reason="llama.cpp cannot load it"))
        return None
    port = int(server.listening_address.rpartition(":")[2])
    _say(words, Ready(port=port, supports_tools=_supports_tools(port, order.api_key)))
    return server


def _parameters(llama: "xllamacpp", order: Order, *, verbosity: int) -> "xllamacpp.CommonParams":
    parameters = llama.CommonParams()
    parameters.model.path = order.model_path
    parameters.model_alias = {order.name}
    parameters.n_parallel = order.slots
    parameters.n_ctx = order.slots * order.context_tokens  # llama.cpp divides it by the slots
    parameters.kv_unified = False
    parameters.cpuparams.n_threads = order.threads
    parameters.cpuparams_batch.n_threads = order.threads
    parameters.cache_ram_mib = 0  # its default keeps up to 8 GiB of past prompts
    if order.temperature is not None:
        parameters.sampling.temp = order.temperature
    if order.top_p is not None:
        parameters.sampling.top_p = order.top_p
    parameters.use_jinja = True
    parameters.warmup = False
    parameters.verbosity = verbosity
    parameters.hostnames = [HOST]
    parameters.port = _free_port(order.port)
    parameters.api_keys = [order.api_key]  # without one the port would answer every process of this machine
    parameters.ui = False
    parameters.endpoint_slots = True
    return parameters


def _free_port(wished: int) -> int:
    """The wished port if it can be bound, so that the address survives a restart; else 0, any."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # elsewhere the option would let us take a port that is in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wished))
        except OSError:
            return 0
    return wished


def _supports_tools(port: int, api_key: str) -> bool:
    """What llama.cpp found out about the model's chat template (`chat_template_caps` of GET /props)."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5.0)
    try:
        connection.request("GET", "/props", headers={"authorization": f"Bearer {api_key}"})
        text = connection.getresponse().read(1 << 20)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return re.search(rb'"supports_tools"\s*:\s*true', text) is not None


def _say(words: IO[bytes], word: Word) -> None:
    words.write(msgspec.json.encode(word) + b"\n")


def _end_with_stdin() -> None:
    while sys.stdin.buffer.read(1):  # nothing ever comes; this waits for the end
        pass
    os._exit(0)  # at once, also out of a computation


def _end_with_parent(parent_pid: int) -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before we asked
        os._exit(1)


def _yield_to_gateway(nice: int) -> None:
    with contextlib.suppress(OSError):
        if hasattr(os, "nice"):
            os.nice(nice)
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as score:  # noqa: PTH123
            score.write(_OOM_SCORE)


if __name__ == "__main__":
    main()
