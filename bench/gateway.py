"""The gateway as it is measured: everything switched on."""

import shlex
import sys
from pathlib import Path
from typing import Final

from bench.payloads import Dialect
from bench.subject import Subject

KEY: Final = "bench-6f1d9a52c7e84b03a1f5d2c9"
COMMAND: Final = f"{shlex.quote(sys.executable)} -m tollhouse serve --config {{config}}"
MODELS: Final = {Dialect.OPENAI: "chat", Dialect.ANTHROPIC: "message"}
"""The alias whose provider speaks this dialect."""

# Limits and budgets are there to be checked at each call, and too wide to refuse one.  Prices are the bench's own, so that
# the work of pricing is done whatever the price book says of the models.
_CONFIG: Final = """\
server: {{host: 127.0.0.1, port: {port}, admin_port: {admin_port}, grpc_port: none, workers: 1}}
auth:
  keys: [{{name: bench, key: "{key}"}}]
providers:
  openai-lab: {{type: openai-compatible, base_url: "http://127.0.0.1:{provider_port}/v1", api_key: lab}}
  anthropic-lab: {{type: anthropic-compatible, base_url: "http://127.0.0.1:{provider_port}", api_key: lab}}
models:
  {openai_alias}: openai-lab/gpt-4o-mini
  {anthropic_alias}: anthropic-lab/claude-sonnet-4-5
prices:
  openai-lab/*: {{input: 0.15, output: 0.6}}
  anthropic-lab/*: {{input: 3, output: 15}}
limits: {{requests_per_minute: 1000000000, tokens_per_minute: 1000000000, concurrent: 100000}}
budgets: {{daily: 1000000, monthly: 1000000}}
ledger: {{url: "sqlite:///{folder}/bench.db"}}
logging: {{level: info, format: json}}
"""


def config_text(*, folder: Path, port: int, admin_port: int, provider_port: int) -> str:
    """The configuration file."""
    return _CONFIG.format(
        folder=folder,
        port=port,
        admin_port=admin_port,
        provider_port=provider_port,
        key=KEY,
        openai_alias=MODELS[Dialect.OPENAI],
        anthropic_alias=MODELS[Dialect.ANTHROPIC],
    )


def gateway(command: str, *, folder: Path, port: int, admin_port: int, provider_port: int) -> Subject:
    """Writes the configuration into `folder`; `command` is split as a shell would, `{config}` being that file."""
    config = folder / "tollhouse.yaml"
    config.write_text(config_text(folder=folder, port=port, admin_port=admin_port, provider_port=provider_port))
    return Subject(
        name="tollhouse",
        command=tuple(word.replace("{config}", str(config)) for word in shlex.split(command)),
        port=port,
        log=folder / "tollhouse.log",
    )
