"""The journal of a turn: what it began and what came of it, so that another process can go on.

An optional segment of a session store. A turn whose store has it is *journaled*: when its process
dies, whoever takes the session next runs the same turn again, and every effect that is on record
is answered from the record.

Rule 1: an effect that may act on the world is reserved before it starts and recorded when it has
ended. One that is reserved and not recorded may have happened or not.
Rule 2: the first record of a key stands.
Rule 3: entries live as long as their turn is unfinished. What settles the turn removes them in the
same transaction and keeps a summary of each in the turn's row.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from ..model.cancelling import CancelRequest
from ..model.records import dataclass
from ..model.tools import OnUnknown
from .effects import EffectHost, LocalEffectExecutor, ScopedEffectController
from .execution_scope import TurnScope
from .invocations import RuntimeEffectKind
from .leases import SessionExecutionLeaseFence
from .session_state import HeadStamp
from .turn_ledger import TurnRow


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectIdentity:
    """Which effect of a turn an entry is about.

    `position` is the effect that the turn's machine asked for, which for an attempt at a tool is
    its whole round. `subject` is what it was done with: the model or the tool. `components` are
    hashes of what it was asked, by name, so that a second run that asks for something else can
    say what differs.
    """

    replay_key: str
    kind: RuntimeEffectKind
    position: str
    subject: str
    components: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectReserved:
    """The effect is about to begin; reserving it again counts one more run of it.

    `due_at_ms` is when a sleep is over; that of the first reservation stays.
    """

    effect: EffectIdentity
    due_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectRecorded:
    """The effect has ended; `outcome` is the JSON text of what came of it."""

    effect: EffectIdentity
    outcome: str


JournalWrite = EffectReserved | EffectRecorded


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """What is known of one effect: begun `runs` times, and the outcome once it is recorded."""

    effect: EffectIdentity
    runs: int
    outcome: str | None = None
    due_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedTurn:
    """An unfinished turn that is now its caller's to finish: its row, its journal in the order in
    which entries were made, and the head that it goes on from."""

    row: TurnRow
    entries: tuple[JournalEntry, ...]
    head: HeadStamp | None


@runtime_checkable
class JournalStore(Protocol):
    """Keeps the journals of one session's turns.

    Cancellation, for every method: the call happened or it did not. What writes raises
    `SessionExecutionLeaseExpired` when `fence` is not the live one.
    """

    async def write_journal(
        self, fence: SessionExecutionLeaseFence, turn_id: str, writes: Sequence[JournalWrite]
    ) -> CancelRequest | None:
        """Store `writes` in one transaction, in order. A record of a key that has one is dropped.

        Answers the request to cancel that the turn's row has by then.

        Raises `StoreBackendError` unless the turn is running under that very lease.
        """
        ...

    async def adopt_turn(self, fence: SessionExecutionLeaseFence, turn_id: str) -> AdoptedTurn:
        """Take over a started, journaled turn, of an earlier lease or of this one.

        Counts one more attempt. Whoever had it before has died, unless it has left the turn; such
        deaths are counted since the last record that an earlier adopter did not find. Raises
        `StoreBackendError` for a turn that is not there to be adopted.
        """
        ...

    async def leave_turn(self, fence: SessionExecutionLeaseFence, turn_id: str) -> None:
        """Give the lane back in the middle of a turn that somebody else will finish. The next to
        take over does not count this as a death. Does nothing, and raises nothing, when the fence
        is not the live one.
        """
        ...

    async def load_journal(self, session_id: str, turn_id: str) -> Sequence[JournalEntry]:
        """What is on record of an unfinished turn; nothing of one that is over. Needs no lease."""
        ...


class EffectJournal(Protocol):
    """The journal of the one turn that is running now, as its effects see it.

    Safe to use from several tasks of the turn. Cancellation: what was to be written is written
    with the next write, or not at all; a reservation that had not been written is given up.
    """

    @property
    def base(self) -> str:
        """What the turn was started on, as one word: the same for every run of it."""
        ...

    def now_ms(self) -> int: ...

    def entry(self, replay_key: str) -> JournalEntry | None:
        """What an earlier run of this turn has left of that effect."""
        ...

    def kind_at(self, position: str) -> RuntimeEffectKind | None:
        """The kind of effect that an earlier run has asked for at that position."""
        ...

    def ride(self, write: Callable[[], JournalWrite]) -> None:
        """Write it along with whatever is written next; it is made only then."""
        ...

    async def write(self, write: JournalWrite) -> None:
        """Make it durable. What several tasks write at the same instant is one transaction."""
        ...


@runtime_checkable
class EmbeddedEffectHost(EffectHost, Protocol):
    """A host that keeps its records in the session's own store, if that has a journal.

    Where it has none, `scoped_static` gives a controller that keeps none.
    """

    def journaled(
        self, scope: TurnScope, journal: EffectJournal, *, replay_only: bool = False
    ) -> ScopedEffectController:
        """The controller of one run of a turn.

        With `replay_only` nothing is begun: the first effect without a record raises
        `EffectControllerError("turn_attempts_exhausted")`, which ends the turn.
        """
        ...


@runtime_checkable
class RepeatableExecutor(LocalEffectExecutor, Protocol):
    """An executor that says what to do about a run of which nobody knows how it ended."""

    @property
    def on_unknown(self) -> OnUnknown: ...

    @property
    def was_cut_off(self) -> bool:
        """Whether a cancel has stopped the work before it had ended. Only after it was run."""
        ...

    def again(self, run: int) -> LocalEffectExecutor:
        """The same work, begun for the `run`-th time under the same idempotency key."""
        ...
