"""The built-in rules: what personal data and credentials look like.

A rule is a search and a judge.  The search is one RE2 expression with bounded repetitions, so it costs linear time whatever
the text is; it finds every place where a hit may begin, and some where none does.  The judge looks at one such place and
knows check digits, number plans and neighbours.  It sees no further than `reach` characters ahead and `LOOKBACK` back: so
a text that arrives in pieces is judged like a whole one, once that much of it has come.

What can be long (a token, a private key) is recognised by its beginning; its *tail* then belongs to it, however long.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from tollhouse.policy.redaction import numbers
from tollhouse.policy.redaction.width import widths

if TYPE_CHECKING:
    import re2

Kind = Literal["email", "phone", "card", "iban", "ip", "secrets"]
KINDS: Final[tuple[Kind, ...]] = ("secrets", "iban", "card", "email", "phone", "ip")
"""In the order in which they give a stretch its name that several of them claim."""

LOOKBACK: Final = 256
LOOKAHEAD: Final = 2
"""What a judge may see past the search's match, for boundaries."""
MAX_PEM_CHARACTERS: Final = 16_384
"""A private key without an end is taken to be this long: an RSA key of 16,384 bits has 12,700."""


class Verdict(NamedTuple):
    """What a judge says of a place."""

    start: int
    """Where the hit begins; -1 when there is none."""
    end: int
    resume: int
    """Where to search on.  Between the place and here, no other hit begins."""


def _no(resume: int) -> Verdict:
    return Verdict(-1, -1, resume)


class Found(Protocol):
    """A search's match."""

    def start(self, group: int = 0) -> int:
        """Where the group begins; the whole match by default."""
        ...

    def end(self, group: int = 0) -> int:
        """Where it ends."""
        ...


class Search(Protocol):
    """A compiled RE2 expression over bytes."""

    def search(self, text: bytes, pos: int = 0) -> Found | None:
        """The leftmost match from `pos` on; what stands before `pos` still counts as its neighbour."""
        ...


Judge = Callable[[bytes, Found], Verdict]
"""Takes the text and the search's match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One form of one kind."""

    kind: str
    pattern: bytes
    search: Search
    reach: int
    """How many characters from a place on decide about it."""
    judge: Judge
    tail: "re.Pattern[bytes] | None" = None
    """What belongs to a hit after its end, for as long as it goes on: a class of characters, starred."""
    until: "re.Pattern[bytes] | None" = None
    """What ends a hit that lasts until then (at most `MAX_PEM_CHARACTERS`)."""


def rules_for(kinds: "frozenset[str]") -> tuple[Rule, ...]:
    """The rules of these built-in kinds."""
    return tuple(rule for rule in _all_rules() if rule.kind in kinds)


# ---------------------------------------------------------------------------------------------------------------- e-mail

_NAME: Final = rb"[A-Za-z0-9._+\x80-][A-Za-z0-9._+'\x80-]{0,63}"  # a quote before it opens a string, and is not of it
_LABEL: Final = rb"[A-Za-z0-9\x80-]"
# An `@` as URLs and HTML write it, too; quoted names and literal addresses, for RFC 5321 allows them.
_EMAIL: Final = (
    rb"(?:" + _NAME + rb'|"[^"\n@]{1,64}")'
    rb"(?:@|%40|&#64;|&commat;)"
    rb"(?:(?:" + _LABEL + rb"{1,63}\.){1,8}[A-Za-z\x80]{2,24}|\[(?:IPv6:)?[0-9A-Fa-f:.]{2,45}\])"
)


def _take(text: bytes, found: Found) -> Verdict:
    """For forms that say enough by themselves."""
    del text
    return Verdict(found.start(), found.end(), found.end())


# ----------------------------------------------------------------------------------------------------------------- cards

_CARD: Final = rb"[0-9](?:[ .-]{0,2}[0-9]){11,18}"
_DIGITS: Final = re.compile(rb"[0-9]+")


def _judge_card(text: bytes, found: Found) -> Verdict:
    start, end = found.start(), found.end()
    group_end = _end_of(_DIGITS, text, start)
    if start and _is_digit(text[start - 1]):
        return _no(group_end)
    digits = text[start:end].translate(None, b" .-")
    lengths = numbers.card_lengths(digits)
    if not lengths:
        return _no(group_end)
    best = -1
    for count, high in _card_ends(text, start, end):
        is_whole = high >= len(text) or not _is_digit(text[high])
        if is_whole and count in lengths and numbers.passes_luhn(digits[:count]):
            best = high
    return Verdict(start, best, best) if best > 0 else _no(group_end)


def _card_ends(text: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """How many digits there are up to the end of each group, as far as the groups are those of a card.

    Cards are written in one piece, in groups that begin with one of four digits, or digit by digit.  Columns of other
    numbers are not cards, though one in thirty of them has a right check digit and issuer.
    """
    count = 0
    is_spelled = False
    for place, group in enumerate(_DIGITS.finditer(text, start, end)):
        size = group.end() - group.start()
        if place == 0:
            is_spelled = size == 1
        elif is_spelled and size != 1:
            return
        count += size
        yield count, group.end()
        if (place == 0 and size not in {1, 4}) or (place > 0 and size == 1 and not is_spelled):
            return


# ----------------------------------------------------------------------------------------------------------------- IBANs

_IBAN: Final = rb"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}"


def _judge_iban(text: bytes, found: Found) -> Verdict:
    start, end = found.start(), found.end()
    length = numbers.IBAN_LENGTHS.get(text[start : start + 2].upper())
    if length is None or (start and _is_alnum(text[start - 1])):
        return _no(start + 1)
    written = text[start:end]
    taken = bytearray()
    stop = 0
    for place, byte in enumerate(written):
        if byte in b" -":
            continue
        taken.append(byte)
        if len(taken) == length:
            stop = start + place + 1
            break
    if not stop or (stop < len(text) and _is_alnum(text[stop])) or not numbers.passes_mod_97(bytes(taken).upper()):
        return _no(start + 1)
    return Verdict(start, stop, stop)


# ---------------------------------------------------------------------------------------------------------------- phones

_PHONE: Final = rb"[+(0-9][0-9 ()./-]{5,30}[0-9]"
_LABELLED: Final = (
    rb"(?i)\b(?:tel|telephone|telefon|phone|mobile|mob|cell|fax|whatsapp|handy)(?: ?(?:number|no|nr))?\.?"
    rb"[ \"']{0,2}[:=#]?[ \"']{0,2}(?:is )?([0-9+(][0-9 ()./-]{5,22}[0-9])"
)
_WIDE_GAP: Final = re.compile(rb"[ ()./-]{4,}")

_NORTH_AMERICA: Final = rb"(?:1[-. ])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[-. /])[2-9][0-9]{2}[-. ][0-9]{4}"
_BRAZIL: Final = rb"\([1-9][0-9]\) ?9?[0-9]{4}[- ][0-9]{4}"
_INDIA: Final = rb"[6-9][0-9]{4}[ -][0-9]{5}"
_CHINA: Final = rb"1[3-9][0-9][ -][0-9]{4}[ -][0-9]{4}"
_RUSSIA: Final = rb"8 ?\(?9[0-9]{2}\)?[ -][0-9]{3}[ -][0-9]{2}[ -][0-9]{2}"
_PAIRS: Final = rb"0[1-9](?:[ .-][0-9]{2}){4}"  # France and others
_NATIONAL: Final = {
    first: re.compile(rb"(?:" + b"|".join(forms) + rb")(?![0-9])")
    for firsts, forms in (
        (b"(", (_NORTH_AMERICA, _BRAZIL)),
        (b"0", (_PAIRS,)),
        (b"1", (_NORTH_AMERICA, _CHINA)),
        (b"2345", (_NORTH_AMERICA,)),
        (b"679", (_NORTH_AMERICA, _INDIA)),
        (b"8", (_NORTH_AMERICA, _INDIA, _RUSSIA)),
    )
    for first in firsts
}
"""How numbers are written at home, by their first character."""
_DATE: Final = re.compile(rb"0?[0-9]{1,2}([./-])[0-9]{1,2}\1[0-9]{4}(?![0-9])")


def _judge_phone(text: bytes, found: Found) -> Verdict:
    start, end = found.start(), found.end()
    first = start + 1 if text[start] in b"+(" else _end_of(_DIGITS, text, start)
    if start and not _may_precede_number(text, start):
        return _no(first)
    is_number: Callable[[bytes], bool] = numbers.is_international
    digits_at = start
    if text[start] != 0x2B:
        home = _NATIONAL[text[start]].match(text, start, end + 1)
        if home is not None:
            return Verdict(start, home.end(), home.end())
        opening = text[start : start + 4].lstrip(b"(")
        if opening[0] != 0x30 or opening[1] == 0x30 == opening[2] or not _is_digit(opening[1]):
            return _no(first)
        if opening[1] == 0x30:
            digits_at = start + text[start : start + 4].index(b"00") + 2
        elif _DATE.match(text, start):
            return _no(first)
        else:
            is_number = _has_trunk_length
    gap = _WIDE_GAP.search(text, start, end)
    stop = end if gap is None else gap.start()
    high = _longest(text, digits_at, stop, is_number)
    return _no(first) if high < 0 else Verdict(start, high, high)


def _longest(text: bytes, start: int, stop: int, is_number: Callable[[bytes], bool]) -> int:
    """Where the longest number ends that begins at `start` and ends with a whole group of digits; -1 if none does."""
    for group in reversed(list(_DIGITS.finditer(text, start, stop))):
        high = group.end()
        is_whole = high >= len(text) or not _is_digit(text[high])
        if is_whole and is_number(text[start:high].translate(None, b"+ ()./-")):
            return high
    return -1


def _has_trunk_length(digits: bytes) -> bool:
    return 9 <= len(digits) <= 12


def _has_some_length(digits: bytes) -> bool:
    return 7 <= len(digits) <= numbers.MAX_PHONE_DIGITS


def _judge_labelled_phone(text: bytes, found: Found) -> Verdict:
    low = found.start(1)
    high = _longest(text, low, found.end(), _has_some_length)
    return _no(found.start() + 1) if high < 0 else Verdict(low, high, high)


def _may_precede_number(text: bytes, start: int) -> bool:
    """Whether the byte before does not make the digits part of something else: a word, a decimal, a date."""
    before = text[start - 1]
    if text[start] == 0x28:
        return True  # a bracket begins something new
    if _is_alnum(before) or before in b"_+":
        return False
    return not (before in b".,-/:" and start > 1 and _is_digit(text[start - 2]))


# ------------------------------------------------------------------------------------------------------------------ IPs

_IPV4: Final = rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_IPV6: Final = rb"[0-9A-Fa-f.]{0,4}:[0-9A-Fa-f.]{0,4}:"
_IPV6_RUN: Final = re.compile(rb"[0-9A-Fa-f:.]{0,64}")


def _judge_ipv4(text: bytes, found: Found) -> Verdict:
    start, end = found.start(), found.end()
    resume = _end_of(_DIGITS, text, start)
    if start and (_is_alnum(text[start - 1]) or (text[start - 1] == 0x2E and start > 1 and _is_digit(text[start - 2]))):
        return _no(resume)
    after = text[end : end + 2]
    if after and (_is_digit(after[0]) or (after[0] == 0x2E and len(after) > 1 and _is_digit(after[1]))):
        return _no(resume)
    return Verdict(start, end, end) if numbers.is_ipv4(text[start:end].decode("ascii")) else _no(resume)


def _judge_ipv6(text: bytes, found: Found) -> Verdict:
    start = found.start()
    run_end = _end_of(_IPV6_RUN, text, start)
    if run_end < len(text) and _is_alnum(text[run_end]):
        return _no(run_end)
    run = text[start:run_end].decode("ascii")
    # Behind a label (`addr:2001:db8::1`) the address begins after a colon; before a full stop or a colon it ends.
    offsets = {0} if not start or not _is_alnum(text[start - 1]) else set()
    offsets.add(run.index(":") + 1)
    for offset in sorted(offsets):
        for stop in (len(run), len(run) - 1, len(run) - 2):
            if run[stop:].strip(":.") == "" and numbers.is_ipv6(run[offset:stop]):
                return Verdict(start + offset, start + stop, start + stop)
    return _no(run_end)


# ------------------------------------------------------------------------------------------------------------- secrets

# By the beginnings that their makers give them, so that scanners can tell.
_TOKEN: Final = (
    rb"\b(?:"
    rb"(?:sk|pk|rk|ak)-[A-Za-z0-9_-]{16}"  # OpenAI, Anthropic, OpenRouter, DeepSeek and many others
    rb"|(?:th|xai|csk|nvapi|tvly|fw|glpat|gldt|glrt|xapp|lsv2|dckr_pat)[-_][A-Za-z0-9_-]{16}"  # `th-`: this gateway's
    rb"|(?:gsk|hf|npm|glsa|r8|dop_v1|lin_api|shpat|shpss|sntrys|key|secret_token|pypi)[_-][A-Za-z0-9_-]{20}"
    rb"|pplx-[A-Za-z0-9]{16}"  # Perplexity, some of whose models have names that begin so and go on with words
    rb"|gh[pousr]_[A-Za-z0-9]{16}|github_pat_[A-Za-z0-9_]{16}"  # GitHub
    rb"|xox[a-z]-[A-Za-z0-9-]{10}"  # Slack
    rb"|[rsp]k_(?:live|test)_[A-Za-z0-9]{10}|whsec_[A-Za-z0-9]{16}"  # Stripe
    rb"|AIza[A-Za-z0-9_-]{20}"  # Google
    rb"|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"  # AWS, the id; its secret has a rule of its own
    rb"|AGE-SECRET-KEY-1[A-Z0-9]{20}"
    rb")"
)
_TOKEN_TAIL: Final = re.compile(rb"[A-Za-z0-9_-]*")
_DOTTED: Final = (
    rb"\b(?:"
    rb"eyJ[A-Za-z0-9_-]{14}"  # JSON in base64: a JWT, signed or encrypted, however long its parts are
    rb"|SG\.[A-Za-z0-9_-]{16}"  # SendGrid
    rb"|ya29\.[A-Za-z0-9_-]{16}"  # Google OAuth
    rb"|[0-9a-f]{32}\.[A-Za-z0-9]{16}"  # ZhipuAI: id.secret
    rb")"
)
_DOTTED_TAIL: Final = re.compile(rb"[A-Za-z0-9_.~+/=-]*")
_HEADER: Final = (
    rb"(?i)\b(?:authorization|x-api-key|x-goog-api-key|api-key)[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?"
    rb"(?:(?:bearer|basic|token|digest|apikey)[ \t]{1,3})?([^\s\"',;])"
)
_VALUE_TAIL: Final = re.compile(rb"[^\s\"',;]*")
_BEARER: Final = rb"(?i)\bbearer[ \t]{1,3}([A-Za-z0-9._~+/=-]{16,24})"
_ASSIGNED: Final = (
    rb"(?i)(?:api[_-]?key|secret[_-]?key|access[_-]?key|auth[_-]?token|access[_-]?token|client[_-]?secret|password|passwd)"
    rb"[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?([^\s\"',;&<>(){}$]{8,24})"
)
_ASSIGNED_TAIL: Final = re.compile(rb"[^\s\"',;&<>(){}$]*")
_URL_PASSWORD: Final = rb"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@\"'<>]{0,64}:([^\s/@\"'<>]{1,128})@"
_AWS_SECRET: Final = rb"[A-Za-z0-9/+]{40}"
_AWS_RUN: Final = re.compile(rb"[A-Za-z0-9/+]*")
_AWS_ID: Final = re.compile(rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}")
_AWS_WORD: Final = re.compile(rb"(?i)aws|secret")
_AWS_NEAR: Final = 200
"""How far from its id a secret is looked for."""
_AWS_LABEL: Final = 60
_PEM: Final = rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_END: Final = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
PEM_END_CHARACTERS: Final = 80
"""More than the end of a private key can have."""


def _inside(accept: Callable[[bytes], bool] = bool) -> Judge:
    """A judge for forms of which only a group is the secret."""

    def judge(text: bytes, found: Found) -> Verdict:
        low, high = found.start(1), found.end(1)
        return Verdict(low, high, found.end()) if accept(text[low:high]) else _no(found.start() + 1)

    return judge


def _is_random(value: bytes) -> bool:
    """Whether it is no word: long, or with something else than letters in it."""
    return len(value) >= 24 or not value.isalpha()


def _is_mixed(value: bytes) -> bool:
    return any(_is_digit(byte) for byte in value) and not value.isdigit()


def _judge_aws_secret(text: bytes, found: Found) -> Verdict:
    start, end = found.start(), found.end()
    run_end = _end_of(_AWS_RUN, text, start)
    if run_end != end or (start and (_is_alnum(text[start - 1]) or text[start - 1] in b"/+")):
        return _no(run_end)
    near = text[max(0, start - _AWS_NEAR) : start], text[end : end + _AWS_NEAR]
    is_named = _AWS_WORD.search(near[0][-_AWS_LABEL:]) is not None
    if is_named or any(_AWS_ID.search(part) for part in near):
        return Verdict(start, end, run_end)
    return _no(run_end)


# ------------------------------------------------------------------------------------------------------------ together


@cache
def _all_rules() -> tuple[Rule, ...]:
    secrets: Final = "secrets"
    return (
        _rule(secrets, _PEM, _take, until=_PEM_END),
        _rule(secrets, _TOKEN, _take, tail=_TOKEN_TAIL),
        _rule(secrets, _DOTTED, _take, tail=_DOTTED_TAIL),
        _rule(secrets, _HEADER, _inside(), tail=_VALUE_TAIL),
        _rule(secrets, _BEARER, _inside(_is_random), tail=_DOTTED_TAIL),
        _rule(secrets, _ASSIGNED, _inside(_is_mixed), tail=_ASSIGNED_TAIL),
        _rule(secrets, _URL_PASSWORD, _inside()),
        _rule(secrets, _AWS_SECRET, _judge_aws_secret, ahead=_AWS_NEAR),
        _rule("iban", _IBAN, _judge_iban),
        _rule("card", _CARD, _judge_card),
        _rule("email", _EMAIL, _take),
        _rule("phone", _PHONE, _judge_phone),
        _rule("phone", _LABELLED, _judge_labelled_phone),
        _rule("ip", _IPV4, _judge_ipv4),
        _rule("ip", _IPV6, _judge_ipv6, ahead=64),
    )


def _rule(
    kind: Kind,
    pattern: bytes,
    judge: Judge,
    *,
    tail: "re.Pattern[bytes] | None" = None,
    until: "re.Pattern[bytes] | None" = None,
    ahead: int = 0,
) -> Rule:
    _, most = widths(pattern.decode("latin-1"))
    return Rule(
        kind=kind,
        pattern=pattern,
        search=compiled(pattern),
        reach=most + ahead + LOOKAHEAD,
        judge=judge,
        tail=tail,
        until=until,
    )


def compiled(pattern: bytes) -> Search:
    """An expression over marked text."""
    import re2

    search: Search = re2.compile(pattern, _options())
    return search


def present(patterns: Sequence[bytes]) -> Callable[[bytes], Sequence[int]]:
    """Says which of the expressions match anywhere in a marked text, in one pass over it."""
    import re2

    together = re2.Set.SearchSet(_options())
    for pattern in patterns:
        together.Add(pattern)
    if not patterns:
        return lambda _text: ()
    together.Compile()
    return lambda text: sorted(together.Match(text) or ())


def _options() -> "re2.Options":
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    return options


def _end_of(run: "re.Pattern[bytes]", text: bytes, start: int) -> int:
    found = run.match(text, start)
    return start if found is None else found.end()


def _is_digit(byte: int) -> bool:
    return 0x30 <= byte <= 0x39


def _is_alnum(byte: int) -> bool:
    return 0x30 <= byte <= 0x39 or 0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A
