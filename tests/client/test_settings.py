"""Settings: which place wins, what defaults are, that all problems come at once and no credential goes astray."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tollhouse.client.failures import BadSettings
from tollhouse.client.profiles import Profile, ProfileStore, Value
from tollhouse.client.settings import Settings, resolve
from tollhouse.config.schema import ProviderSettings
from tollhouse.config.secret import Secret

KEY = {"OPENAI_API_KEY": "sk-of-the-caller"}
TOKEN = "th-token-0123456789"


@pytest.fixture
def store(tmp_path: Path) -> ProfileStore:
    return ProfileStore(tmp_path / "client")


def save(store: ProfileStore, token: str | None = None, name: str = "work", **values: Value) -> None:
    store.save(Profile(name, values), token=None if token is None else Secret(token), activate=True)


def settled(store: ProfileStore, environ: Mapping[str, str] | None = None, **arguments: object) -> Settings:
    return resolve(arguments, environ or {}, store)


def problems(store: ProfileStore, environ: Mapping[str, str] | None = None, **arguments: object) -> tuple[str, ...]:
    with pytest.raises(BadSettings) as caught:
        settled(store, environ, **arguments)
    return caught.value.problems


def test_with_nothing_said_a_gateway_on_this_machine_is_asked(store: ProfileStore):
    settings = settled(store)

    assert (settings.mode, settings.server.base_url, settings.protocol) == ("proxy", "http://localhost:8080", "auto")
    assert not settings.fallback_to_direct


def test_a_providers_key_and_no_gateway_make_it_direct(store: ProfileStore):
    settings = settled(store, KEY)

    assert settings.mode == "direct"
    assert list(settings.providers) == ["openai"]
    assert "sk-of-the-caller" not in repr(settings)


@pytest.mark.parametrize("place", ["argument", "environment", "profile"])
def test_a_gateway_that_is_configured_anywhere_comes_before_keys(store: ProfileStore, place: str):
    url = "https://gw.example"
    if place == "profile":
        save(store, url=url)
    environ = {**KEY, "PROXY_SERVER_URL": url} if place == "environment" else KEY

    settings = settled(store, environ, url=url if place == "argument" else None)

    assert (settings.mode, settings.server.base_url) == ("proxy", url)


def test_arguments_come_before_the_environment_and_that_before_the_profile(store: ProfileStore):
    save(store, url="https://a.example", model="of-profile", retries=5, timeout="9s")
    environ = {"PROXY_SERVER_URL": "https://b.example", "TOLLHOUSE_MODEL": "of-environment"}

    settings = settled(store, environ, url="https://c.example")

    assert settings.server.base_url == "https://c.example"
    assert (settings.model, settings.retries, settings.timeout) == ("of-environment", 5, 9.0)
    assert settings.origins["model"] == "TOLLHOUSE_MODEL (environment)"


def test_the_active_profile_is_used_unless_another_is_named(store: ProfileStore):
    save(store, name="home", url="http://localhost:1")
    save(store, name="work", url="https://gw.example")

    assert settled(store).profile == "work"
    assert settled(store, {"TOLLHOUSE_PROFILE": "home"}).server.base_url == "http://localhost:1"
    assert resolve({}, {"TOLLHOUSE_PROFILE": "work"}, store, profile="home").profile == "home"


def test_a_profile_that_is_not_there_is_said_with_where_it_was_named(store: ProfileStore):
    save(store, name="work", url="https://gw.example")

    assert problems(store, {"TOLLHOUSE_PROFILE": "wok"})[0].startswith("TOLLHOUSE_PROFILE (environment): There is no")


@pytest.mark.parametrize(
    ("url", "goes_along"),
    [(None, True), ("https://gw.example", True), ("https://evil.example", False), ("https://gw.example:444", False)],
)
def test_a_profiles_token_goes_to_its_own_server_alone(store: ProfileStore, url: str | None, goes_along: bool):
    save(store, token=TOKEN, url="https://gw.example")

    settings = settled(store, {} if url is None else {"PROXY_SERVER_URL": url})

    assert settings.token == (Secret(TOKEN) if goes_along else None)
    assert TOKEN not in repr(settings)


def test_a_profiles_word_for_plain_text_holds_for_its_own_server_alone(store: ProfileStore):
    save(store, url="http://10.0.0.1:8080", insecure=True)
    assert settled(store).insecure

    assert "Plain http://" in problems(store, {"PROXY_SERVER_URL": "http://10.0.0.2:8080"})[0]


def test_a_token_in_the_address_is_used_and_not_kept_in_it(store: ProfileStore):
    settings = settled(store, url=f"https://{TOKEN}@gw.example")

    assert settings.token == Secret(TOKEN)
    assert settings.server.token is None


def test_a_token_beside_an_address_comes_before_the_one_in_it(store: ProfileStore):
    environ = {"PROXY_SERVER_URL": f"https://{TOKEN}@gw", "TOLLHOUSE_TOKEN": "other"}

    assert settled(store, environ).token == Secret("other")


def test_a_token_in_an_address_counts_as_much_as_the_address(store: ProfileStore):
    save(store, token="of-the-profile", url="https://gw.example")
    url = f"https://{TOKEN}@gw.example"

    assert settled(store, {"PROXY_SERVER_URL": url}).token == Secret(TOKEN)
    assert settled(store, {"TOLLHOUSE_TOKEN": "of-the-environment"}, url=url).token == Secret(TOKEN)
    assert settled(store, {"PROXY_SERVER_URL": url}).origins["token"] == "PROXY_SERVER_URL (environment), its token"
    assert settled(store, {"PROXY_SERVER_URL": "https://gw.example"}).token == Secret("of-the-profile")


@pytest.mark.parametrize(
    ("url", "speaks_grpc", "where"),
    [
        ("https://gw", False, "gw:443"),
        ("tollhouse://gw", True, "gw:50051"),
        ("vibectl-server://gw", True, "gw:50051"),
    ],
)
def test_the_scheme_says_what_auto_means(store: ProfileStore, url: str, speaks_grpc: bool, where: str):
    settings = settled(store, url=url)

    assert (settings.speaks_grpc, settings.where) == (speaks_grpc, where)


def test_all_problems_come_at_once_and_say_where_they_are(store: ProfileStore):
    save(store, url="ftp://x", retries="many", timout="x", token_file="/nowhere/token")
    environ = {"PROXY_PROTOCOL": "jsn", "API_CONNECTION_MODE": "prox", "TOLLHOUSE_TIMEOUT": "-1"}

    found = problems(store, environ, ca_bundle="/nowhere/ca.pem", client_key="/nowhere/key.pem", fallback_to_direct="x")

    text = "\n".join(found)
    assert "profiles.work.timout: There is no such setting; is 'timeout' meant?" in text
    assert "profiles.work.retries: 'many' is no whole number" in text
    assert "profiles.work.url: The scheme 'ftp' is not known" in text
    assert "its token cannot be used: No such file" in text
    assert "PROXY_PROTOCOL (environment): 'jsn' is none of auto, json, protobuf, grpc; is 'json' meant?" in text
    assert "API_CONNECTION_MODE (environment): 'prox' is none of" in text
    assert "TOLLHOUSE_TIMEOUT (environment): '-1' is no time" in text
    assert "argument `fallback_to_direct`: 'x' is neither true nor false" in text
    assert "argument `ca_bundle`: The file '/nowhere/ca.pem' does not exist" in text
    assert "argument `client_key`: A key without its certificate" in text
    assert len(found) == 11


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"PROXY_SERVER_URL": "http://gw.example:8080"}, "Plain http:// to another machine"),
        ({"PROXY_SERVER_URL": "vibectl-server://gw", "PROXY_PROTOCOL": "json"}, "speaks gRPC alone"),
        ({"API_CONNECTION_MODE": "direct"}, "needs a provider's key; set one of OPENAI_API_KEY, ANTHROPIC_API_KEY"),
        ({"TOLLHOUSE_FALLBACK_TO_DIRECT": "yes"}, "needs a provider's key"),
        ({"TOLLHOUSE_TOKEN": "a b"}, "was it copied whole"),
        ({**KEY, "OPENAI_BASE_URL": "http://10.0.0.1/v1"}, "would show the key"),
        ({**KEY, "OPENAI_BASE_URL": "tollhouse://gw"}, "begins with https://"),
        ({"TOLLHOUSE_MODEL": "two words"}, "no blanks"),
        ({"HTTPS_PROXY": "socks5://x"}, "HTTPS_PROXY"),
    ],
)
def test_what_cannot_be_meant_is_refused(store: ProfileStore, environ: Mapping[str, str], says: str):
    assert says in "\n".join(problems(store, environ))


@pytest.mark.parametrize(
    "environ",
    [
        {"PROXY_SERVER_URL": "http://gw.example:8080", "TOLLHOUSE_INSECURE": "1"},
        {"PROXY_SERVER_URL": "tollhouse+insecure://gw.example"},
        {"PROXY_SERVER_URL": "vibectl-server-insecure://gw.example"},
        {"PROXY_SERVER_URL": "http://[::1]:8080"},
    ],
)
def test_plain_text_is_for_this_machine_or_for_whoever_says_so(store: ProfileStore, environ: Mapping[str, str]):
    assert settled(store, environ).mode == "proxy"


def test_providers_are_those_with_a_key_and_those_that_are_given(store: ProfileStore):
    environ = {**KEY, "XAI_API_KEY": "x", "OLLAMA_BASE_URL": "http://127.0.0.1:1", "ANTHROPIC_API_KEY": " "}
    lab = ProviderSettings(name="lab", type="openai-compatible", base_url="http://127.0.0.1:2")

    settings = resolve({}, environ, store, direct={"lab": lab})

    assert sorted(settings.providers) == ["lab", "ollama", "openai", "xai"]
    assert settings.providers["ollama"].base_url == "http://127.0.0.1:1"


def test_one_key_makes_one_provider(store: ProfileStore):
    assert list(settled(store, {"GEMINI_API_KEY": "x"}).providers) == ["google"]


def test_times_and_lists_are_read_as_people_write_them(store: ProfileStore):
    settings = settled(store, {"TOLLHOUSE_TIMEOUT": "2m", "TOLLHOUSE_FALLBACK_MODELS": "a, b/c"})

    assert (settings.timeout, settings.fallback_models) == (120.0, ("a", "b/c"))
