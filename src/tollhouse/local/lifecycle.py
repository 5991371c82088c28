"""The life of the model's process, as a table.

    stopped ─start▶ starting ─ready▶ ready
                      │  ▲ │            │
               refused│  │ │died        │died
                      ▼  │ ▼            ▼
                 failed  └─retry── waiting        `give_up`: waiting ▶ failed;  `stop`: from anywhere to stopping, or
                                                   straight to stopped where no process can be there

`refused` is the child's own word that it cannot (a broken file, a library that is missing): trying again unchanged
cannot help.  `died` is a crash or a missed deadline: trying again may.  `broke`, wherever the supervisor is at work, is a
mistake of its own and leads to failed.
"""

from dataclasses import dataclass
from typing import Final, Literal

State = Literal["stopped", "starting", "ready", "waiting", "failed", "stopping"]
Event = Literal["start", "ready", "refused", "died", "retry", "give_up", "broke", "stop", "ended"]

TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    ("stopped", "start"): "starting",
    ("stopped", "stop"): "stopped",
    ("starting", "ready"): "ready",
    ("starting", "refused"): "failed",
    ("starting", "died"): "waiting",
    ("starting", "broke"): "failed",
    ("starting", "stop"): "stopping",
    ("ready", "died"): "waiting",
    ("ready", "broke"): "failed",
    ("ready", "stop"): "stopping",
    ("waiting", "retry"): "starting",
    ("waiting", "give_up"): "failed",
    ("waiting", "broke"): "failed",
    ("waiting", "stop"): "stopping",
    ("failed", "start"): "starting",
    ("failed", "stop"): "stopped",
    ("stopping", "stop"): "stopping",
    ("stopping", "ended"): "stopped",
}


class IllegalTransition(RuntimeError):
    """An event that the state does not know: a mistake in the supervisor, never in its surroundings."""


def advance(state: State, event: Event) -> State:
    """The state after `event`; `IllegalTransition` names both when the table has no such step."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"{event!r} cannot happen in state {state!r}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """How often and how soon a process that died is started again."""

    first_delay_seconds: float = 0.25
    longest_delay_seconds: float = 30.0
    limit: int = 8
    """Deaths in a row, none of them after `healthy_seconds` of service, before giving up."""
    healthy_seconds: float = 60.0
    """A process that served for this long counts as well again: the next death is a first one."""

    def deaths_in_a_row(self, before: int, *, served_seconds: float) -> int:
        """The count with the death that just happened, after `served_seconds` in state ready."""
        return 1 if served_seconds >= self.healthy_seconds else before + 1

    def delay_seconds(self, deaths: int) -> float | None:
        """How long to wait after that many deaths in a row (at least 1); `None` to give up."""
        if deaths > self.limit:
            return None
        return min(self.longest_delay_seconds, self.first_delay_seconds * 2.0 ** (deaths - 1))
