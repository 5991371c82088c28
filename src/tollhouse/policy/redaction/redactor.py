"""Finds personal data and credentials in text, and puts their kind in their place: `[email]`, `[card]`, `[secret]`.

All rules look at all of the text, and what several of them claim becomes one stretch: so a hit cannot hide in the
shadow of another one.  A stream is read by the same code.  It holds back as much text as the widest rule may need to see
(`StreamRedactor.hold_back`); what begins before that is decided the same way as in the whole text, wherever it was cut.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from tollhouse.policy.redaction import plain
from tollhouse.policy.redaction.rules import (
    KINDS,
    LOOKAHEAD,
    LOOKBACK,
    MAX_PEM_CHARACTERS,
    PEM_END_CHARACTERS,
    Rule,
    Search,
    compiled,
    present,
    rules_for,
)
from tollhouse.policy.redaction.width import Unbounded, widths

MAX_PATTERN_WIDTH: Final = 1_000
"""The longest text, in characters, that one match of a custom pattern may need."""

_LABELS: Final = {"secrets": "secret"}


class BadPattern(ValueError):
    """A custom pattern that cannot be used, or a kind that does not exist.  The message is a whole sentence."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


class Hit(NamedTuple):
    """A stretch of text that must not be seen."""

    start: int
    end: int
    kind: str


class _Claim(NamedTuple):
    """What one rule says of a stretch, counted in cells."""

    start: int
    end: int
    rank: int
    """Index into the names; the lowest of overlapping claims names the stretch."""


def replaced(text: str, hits: Sequence[Hit], word_for: Callable[[Hit], str]) -> str:
    """The text with a word in the place of each hit; they are in the order of the text."""
    if not hits:
        return text
    out: list[str] = []
    at = 0
    for hit in hits:
        out += text[at : hit.start], word_for(hit)
        at = hit.end
    out.append(text[at:])
    return "".join(out)


_UNENDING: Final = 1 << 62
"""The end of a claim whose tail still goes on."""


class Redactor:
    """A set of rules, compiled.  It has no state: any number of texts and threads may use it at once."""

    __slots__ = ("_any", "_custom", "_labels", "_names", "_present", "_rules", "_window")

    def __init__(self, kinds: Iterable[str], patterns: Mapping[str, str] | None = None) -> None:
        """`kinds` are built-in ones, and names of `patterns`, which are RE2 expressions.  Raises `BadPattern`."""
        plain.prepare()
        patterns = patterns or {}
        chosen = frozenset(kinds)
        for name in sorted(chosen - set(KINDS) - set(patterns)):
            raise BadPattern(name, f"There is no kind {name!r}; there are {', '.join((*sorted(KINDS), *patterns))}.")
        self._custom = tuple(_custom(name, pattern) for name, pattern in patterns.items() if name in chosen)
        self._rules = rules_for(chosen)
        self._names: tuple[str, ...] = (*patterns, *KINDS)
        self._labels = tuple(f"[{_LABELS.get(name, name)}]" for name in self._names)
        # What some built-in rule may begin with: where it is not found, none of them has to look.
        self._any = compiled(b"|".join(b"(?:%b)" % rule.pattern for rule in self._rules)) if self._rules else None
        self._present = present([rule.pattern for rule in self._rules])
        self._window = max(
            max((rule.reach for rule in self._rules), default=0), max((each.reach for each in self._custom), default=0)
        )

    def find(self, text: str) -> tuple[Hit, ...]:
        """The hits in order; they do not overlap."""
        sequence, _ = plain.cells(text)
        claims = self._claims(plain.folded(plain.visible(text)))
        names = self._names
        if isinstance(sequence, str):
            return tuple(Hit(claim.start, claim.end, names[claim.rank]) for claim in claims)
        ends = [0]
        for cell in sequence:
            ends.append(ends[-1] + len(cell))
        return tuple(Hit(ends[claim.start], ends[claim.end], names[claim.rank]) for claim in claims)

    def redact(self, text: str) -> str:
        """The text with each hit replaced by its kind in brackets."""
        return replaced(text, self.find(text), lambda hit: f"[{_LABELS.get(hit.kind, hit.kind)}]")

    def stream(self) -> "StreamRedactor":
        """For a text that arrives in pieces."""
        return StreamRedactor(self._trackers(), self._any, self._window, self._labels, needs_folded=bool(self._custom))

    def _trackers(self) -> "tuple[_Tracker, ...]":
        rank = {name: place for place, name in enumerate(self._names)}
        return (
            *(_RuleTracker(rule, rank[rule.kind]) for rule in self._rules),
            *(_CustomTracker(custom, rank[custom.name]) for custom in self._custom),
        )

    def _claims(self, folded: str) -> Sequence[_Claim]:
        text = plain.marked(folded)
        # One pass says which rules have anything to do: mostly none.
        places = self._present(text)
        if not places and not self._custom:
            return ()
        trackers = self._trackers()
        claims: list[_Claim] = []
        for tracker in (*(trackers[place] for place in places), *trackers[len(self._rules) :]):
            tracker.scan(text, folded, len(text) + 1, claims, is_final=True)
        claims.sort()
        return list(_merged(claims))


class StreamRedactor:
    """One text that arrives in pieces, cut anywhere.

    What `feed` and `close` give, put together, is `Redactor.redact` of the whole.
    """

    __slots__ = (
        "_anything",
        "_cells",
        "_claims",
        "_done",
        "_folded",
        "_glue",
        "_is_open",
        "_labels",
        "_looked",
        "_needs_folded",
        "_text",
        "_trackers",
        "hold_back",
    )

    def __init__(
        self,
        trackers: "Sequence[_Tracker]",
        anything: Search | None,
        window: int,
        labels: Sequence[str],
        *,
        needs_folded: bool,
    ) -> None:
        """Use `Redactor.stream`."""
        self._anything = anything
        self.hold_back: Final = window
        """How many visible characters are held back while more may come; an open hit adds nothing to them."""
        self._trackers = trackers
        self._labels = labels
        self._needs_folded = needs_folded
        self._cells: str | list[str] = ""
        self._glue = ""
        """Invisible characters that wait for a visible one."""
        self._text = b""
        self._folded = ""
        self._done = 0
        """How many cells of the buffer were given out."""
        self._looked = 0
        """Up to where every hit that begins before is known."""
        self._is_open = False
        """Whether the tail of a hit is being read."""
        self._claims: list[_Claim] = []

    def feed(self, piece: str) -> str:
        """Takes the next piece; gives what can no longer become part of a hit."""
        added, self._glue = plain.cells(self._glue + piece)
        if isinstance(added, str) and isinstance(self._cells, str):
            self._cells += added
        else:
            self._cells = [*self._cells, *added]
        folded = plain.folded(plain.visible(piece))
        self._text += plain.marked(folded)
        if self._needs_folded:
            self._folded += folded
        horizon = len(self._text) - self.hold_back
        if horizon <= 0:
            return ""
        out = self._advance(horizon, is_final=False)
        self._forget(horizon - LOOKBACK)
        return out

    def close(self) -> str:
        """The text is complete: gives the rest of it."""
        return self._advance(len(self._text) + 1, is_final=True) + self._glue

    def _advance(self, horizon: int, *, is_final: bool) -> str:
        """Gives out what lies before `horizon`: all hits that begin before it are known then."""
        anything, last = self._anything, self._looked
        self._looked = max(last, horizon)
        is_clean = not self._is_open and (anything is None or anything.search(self._text, max(0, last)) is None)
        for tracker in self._trackers:
            if not (is_clean and tracker.skip(horizon)):
                tracker.scan(self._text, self._folded, horizon, self._claims, is_final=is_final)
        open_claims = [claim for tracker in self._trackers if (claim := tracker.open_claim()) is not None]
        self._is_open = bool(open_claims)
        out: list[str] = []
        waiting: list[_Claim] = []
        for claim in _merged(sorted([*self._claims, *open_claims])):
            if claim.end > horizon:
                waiting.append(claim)
                continue
            out += self._until(claim.start), self._labels[claim.rank]
            self._done = claim.end
        out.append(self._until(min([horizon, len(self._text), *(claim.start for claim in waiting)])))
        # What an open tail claims is asked for again; the rest of a stretch that waits with it stays.
        self._claims = [claim for claim in self._claims if claim.end > horizon or self._waits(claim, waiting)]
        return "".join(out)

    @staticmethod
    def _waits(claim: _Claim, waiting: Sequence[_Claim]) -> bool:
        return any(other.start <= claim.start < other.end for other in waiting)

    def _until(self, place: int) -> str:
        start, self._done = self._done, max(self._done, place)
        if place <= start:
            return ""
        piece = self._cells[start:place]
        return piece if isinstance(piece, str) else "".join(piece)

    def _forget(self, count: int) -> None:
        """Drops what no rule looks at any more."""
        if count <= 0:
            return
        self._cells = self._cells[count:]
        self._text = self._text[count:]
        self._folded = self._folded[count:]
        self._done -= count
        self._looked -= count
        self._claims = [_Claim(claim.start - count, claim.end - count, claim.rank) for claim in self._claims]
        for tracker in self._trackers:
            tracker.forget(count)


def _merged(claims: Iterable[_Claim]) -> Iterator[_Claim]:
    """Overlapping claims, in order, as one each.  Those that only touch stay apart."""
    current: _Claim | None = None
    for claim in claims:
        if current is None:
            current = claim
        elif claim.start < current.end:
            current = _Claim(current.start, max(current.end, claim.end), min(current.rank, claim.rank))
        else:
            yield current
            current = claim
    if current is not None:
        yield current


# ------------------------------------------------------------------------------------------------------------- trackers


class _Tracker(Protocol):
    """How far one rule has read."""

    def scan(self, text: bytes, folded: str, horizon: int, claims: list[_Claim], *, is_final: bool) -> None:
        """Adds the claims that begin before `horizon`."""
        ...

    def skip(self, horizon: int) -> bool:
        """Takes it that no built-in rule has a place before `horizon`; false if that says nothing of this one."""
        ...

    def open_claim(self) -> _Claim | None:
        """The claim whose tail still goes on."""
        ...

    def forget(self, count: int) -> None:
        """The buffer lost its first `count` characters."""
        ...


class _RuleTracker:
    __slots__ = ("_at", "_rank", "_rule", "_since")

    def __init__(self, rule: Rule, rank: int) -> None:
        self._rule = rule
        self._rank = rank
        self._at = 0
        self._since: int | None = None
        """Where the hit begins whose tail is being read."""

    def scan(self, text: bytes, folded: str, horizon: int, claims: list[_Claim], *, is_final: bool) -> None:
        del folded
        rule = self._rule
        if self._since is not None and not self._read_tail(text, self._since, claims, is_final=is_final):
            return
        search = rule.search.search
        while self._at < horizon:
            found = search(text, self._at)
            if found is None or found.start() >= horizon:
                break
            verdict = rule.judge(text, found)
            self._at = verdict.resume
            if verdict.start < 0:
                continue
            if rule.tail is None and rule.until is None:
                claims.append(_Claim(verdict.start, verdict.end, self._rank))
                continue
            self._at = verdict.end
            if not self._read_tail(text, verdict.start, claims, is_final=is_final):
                return
        self._at = max(self._at, horizon)

    def _read_tail(self, text: bytes, since: int, claims: list[_Claim], *, is_final: bool) -> bool:
        """Goes on with a hit that has a tail; true when its end was found."""
        end = self._tail_end(text, since)
        if end is None and not is_final:
            self._since = since
            return False
        self._since = None
        self._at = len(text) if end is None else end
        claims.append(_Claim(since, self._at, self._rank))
        return True

    def _tail_end(self, text: bytes, since: int) -> int | None:
        rule = self._rule
        if rule.tail is not None:
            found = rule.tail.match(text, self._at)
            end = self._at if found is None else found.end()
            self._at = end
            return None if end >= len(text) else end
        if rule.until is None:
            return self._at
        limit = since + MAX_PEM_CHARACTERS
        found = rule.until.search(text, self._at)
        if found is not None and found.end() <= limit:
            return found.end()
        self._at = max(self._at, len(text) - PEM_END_CHARACTERS)
        return limit if limit <= len(text) else None

    def skip(self, horizon: int) -> bool:
        self._at = max(self._at, horizon)
        return True

    def open_claim(self) -> _Claim | None:
        return None if self._since is None else _Claim(self._since, _UNENDING, self._rank)

    def forget(self, count: int) -> None:
        self._at -= count
        if self._since is not None:
            self._since -= count


# --------------------------------------------------------------------------------------------------------- custom rules


class _Custom(NamedTuple):
    """An operator's pattern.  It sees folded text in full Unicode, so its search has characters, not bytes."""

    name: str
    search: "_TextSearch"
    reach: int


class _TextSearch(Protocol):
    def finditer(self, text: str, pos: int) -> "Iterator[_TextFound]": ...


class _TextFound(Protocol):
    def start(self) -> int: ...
    def end(self) -> int: ...


def _custom(name: str, pattern: str) -> _Custom:
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        search = re2.compile(pattern, options)
    except re2.error as error:
        raise BadPattern(name, f"{pattern!r} is not an RE2 expression: {_words(error)}.") from error
    try:
        least, most = widths(pattern)
    except Unbounded as error:
        raise BadPattern(name, str(error)) from error
    if least == 0:
        raise BadPattern(name, f"{pattern!r} also matches nothing at all, which cannot be replaced.")
    if most > MAX_PATTERN_WIDTH:
        raise BadPattern(name, f"{pattern!r} matches up to {most} characters; {MAX_PATTERN_WIDTH} is the most.")
    return _Custom(name, search, most + LOOKAHEAD)


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


class _CustomTracker:
    __slots__ = ("_at", "_custom", "_rank")

    def __init__(self, custom: _Custom, rank: int) -> None:
        self._custom = custom
        self._rank = rank
        self._at = 0

    def scan(self, text: bytes, folded: str, horizon: int, claims: list[_Claim], *, is_final: bool) -> None:
        del text, is_final
        if self._at >= horizon:
            return
        for found in self._custom.search.finditer(_encodable(folded), self._at):
            if found.start() >= horizon:
                break
            claims.append(_Claim(found.start(), found.end(), self._rank))
            self._at = found.end()
        self._at = max(self._at, horizon)

    def skip(self, horizon: int) -> bool:
        del horizon
        return False

    def open_claim(self) -> None:
        return None

    def forget(self, count: int) -> None:
        self._at -= count


def _encodable(text: str) -> str:
    """Half of a surrogate pair, which JSON can hold, is no character that RE2 takes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
