"""`tollhouse setup-proxy`: what is kept, what is shown, and that no token is ever printed unasked."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from support.client_town import Town
from support.serving import KEY
from tollhouse.cli.setup_proxy import command, folded
from tollhouse.client.failures import BadSettings, ClientError, ConnectionRefused, NotAuthenticated
from tollhouse.client.profiles import ProfileStore

NOBODY = "http://127.0.0.1:9"


class Person:
    """Somebody at a terminal, with a home of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = ProfileStore(home / ".config" / "tollhouse" / "client")

    def types(self, *words: str, given: str | None = None, **environ: str) -> Result:
        runner = CliRunner()
        empty = dict.fromkeys(("PROXY_SERVER_URL", "TOLLHOUSE_TOKEN", "TOLLHOUSE_KEY", "XDG_CONFIG_HOME"))
        result = runner.invoke(command, words, input=given, env={**empty, "HOME": str(self.home), **environ})
        assert KEY not in result.output or words[0] == "url"
        return result


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


@pytest.fixture
def address(town: Town) -> str:
    """The gateway's, with its token."""
    return town.gateway.url.replace("http://", f"http://{KEY}@")


def test_a_gateway_that_answers_is_kept_and_used(town: Town, person: Person, address: str):
    result = person.types("configure", "work", address)

    assert result.exit_code == 0, result.output
    for shown in ("tollhouse", "0.1.0", "any-openai", "openai/gpt-4o-mini", " ms", "in plain text", "Kept as 'work'"):
        assert shown in result.output
    profiles = person.store.read()
    assert profiles.active == "work"
    assert profiles.by_name["work"].values["url"] == town.gateway.url
    assert person.store.secret_file("work").read_text().strip() == KEY


def test_its_name_may_be_left_out_and_it_may_be_kept_unused(person: Person, address: str):
    assert person.types("configure", address, "--no-activate").exit_code == 0

    assert person.store.read().active is None
    assert list(person.store.read().by_name) == ["default"]


def test_a_gateway_that_does_not_answer_is_not_kept(person: Person):
    result = person.types("configure", "work", NOBODY)

    assert isinstance(result.exception, ConnectionRefused)
    assert not person.store.file.exists()
    assert person.types("configure", "work", NOBODY, "--no-test").exit_code == 0
    assert person.store.read().active == "work"


def test_a_token_that_is_refused_is_not_kept(town: Town, person: Person):
    result = person.types("configure", town.gateway.url.replace("http://", "http://wrong-token@"))

    assert isinstance(result.exception, NotAuthenticated)
    assert not person.store.secret_file("default").exists()


def test_a_token_file_is_read_where_it_lies(town: Town, person: Person, tmp_path: Path):
    file = tmp_path / "mounted"
    file.write_text(KEY + "\n")

    assert person.types("configure", town.gateway.url, "--token-file", str(file)).exit_code == 0
    assert person.types("test").exit_code == 0
    file.write_text("renewed-and-not-known")
    assert isinstance(person.types("test").exception, NotAuthenticated)


def test_a_token_on_standard_input_is_kept(town: Town, person: Person):
    assert person.types("configure", town.gateway.url, "--token-file", "-", given=KEY + "\n").exit_code == 0

    assert person.store.secret_file("default").read_text().strip() == KEY


def test_the_test_can_be_read_by_programs(town: Town, person: Person):
    result = person.types("test", town.gateway.url, "--json", TOLLHOUSE_TOKEN=KEY)

    fields = json.loads(result.output)
    assert (fields["server"], fields["version"], fields["tls"]) == ("tollhouse", "0.1.0", False)
    assert "any-groq" in fields["aliases"]
    assert "groq/llama-3.3-70b-versatile" in fields["models"]
    assert fields["latency_ms"] > 0


@pytest.mark.parametrize("url", ["gw:80", "grpc://gw", "http://gw.example", "https://u:p@gw"])
def test_a_bad_address_is_answered_with_what_would_be_right(person: Person, url: str):
    for words in (("test", url), ("configure", url)):
        assert isinstance(person.types(*words).exception, ClientError)


def test_profiles_are_listed_used_disabled_and_removed(person: Person, address: str):
    person.types("configure", "work", address)
    person.types("configure", "home", NOBODY, "--no-test")

    listed = person.types("list").output
    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [
        ["work", address.replace(f"{KEY}@", "")],
        ["*", "home"],
    ]
    assert person.types("use", "work").exit_code == 0
    assert "profile   work" in person.types("status").output
    assert person.types("disable").exit_code == 0
    assert "http://localhost:8080" in person.types("status").output
    assert person.types("remove", "work").exit_code == 0
    assert isinstance(person.types("use", "work").exception, BadSettings)
    assert not person.store.secret_file("work").exists()


def test_a_token_that_somebody_wrote_into_the_file_is_not_listed(person: Person):
    person.types("configure", "work", NOBODY, "--no-test")
    person.store.file.write_text(person.store.file.read_text().replace("http://", f"http://{KEY}@"))

    assert "http://***@127.0.0.1:9" in person.types("list").output


def test_status_says_who_said_what(person: Person):
    result = person.types("status", PROXY_SERVER_URL="https://gw.example", PROXY_PROTOCOL="json")

    assert "https://gw.example" in result.output
    assert "url: PROXY_SERVER_URL (environment)" in result.output
    assert "the gateway's default" in result.output


def test_status_names_the_file_of_a_profile_once(person: Person):
    address = NOBODY.replace("http://", f"http://{KEY}@")
    person.types("configure", "home", address, "--no-test", "--protocol", "json")

    said = person.types("status").output
    assert said.count(str(person.store.file)) == 1
    assert "token     the profile's" in said
    assert "url" in said.partition("said by")[2]


@pytest.mark.parametrize(
    ("words", "url"),
    [
        (("gw", "50051"), "tollhouse://gw:50051"),
        (("::1", "1", "--insecure"), "tollhouse+insecure://[::1]:1"),
        (("gw", "50051", "--token", "a/b", "--vibectl"), "vibectl-server://a%2Fb@gw:50051"),
    ],
)
def test_an_address_is_written_down_on_one_line(person: Person, words: tuple[str, ...], url: str):
    assert person.types("url", *words).output == f"{url}\n"


def test_an_address_can_take_its_token_from_a_file(person: Person, tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(KEY)

    assert person.types("url", "gw", "1", "--token-file", str(file)).output == f"tollhouse://{KEY}@gw:1\n"
    assert person.types("url", "gw", "1", "--token-file", "-", given=KEY).output == f"tollhouse://{KEY}@gw:1\n"


def test_long_values_are_folded_below_their_beginning():
    shown = "\n".join(folded({"server": "gw", "models": "3: openai/gpt-4o, openai/gpt-4o-mini, groq/llama"}, 40))

    assert shown.splitlines() == [
        "server  gw",
        "models  3: openai/gpt-4o,",
        "        openai/gpt-4o-mini, groq/llama",
    ]
