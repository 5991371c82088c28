"""Personal data and credentials that tests plant: true by their check digits, nobody's in fact."""

import ipaddress
import itertools
import string

from hypothesis import strategies as st

from tollhouse.policy.redaction import numbers

_WORD = string.ascii_letters + string.digits


def text_of(alphabet: str, low: int, high: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=low, max_size=high)


def _with_luhn(digits: str) -> str:
    return next(digits + str(last) for last in range(10) if numbers.passes_luhn((digits + str(last)).encode()))


@st.composite
def cards(draw: st.DrawFn) -> str:
    """A card's number in one of the ways in which it is written."""
    start, length, sizes = draw(
        st.sampled_from(
            [
                ("4", 16, (4, 4, 4, 4)),
                ("51", 16, (4, 4, 4, 4)),
                ("2221", 16, (4, 4, 4, 4)),
                ("34", 15, (4, 6, 5)),
                ("37", 15, (4, 6, 5)),
                ("6011", 16, (4, 4, 4, 4)),
                ("36", 14, (4, 6, 4)),
                ("3530", 16, (4, 4, 4, 4)),
                ("62", 19, (6, 13)),
            ]
        )
    )
    number = _with_luhn(start + draw(text_of(string.digits, length - 1 - len(start), length - 1 - len(start))))
    separator = draw(st.sampled_from(["", " ", "-", "\u00a0", "\u2009", "\u2011", "."]))
    if sizes[0] != 4:
        separator = ""
    ends = [sum(sizes[:count]) for count in range(len(sizes) + 1)]
    return separator.join(number[low:high] for low, high in itertools.pairwise(ends))


@st.composite
def ibans(draw: st.DrawFn) -> str:
    """An account's number, printed in groups of four or in one piece."""
    country = draw(st.sampled_from([b"DE", b"GB", b"FR", b"NO", b"NL", b"MT", b"CH", b"BE"]))
    length = numbers.IBAN_LENGTHS[country] - 4
    rest = draw(text_of(string.digits + (string.ascii_uppercase if country in {b"GB", b"MT"} else ""), length, length))
    code = country.decode()
    iban = next(
        f"{code}{check:02d}{rest}"
        for check in range(2, 99)
        if numbers.passes_mod_97(f"{code}{check:02d}{rest}".encode())
    )
    if draw(st.booleans()):
        return iban
    return draw(st.sampled_from([" ", "-", "\u00a0"])).join(iban[at : at + 4] for at in range(0, len(iban), 4))


@st.composite
def emails(draw: st.DrawFn) -> str:
    name = draw(text_of(string.ascii_lowercase + string.digits + "._+-", 1, 20))
    labels = draw(st.lists(text_of(string.ascii_lowercase + string.digits, 1, 12), min_size=1, max_size=3))
    return f"{name}@{'.'.join(labels)}.{draw(st.sampled_from(['com', 'de', 'example', 'museum']))}"


@st.composite
def phones(draw: st.DrawFn) -> str:
    digit = st.integers(2, 9)
    d = draw(text_of(string.digits, 10, 10))
    form = draw(
        st.sampled_from(
            [
                "+49 {d0}{d1}{d2} {d3}{d4}{d5}{d6}{d7}{d8}",
                "+44-20-{d0}{d1}{d2}{d3}-{d4}{d5}{d6}{d7}",
                "+1 ({a}{d0}{d1}) {b}{d2}{d3}-{d4}{d5}{d6}{d7}",
                "({a}{d0}{d1}) {b}{d2}{d3}-{d4}{d5}{d6}{d7}",
                "{a}{d0}{d1}-{b}{d2}{d3}-{d4}{d5}{d6}{d7}",
                "020 7{d0}{d1}{d2} {d3}{d4}{d5}{d6}",
                "01 {d0}{d1} {d2}{d3} {d4}{d5} {d6}{d7}",
                "0049 17{d0} {d1}{d2}{d3}{d4}{d5}{d6}{d7}",
                "0170/{d0}{d1}{d2}{d3}{d4}{d5}{d6}",
            ]
        )
    )
    return form.format(a=draw(digit), b=draw(digit), **{f"d{place}": digit for place, digit in enumerate(d)})


def ips() -> st.SearchStrategy[str]:
    compressed = st.ip_addresses(v=6).map(str)
    whole = st.ip_addresses(v=6).map(lambda address: ipaddress.IPv6Address(address).exploded.upper())
    short = st.sampled_from(["::1", "fe80::1", "2001:db8::8a2e:370:7334", "::ffff:192.0.2.1", "2001:db8::"])
    return (
        st.ip_addresses(v=4).map(str) | compressed.filter(lambda text: any(c.isdigit() for c in text)) | whole | short
    )


@st.composite
def credentials(draw: st.DrawFn) -> str:
    """A credential of a known form, whole."""
    word = draw(text_of(_WORD + "_-", 43, 60))
    plain = draw(text_of(_WORD, 40, 60))
    upper = draw(text_of(string.ascii_uppercase + "234567", 16, 16))
    base64 = draw(text_of(_WORD + "/+", 40, 40))
    lines = "\n".join(draw(st.lists(text_of(_WORD + "/+", 64, 64), min_size=1, max_size=4)))
    return draw(
        st.sampled_from(
            [
                f"sk-{word}",
                f"sk-proj-{word}",
                f"sk-ant-api03-{word}",
                f"sk-or-v1-{plain}",
                f"AIza{word[:35]}",
                f"gsk_{plain}",
                f"xai-{word}",
                f"ghp_{plain[:36]}",
                f"gho_{plain[:36]}",
                f"github_pat_{plain}",
                f"glpat-{word[:20]}",
                f"AKIA{upper}",
                f"ASIA{upper}",
                f"AKIA{upper} {base64}",
                f"{base64}\nAKIA{upper}",
                f"xoxb-{plain[:12]}-{plain[12:]}",
                f"sk_live_{plain[:24]}",
                f"eyJhbGciOiJIUzI1NiJ9.eyJ{plain}.{word}",
                f"-----BEGIN RSA PRIVATE KEY-----\n{lines}\n-----END RSA PRIVATE KEY-----",
                f"-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----",
                f"th-{word}",
                f"0123456789abcdef0123456789abcdef.{plain[:16]}",
            ]
        )
    )


def headers() -> st.SearchStrategy[tuple[str, str]]:
    """A header line with a credential of no known form, and the credential."""
    tokens = text_of(_WORD + "._~+/=-", 24, 80)
    forms = st.sampled_from(
        ["Authorization: Bearer {}", "authorization: Basic {}", '"Authorization": "Bearer {}"', "x-api-key: {}"]
    )
    return st.tuples(forms, tokens).map(lambda pair: (pair[0].format(pair[1]), pair[1]))


def secrets() -> st.SearchStrategy[str]:
    """Anything of the above."""
    return st.one_of(cards(), ibans(), emails(), phones(), ips(), credentials())


DISGUISES = st.sampled_from(["\u200b", "\u200d", "\u00ad", "\ufeff", "\u2060"])


@st.composite
def disguised(draw: st.DrawFn, value: str) -> str:
    """The same value with full-width characters and invisible ones inside."""
    out = []
    for character in value:
        if draw(st.integers(0, 9)) == 0:
            out.append(draw(DISGUISES))
        wide = "!" <= character <= "~" and draw(st.integers(0, 9)) == 0
        out.append(chr(ord(character) + 0xFEE0) if wide else character)
    return "".join(out)


WORDS = st.sampled_from(
    [
        "the",
        "call",
        "me",
        "über",
        "naïve",
        "数字",
        "=",
        "(",
        ")",
        "\n",
        "0",
        "42",
        "é",
        "-",
        "12:30",
        "a@b",
        "sk-",
        "🙂",
        "…",
        "+",
    ]
)


def prose() -> st.SearchStrategy[str]:
    """Harmless words, some of them close to what the rules look for."""
    return st.lists(WORDS, max_size=12).map(" ".join)


def pieces(text: str, cuts: list[int]) -> list[str]:
    """The text cut at these places."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[low:high] for low, high in itertools.pairwise(places)]
