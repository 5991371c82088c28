"""Reading a provider's `base_url` once, strictly, so that nothing later has to parse an address.

Only the operator writes addresses (the configuration); a caller never does.  What is refused here cannot become a
request that goes somewhere else than the operator reads in their own file.
"""

import ipaddress
from urllib.parse import urlsplit

from tollhouse.upstream.transport import Address

DEFAULT_PORTS = {"http": 80, "https": 443}


class BadAddress(ValueError):
    """A `base_url` that cannot be used.  The message says what is wrong and never repeats credentials."""


def parse_address(base_url: str) -> Address:
    """Reads `https://host[:port][/prefix]`.

    Accepts `http` and `https`, host names (international ones are turned into IDNA's ASCII form), IPv4 and bracketed
    IPv6.  Raises `BadAddress` for anything else: other schemes, user names, queries, fragments, spaces.
    """
    if any(character <= " " or character == "\x7f" for character in base_url):
        raise BadAddress("The address contains a space or a control character; write it as https://host/path.")
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError as error:
        raise BadAddress("The address has a broken host or port; write it as https://host:port/path.") from error
    if parts.scheme not in DEFAULT_PORTS:
        raise BadAddress("The address must begin with https:// or http://.")
    if "@" in parts.netloc:
        raise BadAddress("The address contains a user name or password; put credentials under `api_key` instead.")
    if "?" in base_url or "#" in base_url:
        raise BadAddress("The address contains a query or a fragment; a base address ends with its path.")
    if port == 0:
        raise BadAddress("The address names port 0; ports go from 1 to 65535.")
    if not parts.path.isascii():
        raise BadAddress("The address's path contains characters outside ASCII; percent-encode them.")
    host = _ascii_host(parts.hostname or "", bracketed="[" in parts.netloc)
    default_port = DEFAULT_PORTS[parts.scheme]
    port = default_port if port is None else port
    name = f"[{host}]" if ":" in host else host
    return Address(
        scheme=parts.scheme,
        host=host,
        port=port,
        path=parts.path.rstrip("/"),
        authority=(name if port == default_port else f"{name}:{port}").encode("ascii"),
    )


def target(address: Address, path: str) -> bytes:
    """The request line's target: the address's prefix, then `path` (which begins with `/` and may hold a query).

    Raises `BadAddress` if `path` could break out of the request line.
    """
    if not path.startswith("/"):
        raise BadAddress("The path must begin with a slash.")
    if not path.isascii() or any(character <= " " or character == "\x7f" for character in path):
        raise BadAddress("The path contains a space, a control character or one outside ASCII; percent-encode it.")
    return (address.path + path).encode("ascii")


def _ascii_host(host: str, *, bracketed: bool) -> str:
    if not host:
        raise BadAddress("The address has no host; write it as https://host/path.")
    if bracketed:
        try:
            return str(ipaddress.IPv6Address(host))
        except ipaddress.AddressValueError as error:
            raise BadAddress("The address has brackets around something that is not an IPv6 address.") from error
    if "%" in host or "\\" in host:
        raise BadAddress("The host name contains a percent sign or a backslash.")
    try:
        # The standard library's IDNA 2003; host names of providers have been ASCII so far.
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise BadAddress("The host name cannot be written as a domain name.") from error
