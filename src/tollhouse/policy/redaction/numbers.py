"""Which numbers are what they look like: check digits, lengths, number plans."""

import ipaddress
from collections.abc import Mapping
from functools import cache
from itertools import chain
from typing import Final

# ---------------------------------------------------------------------------------------------------------------- cards

_ISSUERS: Final[tuple[tuple[int, int, tuple[int, ...]], ...]] = (
    # First digits from and to, and how long the number may be (ISO/IEC 7812; the schemes' published ranges, 2026).
    (4, 4, (13, 16, 19)),  # Visa
    (51, 55, (16,)),  # Mastercard
    (2221, 2720, (16,)),  # Mastercard
    (34, 34, (15,)),  # American Express
    (37, 37, (15,)),
    (300, 305, (14, 16, 17, 18, 19)),  # Diners Club
    (309, 309, (14, 16, 17, 18, 19)),
    (36, 36, (14, 16, 17, 18, 19)),
    (38, 39, (14, 16, 17, 18, 19)),
    (3528, 3589, (16, 17, 18, 19)),  # JCB
    (6011, 6011, (16, 17, 18, 19)),  # Discover
    (644, 649, (16, 17, 18, 19)),
    (65, 65, (16, 17, 18, 19)),
    (60, 60, (16,)),  # RuPay
    (81, 82, (16, 17, 18, 19)),  # UnionPay, RuPay
    (508, 508, (16,)),
    (62, 62, (16, 17, 18, 19)),  # UnionPay
    (2200, 2204, (16, 17, 18, 19)),  # Mir
    (9792, 9792, (16,)),  # Troy
    (5018, 5018, (12, 13, 14, 15, 16, 17, 18, 19)),  # Maestro
    (5020, 5020, (12, 13, 14, 15, 16, 17, 18, 19)),
    (5038, 5038, (12, 13, 14, 15, 16, 17, 18, 19)),
    (5893, 5893, (12, 13, 14, 15, 16, 17, 18, 19)),
    (6304, 6304, (12, 13, 14, 15, 16, 17, 18, 19)),
    (6759, 6763, (12, 13, 14, 15, 16, 17, 18, 19)),
)


def card_lengths(digits: bytes) -> frozenset[int]:
    """How many digits a card has that begins with these four."""
    return _lengths().get(digits[:4], _NONE)


_NONE: Final = frozenset[int]()


@cache
def _lengths() -> dict[bytes, frozenset[int]]:
    table: dict[bytes, frozenset[int]] = {}
    for low, high, lengths in _ISSUERS:
        scale = 10 ** (4 - len(str(low)))
        for first in range(low * scale, (high + 1) * scale):
            key = b"%d" % first
            table[key] = table.get(key, _NONE) | frozenset(lengths)
    return table


_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def passes_luhn(digits: bytes) -> bool:
    """The check digit of ISO/IEC 7812-1, annex B."""
    total = 0
    for place, byte in enumerate(reversed(digits)):
        digit = byte - 48
        total += _DOUBLED[digit] if place % 2 else digit
    return total % 10 == 0


# ---------------------------------------------------------------------------------------------------------------- IBANs

IBAN_LENGTHS: Final[Mapping[bytes, int]] = {
    # The registry of ISO 13616 (SWIFT, release 99), and countries that use the form without standing in it.
    code.encode(): length
    for length, codes in (
        (15, "NO"),
        (16, "BE"),
        (18, "DK FI FK FO GL NL SD"),
        (19, "MK SI"),
        (20, "AT BA EE KZ LT LU MN XK"),
        (21, "CH HR LI LV"),
        (22, "BG BH CR DE GB GE IE ME RS VA"),
        (23, "AE GI IL IQ OM SO TL"),
        (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
        (25, "AO CV GW LY MZ PT ST"),
        (26, "DZ IR IS TR"),
        (27, "BI CF CG CM DJ FR GA GQ GR IT KM MC MG MR SM TD"),
        (28, "AL AZ BF BJ BY CI CY DO GT HN HU LB MA ML NE NI PL SN SV TG"),
        (29, "BR EG PS QA UA"),
        (30, "JO KW MU YE"),
        (31, "MT SC"),
        (32, "LC"),
        (33, "RU"),
    )
    for code in codes.split()
}
_IBAN_VALUES: Final = {byte: str(int(chr(byte), 36)) for byte in b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def passes_mod_97(iban: bytes) -> bool:
    """The check digits of ISO 13616, for upper-case characters without spaces."""
    return int("".join(_IBAN_VALUES[byte] for byte in chain(iban[4:], iban[:4]))) % 97 == 1


# --------------------------------------------------------------------------------------------------------------- phones

MIN_PHONE_DIGITS: Final = 8
MAX_PHONE_DIGITS: Final = 15
"""Of an international number, country code included (ITU-T E.164)."""

_THREE_DIGITS: Final = (
    b"211212213216218220221222223224225226227228229230231232233234235236237238239240241242243244"
    b"245246247248249250251252253254255256257258260261262263264265266267268269290291297298299350"
    b"351352353354355356357358359370371372373374375376377378379380381382383385386387389420421423"
    b"500501502503504505506507508509590591592593594595596597598599670672673674675676677678679680"
    b"681682683685686687688689690691692800808850852853855856870878880881882883886888960961962963"
    b"964965966967968970971972973974975976977979992993994995996998"
)
_COUNTRY_CODES: Final = frozenset(
    code
    for size, codes in (
        (1, b"17"),
        (2, b"2027303132333436394041434445464748495152535455565758606162636465668182848690919293949598"),
        (3, _THREE_DIGITS),
    )
    for code in (codes[at : at + size] for at in range(0, len(codes), size))
)
"""The country codes of ITU-T E.164 (list of November 2016 with its amendments), written one after the other."""


def is_international(digits: bytes) -> bool:
    """Whether digits after a `+` or `00` are a number that can be called."""
    if digits.startswith(b"1"):
        return len(digits) == 11 and is_north_american(digits[1:])
    if not MIN_PHONE_DIGITS <= len(digits) <= MAX_PHONE_DIGITS + 1:  # a `(0)` is often written though it is not dialled
        return False
    return any(digits[:size] in _COUNTRY_CODES for size in (1, 2, 3))


def is_north_american(digits: bytes) -> bool:
    """Ten digits: neither the area nor the exchange begins with 0 or 1."""
    return len(digits) == 10 and digits[0] > 0x31 and digits[3] > 0x31


# -------------------------------------------------------------------------------------------------------- IP addresses


def is_ipv4(text: str) -> bool:
    """Four decimal numbers up to 255; leading zeros are borne, for people write them."""
    try:
        ipaddress.IPv4Address(".".join(str(int(part)) for part in text.split(".")))
    except ValueError:
        return False
    return True


def is_ipv6(text: str) -> bool:
    """An address, compressed or not, but for the few that are rather words of a program: `a::b`, `::`."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return any(c.isdigit() for c in text) or text.count(":") > 3
