"""The Codex CLI against the gateway: it runs a tool, over providers of other dialects than its own.

Needs the program `codex`: where `TOLLHOUSE_TEST_CODEX` says, as `make clients` installs it, or on the PATH; skipped without it.
"""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Call
from support.programs import installed
from support.serving import KEY, start
from tollhouse.server.http1.listener import Http1Listener

CODEX = (
    os.environ.get("TOLLHOUSE_TEST_CODEX") or installed("@openai/codex-*/vendor/*/bin/codex") or shutil.which("codex")
)
pytestmark = pytest.mark.skipif(CODEX is None, reason="the Codex CLI is not installed (make clients)")

CUSTOM = """model = "{model}"
model_provider = "gateway"
[model_providers.gateway]
name = "gateway"
base_url = "{url}/v1"
env_key = "GATEWAY_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""
BUILT_IN = """model = "{model}"
openai_base_url = "{url}/v1"
"""


@pytest.mark.parametrize("model", ["claude", "lab", "gpt"])
@pytest.mark.parametrize("settings", [CUSTOM, BUILT_IN], ids=["custom", "built-in"])
async def test_codex_runs_a_tool(tmp_path: Path, fake_provider: FakeProvider, model: str, settings: str):
    """The built-in provider tries a WebSocket first."""
    run = Call("exec_command", json.dumps({"cmd": "printf TOOL-RAN-%d 42"}))
    fake_provider.reply(
        Answer(thinking="Let me run it.", text="Running.", calls=(run,)), Answer(text="That was the answer.")
    )
    gateway = await start(
        f"""
providers:
  openai: {{base_url: '{fake_provider.base_url("openai")}', api_key: x}}
  anthropic: {{base_url: '{fake_provider.base_url("anthropic")}', api_key: x}}
  lab: {{type: openai-compatible, base_url: '{fake_provider.base_url("compatible")}', api_key: x}}
models: {{gpt: openai/gpt-5.2, claude: anthropic/claude-sonnet-4-5, lab: lab/small}}
""",
        tmp_path,
        Http1Listener,
    )
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    (home / "config.toml").write_text(settings.format(model=model, url=gateway.url))
    try:
        process = await asyncio.create_subprocess_exec(
            str(CODEX),
            "exec",
            "--skip-git-repo-check",
            "--dangerously-bypass-approvals-and-sandbox",
            "-C",
            str(work),
            "Run the command.",
            env={
                **os.environ,
                "CODEX_HOME": str(home),
                "GATEWAY_KEY": KEY,
                "OPENAI_API_KEY": KEY,
                "CODEX_API_KEY": KEY,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        await gateway.close()

    assert process.returncode == 0, err.decode()
    assert "That was the answer." in out.decode()
    first, second = fake_provider.calls
    assert "TOOL-RAN-42" not in first.body.decode()
    assert "TOOL-RAN-42" in second.body.decode()
    assert {row["outcome"] for row in gateway.rows()} == {"ok"}
