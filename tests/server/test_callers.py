"""Whom a limit per address and a key's address range are about, when proxies stand in front."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollhouse.policy.access import networks
from tollhouse.server.http.callers import MAX_HOPS, caller_address, caller_scheme

OURS = networks(["10.0.0.0/8", "2001:db8:aaaa::/48", "127.0.0.1/32"])
PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "caller"),
    [
        ([], PROXY),
        ([b""], PROXY),
        ([b" , ,"], PROXY),
        ([b"192.0.2.7"], "192.0.2.7"),
        ([b"192.0.2.7:51234"], "192.0.2.7"),
        ([b"2001:db8::7"], "2001:db8::7"),
        ([b"2001:DB8:0:0::7"], "2001:db8::7"),
        ([b"[2001:db8::7]"], "2001:db8::7"),
        ([b"[2001:db8::7]:443"], "2001:db8::7"),
        ([b"::ffff:192.0.2.7"], "192.0.2.7"),
        ([b"\t192.0.2.7 "], "192.0.2.7"),
        # What the caller wrote itself stands to the left of what a proxy of ours saw.
        ([b"198.51.100.1, 192.0.2.7"], "192.0.2.7"),
        ([b"10.0.0.9, 192.0.2.7"], "192.0.2.7"),
        ([b"198.51.100.1", b"192.0.2.7"], "192.0.2.7"),
        # A chain of our own proxies is gone through.
        ([b"198.51.100.1, 192.0.2.7, 10.0.0.2"], "192.0.2.7"),
        ([b"192.0.2.7, 10.0.0.2", b"10.0.0.3,10.1.2.3"], "192.0.2.7"),
        ([b"192.0.2.7, 2001:db8:aaaa::1, ::ffff:10.0.0.2"], "192.0.2.7"),
        ([b"192.0.2.7,,10.0.0.2,"], "192.0.2.7"),
        # One that called from within is the caller.
        ([b"10.0.0.5, 10.0.0.2"], "10.0.0.5"),
        # What is no address ends the search at the proxy that wrote it down.
        ([b"unknown"], PROXY),
        ([b"192.0.2.7, unknown"], PROXY),
        ([b"192.0.2.7, unknown, 10.0.0.2"], "10.0.0.2"),
        ([b"192.0.2.7, 10.0.0.2:x"], PROXY),
        ([b"192.0.2.7:"], PROXY),
        ([b"192.0.2.7:123456"], PROXY),
        ([b"192.0.2.07"], PROXY),
        ([b"192.0.2.7/32"], PROXY),
        ([b"192.0.2.256"], PROXY),
        ([b"[2001:db8::7"], PROXY),
        ([b"[2001:db8::7]443"], PROXY),
        ([b"[2001:db8::7]:"], PROXY),
        ([b"fe80::1%eth0"], PROXY),
        ([b"\xff\xfe"], PROXY),
        (["１９２.0.2.7".encode()], PROXY),
        ([b"for=192.0.2.7"], PROXY),
        ([b"localhost"], PROXY),
        ([b"3221225991"], PROXY),
        ([b"-1"], PROXY),
    ],
)
def test_the_first_from_the_end_that_is_not_ours_is_the_caller(forwarded: list[bytes], caller: str):
    assert caller_address(PROXY, forwarded, OURS) == caller


@pytest.mark.parametrize("peer", ["192.0.2.1", "2001:db8::1", "", "unix", "::ffff:192.0.2.1", "11.0.0.1"])
def test_whoever_is_no_proxy_of_ours_speaks_for_nobody(peer: str):
    assert caller_address(peer, [b"198.51.100.1"], OURS) == peer


@pytest.mark.parametrize("peer", [PROXY, "127.0.0.1"])
def test_without_trusted_proxies_nobody_speaks_for_others(peer: str):
    assert caller_address(peer, [b"198.51.100.1"], None) == peer
    assert caller_address(peer, [b"198.51.100.1"], networks([])) == peer


@pytest.mark.parametrize("peer", ["::ffff:10.0.0.1", "2001:db8:aaaa::99"])
def test_a_proxy_is_known_in_either_family(peer: str):
    assert caller_address(peer, [b"198.51.100.1"], OURS) == "198.51.100.1"


@pytest.mark.parametrize("fields", [1, 7, MAX_HOPS * 3])
def test_a_chain_without_end_is_not_followed(fields: int):
    chain = [b"192.0.2.7, " + b", ".join([b"10.0.0.2"] * 3 * MAX_HOPS)] * fields
    assert caller_address(PROXY, chain, OURS) == "10.0.0.2"
    short = [b"192.0.2.7, " + b", ".join([b"10.0.0.2"] * (MAX_HOPS - 1))]
    assert caller_address(PROXY, short, OURS) == "192.0.2.7"


addresses = st.ip_addresses().map(str)
noise = st.binary(max_size=40) | addresses.map(str.encode) | st.sampled_from([b",", b"[", b"]:", b":", b"10.0.0.9"])


@given(st.lists(st.lists(noise, max_size=5).map(b", ".join), max_size=4))
def test_whatever_comes_the_answer_is_an_address(forwarded: list[bytes]):
    ipaddress.ip_address(caller_address(PROXY, forwarded, OURS))


@given(st.lists(noise, max_size=6).map(b",".join), st.ip_addresses(v=4, network="192.0.2.0/24").map(str))
def test_a_caller_cannot_make_itself_another_however_it_lies(lie: bytes, caller: str):
    """The outermost proxy appends the caller's true address to whatever it was sent."""
    assert caller_address(PROXY, [lie + b", " + caller.encode()], OURS) == caller
    assert caller_address(PROXY, [lie, caller.encode(), b"10.0.0.2"], OURS) == caller


@pytest.mark.parametrize(
    ("peer", "forwarded", "scheme"),
    [
        (PROXY, [], "http"),
        (PROXY, [b"https"], "https"),
        (PROXY, [b"http"], "http"),
        (PROXY, [b"http, HTTPS "], "https"),
        (PROXY, [b"http", b"https"], "https"),
        (PROXY, [b"javascript"], "http"),
        (PROXY, [b""], "http"),
        ("192.0.2.7", [b"https"], "http"),
    ],
)
def test_a_trusted_proxy_says_whether_its_caller_spoke_tls(peer: str, forwarded: list[bytes], scheme: str):
    assert caller_scheme("http", peer, forwarded, OURS) == scheme


def test_without_trusted_proxies_nobody_is_asked_how_the_caller_spoke():
    assert caller_scheme("https", PROXY, [b"http"], None) == "https"
