"""A value that must not be seen."""

import hmac
from typing import Final, NoReturn

MASK: Final = "***"
"""What stands in place of a secret, everywhere."""


class Secret:
    """Wraps a credential so that printing, formatting, logging or pickling it by accident shows nothing.

    Equality is compared in constant time.  Call `reveal` at the one place that writes the credential into a request.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The plaintext."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    # A hash would be an unkeyed digest of the credential, good for guessing it.
    __hash__ = None  # type: ignore[assignment]  # the data model's own way to say "not hashable"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled; hand over the configuration's path and load it again")
