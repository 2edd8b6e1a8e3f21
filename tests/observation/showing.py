"""Sessions that show what a test tells them to, without a turn behind it."""

from dataclasses import dataclass, field

from lash_runtime.kernel.graph import SessionGraph
from lash_runtime.kernel.read_view import SessionReadView
from lash_runtime.model.activity import AssistantProseDelta, RuntimeDiagnostic, TurnActivity
from lash_runtime.model.messages import MessageRole, text_message
from lash_runtime.model.nodes import ConversationRecord, SessionNodeRecord
from lash_runtime.model.policy import ModelSpec, SessionPolicy
from lash_runtime.model.usage import SessionUsageReport
from lash_runtime.observe import (
    CommittedPayload,
    InMemoryLiveReplayStore,
    InMemoryLiveReplayStoreConfig,
    ObservableSession,
    SessionCursor,
    SessionObservationEvent,
    TurnActivityPayload,
)
from lash_runtime.ports.replay import LiveReplayStore
from lash_runtime.runtime.observation import ObservationCells, ObservationUpdate
from lash_runtime.testing import ManualClock

TIMESTAMP = "2025-06-15T15:06:40.000Z"


def an_activity(text: str) -> TurnActivity:
    return TurnActivity(f"id-{text}", "row", AssistantProseDelta(text))


def a_graph(*texts: str) -> SessionGraph:
    """A conversation in which each text was said in turn."""
    nodes = [
        SessionNodeRecord(
            node_id=f"n{at}",
            parent_node_id=f"n{at - 1}" if at else None,
            timestamp=TIMESTAMP,
            payload=ConversationRecord.of(text_message(f"m{at}", MessageRole.ASSISTANT, text)),
        )
        for at, text in enumerate(texts)
    ]
    return SessionGraph().extend_active_path(nodes)


def told(event: SessionObservationEvent) -> str:
    """An event in a word: its text, or the revision that was committed."""
    match event.payload:
        case TurnActivityPayload(activity=activity):
            assert isinstance(activity.event, AssistantProseDelta)
            return activity.event.text
        case CommittedPayload(advanced=advanced):
            return f"committed {event.revision}" + ("" if advanced else " again")
        case payload:
            return payload.type


def settled(view: SessionReadView) -> list[str]:
    """The texts of a committed transcript."""
    return [part.content for message in view.messages for part in message.parts]


@dataclass
class Shown:
    """One runtime of a session: it says things, and commits what it has said."""

    cells: ObservationCells
    session_id: str = "s"
    revision: int = 0
    committed: tuple[str, ...] = ()
    policy: SessionPolicy = SessionPolicy()
    frame_id: str = "s:frame:initial"
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cell = self.cells.cell(self.session_id)
        self.publish()

    def observe(self) -> ObservableSession:
        return ObservableSession(self.cell)

    def say(self, *texts: str, turn_id: str | None = None) -> None:
        for text in texts:
            self.said.append(text)
            self.cell.record_turn_activity(an_activity(text), turn_id)

    def restart(self, turn_id: str, attempt: int = 2) -> None:
        """The turn's process is gone, and another goes on with it from the start."""
        self.said.clear()
        data = {"turn_id": turn_id, "attempt": attempt}
        event = RuntimeDiagnostic(kind="turn_restarted", data=data)
        self.cell.record_turn_activity(TurnActivity("id-restart", "restart", event), turn_id)

    def commit(self, *, turn_id: str | None = None) -> None:
        """Settle all that was said since the last commit."""
        self.committed += tuple(self.said)
        self.said.clear()
        self.revision += 1
        self.publish(turn_id=turn_id)

    def publish(self, *, turn_id: str | None = None) -> None:
        self.cell.publish(
            ObservationUpdate(
                session_id=self.session_id,
                revision=self.revision,
                read_view=SessionReadView(
                    session_id=self.session_id,
                    policy=self.policy,
                    turn_index=self.revision,
                    graph=a_graph(*self.committed),
                ),
                policy=self.policy,
                usage_report=lambda: SessionUsageReport.from_entries(()),
                frame_id=self.frame_id,
            ),
            turn_id=turn_id,
        )


def another_model(name: str) -> SessionPolicy:
    return SessionPolicy(model=ModelSpec(id=name))


def a_store(
    max_events: int = 2048, *, clock: ManualClock | None = None, max_resting_sessions: int = 32
) -> InMemoryLiveReplayStore:
    config = InMemoryLiveReplayStoreConfig(
        max_events_per_session=max_events, max_resting_sessions=max_resting_sessions
    )
    return InMemoryLiveReplayStore(config, clock=clock or ManualClock())


def a_session(store: LiveReplayStore | None = None) -> Shown:
    return Shown(ObservationCells(replay=store or a_store()))


def here(observable: ObservableSession) -> SessionCursor:
    return observable.current_observation().cursor
