"""Which way goes through which proxy.  The handshake itself is in the fault suite."""

import pytest

from tollhouse.upstream.address import BadAddress, parse_address
from tollhouse.upstream.proxy import NO_PROXIES, Proxies, ProxyServer, parse_proxy, proxies_from

PROXY = ProxyServer("proxy.corp", 3128)
OTHER = ProxyServer("other.corp", 80)


def test_nothing_in_the_environment_is_no_proxy():
    assert proxies_from({}).route(parse_address("https://api.example")) is None
    assert NO_PROXIES.route(parse_address("https://api.example")) is None


def test_each_scheme_has_its_proxy_and_lower_case_wins():
    proxies = proxies_from(
        {"HTTPS_PROXY": "http://wrong:1", "https_proxy": "http://proxy.corp:3128/", "HTTP_PROXY": "other.corp"}
    )
    assert proxies.route(parse_address("https://api.example")) == PROXY
    assert proxies.route(parse_address("http://api.example")) == OTHER


@pytest.mark.parametrize(
    ("rule", "url", "direct"),
    [
        ("*", "https://api.example", True),
        ("api.example", "https://api.example", True),
        ("example", "https://api.example", True),
        (".example", "https://api.example", True),
        ("*.example", "https://api.example", True),
        ("ample", "https://api.example", False),
        ("api.example:443", "https://api.example", True),
        ("api.example:8443", "https://api.example", False),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.1.2.3", "https://10.1.2.3:8443", True),
        ("[fd00::1]", "https://[fd00::1]", True),
        ("fd00::/8", "https://[fd00::1]", True),
    ],
)
def test_bypass_rules(rule: str, url: str, direct: bool):
    assert (Proxies(https=PROXY, bypass=(rule,)).route(parse_address(url)) is None) is direct


@pytest.mark.parametrize("url", ["https://localhost:1", "https://127.0.0.5", "https://[::1]", "https://x.localhost"])
def test_this_machine_is_never_reached_through_the_environments_proxy(url: str):
    assert proxies_from({"https_proxy": "proxy.corp:3128"}).route(parse_address(url)) is None


def test_credentials_become_a_header_that_no_repr_shows():
    proxy = parse_proxy("http://user:p%40ss@proxy:3128")
    assert proxy.authorization == b"Basic dXNlcjpwQHNz"
    assert "dXNlcjpwQHNz" not in repr(Proxies(https=proxy))


@pytest.mark.parametrize(
    "url", ["socks5://user:secret@proxy", "https://secret@proxy", "http://secret@proxy/path", "http://secret@"]
)
def test_unusable_proxies_are_refused_by_the_name_of_their_variable(url: str):
    with pytest.raises(BadAddress, match="HTTPS_PROXY") as caught:
        proxies_from({"https_proxy": url})
    assert "secret" not in str(caught.value)
