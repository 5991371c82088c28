"""GLM by ZhipuAI: z.ai, and in China bigmodel.cn (`base_url: https://open.bigmodel.cn/api/paas/v4`).

A coding plan has an address of its own, `https://api.z.ai/api/coding/paas/v4`.  All recorded exchanges are with z.ai.
"""

import hmac
import re
import threading
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Final

import msgspec

from tollhouse.dialects.openai_chat import DIALECT
from tollhouse.dialects.openai_chat.embeddings import EMBEDDINGS
from tollhouse.dialects.openai_chat.traits import OpenAIChatTraits
from tollhouse.providers.catalogue import by_prefix, facts
from tollhouse.providers.credentials import Authenticate, bearer, checked
from tollhouse.providers.provider import ProviderKind

TOKEN_SECONDS: Final = 30 * 60
RENEW_SECONDS: Final = 5 * 60
"""A token is minted anew when it has less than this left, so that a slow connection or a clock that is off does no harm."""

_ID_AND_SECRET: Final = re.compile(r"[^.]+\.[^.]+")


class _Minted:
    """An `id.secret` key, turned into short-lived JWTs.  The latest one is kept until it is about to expire."""

    __slots__ = ("_fields", "_id", "_lock", "_renew_at", "_secret", "_valid_from")

    def __init__(self, key: str) -> None:
        self._id, _, self._secret = key.partition(".")
        self._fields: tuple[tuple[bytes, bytes], ...] = ()
        self._valid_from = 0.0
        self._renew_at = 0.0
        self._lock = threading.Lock()

    def __call__(self, now: float) -> tuple[tuple[bytes, bytes], ...]:
        with self._lock:
            # A clock that was set back must not leave us with a token from the future.
            if not self._valid_from <= now < self._renew_at:
                self._fields = ((b"authorization", b"Bearer " + self._mint(now)),)
                self._valid_from, self._renew_at = now, now + TOKEN_SECONDS - RENEW_SECONDS
            return self._fields

    def _mint(self, now: float) -> bytes:
        milliseconds = int(now * 1000)
        # `exp` and `timestamp` are milliseconds, against RFC 7519, and `sign_type` must be there
        # (docs.bigmodel.cn/cn/guide/develop/http/introduction, read November 2026).
        claims = {"api_key": self._id, "exp": milliseconds + TOKEN_SECONDS * 1000, "timestamp": milliseconds}
        signed = _part({"alg": "HS256", "sign_type": "SIGN"}) + b"." + _part(claims)
        # PyJWT would warn at each token: ZhipuAI's secrets have 16 characters, which RFC 7518 finds too short.
        digest = hmac.digest(self._secret.encode("ascii"), signed, "sha256")
        return signed + b"." + urlsafe_b64encode(digest).rstrip(b"=")


def _part(claims: Mapping[str, object]) -> bytes:
    return urlsafe_b64encode(msgspec.json.encode(claims)).rstrip(b"=")


def authenticate(key: str) -> Authenticate:
    """A key of the form `id.secret` is minted into JWTs; any other (a JWT made elsewhere included) is a bearer key."""
    checked(key)
    return _Minted(key) if _ID_AND_SECRET.fullmatch(key) else bearer(key)


# `response_format` knows only `json_object` (docs.z.ai/guides/capabilities/struct-output, 2026).  The documentation knows
# `tool_choice: auto` alone, but a named tool was accepted (`glm/glm-chat-stream-tool-call-ac26fd`), and so were `strict` and
# `reasoning_effort` (`glm/glm-chat-stream-reasoning-d3d24c`).
# The penalties and log-probabilities are not among the documented fields.
_TRAITS: Final = OpenAIChatTraits(
    home="glm",
    max_tokens_field="max_tokens",
    reasoning_field="reasoning_content",
    reasoning_style="thinking",
    thinking_effort=True,
    developer_role=False,
    documents=False,
    audio=False,
    custom_tools=False,
    json_schema=False,
    parallel_tool_calls=False,
    logprobs=False,
    many_choices=False,
    penalties=False,
    user=False,
    service_tier=False,
    prompt_cache_key=False,
)


def traits_for(model: str) -> OpenAIChatTraits:
    """The same for every model."""
    del model
    return _TRAITS


facts_for: Final = by_prefix(
    {
        "glm-4.5": facts("text", "tools", "reasoning", max_output_tokens=98_304),
        "glm-4.5v": facts("text", "images", "tools", "reasoning", max_output_tokens=16_384),
        "glm-4.6": facts("text", "tools", "reasoning", max_output_tokens=131_072),
        "glm-4.6v": facts("text", "images", "tools", "reasoning", max_output_tokens=32_768),
        "glm-4.7": facts("text", "tools", "reasoning", max_output_tokens=131_072),
        "glm-5": facts("text", "tools", "reasoning"),
    }
)

KIND: Final = ProviderKind(
    type="glm",
    dialect=DIALECT,
    embeddings=EMBEDDINGS,
    embeddings_path="/embeddings",
    traits_for=traits_for,
    facts_for=facts_for,
    base_url="https://api.z.ai/api/paas/v4",
    key_variable="GLM_API_KEY",
    authenticate=authenticate,
)
