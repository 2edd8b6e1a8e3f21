"""What a wait brings along when it is asked for as an effect."""

from ..model.records import dataclass
from .cancel import CancelToken
from .clock import Clock
from .effect_commands import RuntimeEffectEnvelope
from .effect_errors import EffectControllerError
from .effect_outcomes import RuntimeEffectOutcome


@dataclass(frozen=True, slots=True, eq=False)
class AwaitEventExecutor:
    """The local side of an `await_event` effect: there is nothing to do here but to wait, and only
    whoever keeps the wait can. A controller takes from it what to wait with.

    `cancel` is the logical cancel, `deadline_ms` is since the Unix epoch, on `clock`.
    """

    cancel: CancelToken
    deadline_ms: int | None
    clock: Clock

    async def execute(self, envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        raise EffectControllerError(
            "runtime_effect_local_executor_mismatch",
            f"{envelope.command.type.value} cannot be run here: its controller waits for it",
        )
