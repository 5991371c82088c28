"""Personal data and credentials: found in text, kept out of stores, held back from providers.

- `redactor`: `Redactor` for whole texts, `StreamRedactor` for texts in pieces.
- `documents`: `redact_json` for bodies.
- `masking`: `Masker` and `Unmasker`, which keep the data out of a provider's sight and put it back into the answer.
"""

from tollhouse.policy.redaction.redactor import BadPattern, Hit, Redactor, StreamRedactor

__all__ = ["BadPattern", "Hit", "Redactor", "StreamRedactor"]
