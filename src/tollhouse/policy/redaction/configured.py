"""The redactor that a configuration asks for."""

from tollhouse.config.schema import Config
from tollhouse.errors import ConfigError
from tollhouse.policy.redaction.redactor import BadPattern, Redactor


def redactor_of(config: Config, *always: str) -> Redactor:
    """One for `logging.redact` and `logging.patterns`, and for the kinds that are `always` redacted.

    Raises `ConfigError` for a pattern that loading took and that no stream could be read with: one that has no upper end.
    """
    settings = config.logging
    try:
        return Redactor({*settings.redact, *always}, settings.patterns)
    except BadPattern as error:
        raise ConfigError([config.places.problem(f"logging.patterns.{error.name}", str(error))]) from error
