from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.config import values
from tollhouse.config.values import Given, Refused


def plain(text: str) -> Given:
    return Given(text, is_plain=True)


def quoted(text: str) -> Given:
    return Given(text)


def from_variable(text: str) -> Given:
    return Given(text, references=("${X}",), sources=("$X",))


def refusal(reader: Callable[[Given], object], given: Given) -> str:
    with pytest.raises(Refused) as caught:
        reader(given)
    return caught.value.sentence


@pytest.mark.parametrize("text", ["12", "0x1F", "1.5", "true", "null", "~", ""])
def test_a_text_that_yaml_takes_for_something_else_must_be_quoted(text: str):
    refusal(values.text, plain(text))
    if text:
        assert values.text(quoted(text)) == text


def test_a_reference_is_a_text_where_a_text_is_wanted_and_a_number_where_that_is():
    assert values.text(from_variable("12")) == "12"
    assert values.integer(0, 99)(from_variable("12")) == 12
    assert values.boolean(from_variable("true")) is True
    assert values.dollars(from_variable("0.5")) == 500_000_000


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("+7", 7), ("080", 80), ("0o17", 15), ("0xff", 255), ("65535", 65535)]
)
def test_whole_numbers_are_those_of_yaml_1_2(text: str, value: int):
    assert values.integer(0, 65535)(plain(text)) == value


@pytest.mark.parametrize(
    "text", ["-1", "65536", "1.0", "1e3", "1_000", "twelve", "", "true", "9" * 5000, "0b11", "１２"]
)
def test_what_is_no_whole_number_in_range_is_refused_with_the_range(text: str):
    assert refusal(values.integer(0, 65535), plain(text)).startswith("Must be a whole number from 0 to 65535, not ")


def test_a_number_or_boolean_in_quotes_is_a_text_and_refused():
    assert "without quotes" in refusal(values.integer(0, 9), quoted("5"))
    assert "without quotes" in refusal(values.boolean, quoted("true"))
    assert "without quotes" in refusal(values.dollars, quoted("5"))


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "1", "0", "y", "truE", ""])
def test_only_true_and_false_are_booleans(text: str):
    assert refusal(values.boolean, plain(text)).startswith("Must be true or false")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("1.5m", 90.0),
        ("1h", 3600.0),
        ("24h", 86400.0),
        ("1d", 86400.0),
    ],
)
def test_durations_have_units(text: str, seconds: float):
    assert values.seconds(plain(text)) == seconds
    assert values.seconds(quoted(text)) == seconds


@pytest.mark.parametrize("text", ["", "-1", "0", "30 s", "2d", "s", "1e3", "nan", ".inf", "25h", "1m30s", "0.0001"])
def test_other_durations_are_refused(text: str):
    assert refusal(values.seconds, plain(text)).startswith("Must be a duration")


def test_some_durations_may_be_zero():
    assert values.seconds_or_zero(plain("0")) == 0.0


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("10", 10_000_000_000),
        ("0.1", 100_000_000),
        ("0.000000001", 1),
        ("0", 0),
        ("1000000000", 10**18),
        ("0.30", 300_000_000),
    ],
)
def test_dollars_are_exact_integers_of_a_billionth(text: str, nano: int):
    assert values.dollars(plain(text)) == nano


@pytest.mark.parametrize(
    "text",
    ["0.0000000001", "-1", "1000000001", "1e3", "$5", "5$", "1,000", ".5", "5.", "nan", ".inf", "", "9" * 30, "0x10"],
)
def test_dollars_that_would_be_rounded_or_are_none_are_refused(text: str):
    assert refusal(values.dollars, plain(text)).startswith("Must ")


@given(st.decimals(min_value=0, max_value=999_999_999, places=9).map(lambda amount: f"{amount:f}"))
def test_no_amount_of_dollars_passes_through_a_float(text: str):
    assert values.dollars(plain(text)) == Fraction(Decimal(text)) * 10**9


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9100/v1", "https://api.openai.com", "https://[::1]:8443/v1", "HTTPS://host.example"]
)
def test_base_addresses_are_http(url: str):
    assert values.base_url(plain(url)) == url


def test_a_base_address_loses_its_trailing_slash():
    assert values.base_url(plain("https://host.example/v1/")) == "https://host.example/v1"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "host.example/v1",
        "https://",
        "https://user:plaintext@host",
        "https://plaintext@host",
        "https://host/?key=plaintext",
        "https://host/#plaintext",
        "https://host:0/",
        "https://host:99999/",
        "https://host:port/",
        "https://ho st/",
        "https://[::1/",
        "https://host/\n",
    ],
)
def test_other_base_addresses_are_refused_and_never_repeated(url: str):
    assert "plaintext" not in refusal(values.base_url, quoted(url))


@pytest.mark.parametrize("url", ["http://proxy:3128", "http://user:plaintext@proxy:3128"])
def test_proxies_are_http_with_a_port(url: str):
    assert values.proxy_url(plain(url)) == url


@pytest.mark.parametrize(
    "url",
    ["https://proxy:3128", "http://proxy", "socks5://p:1", "proxy:3128", "http://u:plaintext@p:1/x", "http://p:x"],
)
def test_other_proxies_are_refused_and_never_repeated(url: str):
    assert "plaintext" not in refusal(values.proxy_url, quoted(url))


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("sqlite:///tollhouse.db", "sqlite:///tollhouse.db"),
        ("sqlite:////var/lib/ledger.db", "sqlite:////var/lib/ledger.db"),
        ("postgresql://u:p@host/db", "postgresql://u:p@host/db"),
        ("postgres://host/db", "postgresql://host/db"),
    ],
)
def test_ledgers_are_sqlite_or_postgresql(url: str, kept: str):
    assert values.ledger_url(plain(url)) == kept


@pytest.mark.parametrize(
    "url",
    ["sqlite://x.db", "sqlite:x.db", "sqlite:///", "sqlite:////", "mysql://u:plaintext@h/db", "x.db", "postgresql://"],
)
def test_other_ledgers_are_refused_and_never_repeated(url: str):
    assert "plaintext" not in refusal(values.ledger_url, quoted(url))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////home/a@b/x.db", "sqlite:////home/a@b/x.db"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql://u:p@host/db", "postgresql://***@host/db"),
        ("postgresql://u:p/a@s@host/db", "postgresql://***@host/db"),
        ("postgresql://host/db?password=p", "postgresql://host/db?***"),
    ],
)
def test_addresses_are_shown_without_their_password(url: str, shown: str):
    assert values.without_password(url) == shown


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "localhost", "gateway.example.com", "my_host"])
def test_hosts_are_addresses_or_names(host: str):
    assert values.host(quoted(host)) == host


def test_a_bracketed_address_is_taken_without_its_brackets():
    assert values.host(quoted("[::1]")) == "::1"


@pytest.mark.parametrize("host", ["", "127.0.0", "300.1.1.1", "a b", "-x", "http://h", "h:80", "1.2.3.4.5", "a..b"])
def test_other_hosts_are_refused(host: str):
    refusal(values.host, quoted(host))


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, is_loopback: bool):
    assert values.is_loopback(host) is is_loopback


@pytest.mark.parametrize("reader", [values.secret, values.optional_secret, values.key_digest, values.hex_digest])
@pytest.mark.parametrize("text", ["plaintext with a space", "plaintext\n", "plaintext-é", "plaintext" * 1000])
def test_a_credential_that_cannot_be_sent_is_refused_and_never_repeated(reader: Callable[[Given], object], text: str):
    assert "plaintext" not in refusal(reader, quoted(text))


def test_a_key_shorter_than_eight_characters_is_refused_with_the_way_to_make_one():
    sentence = refusal(values.key_digest, quoted("1234567"))
    assert "at least 8 characters" in sentence
    assert "tollhouse config init" in sentence
    assert "1234567" not in sentence
    assert len(values.key_digest(quoted("12345678"))) == 32


def test_an_optional_credential_is_empty_only_on_purpose():
    assert values.optional_secret(Given("", references=("${X}",), is_defaulted=True)).reveal() == ""
    assert "${X}" in refusal(values.optional_secret, from_variable(""))
    refusal(values.optional_secret, quoted(""))
    refusal(values.optional_secret, plain(""))
    refusal(values.secret, Given("", references=("${X}",), is_defaulted=True))


@pytest.mark.parametrize("name", ["host", "Content-Length", "transfer-encoding", "a b", "a:", "", "x\n"])
def test_headers_that_belong_to_the_transport_or_are_none_are_refused(name: str):
    with pytest.raises(Refused):
        values.header_name(name)


def test_header_names_are_kept_in_lower_case():
    assert values.header_name("X-Team") == "x-team"


@pytest.mark.parametrize("text", ["", " x", "x ", "a\r\nb: c", "é"])
def test_a_header_value_that_could_break_a_request_is_refused(text: str):
    refusal(values.header_value, quoted(text))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (plain("true"), "stderr"),
        (plain("false"), "off"),
        (plain("-"), "stderr"),
        (plain("off"), "off"),
        (plain("/x"), "/x"),
    ],
)
def test_the_log_of_calls_goes_to_stderr_nowhere_or_a_file(given: Given, kept: str):
    assert values.call_log(given) == kept


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (plain("true"), True),
        (plain("12"), 12),
        (plain("word"), "word"),
        (quoted("12"), "12"),
        (from_variable("12"), "12"),
    ],
)
def test_an_option_is_what_yaml_says_it_is(given: Given, kept: object):
    assert values.option(given) == kept
    assert type(values.option(given)) is type(kept)


def test_a_choice_names_its_words_and_the_nearest():
    reader = values.choice("debug", "info", "warning")
    assert reader(plain("info")) == "info"
    assert refusal(reader, plain("warn")) == "Must be one of debug, info, warning, not 'warn'. Did you mean 'warning'?"


@pytest.mark.parametrize(
    "reader",
    [
        values.text, values.name, values.model_name, values.boolean, values.integer(0, 9), values.seconds, values.dollars, values.host,
        values.base_url, values.proxy_url, values.ledger_url, values.secret, values.optional_secret, values.key_digest, values.hex_digest,
        values.header_value, values.choice("a", "b"), values.option, values.call_log,
    ],
)  # fmt: skip
@given(tail=st.text(st.characters(codec="utf-8"), max_size=20))
def test_no_refusal_repeats_what_a_variable_holds(reader: Callable[[Given], object], tail: str):
    """A text from the environment may be a secret that was put in the wrong place."""
    sentence = ""
    try:
        reader(from_variable("pLaInTeXt" + tail))
    except Refused as refused:
        sentence = refused.sentence
    assert "pLaInTeXt" not in sentence


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("prot", ["port", "host"], "port"),
        ("API-KEY", ["api_key"], "api_key"),
        ("zebra", ["port"], None),
        ("x", [], None),
    ],
)
def test_the_nearest_name_is_found_whatever_its_case_and_dashes(word: str, known: list[str], meant: str | None):
    assert values.nearest(word, known) == meant
