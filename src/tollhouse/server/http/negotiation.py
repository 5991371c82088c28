"""Which form a request is in, and which its answer shall have: `Content-Type` and `Accept`, as RFC 9110 (8.3, 12.5.1) has them.

Pure functions of the headers.  A door names the media types of each form that it speaks; the first is the form's own name,
the others are what people call it too.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from tollhouse.errors import NotAcceptable, UnsupportedMediaType

Headers = Sequence[tuple[bytes, bytes]]
FormT = TypeVar("FormT")

MAX_ACCEPT_BYTES: Final = 1_024
"""A longer `Accept` is not read to its end."""


def form_of_request(headers: Headers, forms: Mapping[FormT, Sequence[str]]) -> FormT:
    """The form of the body.  Raises `UnsupportedMediaType`, which names what is spoken."""
    given = next((value for name, value in headers if name == b"content-type"), b"")
    media_type = _media_type(given.decode("latin-1"))
    for form, names in forms.items():
        if media_type in names:
            return form
    spoken = _spoken(forms)
    what = f"{media_type[:100]!r} is not read here" if media_type else "The request does not say its Content-Type"
    raise UnsupportedMediaType(
        f"{what}; what is: {', '.join(spoken)}.", hint="Name one of them in the header Content-Type.", spoken=spoken
    )


def form_of_answer(headers: Headers, forms: Mapping[FormT, Sequence[str]], default: FormT) -> FormT:
    """The form that the client likes best; `default` where it does not care.  Raises `NotAcceptable`."""
    given = b",".join(value for name, value in headers if name == b"accept")[:MAX_ACCEPT_BYTES].decode("latin-1")
    wishes = [wish for wish in map(_wish, given.split(",")) if wish is not None]
    if not wishes:
        return default
    # The client's own form goes first, so that it wins where all are liked alike.
    best = max([default, *(form for form in forms if form != default)], key=lambda form: _liking(forms[form], wishes))
    if _liking(forms[best], wishes) > 0:
        return best
    spoken = _spoken(forms)
    raise NotAcceptable(
        f"The answer cannot be given as {given.strip()[:100]!r}; what is spoken here: {', '.join(spoken)}.",
        hint="Name one of them in the header Accept, or leave it out.",
        spoken=spoken,
    )


def _spoken(forms: Mapping[FormT, Sequence[str]]) -> list[str]:
    return [names[0] for names in forms.values()]


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()


def _wish(text: str) -> tuple[str, float] | None:
    """A media range and how much it is wanted, from 0 to 1."""
    media_type, _, parameters = text.partition(";")
    media_type = media_type.strip().lower()
    if "/" not in media_type:
        return None
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return media_type, min(1.0, max(0.0, float(value)))
            except ValueError:
                return media_type, 0.0
    return media_type, 1.0


def _liking(names: Sequence[str], wishes: Sequence[tuple[str, float]]) -> float:
    """How much a form is wanted; of each of its names the most specific range counts."""
    return max(_liking_of(name, wishes) for name in names)


def _liking_of(name: str, wishes: Sequence[tuple[str, float]]) -> float:
    kind = name.partition("/")[0]
    for media_range in (name, f"{kind}/*", "*/*"):
        found = [quality for wish, quality in wishes if wish == media_range]
        if found:
            return max(found)
    return 0.0
