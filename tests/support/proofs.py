"""Which clients are run against the gateway, in which dialects, over which providers: the rows of `tests/clients/proved.tsv`.

Each row is a number of tool loops: `client` (an agent, a program of `tests/clients/programs`, or a Python library) speaks the
dialect `speaks` to the gateway, which asks a provider of each dialect `over`.  The rows make the tests, and the table of
`docs/clients.md`.  Those that say `asked` cost seconds each and prove little more; they are run with
`TOLLHOUSE_TEST_CLIENTS_ALL=1`.
"""

import csv
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from support.errand import errand
from support.fake_provider import FakeProvider
from support.serving import Running, start
from tollhouse.server.http1.listener import Http1Listener

FOLDER: Final = Path(__file__).parents[1] / "clients"
ALL: Final = bool(os.environ.get("TOLLHOUSE_TEST_CLIENTS_ALL"))
DIALECTS: Final = ("openai_chat", "openai_responses", "anthropic", "gemini")
APIS: Final = {"openai_chat": "chat", "openai_responses": "responses", "anthropic": "messages", "gemini": "generate"}
"""What the programs call the dialects."""

CONFIGURATION: Final = """
providers:
  lab: {{type: openai-compatible, base_url: '{lab}', api_key: x}}
  openai: {{base_url: '{openai}', api_key: x, models: [{{name: gpt-next, api: responses}}]}}
  anthropic: {{base_url: '{anthropic}', api_key: x}}
  google: {{base_url: '{google}', api_key: x}}
models:
  over-openai_chat: lab/small
  over-openai_responses: openai/gpt-next
  over-anthropic: anthropic/claude-sonnet-4-5
  over-gemini: google/gemini-3-flash-preview
retry: {{max_attempts: 1}}
"""


@dataclass(frozen=True)
class Proof:
    """One row of the table."""

    client: str
    package: str
    speaks: str
    over: tuple[str, ...]
    how: tuple[str, ...]
    run: str

    @property
    def models(self) -> list[str]:
        """What the client asks for."""
        return [f"over-{dialect}" for dialect in self.over]


def proofs() -> list[Proof]:
    """All rows."""
    with (FOLDER / "proved.tsv").open(newline="") as file:
        return [
            Proof(
                row["client"],
                row["package"],
                row["speaks"],
                tuple(row["over"].split()),
                tuple(row["how"].split()),
                row["run"],
            )
            for row in csv.DictReader(file, delimiter="\t")
        ]


def due(clients: Iterable[str]) -> list[Proof]:
    """The rows of these clients that are to be run now."""
    wanted = set(clients)
    return [proof for proof in proofs() if proof.client in wanted and (ALL or proof.run == "always")]


@dataclass
class Stage:
    """A gateway with a provider of each dialect behind it, all of which send whoever asks on an errand."""

    fake: FakeProvider
    gateway: Running


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """The stage."""
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(FakeProvider())
        fake.chooses = errand
        text = CONFIGURATION.format(
            lab=fake.base_url("compatible"),
            openai=fake.base_url("openai"),
            anthropic=fake.base_url("anthropic"),
            google=fake.base_url("google"),
        )
        gateway = await start(text, folder, Http1Listener)
        stack.push_async_callback(gateway.close)
        yield Stage(fake, gateway)


def skipped(what: str) -> pytest.MarkDecorator:
    """For what is not installed."""
    return pytest.mark.skip(reason=f"{what} is not installed; `make clients` does that")
