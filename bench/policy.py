"""What it costs to know a caller, to hear of a change, to count in Valkey, and to redact a text: the figures that docs/ names.

    python -m bench.policy
    python -m bench.policy --valkey redis://127.0.0.1:6379/15    # and claims on a server that is running

CPU time is that of this thread (for claims, of this process), the least of several rounds; a busy machine adds little to it.
"""

import argparse
import asyncio
import hashlib
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tollhouse.config.schema import JwtSettings
from tollhouse.ledger import store
from tollhouse.ledger.transaction import Transaction, transact
from tollhouse.policy.counters import Claim, Parts, Placed, Purse, Rate, Seats
from tollhouse.policy.directory import open_directory
from tollhouse.policy.redaction.redactor import Redactor
from tollhouse.policy.registrar import NewKey, create_key, write
from tollhouse.policy.tokens.issuing import Mint, NewToken, issue_token
from tollhouse.policy.tokens.secrets_file import SecretsFile
from tollhouse.policy.tokens.verifier import TokenVerifier
from tollhouse.policy.valkey import ValkeySettings, open_counters

ROUNDS: Final = 7
TURNS: Final = 200
KEYS: Final = 100_000
TEXT_CHARACTERS: Final = 7_700
LICENCE: Final = Path(__file__).parents[1] / "LICENSE"
ONE_OF_EACH: Final = (
    "bob@example.com",
    "+49 30 901820",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "192.0.2.7",
    "sk-abcdefghijklmnopqrstuvwx",
)
LOAD: Final = """
import os, sys, time
from pathlib import Path
from tollhouse.policy.directory import open_directory

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

directory = open_directory(sys.argv[1], Path(sys.argv[2]))
before, began = resident(), time.perf_counter()
directory.start()
print(f"{directory.state().keys:,} keys loaded in {time.perf_counter() - began:.1f} s, {(resident() - before) / 1e6:.0f} MB")
directory.stop()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--valkey", help="the address of a server whose database may be used")
    options = parser.parse_args()
    redaction()
    with tempfile.TemporaryDirectory(prefix="tollhouse-policy-") as folder:
        tokens(Path(folder) / "tokens")
        keys(Path(folder) / "keys")
    if options.valkey:
        asyncio.run(claims(options.valkey))


def redaction() -> None:
    prose = " ".join(LICENCE.read_text().split())[:TEXT_CHARACTERS]
    step = TEXT_CHARACTERS // len(ONE_OF_EACH)
    hits = "".join(f"{prose[at * step : (at + 1) * step]} {word} " for at, word in enumerate(ONE_OF_EACH))
    redactor = Redactor({"email", "phone", "card", "iban", "ip", "secrets"})
    _say(f"redacting {TEXT_CHARACTERS / 1000:.1f} KB of prose", _least(lambda: redactor.redact(prose)))
    _say(f"the same with {len(redactor.find(hits))} hits", _least(lambda: redactor.redact(hits)))


def tokens(folder: Path) -> None:
    for algorithm in ("HS256", "EdDSA"):
        place = folder / algorithm
        place.mkdir(parents=True)
        url = f"sqlite:///{place / 'ledger.db'}"
        store.prepare(url)
        settings = JwtSettings(algorithm=algorithm)
        mint = Mint(settings, SecretsFile(place / "secrets" / "signing-keys.json"))
        ends_us = time.time_ns() // 1000 + 3_600_000_000
        issued = write(
            url,
            lambda desk, mint=mint, ends_us=ends_us: [  # type: ignore[misc]  # bound here, for the loop goes on
                issue_token(desk, mint, NewToken(subject=f"s{number}", expires_at_us=ends_us)).text.encode()
                for number in range(TURNS)
            ],
            actor="bench",
        )
        directory = open_directory(url, place)
        directory.refresh()
        first: list[float] = []
        further: list[float] = []
        for _ in range(ROUNDS):
            verifier = TokenVerifier(settings, mint.secrets, [])
            for seconds in (first, further):
                began = time.thread_time()
                for text in issued:
                    verifier.identify(text, hashlib.sha256(text).digest(), directory.roll)
                seconds.append((time.thread_time() - began) / TURNS)
        _say(f"a token in {algorithm}, the first time", min(first))
        _say(f"a token in {algorithm}, again", min(further))
        directory.stop()


def keys(folder: Path) -> None:
    folder.mkdir(parents=True)
    url = f"sqlite:///{folder / 'ledger.db'}"
    store.prepare(url)
    write(url, lambda desk: create_key(desk, NewKey(name="first")), actor="bench")
    transact(url, _fill)
    subprocess.run([sys.executable, "-c", LOAD, url, str(folder)], check=True)
    directory = open_directory(url, folder / "elsewhere")
    directory.refresh()
    _say("a look whether anything is new", _least(directory.refresh))
    directory.stop()


def _fill(transaction: Transaction) -> None:
    for number in range(1, KEYS):
        transaction.run(
            "INSERT INTO keys (name, tenant, project, digest, cut, terms, created_at_us, revision) "
            "VALUES ($1, $2, '', $3, 0, $4, 0, 1)",
            f"key-{number:06}",
            f"tenant-{number % 100}",
            hashlib.sha256(b"%d" % number).digest(),
            '{"requests_per_minute":60,"daily_nano":5000000000}',
        )


async def claims(url: str) -> None:
    """Three rates, two kinds of seats and three budgets, placed and settled."""
    counters = await open_counters(ValkeySettings(url=url, connect_seconds=5, call_seconds=5))
    run, numbers = time.time_ns(), itertools.count()
    parts = Parts(
        tuple(Rate(f"bench/{run}/{kind}", 10**6, 1) for kind in ("key", "tenant", "all")),
        tuple(Seats(f"bench/{run}/{kind}", 10**5) for kind in ("key", "all")),
        tuple(Purse(f"bench/{run}/{kind}", 10**15) for kind in ("key", "tenant", "all")),
    )
    for purse in parts.purses:
        await counters.seed(purse, spent_nano=0, before_us=time.time_ns() // 1000)

    async def one() -> None:
        name = f"bench.{run}.{next(numbers)}"
        began_us = time.time_ns() // 1000
        claim = Claim(id=name, began_at_us=began_us, parts=parts, hold_nano=1000)
        placed = await counters.place(claim)
        assert isinstance(placed, Placed), placed
        await counters.settle(name, cost_nano=500, tokens=None)

    for callers in (1, 32):
        best = float("inf")
        for _ in range(ROUNDS):
            began = time.process_time()
            for _ in range(TURNS):
                await asyncio.gather(*(one() for _ in range(callers)))
            best = min(best, (time.process_time() - began) / TURNS / callers)
        _say(f"a claim on Valkey, {callers} at a time", best)
    await counters.forget([purse.name for purse in parts.purses])
    await counters.aclose()


def _least(work: Callable[[], object]) -> float:
    return min(_rounds(work))


def _rounds(work: Callable[[], object]) -> Iterator[float]:
    work()
    for _ in range(ROUNDS):
        began = time.thread_time()
        for _ in range(TURNS):
            work()
        yield (time.thread_time() - began) / TURNS


def _say(what: str, seconds: float) -> None:
    print(f"{what:<44} {seconds * 1e6:8,.1f} µs")


if __name__ == "__main__":
    main()
