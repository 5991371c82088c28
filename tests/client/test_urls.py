"""Addresses of servers: what is read, what is refused, and that tokens stay unseen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.client.failures import BadServerUrl
from tollhouse.client.urls import EXAMPLES, ServerUrl, parse, written

TOKEN = "eyJhbGciOi.eyJzdWIi-_.sIgn"


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "token"),
    [
        ("vibectl-server://gw", "vibectl-server", "gw", None, None),
        (f"vibectl-server://{TOKEN}@gw:99", "vibectl-server", "gw", 99, TOKEN),
        ("VIBECTL-Server-Insecure://GW.Example", "vibectl-server-insecure", "gw.example", None, None),
        ("tollhouse://a%2Fb%40c%25d%3Ae@h:1", "tollhouse", "h", 1, "a/b@c%d:e"),
        ("tollhouse+insecure://t@[::1]:50051", "tollhouse+insecure", "::1", 50051, "t"),
        ("tollhouse://[2001:DB8:0::7]", "tollhouse", "2001:db8::7", None, None),
        ("https://gw.example.com", "https", "gw.example.com", None, None),
        ("http://127.0.0.1:8080/", "http", "127.0.0.1", 8080, None),
        ("  https://bücher.example\n", "https", "xn--bcher-kva.example", None, None),
    ],
)
def test_an_address_is_read(text: str, scheme: str, host: str, port: int | None, token: str | None):
    url = parse(text)

    assert (url.scheme, url.host, url.port) == (scheme, host, port)
    assert (None if url.token is None else url.token.reveal()) == token


@pytest.mark.parametrize(
    ("text", "grpc", "http", "base_url"),
    [
        ("vibectl-server://gw", "gw:50051", "gw:8080", "https://gw:8080"),
        ("tollhouse://gw", "gw:50051", "gw:8080", "https://gw:8080"),
        ("tollhouse+insecure://[::1]", "[::1]:50051", "[::1]:8080", "http://[::1]:8080"),
        ("tollhouse://gw:7", "gw:7", "gw:7", "https://gw:7"),
        ("https://gw/llm/", "gw:443", "gw:443", "https://gw/llm"),
        ("http://localhost:8080", "localhost:8080", "localhost:8080", "http://localhost:8080"),
    ],
)
def test_ports_and_brackets_are_those_of_what_is_spoken(text: str, grpc: str, http: str, base_url: str):
    url = parse(text)

    assert (url.where(grpc=True), url.where(grpc=False), url.base_url) == (grpc, http, base_url)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("gateway.example.com:8080", "does not say how to connect"),
        ("grpc://gw", "'grpc' is not known"),
        (f"{TOKEN}://gw", "The scheme is not known"),
        ("https://", "has no host"),
        (f"https://{TOKEN}@", "has no host"),
        ("https://@gw", "no token before it"),
        ("https://user:password@gw", "one token, without a user name"),
        ("https://a b@gw", "a blank"),
        ("https://a%20b@gw", "was it copied whole"),
        (f"https://{TOKEN}/x@gw", "%2F"),
        ("tollhouse://::1:50051", "needs brackets"),
        ("tollhouse://fe80::1", "needs brackets"),
        ("tollhouse://[gw]:50051", "not an IPv6 address"),
        ("tollhouse://[::1", "broken"),
        ("https://gw:0", "port 0"),
        ("https://gw:65536", "broken"),
        ("https://gw:http", "broken"),
        ("https://gw:", "no port behind it"),
        ("tollhouse://gw/path", "has no path"),
        ("https://gw/?token=x", "a query"),
        ("https://gw#x", "a fragment"),
        ("https://-gw-/", "not a domain name"),
        ("https://g..w", "cannot be written"),
        ("https://gw\\x", "not a domain name"),
        ("https://" + "a" * 20_000, "longer than"),
    ],
)
def test_a_bad_address_is_answered_with_good_ones(text: str, says: str):
    with pytest.raises(BadServerUrl) as caught:
        parse(text)

    assert says in str(caught.value)
    assert all(example in str(caught.value) for example in EXAMPLES)
    assert TOKEN not in str(caught.value)
    assert "password" not in str(caught.value)


def test_the_examples_are_right():
    assert [str(parse(example)) for example in EXAMPLES if "TOKEN" not in example] == [
        example for example in EXAMPLES if "TOKEN" not in example
    ]
    assert all(parse(example) for example in EXAMPLES)


def test_no_way_of_printing_an_address_shows_its_token():
    url = parse(f"tollhouse://{TOKEN}@gw:1")

    assert str(url) == "tollhouse://***@gw:1"
    assert not any(TOKEN in text for text in (repr(url), f"{url}", url.base_url, url.where(grpc=True)))
    assert url.reveal() == f"tollhouse://{TOKEN}@gw:1"
    assert url.without_token().token is None


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [
        ("http://localhost", True),
        ("http://api.localhost", True),
        ("http://127.9.9.9", True),
        ("http://[::1]", True),
        ("http://localhost.example.com", False),
        ("http://10.0.0.1", False),
        ("http://0.0.0.0", False),
        ("http://[2001:db8::1]", False),
    ],
)
def test_loopback_is_this_machine_alone(text: str, is_loopback: bool):
    assert parse(text).is_loopback is is_loopback


@pytest.mark.parametrize("host", ["gw", "::1", "[::1]", "10.0.0.1"])
def test_host_and_port_make_an_address(host: str):
    url = written(host, 50051, token="a/b:c@d")

    assert parse(url.reveal()) == url
    assert url.token is not None
    assert url.token.reveal() == "a/b:c@d"


@given(
    token=st.none() | st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60),
    host=st.sampled_from(["gw", "a-b.example.com", "10.1.2.3", "::1", "2001:db8::5"]),
    port=st.none() | st.integers(1, 65535),
    scheme=st.sampled_from(["vibectl-server", "vibectl-server-insecure", "tollhouse", "tollhouse+insecure", "https"]),
)
def test_what_is_written_is_read_again(token: str | None, host: str, port: int | None, scheme: str):
    from tollhouse.config.secret import Secret

    url = ServerUrl(scheme=scheme, host=host, port=port, token=None if token is None else Secret(token))  # type: ignore[arg-type]

    assert parse(url.reveal()) == url
    assert "@" not in str(url) or "***@" in str(url)
