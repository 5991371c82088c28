"""From settings to a provider: addresses, header fields, models, and what is refused."""

import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.recordings import everything
from tollhouse.config.schema import ModelSettings, ProviderSettings
from tollhouse.config.secret import Secret
from tollhouse.errors import ConfigError
from tollhouse.providers.provider import MAX_FORWARDED_BYTES
from tollhouse.providers.registry import PROVIDER_TYPES, build, defaults_by_type

NOW = 1_790_000_000.0
SOMEWHERE = "http://127.0.0.1:9100/v1"


def settings(kind: str, **given: Any) -> ProviderSettings:
    if PROVIDER_TYPES[kind].base_url is None:
        given.setdefault("base_url", SOMEWHERE)
    return ProviderSettings(name="lab", type=kind, **given)


def fields(kind: str, **given: Any) -> dict[bytes, bytes]:
    return dict(build(settings(kind, **given)).headers(NOW))


BEARERS = sorted(PROVIDER_TYPES.keys() - {"anthropic", "anthropic-compatible", "google"})


@pytest.mark.parametrize("kind", BEARERS)
def test_a_key_of_most_types_is_a_bearer_token(kind):
    assert fields(kind, api_key=Secret("sk-test"))[b"authorization"] == b"Bearer sk-test"


@pytest.mark.parametrize("kind", ["anthropic", "anthropic-compatible"])
def test_anthropic_wants_its_key_and_a_version_in_headers_of_its_own(kind):
    sent = fields(kind, api_key=Secret("sk-ant-test"))

    assert sent[b"x-api-key"] == b"sk-ant-test"
    assert sent[b"anthropic-version"] == b"2023-06-01"
    assert b"authorization" not in sent


@pytest.mark.parametrize("kind", PROVIDER_TYPES)
def test_without_a_key_no_credential_is_sent(kind):
    assert not fields(kind).keys() & {b"authorization", b"x-api-key"}


@pytest.mark.parametrize("kind", PROVIDER_TYPES)
def test_every_request_is_json_and_wants_an_uncompressed_answer(kind):
    sent = fields(kind)

    assert sent[b"content-type"] == b"application/json"
    assert sent[b"accept-encoding"] == b"identity"
    assert sent[b"user-agent"].startswith(b"tollhouse/")


FOLDERS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google-openai": "gemini",
    "deepseek": "deepseek",
    "glm": "glm",
    "groq": "groq",
    "xai": "xai",
    "mistral": "mistral",
    "openrouter": "openrouter",
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_the_default_address_is_the_one_that_recorded_clients_called(kind):
    provider = build(settings(kind))
    dialect = "anthropic-messages" if kind == "anthropic" else "openai-chat"
    called = {
        recording.request.url.partition("?")[0]
        for recording in everything().values()
        if recording.provider == FOLDERS[kind] and recording.dialect == dialect
    }

    assert provider.base_url + provider.chat_path in called


def test_qwen_is_international_unless_told_otherwise():
    china = "https://dashscope.aliyuncs.com/compatible-mode/v1"

    assert build(settings("qwen")).base_url == "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"
    assert build(settings("qwen", base_url=china)).base_url == china


@pytest.mark.parametrize("kind", [kind for kind, k in PROVIDER_TYPES.items() if k.base_url is not None])
def test_default_addresses_are_whole_and_private_to_the_machine_or_encrypted(kind):
    parts = urlsplit(build(settings(kind)).base_url)

    assert parts.scheme == "https" or parts.hostname == "127.0.0.1"
    assert not parts.path.endswith("/")


@pytest.mark.parametrize(
    ("kind", "written", "meant"),
    [
        ("anthropic", "https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("anthropic", "https://api.anthropic.com/v1/", "https://api.anthropic.com/v1/messages"),
        ("anthropic-compatible", "https://api.z.ai/api/anthropic", "https://api.z.ai/api/anthropic/v1/messages"),
        ("ollama", "http://box:11434", "http://box:11434/v1/chat/completions"),
        ("ollama", "http://box:11434/v1/", "http://box:11434/v1/chat/completions"),
        ("openai", "https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"),
    ],
)
def test_an_address_may_be_written_as_that_type_s_own_tools_take_it(kind, written, meant):
    provider = build(settings(kind, base_url=written))

    assert provider.base_url + provider.chat_path == meant


def test_grok_is_another_name_of_xai():
    assert build(settings("grok")).kind == "xai"
    assert build(settings("grok")).base_url == build(settings("xai")).base_url


@pytest.mark.parametrize("kind", ["cursor", "openai-compatible", "anthropic-compatible", "local", "tollhouse"])
def test_a_type_without_an_address_of_its_own_needs_one(kind):
    with pytest.raises(ConfigError, match=r"providers\.lab\.base_url"):
        build(ProviderSettings(name="lab", type=kind))


def test_only_types_that_a_person_must_address_ask_for_it_at_loading():
    needing = {kind for kind, defaults in defaults_by_type().items() if defaults.needs_base_url}

    assert needing == {
        "cursor",
        "openai-compatible",
        "anthropic-compatible",
        "tollhouse",
    }  # `local` gets its address at run time


def test_an_unknown_type_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"no type 'opnai'; there are openai, anthropic"):
        build(ProviderSettings(name="lab", type="opnai"))


def test_a_key_with_a_line_break_is_refused_and_not_repeated():
    with pytest.raises(ConfigError, match=r"providers\.lab\.api_key") as caught:
        build(settings("openai", api_key=Secret("sk-secret\n")))

    assert "sk-secret" not in str(caught.value)


def test_configured_headers_are_added_and_win():
    sent = fields("anthropic", headers={"x-team": Secret("blue"), "anthropic-version": Secret("2024-01-01")})

    assert sent[b"x-team"] == b"blue"
    assert sent[b"anthropic-version"] == b"2024-01-01"


def test_a_configured_credential_header_takes_the_place_of_the_key():
    sent = build(settings("openai", api_key=Secret("sk-test"), headers={"authorization": Secret("Basic abc")})).headers(
        NOW
    )

    assert [value for name, value in sent if name == b"authorization"] == [b"Basic abc"]


@pytest.mark.parametrize(
    ("name", "value"), [("host", "elsewhere"), ("content-length", "3"), ("x y", "1"), ("x-ok", "a\r\nx: b")]
)
def test_a_header_that_could_break_the_request_is_refused(name, value):
    with pytest.raises(ConfigError, match=r"providers\.lab\.headers"):
        build(settings("openai", headers={name: Secret(value)}))


CLIENT_HEADERS = [
    (b"anthropic-beta", b"context-1m-2025-08-07"),
    (b"anthropic-beta", b"files-api-2025-04-14"),
    (b"anthropic-version", b"2023-06-02"),
    (b"x-api-key", b"the-client-s-own"),
    (b"authorization", b"Bearer the-client-s-own"),
    (b"host", b"evil"),
    (b"x-forwarded-for", b"10.0.0.1"),
]


def test_the_client_s_betas_go_on_when_its_bytes_do():
    provider = build(settings("anthropic", api_key=Secret("sk-ant-test")))
    sent = provider.headers(NOW, CLIENT_HEADERS, same_dialect=True)

    assert [value for name, value in sent if name == b"anthropic-beta"] == [
        b"context-1m-2025-08-07",
        b"files-api-2025-04-14",
    ]
    assert [value for name, value in sent if name == b"anthropic-version"] == [b"2023-06-02"]
    assert [value for name, value in sent if name == b"x-api-key"] == [b"sk-ant-test"]
    assert not {name for name, _ in sent} & {b"authorization", b"host", b"x-forwarded-for"}


def test_nothing_of_the_client_s_goes_on_when_its_request_was_translated():
    provider = build(settings("anthropic", api_key=Secret("sk-ant-test")))

    assert provider.headers(NOW, CLIENT_HEADERS, same_dialect=False) == provider.headers(NOW)


def test_an_oversized_client_header_stays_here():
    provider = build(settings("anthropic"))
    sent = provider.headers(NOW, [(b"anthropic-beta", b"x" * (MAX_FORWARDED_BYTES + 1))], same_dialect=True)

    assert b"anthropic-beta" not in dict(sent)


@pytest.mark.parametrize("kind", PROVIDER_TYPES)
def test_no_type_forwards_a_credential_of_the_client(kind):
    assert not PROVIDER_TYPES[kind].forward_headers & {b"authorization", b"x-api-key", b"x-goog-api-key", b"cookie"}


def test_configured_models_win_over_the_catalogue_and_the_unknown_stays_unknown():
    provider = build(
        settings(
            "openai",
            models=(
                ModelSettings(name="gpt-4o", alias="fast", max_output_tokens=1_000),
                ModelSettings(name="in-house"),
            ),
        )
    )
    known, unknown = provider.models

    assert (known.alias, known.max_output_tokens) == ("fast", 1_000)
    assert known.capabilities is not None
    assert "tools" in known.capabilities
    assert (unknown.capabilities, unknown.max_output_tokens, unknown.context_tokens) == (None, None, None)
    assert provider.model("gpt-4o") is known
    assert provider.model("gpt-4.1").max_output_tokens == 32_768


def test_secrets_do_not_show_when_a_provider_is_printed():
    shown = repr(build(settings("openai", api_key=Secret("sk-secret"), headers={"x-k": Secret("hidden")})))

    assert "sk-secret" not in shown
    assert "hidden" not in shown


def test_importing_the_registry_brings_in_nothing_heavy():
    heavy = ("asyncio", "jwt", "cryptography", "sqlalchemy", "rich", "click", "httptools", "aiohttp", "yaml")
    script = f"import sys, tollhouse.providers.registry; print(*[m for m in {heavy!r} if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == []
