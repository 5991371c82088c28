"""From the text of one value to what the schema wants: numbers, durations, money, addresses, names, secrets.

Each reader is a function of a `Given`, or makes one.  It raises `Refused` with a whole sentence that says what is wanted.  A
text that came out of the environment or a file is never repeated in a sentence, for it may be secret.
"""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from itertools import islice
from typing import Final, TypeVar
from urllib.parse import urlsplit

from tollhouse.config.secret import Secret
from tollhouse.config.tree import core_kind

T = TypeVar("T")

MIN_KEY_CHARACTERS: Final = 8
MIN_SIGNING_CHARACTERS: Final = 32
MAX_TEXT_CHARACTERS: Final = 4096
MAX_DURATION_SECONDS: Final = 86_400.0
MAX_AGE_SECONDS: Final = 36_500 * 86_400.0
MAX_COMPARED: Final = 1000
"""Names that are looked at for the nearest one; comparing is slow, and a file may have many thousand."""
MAX_DOLLARS: Final = 1_000_000_000
MAX_PATTERN_CHARACTERS: Final = 1000
MAX_TAG_CHARACTERS: Final = 200

HOW_TO_MAKE_A_KEY: Final = (
    "`tollhouse config init` makes a good one, and so does"
    " `python -c \"import secrets; print('th-' + secrets.token_urlsafe(32))\"`"
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_MODEL_NAME: Final = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)?")
_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")
_SIZE: Final = re.compile(r"([0-9]{1,15})(?: ?(B|[kKMGT]B|[KMGT]iB))?")
_BYTES: Final[dict[str | None, int]] = {
    None: 1,
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
_AMOUNT: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_DIGEST: Final = re.compile(r"[0-9a-fA-F]{64}")
_MILLISECONDS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, None: 1000}

FORBIDDEN_HEADERS: Final = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Header fields that belong to the transport: a fixed value would break the framing or the address of a request."""


class Refused(Exception):
    """A value that the schema does not take; the sentence says why."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Given:
    """A scalar after `${…}` was expanded."""

    text: str
    is_plain: bool = False
    """Written without quotes, so that `12` is a number and not a text."""
    references: tuple[str, ...] = ()
    """The references that it was written with; then quotes say nothing about its kind."""
    sources: tuple[str, ...] = ()
    """Where it came from, if not from the configuration file itself."""
    is_defaulted: bool = False
    """Some reference took its `:-default`."""

    @property
    def is_string(self) -> bool:
        """Whether YAML 1.2 has a string here: in quotes, from a reference, or plain and of no other kind."""
        return bool(self.references) or not self.is_plain or core_kind(self.text) == "string"

    @property
    def may_be_number(self) -> bool:
        """Whether the text may be read as a number or a boolean."""
        return self.is_plain or bool(self.references)

    def __str__(self) -> str:
        """How a sentence speaks of it."""
        if self.references:
            return f"the value of {', '.join(self.references)}"
        return repr(self.text if len(self.text) <= 80 else self.text[:80] + "…")


Reader = Callable[[Given], T]


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant, regardless of case and of `-` for `_`."""

    def folded(name: str) -> str:
        return name[:100].lower().replace("-", "_")

    by_folded = {folded(name): name for name in islice(known, MAX_COMPARED)}
    found = get_close_matches(folded(word), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or nothing."""
    found = nearest(word, known)
    return "" if found is None else f" Did you mean {found!r}?"


def text(given: Given) -> str:
    """Any text that is not empty, on one line."""
    if not given.is_string:
        kind = core_kind(given.text)
        if kind == "null":
            raise Refused("The value is empty; give it one, or remove the key.")
        raise Refused(f"Must be a text, and YAML reads {given} as {_article(kind)} {kind}; put it in quotes.")
    if not given.text:
        raise Refused(f"Must not be empty{f'; {given} is' if given.references else ''}.")
    if len(given.text) > MAX_TEXT_CHARACTERS:
        raise Refused(f"Must be at most {MAX_TEXT_CHARACTERS} characters.")
    if any(character < " " or character == "\x7f" for character in given.text):
        raise Refused("Must be one line without control characters.")
    return given.text


def name(given: Given) -> str:
    """A name that stands in the ledger and in metrics."""
    value = text(given)
    if not _NAME.fullmatch(value):
        raise Refused(f"{_sentence(given)} is not a name; use 1 to 64 letters, digits, `_`, `.`, `@` and `-`.")
    return value


def tag(given: Given) -> str:
    """A note of at most 200 characters."""
    value = text(given)
    if len(value) > MAX_TAG_CHARACTERS:
        raise Refused(f"Must be at most {MAX_TAG_CHARACTERS} characters.")
    return value


def model_name(given: Given) -> str:
    """A model's or an alias's name."""
    value = text(given)
    if not _MODEL_NAME.fullmatch(value):
        raise Refused(f"{_sentence(given)} is not a model's name: 1 to 200 characters without spaces.")
    return value


def choice(*words: T) -> Reader[T]:
    """One of the words."""

    def read(given: Given) -> T:
        for word in words:
            if word == given.text:
                return word
        names = [str(word) for word in words]
        raise Refused(
            f"Must be one of {', '.join(names)}, not {given}.{'' if given.references else did_you_mean(given.text, names)}"
        )

    return read


def boolean(given: Given) -> bool:
    """`true` or `false`, as YAML 1.2 has them."""
    if not given.may_be_number or core_kind(given.text) != "boolean":
        quotes = ", without quotes" if not given.may_be_number else ""
        raise Refused(f"Must be true or false{quotes}, not {given}.")
    return given.text.lower() == "true"


def integer(low: int, high: int) -> Reader[int]:
    """A whole number between the bounds, both included."""

    def read(given: Given) -> int:
        wanted = f"Must be a whole number from {low} to {high}"
        if not given.may_be_number:
            raise Refused(f"{wanted}, without quotes, not {given}.")
        if core_kind(given.text) != "integer" or len(given.text) > 20:
            raise Refused(f"{wanted}, not {given}.")
        base = {"0o": 8, "0x": 16}.get(given.text[:2], 10)
        value = int(given.text, base)
        if not low <= value <= high:
            raise Refused(f"{wanted}, not {given}.")
        return value

    return read


def port_or_none(given: Given) -> int:
    """A port from 1 to 65535; `none`, `off` and 0 are 0: no listener."""
    if given.text.lower() in {"none", "off", "null", "~", ""}:
        return 0
    try:
        return integer(0, 65535)(given)
    except Refused as refused:
        raise Refused(f"Must be a port from 1 to 65535 or `none`, not {given}.") from refused


def version(given: Given) -> str:
    """A version of a program: up to 64 letters, digits and `.+-_`."""
    if not _VERSION.fullmatch(given.text):
        raise Refused(f"Must be a version such as 1.2.3, not {given}.")
    return given.text


def option(given: Given) -> str | int | bool:
    """A text, a whole number or a boolean, whichever YAML says it is."""
    if given.references or not given.is_plain:
        return text(given)
    match core_kind(given.text):
        case "boolean":
            return boolean(given)
        case "integer":
            return integer(-(2**53), 2**53)(given)
        case _:
            return text(given)


def duration(low: float, high: float) -> Reader[float]:
    """A number of seconds, or `500ms`, `30s`, `2m`, `1h`, `1d`, between the bounds (in seconds), both included."""

    def read(given: Given) -> float:
        parts = _DURATION.fullmatch(given.text)
        if parts is None:
            raise Refused(f"Must be a duration such as 30, 500ms, 30s, 2m or 1h, not {given}.")
        value = float(Decimal(parts[1]) * _MILLISECONDS[parts[2]] / 1000)
        if not low <= value <= high:
            raise Refused(f"Must be a duration from {_in_words(low)} to {_in_words(high)}, not {given}.")
        return value

    return read


seconds: Final = duration(0.001, MAX_DURATION_SECONDS)
"""A duration of up to a day."""

seconds_or_zero: Final = duration(0.0, MAX_DURATION_SECONDS)
"""A duration of up to a day, which may be 0."""


def age(low: float) -> Reader[float]:
    """How long something is kept, in seconds: a duration of `low` seconds to 100 years, with its unit."""
    read_duration = duration(low, MAX_AGE_SECONDS)

    def read(given: Given) -> float:
        parts = _DURATION.fullmatch(given.text)
        # Days are what everybody means here, and a bare number means seconds everywhere else.
        if parts is None or parts[2] is None:
            raise Refused(f"Must be a time with its unit such as 400d or 36h, not {given}.")
        return read_duration(given)

    return read


def size(low: int, high: int) -> Reader[int]:
    """A number of bytes, or `64KiB`, `256MiB`, `1GiB`, `500MB`, between the bounds, both included."""

    def read(given: Given) -> int:
        parts = _SIZE.fullmatch(given.text)
        if parts is None:
            raise Refused(f"Must be a size such as 1048576, 64KiB or 256MiB, not {given}.")
        value = int(parts[1]) * _BYTES[parts[2]]
        if not low <= value <= high:
            raise Refused(f"Must be a size from {low:,} to {high:,} bytes, not {given}.")
        return value

    return read


def fraction(given: Given) -> float:
    """A part of a whole, more than 0 and at most 1."""
    if not given.may_be_number or not _AMOUNT.fullmatch(given.text) or not 0 < float(given.text) <= 1:
        raise Refused(f"Must be a fraction such as 0.5 for a half, at most 1, not {given}.")
    return float(given.text)


def fraction_or_zero(given: Given) -> float:
    """A part of a whole, from nothing (0) to all of it (1)."""
    if not given.may_be_number or not _AMOUNT.fullmatch(given.text) or not 0 <= float(given.text) <= 1:
        raise Refused(f"Must be a fraction from 0 to 1 such as 0.1 for a tenth, not {given}.")
    return float(given.text)


def dollars(given: Given) -> int:
    """An amount of US dollars as a whole number of nano-USD; exact, or refused."""
    if not given.may_be_number or not _AMOUNT.fullmatch(given.text):
        quotes = ", without quotes" if not given.may_be_number else ""
        raise Refused(f"Must be an amount in US dollars such as 10 or 0.15{quotes}, not {given}.")
    # At most 24 digits, and a decimal context keeps 28: nothing here is rounded.
    nano = Decimal(given.text) * 1_000_000_000
    if nano != int(nano):
        raise Refused(f"Must not be finer than a billionth of a dollar; {given} is.")
    if nano > MAX_DOLLARS * 1_000_000_000:
        raise Refused(f"Must be at most {MAX_DOLLARS:,} dollars, not {given}.")
    return int(nano)


def secret(given: Given) -> Secret:
    """A credential or a header's value.  Never repeated in a sentence."""
    _check_credential(given)
    if not given.text:
        raise Refused(_why_empty(given))
    return Secret(given.text)


def optional_secret(given: Given) -> Secret:
    """A credential that `${NAME:-}` may leave empty on purpose."""
    _check_credential(given)
    if not given.text and not given.is_defaulted:
        raise Refused(_why_empty(given))
    return Secret(given.text)


def signing_secret(given: Given) -> Secret:
    """A secret that signs tokens: RFC 7518, section 3.2, wants as many bytes as the hash has."""
    _check_credential(given)
    if len(given.text) < MIN_SIGNING_CHARACTERS:
        what = f"; {given} has fewer" if given.references else ""
        raise Refused(
            f"A secret that signs tokens needs at least {MIN_SIGNING_CHARACTERS} characters{what}. `openssl rand -base64 48`"
            " makes a good one."
        )
    return Secret(given.text)


def issuer_url(given: Given) -> str:
    """The address of an issuer of tokens, as it stands in them: not even a final slash may be lost."""
    base_url(given)
    parts = urlsplit(given.text)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise Refused("The address must begin with https://, or anybody on the way could make keys of their own.")
    return given.text


def header_value(given: Given) -> Secret:
    """A header's value: printable ASCII, spaces inside allowed."""
    if not given.text or given.text != given.text.strip() or not (given.text.isascii() and given.text.isprintable()):
        raise Refused("A header's value must be printable ASCII without spaces around it, and not empty.")
    return Secret(given.text)


def header_name(text: str) -> str:
    """A header field's name, in lower case.  Raises `Refused`."""
    if not _HEADER_NAME.fullmatch(text):
        raise Refused(f"{text[:80]!r} is not the name of a header.")
    if text.lower() in FORBIDDEN_HEADERS:
        raise Refused(f"The header {text!r} belongs to the transport and cannot be set.")
    return text.lower()


def key_digest(given: Given) -> bytes:
    """SHA-256 of a gateway key, which is checked and then forgotten."""
    _check_credential(given)
    if len(given.text) < MIN_KEY_CHARACTERS:
        what = f"; {given} has fewer" if given.references else ""
        raise Refused(f"A key needs at least {MIN_KEY_CHARACTERS} characters{what}. {HOW_TO_MAKE_A_KEY}.")
    return hashlib.sha256(given.text.encode()).digest()


def hex_digest(given: Given) -> bytes:
    """The SHA-256 digest of a gateway key, for a file that does not hold the key itself."""
    if not _DIGEST.fullmatch(given.text):
        raise Refused("Must be the key's SHA-256 digest: 64 digits and letters from a to f.")
    return bytes.fromhex(given.text)


def host(given: Given) -> str:
    """An address to listen on: an IP address or a host name."""
    value = text(given) if given.is_string else given.text
    bare = value.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        # A name of digits and dots would be a mistyped IPv4 address.
        if _HOST_NAME.fullmatch(value) and not re.fullmatch(r"[0-9.]+", value):
            return value
    raise Refused(f"Must be an IP address or a host name such as 127.0.0.1, not {given}.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def base_url(given: Given) -> str:
    """`http(s)://host[:port][/prefix]`, without a user name, query or fragment."""
    value = text(given)
    if " " in value:
        raise Refused("The address contains a space.")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise Refused("The address has a broken host or port; write https://host:port/path.") from None
    # Only fixed words below: an address may carry a password.
    if parts.scheme not in {"http", "https"}:
        raise Refused("The address must begin with https:// or http://.")
    if "@" in parts.netloc:
        raise Refused("The address must not hold a user name or password; put the credential under `api_key`.")
    if "?" in value or "#" in value:
        raise Refused("The address must not hold a query or a fragment; it ends with its path.")
    if not parts.hostname or port == 0:
        raise Refused("The address needs a host, and a port from 1 to 65535 if it names one.")
    return value.rstrip("/")


def proxy_url(given: Given) -> str:
    """`http://[user:password@]host:port`."""
    value = text(given)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        port = None
        parts = urlsplit("")
    if (
        parts.scheme != "http"
        or not parts.hostname
        or not port
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        raise Refused("A proxy is written http://host:port, with user:password@ before the host if it asks for them.")
    return value.rstrip("/")


def ledger_url(given: Given) -> str:
    """`sqlite:///path` or `postgresql://…`; whether it can be opened is found out by the ledger."""
    value = text(given)
    if value.startswith("sqlite:///"):
        if value.removeprefix("sqlite:///").strip("/"):
            return value
        raise Refused(
            "The address names no file; write sqlite:///tollhouse.db, or sqlite:////var/lib/tollhouse/ledger.db."
        )
    if value.startswith("sqlite:"):
        raise Refused(
            "An SQLite address has three slashes and a path, or four for an absolute one: sqlite:///tollhouse.db."
        )
    if value.startswith(("postgresql://", "postgres://")) and len(value) > len("postgresql://"):
        return "postgresql://" + value.partition("://")[2]
    raise Refused("The address must begin with sqlite:/// or postgresql://.")


def state_url(given: Given) -> str:
    """`redis://[user:password@]host[:port][/database]`, or `rediss`, `valkey`, `valkeys` for `redis`."""
    value = text(given)
    if "?" in value or "#" in value:
        raise Refused("The address must not hold a query or a fragment; in a password, write ? as %3F and # as %23.")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise Refused("The address has a broken host or port; write redis://host:port/0.") from None
    # Only fixed words below: an address may carry a password.
    if parts.scheme not in {"redis", "rediss", "valkey", "valkeys"} or " " in value:
        raise Refused("The address must begin with redis://, rediss:// (TLS), valkey:// or valkeys:// (TLS).")
    if not parts.hostname or port == 0:
        raise Refused("The address needs a host, and a port from 1 to 65535 if it names one.")
    if not re.fullmatch(r"/?|/[0-9]{1,5}", parts.path):
        raise Refused("The path must be the number of a database, such as /0; in a password, write / as %2F.")
    return value


def webhook(given: Given) -> Secret:
    """Where alerts are posted: `http(s)://host[:port][/path][?query]`.  Such an address is often the credential itself."""
    value = text(given)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise Refused("The address has a broken host or port; write https://host/path.") from None
    if parts.scheme not in {"http", "https"}:
        raise Refused("The address must begin with https:// or http://.")
    if any(not "!" <= character <= "~" for character in value):
        raise Refused("The address must be ASCII without spaces; write other characters as %XX.")
    if "@" in parts.netloc or "#" in value:
        raise Refused("The address must not hold a user name, a password or a fragment.")
    if not parts.hostname or port == 0:
        raise Refused("The address needs a host, and a port from 1 to 65535 if it names one.")
    return Secret(value)


def network(given: Given) -> str:
    """An IP network or a single address, as `10.0.0.0/8`, `192.0.2.7/32`, `2001:db8::/32`."""
    value = text(given)
    try:
        found = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise Refused(f"Must be a network such as 10.0.0.0/8, or an IP address, not {given}.") from None
    address, _, mask = value.partition("/")
    if ipaddress.ip_address(address) != found.network_address:
        raise Refused(
            f"{_sentence(given)} has bits below its mask; write {found} for the network, or leave /{mask} away."
        )
    if isinstance(found, ipaddress.IPv6Network) and found.network_address.ipv4_mapped is not None:
        raise Refused(f"{_sentence(given)} is IPv4 in IPv6's clothes; write the IPv4 network itself.")
    return str(found)


def pattern(given: Given) -> str:
    """A regular expression that RE2 takes and that matches no empty text."""
    # Some milliseconds, and only a configuration that has patterns pays for them.
    import re2

    value = text(given)
    if len(value) > MAX_PATTERN_CHARACTERS:
        raise Refused(f"Must be at most {MAX_PATTERN_CHARACTERS} characters.")
    options = re2.Options()
    options.log_errors = False
    try:
        expression = re2.compile(value, options)
    except re2.error as error:
        raise Refused(f"RE2 does not take this expression{'' if given.sources else _reason(error)}.") from None
    if expression.search("") is not None:
        raise Refused("The expression matches a text of no characters, so it would match everywhere.")
    return value


def without_password(url: str) -> str:
    """The address as it may be shown: a user name, a password and a query are masked."""
    if url.startswith("sqlite:"):
        return url
    scheme, separator, rest = url.partition("://")
    rest, query, _ = rest.partition("?")
    # The last @, for a password may hold one; PostgreSQL takes credentials in the query too.
    _, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{'***@' if at else ''}{place}{'?***' if query else ''}"


def call_log(given: Given) -> str:
    """Where lines about calls go: `stderr` (also `true` and `-`), `off` (also `false`), or a path."""
    if given.may_be_number and core_kind(given.text) == "boolean":
        return "stderr" if boolean(given) else "off"
    value = text(given)
    return "stderr" if value == "-" else value


def _article(kind: str) -> str:
    return "an" if kind == "integer" else "a"


def _reason(error: Exception) -> str:
    """What RE2 says, in brackets; its bindings hand over bytes."""
    said = error.args[0] if error.args else ""
    return f" ({said.decode(errors='replace') if isinstance(said, bytes) else said})"


def _in_words(value: float) -> str:
    """A number of seconds in the unit that makes it short."""
    for unit, length in (("d", 86_400), ("h", 3600)):
        if value >= 2 * length and not value % length:
            return f"{value / length:g} {unit}"
    return f"{value:g} s"


def _check_credential(given: Given) -> None:
    if not given.is_string:
        kind = core_kind(given.text)
        if kind == "null":
            raise Refused("The value is empty; give it one, or remove the key.")
        raise Refused(f"Must be a text, and YAML reads this as {_article(kind)} {kind}; put it in quotes.")
    if len(given.text) > MAX_TEXT_CHARACTERS or any(not "!" <= character <= "~" for character in given.text):
        raise Refused(
            "A credential has no spaces, line breaks or characters outside ASCII; this one does, or is too long."
        )


def _why_empty(given: Given) -> str:
    if given.references:
        return f"Must not be empty; {given} is."
    return "Must not be empty."


def _sentence(given: Given) -> str:
    words = str(given)
    return words[0].upper() + words[1:]
