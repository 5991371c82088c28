"""The completions of before the chat, through a gateway."""

import openai
import pytest

from support.fake_provider import FakeProvider
from support.fake_replies import Answer
from support.serving import KEY, Serving

pytestmark = pytest.mark.parametrize("server", ["own"])


@pytest.mark.parametrize("flavour", ["openai", "anthropic"])
async def test_openais_sdk_completes_a_prompt(serving: Serving, fake_provider: FakeProvider, flavour: str):
    gateway = await serving(f"providers: {{{flavour}: {{api_key: k, base_url: '{fake_provider.base_url(flavour)}'}}}}")
    fake_provider.default = Answer(text="upon a time")
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/v1") as client:
        whole = await client.completions.create(model=f"{flavour}/m", prompt="Once", max_tokens=5)
        assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("upon a time", "stop")
        stream = await client.completions.create(model=f"{flavour}/m", prompt="Once", max_tokens=5, stream=True)
        assert "".join([choice.text async for chunk in stream for choice in chunk.choices]) == "upon a time"
        with pytest.raises(openai.BadRequestError, match="suffix"):
            await client.completions.create(model=f"{flavour}/m", prompt="Once", suffix="end")
    assert [row["door"] for row in gateway.rows()] == ["openai_completions"] * 2
