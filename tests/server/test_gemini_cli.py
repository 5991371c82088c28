"""Gemini CLI itself, where it is installed: one loop in which it runs a tool, over providers of each dialect."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Call
from support.serving import KEY, start
from tollhouse.server.http1.listener import Http1Listener

CLI = os.environ.get("TOLLHOUSE_TEST_GEMINI") or shutil.which("gemini")
PATIENCE_SECONDS = 90.0
# What the tool prints stands nowhere in the command.
COMMAND = json.dumps({"command": "printf TOOL-RAN-%d 42", "description": "Prints."})

pytestmark = pytest.mark.skipif(CLI is None, reason="Gemini CLI is not installed (npm install -g @google/gemini-cli)")


@pytest.mark.parametrize("model", ["gemini", "gpt", "claude"])
async def test_gemini_cli_runs_a_tool_and_tells_of_it(model: str, tmp_path: Path, fake_provider: FakeProvider):
    names = {"gemini": "gemini-3-flash-preview", "gpt": "gpt", "claude": "claude"}
    fake_provider.reply_to(
        names[model], Answer(calls=(Call("run_shell_command", COMMAND),)), Answer(text="It printed something.")
    )
    providers = "\n".join(
        f"  {name}: {{base_url: '{fake_provider.base_url(name)}', api_key: x}}"
        for name in ("google", "openai", "anthropic")
    )
    aliases = "models: {gemini: google/gemini-3-flash-preview, gpt: openai/gpt, claude: anthropic/claude}"
    gateway = await start(f"providers:\n{providers}\n{aliases}", tmp_path, Http1Listener)
    try:
        settings = tmp_path / ".gemini" / "settings.json"
        settings.parent.mkdir()
        settings.write_text('{"security": {"auth": {"selectedType": "gemini-api-key"}}}')
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "GOOGLE_GEMINI_BASE_URL": gateway.url,
            "GEMINI_API_KEY": KEY,
        }
        process = await asyncio.create_subprocess_exec(
            *(str(CLI), "--skip-trust", "--yolo", "-m", model, "-p", "Run printf and tell me what it says."),
            cwd=tmp_path,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            said, _ = await process.communicate()
    finally:
        await gateway.close()
    assert process.returncode == 0, said.decode()
    assert b"It printed something." in said
    assert b"TOOL-RAN-42" in fake_provider.calls[-1].body
    assert [row["outcome"] for row in gateway.rows()] == ["ok", "ok"]
