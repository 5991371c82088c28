"""An admission that lets everything in and remembers how each hold was settled."""

from dataclasses import dataclass, field, replace

from support.serving import Running
from tollhouse.errors import Quota
from tollhouse.policy.admission import Ask


@dataclass(frozen=True)
class Settlement:
    """What a hold was settled with."""

    cost_nano: int | None
    input_tokens: int | None
    output_tokens: int | None


@dataclass
class _Hold:
    settlements: list[Settlement] = field(default_factory=list)

    quotas: tuple[Quota, ...] = ()
    held_nano: int = 0
    waited_seconds: float = 0.0

    async def extend(self, ask: Ask) -> None:
        pass

    def settle(self, *, cost_nano: int | None, input_tokens: int | None, output_tokens: int | None) -> None:
        self.settlements.append(Settlement(cost_nano, input_tokens, output_tokens))


class Holds:
    """`tollhouse.policy.admission.Admission`, to be looked at afterwards."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self._holds: list[_Hold] = []

    async def admit(self, ask: Ask) -> _Hold:
        self.asks.append(ask)
        self._holds.append(_Hold())
        return self._holds[-1]

    async def check(self) -> None:
        pass

    async def forget_sums(self) -> None:
        pass

    def settled_once(self) -> list[Settlement]:
        """The settlements in order of admission; an assertion error if a hold has none or several."""
        assert [len(hold.settlements) for hold in self._holds] == [1] * len(self._holds)
        return [hold.settlements[0] for hold in self._holds]


def watch_holds(gateway: Running) -> Holds:
    """Puts a `Holds` into a running gateway, the way a reload puts in new parts."""
    holds = Holds()
    serving = gateway.worker.app.serving
    gateway.worker.app.serving = replace(serving, gateway=replace(serving.gateway, admission=holds))
    return holds
