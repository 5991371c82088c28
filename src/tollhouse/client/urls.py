"""The addresses of servers as people copy and paste them.

    vibectl-server://[token@]host[:50051]             the older tool's protocol (gRPC) over TLS
    vibectl-server-insecure://[token@]host[:50051]    the same in plain text
    tollhouse://[token@]host[:50051]                  our own typed protocol (gRPC) over TLS
    tollhouse+insecure://[token@]host[:50051]         the same in plain text
    https://[token@]host[:443][/prefix]               HTTP: protobuf or JSON
    http://[token@]host[:80][/prefix]                 the same in plain text

With `tollhouse://` the protocols that travel over HTTP may be chosen too; their default port is then 8080.

A token is percent-decoded, so one with `/`, `@` or `%` in it can stand in an address; the tokens that the older tool makes hold
none of these.  An address never prints its token.
"""

import ipaddress
import re
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from tollhouse.client.failures import BadServerUrl
from tollhouse.config.secret import MASK, Secret

Scheme: TypeAlias = Literal[
    "vibectl-server", "vibectl-server-insecure", "tollhouse", "tollhouse+insecure", "https", "http"
]

GRPC_PORT: Final = 50051
HTTP_PORT: Final = 8080

EXAMPLES: Final = (
    "https://gateway.example.com",
    "http://localhost:8080",
    "tollhouse://TOKEN@gateway.example.com:50051",
    "vibectl-server://TOKEN@gateway.example.com:50051",
    "tollhouse://TOKEN@[2001:db8::7]:50051",
)

_TLS: Final[dict[str, bool]] = {
    "vibectl-server": True,
    "vibectl-server-insecure": False,
    "tollhouse": True,
    "tollhouse+insecure": False,
    "https": True,
    "http": False,
}
_HTTP_PORTS: Final = {"https": 443, "http": 80}
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
MAX_URL_CHARACTERS: Final = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUrl:
    """A server's address, read and checked."""

    scheme: Scheme
    host: str
    """In lower case; an IPv6 address without brackets."""
    port: int | None = None
    """As written; `None` is the default of whatever is spoken (`port_for`)."""
    path: str = ""
    """A prefix below which the gateway answers, without a slash at its end; only with `https` and `http`."""
    token: Secret | None = field(default=None)

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted and the server has to prove who it is."""
        return _TLS[self.scheme]

    @property
    def is_vibectl(self) -> bool:
        """Whether it is the older tool's protocol."""
        return self.scheme.startswith("vibectl-server")

    @property
    def is_http(self) -> bool:
        """Whether it was written as an HTTP address."""
        return self.scheme in _HTTP_PORTS

    @property
    def says_insecure(self) -> bool:
        """Whether plain text was asked for in so many words."""
        return self.scheme.endswith("insecure")

    @property
    def is_loopback(self) -> bool:
        """Whether the server is this machine, so that nobody else can listen."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def port_for(self, *, grpc: bool) -> int:
        """The port: the written one, or the default of gRPC or of HTTP under this scheme."""
        if self.port is not None:
            return self.port
        if self.is_http:
            return _HTTP_PORTS[self.scheme]
        return GRPC_PORT if grpc else HTTP_PORT

    def where(self, *, grpc: bool) -> str:
        """`host:port`, with brackets around IPv6: for messages, and what gRPC dials."""
        return f"{self._bracketed}:{self.port_for(grpc=grpc)}"

    @property
    def base_url(self) -> str:
        """The HTTP address, without the token and without a slash at its end."""
        scheme = "https" if self.is_tls else "http"
        port = self.port_for(grpc=False)
        shown = "" if port == _HTTP_PORTS[scheme] else f":{port}"
        return f"{scheme}://{self._bracketed}{shown}{self.path}"

    @property
    def server(self) -> tuple[bool, str, int | None, str]:
        """What tells servers apart: two addresses with the same are the same server, whatever their tokens."""
        return self.is_tls, self.host, self.port, self.path

    def without_token(self) -> "ServerUrl":
        """The same address, fit to be kept where others may read it."""
        return replace(self, token=None)

    def reveal(self) -> str:
        """The whole address, token included: a secret.  For the one who asked for it to be printed."""
        return self._written("" if self.token is None else f"{quote(self.token.reveal(), safe='')}@")

    def __str__(self) -> str:
        """The address with its token masked."""
        return self._written("" if self.token is None else f"{MASK}@")

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def _written(self, credential: str) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{credential}{self._bracketed}{port}{self.path}"


def parse(text: str) -> ServerUrl:
    """Reads an address.  Raises `BadServerUrl`, with examples and without the token."""
    text = text.strip()
    if not text:
        raise _bad("The address is empty.")
    if len(text) > MAX_URL_CHARACTERS:
        raise _bad(f"The address is longer than {MAX_URL_CHARACTERS} characters.")
    if any(character <= " " or character == "\x7f" for character in text):
        raise _bad("The address contains a blank or a control character.")
    name, separator, rest = text.partition("://")
    scheme = _scheme(name.lower()) if separator else None
    if scheme is None:
        raise _bad(_about_the_scheme(name if separator else None))
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # Of several @ the last ends the credential, as browsers and urllib have it; a token's own must be written %40.
    credential, at, place = authority.rpartition("@")
    if rest[len(authority) :].find("@") >= 0:
        raise _bad("The token contains `/`, `?` or `#`; write them as %2F, %3F and %23.")
    try:
        parts = urlsplit(f"http://{place}{rest[len(authority) :]}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _bad(_about_the_place(place)) from None
    if port == 0:
        raise _bad("The address names port 0; ports go from 1 to 65535.")
    if place.endswith(":"):
        raise _bad("There is a colon and no port behind it.")
    return ServerUrl(
        scheme=scheme,
        host=_host(host, place),
        port=port,
        path=_path(parts.path, scheme, has_more=bool(re.search(r"[?#]", rest))),
        token=_token(credential) if at else None,
    )


def written(host: str, port: int, *, token: str | None = None, scheme: Scheme = "tollhouse") -> ServerUrl:
    """The address of a server that is known by host and port.  Raises `BadServerUrl`."""
    bare = host.strip().removeprefix("[").removesuffix("]")
    bracketed = f"[{bare}]" if ":" in bare else bare
    credential = "" if not token else f"{quote(token, safe='')}@"
    return parse(f"{scheme}://{credential}{bracketed}:{port}")


def _scheme(name: str) -> Scheme | None:
    match name:
        case (
            "vibectl-server" | "vibectl-server-insecure" | "tollhouse" | "tollhouse+insecure" | "https" | "http"
        ) as known:
            return known
        case _:
            return None


def _about_the_scheme(name: str | None) -> str:
    if name is None:
        return "The address does not say how to connect: it must begin with one of the schemes below."
    # What stands before `://` may be a token that was pasted alone.
    shown = f" {name!r}" if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,20}", name) else ""
    return f"The scheme{shown} is not known; there are {', '.join(_TLS)}."


def _about_the_place(place: str) -> str:
    if place.count(":") > 1 and "[" not in place:
        return "An IPv6 address needs brackets around it."
    if re.match(r"\[[^\[\]]*\](:\d+)?$", place):
        return "There are brackets around something that is not an IPv6 address."
    return "The host or the port is broken; ports are numbers from 1 to 65535."


def _host(host: str, place: str) -> str:
    if not host:
        raise _bad("The address has no host.")
    if "[" in place:
        try:
            return str(ipaddress.IPv6Address(host))
        except ipaddress.AddressValueError:
            raise _bad("There are brackets around something that is not an IPv6 address.") from None
    if place.count(":") > 1:
        raise _bad("An IPv6 address needs brackets around it.")
    try:
        name = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise _bad("The host cannot be written as a domain name.") from None
    if not all(_LABEL.fullmatch(label) for label in name.removesuffix(".").split(".")):
        raise _bad("The host is not a domain name and not an IP address.")
    return name


def _path(path: str, scheme: Scheme, *, has_more: bool) -> str:
    if has_more:
        raise _bad("The address has a query or a fragment; it ends with the port or with a path.")
    path = path.rstrip("/")
    if path and scheme not in _HTTP_PORTS:
        raise _bad(f"An address with {scheme}:// has no path.")
    if not path.isascii():
        raise _bad("The path has characters outside ASCII; percent-encode them.")
    return path


def _token(credential: str) -> Secret:
    if ":" in credential:
        raise _bad("What stands before the @ is one token, without a user name; write a colon in it as %3A.")
    token = unquote(credential, errors="replace")
    if not token:
        raise _bad("There is an @ and no token before it.")
    if not _TOKEN.fullmatch(token):
        raise _bad("The token has blanks, line breaks or characters outside ASCII; was it copied whole and alone?")
    return Secret(token)


def _bad(sentence: str) -> BadServerUrl:
    return BadServerUrl(sentence, hint="Right ones look like " + ", ".join(EXAMPLES[:-1]) + f" or {EXAMPLES[-1]}.")
