"""What a call used, normalised once.

Providers count differently: Anthropic leaves cached tokens out of its input count, xAI's chat and Gemini leave
reasoning out of their output count.  Here every total is inclusive, as OpenTelemetry's GenAI conventions have it:
`input_tokens` holds all prompt tokens, the cached ones too; `output_tokens` holds all generated tokens, the hidden ones
too.  The dialects translate on the way in and render their own convention on the way out.

`None` is "not said", which is not zero.
"""

from typing import Literal

import msgspec

UsageSource = Literal["reported", "rebuilt", "estimated", "none"]
"""Where counts come from: the provider's own word, the chunks that were seen, a guess from sizes, or nowhere."""


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Token counts of one answer.  Counts are at least 0; parts never exceed their totals once `checked`."""

    input_tokens: int | None = None
    """All prompt tokens: fresh, read from a cache and written to one."""
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    """Prompt tokens written to a cache, of every lifetime."""
    cache_write_1h_tokens: int | None = None
    """The part of `cache_write_tokens` that is kept for an hour (Anthropic prices it apart)."""
    output_tokens: int | None = None
    """All generated tokens, reasoning included."""
    reasoning_tokens: int | None = None
    input_audio_tokens: int | None = None
    output_audio_tokens: int | None = None
    source: UsageSource = "none"

    @property
    def fresh_input_tokens(self) -> int | None:
        """Prompt tokens that no cache had anything to do with."""
        if self.input_tokens is None:
            return None
        return max(0, self.input_tokens - (self.cache_read_tokens or 0) - (self.cache_write_tokens or 0))

    @property
    def visible_output_tokens(self) -> int | None:
        """Generated tokens that are not reasoning."""
        if self.output_tokens is None:
            return None
        return max(0, self.output_tokens - (self.reasoning_tokens or 0))

    @property
    def is_empty(self) -> bool:
        """Nothing was said at all."""
        return self.input_tokens is None and self.output_tokens is None
