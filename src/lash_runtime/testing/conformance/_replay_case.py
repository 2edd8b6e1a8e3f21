"""What every case of a live log is given, and short ways to write to one and read it."""

from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from ...model.activity import AssistantProseDelta, TurnActivity
from ...ports.clock import Clock
from ...ports.observation_events import SessionObservationEvent, TurnActivityPayload
from ...ports.replay import (
    Gap,
    LiveReplayGapReason,
    LiveReplayResult,
    LiveReplayStore,
    LiveReplaySubscription,
    Replayed,
    Subscribed,
)
from ...ports.session_cursor import SessionCursor, SessionRevision
from ..clocks import ManualClock

ReplayStoreFactory = Callable[[int, float, Clock], LiveReplayStore]

CAPACITY = 4
MAX_AGE_S = 60.0
R0 = SessionRevision(0)

TRIMMED = Gap(LiveReplayGapReason.TRIMMED)
UNAVAILABLE = Gap(LiveReplayGapReason.UNAVAILABLE)


def says(text: str) -> TurnActivityPayload:
    return TurnActivityPayload(TurnActivity(f"id-{text}", "row", AssistantProseDelta(text)))


def text_of(event: SessionObservationEvent) -> str:
    assert isinstance(event.payload, TurnActivityPayload)
    assert isinstance(event.payload.activity.event, AssistantProseDelta)
    return event.payload.activity.event.text


def texts_of(result: LiveReplayResult) -> list[str]:
    assert isinstance(result, Replayed)
    return [text_of(event) for event in result.events]


def tell(store: LiveReplayStore, *texts: str, session_id: str = "s") -> list[SessionCursor]:
    """Append one event for each text; the cursors just after them."""
    return [store.append(session_id, R0, says(text)).cursor for text in texts]


def follow(store: LiveReplayStore, cursor: SessionCursor) -> LiveReplaySubscription:
    found = store.subscribe_after_cursor(cursor)
    assert isinstance(found, Subscribed)
    return found.subscription


async def read(subscription: LiveReplaySubscription, count: int) -> list[str]:
    return [text_of(await subscription.__anext__()) for _ in range(count)]


async def reads_nothing(subscription: LiveReplaySubscription) -> bool:
    """Whether a read still waits after everybody else had several turns of the loop."""
    arrived = False

    async def one() -> None:
        nonlocal arrived
        await subscription.__anext__()
        arrived = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        for _ in range(5):
            await checkpoint()
        tasks.cancel_scope.cancel()
    return not arrived


class ReplayCase:
    """Base of the suites: a store that keeps four events for a minute."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def store(
        self, replay_store_factory: ReplayStoreFactory, clock: ManualClock
    ) -> LiveReplayStore:
        return replay_store_factory(CAPACITY, MAX_AGE_S, clock)

    @pytest.fixture
    def start(self, store: LiveReplayStore) -> SessionCursor:
        """The place before anything."""
        return store.current_cursor("s", R0)
