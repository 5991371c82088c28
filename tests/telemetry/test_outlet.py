"""Lines leave without anybody waiting for them."""

import os
import threading

import pytest

from tollhouse.telemetry import logs
from tollhouse.telemetry.outlet import PIPE_BYTES, Outlet


class Told:
    """What an outlet said of lost lines."""

    def __init__(self):
        self.lines = 0
        self.reasons = []
        self.heard = threading.Event()

    def __call__(self, lines, reason):
        self.lines += lines
        self.reasons.append(reason)
        self.heard.set()


def read_all(descriptor, into):
    while piece := os.read(descriptor, 65_536):
        into.append(piece)


def test_lines_reach_the_file_in_order(tmp_path):
    outlet = Outlet(str(tmp_path / "calls.log"), lost=Told())
    for number in range(100):
        assert outlet.put(b"%d\n" % number)
    assert outlet.close()
    assert (tmp_path / "calls.log").read_text().split() == [str(number) for number in range(100)]
    assert (tmp_path / "calls.log").stat().st_mode & 0o777 == 0o600
    assert outlet.state().waiting_bytes == 0


def test_a_reader_that_stopped_reading_stops_nobody():
    """The writes go to a full pipe here: on the event loop, the second batch would wait for ever."""
    reader, writer = os.pipe()
    told = Told()
    outlet = Outlet("stderr", lost=told, descriptor=writer, max_waiting_bytes=400_000)
    line = b"x" * 999 + b"\n"
    taken = [outlet.put(line * 100) for _ in range(20)]
    assert taken[0]
    assert not taken[-1], "what waits is bounded"
    dropped = outlet.state().dropped_lines
    assert dropped == taken.count(False) * 100

    pieces: list[bytes] = []
    draining = threading.Thread(target=read_all, args=(reader, pieces))
    draining.start()
    assert told.heard.wait(10)
    outlet.put(b"after\n")
    assert outlet.close(10)
    os.close(writer)
    draining.join()
    os.close(reader)
    assert b"".join(pieces) == line * (taken.count(True) * 100) + b"after\n"
    assert (told.lines, told.reasons) == (dropped, ["they came faster than they could be written"])


def test_closing_does_not_wait_for_a_reader_that_is_stuck():
    reader, writer = os.pipe()
    outlet = Outlet("stderr", lost=Told(), descriptor=writer)
    outlet.put(b"x" * 1_000_000 + b"\n")
    assert not outlet.close(0.01)
    assert not outlet.put(b"late\n")
    pieces: list[bytes] = []
    draining = threading.Thread(target=read_all, args=(reader, pieces))
    draining.start()
    assert outlet.close(10)
    os.close(writer)
    draining.join()
    os.close(reader)


def test_lines_of_several_processes_stay_whole_in_a_pipe():
    """A pipe takes up to `PIPE_BUF` bytes in one piece; a larger write may be torn by another process's."""
    reader, writer = os.pipe()
    outlet = Outlet("stderr", lost=Told(), descriptor=writer)
    lines = b"".join(b"%d " % number * 100 + b"\n" for number in range(200)) + b"y" * (2 * PIPE_BYTES) + b"\nend\n"
    from tollhouse.telemetry.outlet import _pieces

    pieces = list(_pieces(lines))
    assert b"".join(pieces) == lines
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert [len(piece) for piece in pieces if len(piece) > PIPE_BYTES] == [2 * PIPE_BYTES + 1]
    assert outlet.close()
    os.close(writer)
    os.close(reader)


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path):
    path = tmp_path / "calls.log"
    outlet = Outlet(str(path), lost=Told())
    path.rename(tmp_path / "calls.log.1")
    outlet.put(b"one\n")
    outlet.put(b"two\n")
    assert outlet.close()
    assert path.read_text() == "one\ntwo\n"
    assert (tmp_path / "calls.log.1").read_text() == ""


def test_a_full_disk_is_told_once_and_stops_nobody():
    told = Told()
    now = [0.0]
    outlet = Outlet("/dev/full", lost=told, monotonic=lambda: now[0])
    for _ in range(3):
        outlet.put(b"a\nb\n")
    assert outlet.close()
    assert told.reasons == ["No space left on device"]
    assert outlet.state().dropped_lines == 6


def test_a_file_that_cannot_be_opened_is_an_error_at_the_start(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        Outlet(str(tmp_path / "missing" / "calls.log"), lost=Told())


def test_what_the_gateway_says_goes_the_same_way(tmp_path):
    outlet = Outlet(str(tmp_path / "log"), lost=Told())
    logs.configure("info", "json", outlet)
    logs.get("server").info("up", extra={"n": 1, "odd": "\ud83d"})
    logs.tell_lost("calls")(3, "No space left on device")
    logs.configure("info", "json")
    assert outlet.close()
    up, lost = (tmp_path / "log").read_text().splitlines()
    assert '"event":"up"' in up
    assert '"event":"lines of a log were lost","log":"calls","lines":3' in lost
