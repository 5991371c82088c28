"""The redactor that a configuration asks for, and the one that needs none."""

from functools import lru_cache
from typing import Final

from tollhouse.config.schema import Config
from tollhouse.errors import ConfigError
from tollhouse.policy.redaction.redactor import BadPattern, Redactor

KEPT: Final = 4
"""Redactors of one process: a worker asks for those of its configuration several times, and so does a reload."""


def redactor_of(config: Config, *always: str) -> Redactor:
    """One for `logging.redact` and `logging.patterns`, and for the kinds that are `always` redacted.

    Raises `ConfigError` for a pattern that loading took and that no stream could be read with: one that has no upper end.
    """
    settings = config.logging
    try:
        return _redactor(frozenset((*settings.redact, *always)), tuple(settings.patterns.items()))
    except BadPattern as error:
        raise ConfigError([config.places.problem(f"logging.patterns.{error.name}", str(error))]) from error


def credentials_redactor() -> Redactor:
    """One for credentials alone, whatever a configuration says."""
    return _redactor(frozenset({"secrets"}), ())


@lru_cache(KEPT)
def _redactor(kinds: frozenset[str], patterns: tuple[tuple[str, str], ...]) -> Redactor:
    """Compiled once: it takes milliseconds, and has no state."""
    return Redactor(kinds, dict(patterns))
