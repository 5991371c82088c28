"""What limits did to calls, counted for whoever watches the gateway: refusals, and waits."""

from tollhouse.policy.rules import scope_of


class Waits:
    """The counts of this process.  They outlive a reload, which makes another `Gate`."""

    __slots__ = ("began", "limited", "now", "seconds")

    def __init__(self) -> None:
        self.now = 0
        """Calls that wait now."""
        self.began = 0
        """Waits that began."""
        self.seconds = 0.0
        """How long calls have waited."""
        self.limited: dict[tuple[str, str], int] = {}
        """Refusals by the kind of limit (`requests`, `tokens`, `concurrent`) and of scope (`key`, `tenant`, `global`, …)."""

    def refuse(self, limit: str) -> None:
        """A limit had no room: `requests/tenant:research`."""
        place = (limit.partition("/")[0], scope_of(limit).partition(":")[0])
        self.limited[place] = self.limited.get(place, 0) + 1
