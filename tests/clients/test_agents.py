"""Agents that people work with, set up as `tollhouse setup` says: they run a command, over providers of other dialects than their own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agents import AGENTS, Agent, ask
from support.errand import RESULT, SENTENCE
from support.fake_replies import Answer, ErrorAfter, Failure, faulty, words
from support.proofs import Stage, due, skipped
from support.serving import KEY

pytestmark = pytest.mark.asyncio(loop_scope="module")

TITLES = {"claude": "Claude Code", "codex": "the Codex CLI", "gemini": "the Gemini CLI", "qwen": "Qwen Code"}


def cases() -> list[Any]:
    return list(_cases())


def _cases() -> Iterator[Any]:
    by_name = {(agent.name, agent.dialect): agent for agent in AGENTS}
    for proof in due({agent.name for agent in AGENTS}):
        agent = by_name[proof.client, proof.speaks]
        missing = () if agent.command else (skipped(TITLES.get(agent.name, agent.name)),)
        for over in proof.over:
            yield pytest.param(agent, over, marks=missing, id=f"{agent.name}-{agent.dialect}-over-{over}")


@pytest.mark.parametrize(("agent", "over"), cases())
async def test_an_agent_runs_a_tool(
    stage: Stage, agent: Agent, over: str, tmp_path: Path, record_property: Callable[[str, object], None]
):
    """What the command prints stands nowhere before the agent ran it, and is in what the agent prints at the end."""
    before = len(stage.gateway.rows())

    ran = await ask(
        agent,
        "Run the command and tell me what it prints.",
        tmp_path,
        url=stage.gateway.url,
        key=KEY,
        model=f"over-{over}",
    )

    assert ran.status == 0, ran.said
    assert SENTENCE in ran.out, ran.said
    assert RESULT not in stage.fake.calls[0].body.decode()
    assert {row["outcome"] for row in stage.gateway.rows()[before:]} == {"ok"}
    record_property("client", f"{agent.name} {agent.dialect} {over} tool-loop")


def promptly_failing() -> list[Any]:
    """Those that give up within seconds."""
    chosen = {("claude", "anthropic"), ("codex", "openai_responses"), ("gemini", "gemini"), ("llm", "openai_chat")}
    return [
        pytest.param(
            agent, marks=() if agent.command else (skipped(TITLES.get(agent.name, agent.name)),), id=agent.name
        )
        for agent in AGENTS
        if (agent.name, agent.dialect) in chosen
    ]


@pytest.mark.parametrize("agent", promptly_failing())
async def test_an_agent_never_takes_a_broken_answer_for_a_whole_one(stage: Stage, agent: Agent, tmp_path: Path):
    """Its exit status says so, which is all that a script looks at."""
    overloaded = Failure(status=529, message="We are overloaded.")
    broken = faulty(Answer(text=words(20)), ErrorAfter(5, overloaded))
    stage.fake.chooses = lambda exchange: broken if exchange.streamed else overloaded
    model = "over-openai_chat" if agent.dialect == "anthropic" else "over-anthropic"

    ran = await ask(agent, "Say hello.", tmp_path, url=stage.gateway.url, key=KEY, model=model)

    assert ran.status != 0, ran.said
    assert stage.fake.calls
    assert "ok" not in {row["outcome"] for row in stage.gateway.rows()[-len(stage.fake.calls) :]}
