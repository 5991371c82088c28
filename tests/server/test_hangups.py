"""SIGHUP while a gateway starts: kept back until somebody heeds it, and no trace of that is left behind."""

import asyncio
import signal

from tollhouse.server.hangups import heed, held_back


def blocked() -> set[int]:
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])}


def test_one_that_nobody_heeds_is_forgotten_and_the_process_is_as_it_was():
    signal.signal(signal.SIGHUP, lambda *_: None)  # under `nohup` it is ignored, and none is ever pending
    before, handler = blocked(), signal.getsignal(signal.SIGHUP)
    with held_back():
        signal.raise_signal(signal.SIGHUP)
        assert signal.SIGHUP in signal.sigpending()
    assert not signal.sigpending()
    assert blocked() == before
    assert signal.getsignal(signal.SIGHUP) == handler


async def test_one_that_came_early_is_heard_once_somebody_heeds_it():
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()
    with held_back():
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        heed(loop, heard.set)
        try:
            async with asyncio.timeout(10):
                await heard.wait()
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
