"""The agents that are run against the gateway, each set up as `tollhouse setup` says."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from support.programs import Ran, installed, node, run
from tollhouse.client.tools.plan import Gateway, Places
from tollhouse.client.tools.recipes import plan_of
from tollhouse.client.tools.writing import write


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A program with a tool that runs commands."""

    name: str
    """Its name in `tollhouse setup`."""
    dialect: str
    """What it speaks."""
    package: str
    """What is installed, with its version in `tests/clients/package.json`."""
    program: tuple[str, ...]
    """Where it is below `node_modules`; empty for one that is installed beside Python."""
    arguments: tuple[str, ...]
    """Without the prompt; `{model}` stands for the model."""
    on_node: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)
    """What keeps it from asking others, updating itself, or trying again for minutes."""
    api: str | None = None
    """For one that speaks several dialects: what its settings call this one."""

    @property
    def command(self) -> list[str] | None:
        """How it is started; `None` where it is not installed."""
        program = installed(*self.program) if self.program else shutil.which(self.name, path=PYTHON)
        if program is None or (self.on_node and node() is None):
            return None
        return [str(node()), program] if self.on_node else [program]


PYTHON: Final = str(Path(sys.executable).parent)
FUNCTION: Final = """
import subprocess

def run_command(command: str) -> str:
    "Runs a command"
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout
"""
"""What `llm` has in place of a tool of its own."""

AGENTS: Final = (
    Agent(
        name="claude",
        dialect="anthropic",
        package="@anthropic-ai/claude-code",
        program=("@anthropic-ai/claude-code-*/claude",),
        arguments=("--allowedTools", "Bash(printf:*)", "--model", "{model}", "-p"),
        environ={"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "CLAUDE_CODE_MAX_RETRIES": "1"},
    ),
    Agent(
        name="codex",
        dialect="openai_responses",
        package="@openai/codex",
        program=("@openai/codex-*/vendor/*/bin/codex",),
        arguments=(
            "exec",
            "--profile",
            "tollhouse",
            "--skip-git-repo-check",
            "--dangerously-bypass-approvals-and-sandbox",
            "-c",
            "model_providers.tollhouse.request_max_retries=0",
            "-c",
            "model_providers.tollhouse.stream_max_retries=0",
        ),
    ),
    Agent(
        name="gemini",
        dialect="gemini",
        package="@google/gemini-cli",
        program=("@google/gemini-cli/bundle/gemini.js",),
        on_node=True,
        arguments=("--skip-trust", "--approval-mode", "yolo", "-m", "{model}", "-p"),
        environ={"GEMINI_CLI_NO_RELAUNCH": "true"},
    ),
    Agent(
        name="qwen",
        dialect="openai_chat",
        package="@qwen-code/qwen-code",
        program=("@qwen-code/qwen-code/cli.js",),
        on_node=True,
        arguments=("--approval-mode", "yolo", "-p"),
    ),
    Agent(
        name="llm",
        dialect="openai_chat",
        package="llm",
        program=(),
        arguments=("prompt", "-m", "tollhouse-{model}", "--functions", FUNCTION, "--no-log"),
    ),
    Agent(
        name="opencode",
        dialect="openai_chat",
        package="opencode-ai",
        program=("opencode-*-baseline/bin/opencode", "opencode-*/bin/opencode"),
        arguments=("run", "-m", "tollhouse/{model}"),
        environ={"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"},
    ),
    *(
        Agent(
            name="pi",
            dialect=dialect,
            package="@mariozechner/pi-coding-agent",
            program=("@mariozechner/pi-coding-agent/dist/cli.js",),
            on_node=True,
            arguments=("--provider", "tollhouse", "--model", "{model}", "--no-session", "-p"),
            environ={"PI_OFFLINE": "1"},
            api=api,
        )
        for dialect, api in (
            ("openai_chat", "openai-completions"),
            ("openai_responses", "openai-responses"),
            ("anthropic", "anthropic-messages"),
            ("gemini", "google-generative-ai"),
        )
    ),
)

_PATHS: Final = {"anthropic-messages": "", "google-generative-ai": "/v1beta"}
"""Where the dialects begin in which pi is not set up by itself."""


async def ask(agent: Agent, prompt: str, home: Path, *, url: str, key: str, model: str) -> Ran:
    """Sets an agent up, and has it answer a prompt."""
    command = agent.command
    assert command is not None
    environ = set_up(agent, home, url=url, key=key, model=model)
    arguments = [argument.replace("{model}", model) for argument in agent.arguments]
    return await run([*command, *arguments, prompt], home, {**environ, **agent.environ})


def set_up(agent: Agent, home: Path, *, url: str, key: str, model: str) -> dict[str, str]:
    """Writes what `tollhouse setup --write` writes, and gives what its file of variables would set."""
    config = home / ".config"
    places = Places(home=home, config=config, own=config / "tollhouse" / "client", environ={})
    plan = plan_of(agent.name, Gateway(url=url, key=key, model=model), places)
    write(plan.files)
    if agent.api is not None:
        file = home / ".pi/agent/models.json"
        text = file.read_text().replace('"openai-completions"', f'"{agent.api}"')
        file.write_text(text.replace(f"{url}/v1", url + _PATHS.get(agent.api, "/v1")))
    return dict(plan.variables or {})
