"""The vendors' libraries for JavaScript, and Vercel's: tool loops over providers of each dialect, streamed and not."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from support.errand import SENTENCE
from support.fake_replies import Answer, ErrorAfter, Failure, faulty, words
from support.programs import CLIENTS, MODULES, node, run
from support.proofs import APIS, FOLDER, Proof, Stage, due, proofs, skipped
from support.serving import KEY

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROGRAMS: Final = ("openai.mjs", "anthropic.mjs", "google.mjs", "vercel.mjs")


def is_installed(proof: Proof) -> bool:
    return node() is not None and (MODULES / proof.package.removesuffix(" (npm)")).is_dir()


def cases() -> list[Any]:
    return list(_cases())


def _cases() -> Iterator[Any]:
    for proof in due(PROGRAMS):
        marks = () if is_installed(proof) else (skipped(f"{proof.package} or Node"),)
        yield pytest.param(proof, marks=marks, id=f"{proof.client}-{proof.speaks}")


async def said(proof: Proof, stage: Stage, folder: Path, *models: str, key: str = KEY) -> list[dict[str, Any]]:
    """What the program says of each loop.  It has to lie where its imports are found."""
    for program in ("loops.mjs", proof.client):
        shutil.copyfile(FOLDER / "programs" / program, CLIENTS / program)
    command = [str(node()), str(CLIENTS / proof.client), stage.gateway.url, key, APIS[proof.speaks], *models]
    ran = await run(command, folder, {})
    assert ran.status == 0, ran.said
    return [json.loads(line) for line in ran.out.splitlines()]


@pytest.mark.parametrize("proof", cases())
async def test_a_library_goes_through_a_tool_loop(
    stage: Stage, proof: Proof, tmp_path: Path, record_property: Callable[[str, object], None]
):
    loops = await said(proof, stage, tmp_path, *proof.models)

    wanted = [{"model": model, "how": how, "text": SENTENCE} for model in proof.models for how in proof.how]
    assert [{**loop, "text": loop.get("text", "").removeprefix("I run it.")} for loop in loops] == wanted
    for over in proof.over:
        record_property("client", f"{proof.client} {proof.speaks} {over} tool-loop")


@pytest.mark.parametrize("proof", cases())
async def test_a_library_hears_what_went_wrong(stage: Stage, proof: Proof, tmp_path: Path):
    """As the class of error or the status that programs look at, and in the gateway's words."""
    stage.fake.chooses = lambda exchange: (
        faulty(Answer(text=words(20)), ErrorAfter(5, Failure(status=529, message="We are overloaded.")))
        if exchange.streamed
        else Failure(status=429, message="You are over your quota.")
    )
    over = "over-anthropic" if proof.speaks != "anthropic" else "over-openai_chat"

    unknown, _, limited, broken = await said(proof, stage, tmp_path, "no-such-model", over)
    wrong, _ = await said(proof, stage, tmp_path, over, key="th-not-a-key-of-this-gateway")

    assert (unknown["status"], wrong["status"], limited["status"]) == (404, 401, 429)
    assert "'no-such-model' does not exist here" in unknown["message"]
    assert "This key is not known here" in wrong["message"]
    assert "You are over your quota." in limited["message"]
    # `@ai-sdk/google` drops the event of the error, and only says that it does not know why the answer ended.
    is_deaf = (proof.client, proof.speaks) == ("vercel.mjs", "gemini")
    assert ("ended with other" if is_deaf else "We are overloaded.") in broken["message"]


async def test_every_version_is_said():
    """`make clients` installs these, and no others."""
    pinned = json.loads((FOLDER / "package.json").read_text())["dependencies"]

    assert all(version[0].isdigit() for version in pinned.values())
    used = {proof.package.removesuffix(" (npm)") for proof in proofs() if not proof.client.endswith(".py")}
    assert used - {"llm"} <= pinned.keys()
