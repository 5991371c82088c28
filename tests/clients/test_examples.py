"""What `tollhouse setup` prints as an example runs as it stands, with the variables that it prints."""

import shlex
import sys
from pathlib import Path

import pytest

from support.errand import NOTHING
from support.programs import CLIENTS, MODULES, node, run
from support.proofs import Stage, skipped
from support.serving import KEY
from tollhouse.client.tools.plan import Gateway, Places
from tollhouse.client.tools.recipes import plan_of
from tollhouse.client.tools.writing import write

pytestmark = pytest.mark.asyncio(loop_scope="module")

HAS_VERCEL = node() is not None and (MODULES / "ai").is_dir()
TOOLS = (
    "curl",
    "openai",
    "anthropic",
    "google-genai",
    "groq",
    pytest.param("vercel-ai", marks=() if HAS_VERCEL else (skipped("ai"),)),
)


@pytest.mark.parametrize("tool", TOOLS)
async def test_an_example_runs(stage: Stage, tool: str, tmp_path: Path):
    places = Places(home=tmp_path, config=tmp_path / "c", own=tmp_path / "c/tollhouse/client", environ={})
    plan = plan_of(tool, Gateway(url=stage.gateway.url, key=KEY, model="over-gemini"), places)
    write(plan.files)
    command = plan.command
    for sample in plan.samples:
        interpreter = sys.executable if sample.language == "python" else str(node())
        # A program in JavaScript has to lie where its imports are found.
        file = (tmp_path if sample.language == "python" else CLIENTS) / f"example-{tool}.mjs"
        file.write_text(sample.text)
        before, _, _ = command.rpartition("\n")
        command = f"{before}\n{shlex.quote(interpreter)} {shlex.quote(str(file))}"

    ran = await run(["sh", "-c", command], tmp_path, {})

    assert ran.status == 0, ran.said
    assert NOTHING in ran.out
