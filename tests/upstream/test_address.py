"""Addresses are read strictly: what is accepted goes exactly where it says."""

import pytest

from tollhouse.upstream.address import BadAddress, parse_address, target


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "path", "authority"),
    [
        ("https://api.openai.com/v1", "https", "api.openai.com", 443, "/v1", b"api.openai.com"),
        ("https://api.openai.com/v1/", "https", "api.openai.com", 443, "/v1", b"api.openai.com"),
        ("http://localhost", "http", "localhost", 80, "", b"localhost"),
        ("http://localhost:80/", "http", "localhost", 80, "", b"localhost"),
        ("http://127.0.0.1:9100/v1", "http", "127.0.0.1", 9100, "/v1", b"127.0.0.1:9100"),
        ("HTTPS://API.Example.COM:8443/A/b", "https", "api.example.com", 8443, "/A/b", b"api.example.com:8443"),
        ("http://[::1]:8080/v1", "http", "::1", 8080, "/v1", b"[::1]:8080"),
        ("https://[2001:DB8:0::1]", "https", "2001:db8::1", 443, "", b"[2001:db8::1]"),
        ("https://bücher.example/v1", "https", "xn--bcher-kva.example", 443, "/v1", b"xn--bcher-kva.example"),
    ],
)
def test_good_addresses(url: str, scheme: str, host: str, port: int, path: str, authority: bytes):
    address = parse_address(url)
    assert (address.scheme, address.host, address.port, address.path, address.authority) == (
        scheme,
        host,
        port,
        path,
        authority,
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "begin with"),
        ("api.openai.com/v1", "begin with"),
        ("ftp://host/", "begin with"),
        ("file:///etc/passwd", "begin with"),
        ("https://", "no host"),
        ("https:///v1", "no host"),
        ("https://:443/v1", "no host"),
        ("https://user:secret@host/v1", "user name"),
        ("https://host@evil/v1", "user name"),
        ("https://host/v1?key=secret", "query"),
        ("https://host/v1?", "query"),
        ("https://host/v1#part", "fragment"),
        ("https://host:99999/", "port"),
        ("https://host:0/", "port"),
        ("https://host:abc/", "port"),
        ("https://[::1/", "broken"),
        ("https://[not-an-address]/", "broken|brackets"),
        ("https://host\n.evil/", "control"),
        ("https://ho st/", "space"),
        ("https://host/ü", "ASCII"),
        ("https://a..b/", "domain"),
        ("https://" + "a" * 64 + ".example/", "domain"),
        ("https://ho%73t/", "percent"),
    ],
)
def test_bad_addresses_are_refused_without_repeating_them(url: str, words: str):
    with pytest.raises(BadAddress, match=words) as caught:
        parse_address(url)
    assert "secret" not in str(caught.value)


def test_a_target_is_the_prefix_and_the_path():
    assert target(parse_address("https://host/v1/"), "/models?limit=3") == b"/v1/models?limit=3"


@pytest.mark.parametrize("path", ["", "models", "/a b", "/a\r\nhost: evil", "/ä"])
def test_a_path_cannot_break_out_of_the_request_line(path: str):
    with pytest.raises(BadAddress):
        target(parse_address("https://host"), path)
