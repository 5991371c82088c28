"""Keeps credentials out of what providers say.

A provider that refuses a key likes to quote it, whole or in part, and its words go on to people who are not its customers, and
into logs.  The gateway masks the very credential that it sent; this knows only what credentials look like, so it also finds
those of a provider behind the provider, and keys that went out in another form (ZhipuAI's are sent as tokens made of them).
"""

import re
from typing import Final

_CREDENTIAL: Final = re.compile(
    # OpenAI, Anthropic, OpenRouter, Groq, Cerebras, xAI, Perplexity; they show their own keys with stars in the middle.
    r"\b((?:sk|pk|rk|ak|gsk|csk|xai|pplx|key)[-_])[\w*.\-]{6,}"
    r"|\b(AIza)[\w*\-]{8,}"  # Google
    r"|\b[0-9a-f]{32}\.[\w*]{8,}"  # ZhipuAI: `id.secret`
    r"|\b(eyJ)[\w\-]+\.[\w\-]+\.[\w\-]*"  # a JWT
    r"|\b(Bearer )[^\s\"']{6,}",
    re.IGNORECASE,
)


def without_credentials(text: str) -> str:
    """The text with `***` for whatever looks like a credential; of a known form its beginning stays, to tell which it was."""
    return _CREDENTIAL.sub(lambda found: f"{found[1] or found[2] or found[3] or found[4] or ''}***", text)
