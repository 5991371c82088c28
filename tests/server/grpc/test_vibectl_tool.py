"""The published vibectl against a gateway, as a person uses it.  Skipped where it is not installed; see `make vibectl`."""

import json
from pathlib import Path

import pytest

from support.certificates import Pki
from support.clients import PROVIDERS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer, Failure
from support.serving import KEY, Serving
from support.tokens import SECRET, signed
from support.vibectl_tool import VERSION, Vibectl, installed

NAME = "claude-3.7-sonnet"
"""What the tool asks for when nobody chose a model."""
PLAN = {"action": {"action_type": "COMMAND", "commands": ["get", "pods"], "explanation": "to see them"}}
FAR = 4_000_000_000
"""A moment in 2096, in seconds."""
SKEW = "Version skew"


@pytest.fixture
def vibectl(tmp_path: Path) -> Vibectl:
    return installed(tmp_path / "vibectl-home")


def named(fake_provider: FakeProvider) -> str:
    text = settings(fake_provider)
    return text.replace("models: {", f"models: {{{NAME}: openai/{PROVIDERS['openai']}, ", 1)


async def test_everything_that_the_tool_does_by_token_and_tls(
    serving: Serving, fake_provider: FakeProvider, vibectl: Vibectl, tmp_path: Path
):
    pki = Pki(tmp_path)
    gateway = await serving(
        f"server: {{tls: {pki.tls()}, advertised_version: {VERSION}}}\n{named(fake_provider)}"
        f"\nauth: {{jwt: {{secret: {SECRET}, issuer: vibectl-server}}}}"
    )
    token = tmp_path / "ann.jwt"
    token.write_text(signed({"iss": "vibectl-server", "sub": "ann", "iat": 1, "exp": FAR, "jti": "b6f2"}))
    url = f"vibectl-server://{gateway.grpc}"
    done = await vibectl.run(
        "setup-proxy", "configure", "gw", url, "--jwt-path", str(token), "--ca-bundle", str(pki.ca)
    )
    assert done.status == 0, done.output
    assert "Connection test successful" in done.output
    assert "tollhouse" in done.output
    assert NAME in done.output
    assert (await vibectl.run("setup-proxy", "test")).status == 0

    fake_provider.default = Answer(text="A small cluster.")
    done = await vibectl.run("memory", "update", "the cluster is small")
    assert done.status == 0, done.output
    assert "A small cluster." in done.output
    assert SKEW not in done.output
    assert [message["role"] for message in fake_provider.calls[0].json["messages"]] == ["system", "user"]

    fake_provider.default = Answer(text="One pod runs.")
    done = await vibectl.run("get", "pods")
    assert done.status == 0, done.output
    assert "One pod runs." in done.output
    assert "web-1" in str(fake_provider.calls[1].json["messages"])
    assert [call.streamed for call in fake_provider.calls] == [False, True, False]

    fake_provider.reply(Answer(text=json.dumps(PLAN)))
    done = await vibectl.run("--mode", "auto", "vibe", "show me the pods")
    assert done.status == 0, done.output
    assert "One pod runs." in done.output
    planned = fake_provider.calls[3].json["response_format"]["json_schema"]
    assert planned["name"] == "LLMPlannerResponse"
    assert planned["schema"]["required"] == ["action"]
    rows = gateway.rows()
    assert {(row["door"], row["key"], row["outcome"], row["requested_model"]) for row in rows} == {
        ("vibectl", "subject:ann", "ok", NAME)
    }
    assert len(rows) == len(fake_provider.calls)


async def test_what_the_tool_says_when_something_is_wrong(
    serving: Serving, fake_provider: FakeProvider, vibectl: Vibectl
):
    gateway = await serving(f"{named(fake_provider)}\nretry: {{max_attempts: 1}}")
    url = f"vibectl-server-insecure://{{}}@{gateway.grpc}"
    done = await vibectl.run("setup-proxy", "configure", "gw", url.format("somebody-elses-key"))
    assert done.status == 1
    assert "authentication" in done.output
    done = await vibectl.run("setup-proxy", "configure", "gw", url.format(KEY))
    assert done.status == 0, done.output

    fake_provider.default = Failure(status=429, message="sk-secret said the provider", retry_after="9")
    done = await vibectl.run("memory", "update", "something")
    assert done.status == 1
    assert "(PROVIDER_ERROR): Provider 'openai' refused this call with status 429" in done.output
    assert "Try again in" in done.output
    assert "secret" not in done.output
    assert SKEW in done.output, "the version that is advertised by default is the gateway's own"
