"""What the command line says counts as long as the gateway runs."""

from pathlib import Path

from support.clients import CLIENTS, settings
from support.fake_provider import FakeProvider
from support.fake_replies import Answer
from support.serving import KEY, start
from tollhouse.config.overrides import Overrides

ASKS = CLIENTS["openai"]
CONTENT = [(b"content-type", b"application/json")]


async def test_a_reload_does_not_bring_back_what_was_overruled(tmp_path: Path, fake_provider: FakeProvider):
    """Above all not an open door."""
    fake_provider.default = Answer(text="well")
    text = settings(fake_provider) + f"\nauth: {{open: true, keys: [{{name: test, key: {KEY}}}]}}"
    overrides = Overrides(requires_auth=True, model="to-openai")
    gateway = await start(text, tmp_path, None, overrides=overrides)
    try:
        for _ in range(2):
            assert (await gateway.ask(ASKS.path, ASKS.question("default"), headers=CONTENT)).status == 401
            assert (await gateway.ask(ASKS.path, ASKS.question("default"))).status == 200
            before = gateway.worker.app.serving
            gateway.worker.reload()
            assert gateway.worker.app.serving is not before
    finally:
        await gateway.close()
