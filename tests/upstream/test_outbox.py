"""What is written in a turn of the loop leaves together, in order, and never behind a closed door."""

from collections.abc import Callable

from tollhouse.upstream.outbox import MAX_KEPT_BYTES, Outbox


class Turn:
    """What a loop was asked to do when the turn is over."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def end(self) -> None:
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()


class Socket:
    """Notes what is written, in one list for all sockets."""

    def __init__(self, name: str, written: list[tuple[str, bytes]]) -> None:
        self.name = name
        self.written = written
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.written.append((self.name, data))


def sockets(*names: str) -> tuple[list[tuple[str, bytes]], list[Socket]]:
    written: list[tuple[str, bytes]] = []
    return written, [Socket(name, written) for name in names]


def test_what_a_turn_writes_leaves_at_its_end_in_the_order_of_writing():
    turn, (written, (a, b)) = Turn(), sockets("a", "b")
    outbox = Outbox(turn.call_soon)
    outbox.put(a, b"1")
    outbox.put(b, b"2")
    outbox.put(a, b"3")
    assert not written
    assert len(turn.callbacks) == 1
    turn.end()
    assert written == [("a", b"1"), ("b", b"2"), ("a", b"3")]


def test_the_next_turn_has_an_end_of_its_own():
    turn, (written, (a,)) = Turn(), sockets("a")
    outbox = Outbox(turn.call_soon)
    for data in (b"1", b"2"):
        outbox.put(a, data)
        turn.end()
    assert written == [("a", b"1"), ("a", b"2")]


def test_a_socket_that_is_closing_gets_nothing_and_the_others_their_own():
    turn, (written, (a, b)) = Turn(), sockets("a", "b")
    outbox = Outbox(turn.call_soon)
    outbox.put(a, b"1")
    outbox.put(b, b"2")
    a.closing = True
    turn.end()
    assert written == [("b", b"2")]


def test_what_is_flushed_before_a_close_is_not_sent_again_at_the_end_of_the_turn():
    turn, (written, (a,)) = Turn(), sockets("a")
    outbox = Outbox(turn.call_soon)
    outbox.put(a, b"1")
    outbox.flush()
    turn.end()
    assert written == [("a", b"1")]


def test_no_more_than_so_many_bytes_wait():
    turn, (written, (a, b)) = Turn(), sockets("a", "b")
    outbox = Outbox(turn.call_soon)
    outbox.put(a, b"1")
    outbox.put(b, bytes(MAX_KEPT_BYTES))
    assert [name for name, _ in written] == ["a", "b"]
    outbox.put(a, b"3")
    turn.end()
    assert written[-1] == ("a", b"3")
