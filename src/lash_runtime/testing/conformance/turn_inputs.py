"""Pending inputs: what submitting stores, when a submission is a repeated one, what is listed."""

import anyio

from ...model.attachments import ImageFormat, MediaType
from ...model.turn_input import ImageBlob, ImageRefItem, TurnInput
from ...ports.storage import Storage
from ...ports.store_errors import PendingTurnInputSourceKeyConflict, StoreBackendError
from ...ports.turn_inputs import (
    InputCancelled,
    PendingTurnInput,
    TurnInputCheckpointBoundary,
    TurnInputState,
)
from ..clocks import ManualClock
from ._case import StorageCase
from ._raises import raised_by
from ._samples import BOB, ODD_IDS, a_commit, a_store, accepted, an_acceptance, hold
from ._waiting_samples import (
    claimed_inputs,
    for_next_turn,
    for_turn,
    next_inputs,
    pending_inputs,
    steering,
    submitted,
)


class TurnInputConformance(StorageCase):
    """What was submitted is kept as it was, once, until a turn has answered it."""

    async def test_an_input_is_kept_as_it_was_submitted(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """The answer is the stored row; where it goes decides the state it starts in."""
        store = await a_store(storage)
        drafts = (
            for_turn(
                "t1",
                "steer",
                boundary=TurnInputCheckpointBoundary.BEFORE_COMPLETION,
                input_id="i1",
                key="k1",
            ),
            for_next_turn("next", input_id="i2"),
        )
        rows = [await store.enqueue_pending_turn_input(draft) for draft in drafts]
        states = (TurnInputState.PENDING_ACTIVE, TurnInputState.DEFERRED_NEXT_TURN)
        for row, draft, state in zip(rows, drafts, states, strict=True):
            assert draft.input_id is not None
            assert row == PendingTurnInput(
                input_id=draft.input_id,
                session_id="s",
                enqueue_seq=row.enqueue_seq,
                source_key=draft.source_key,
                ingress=draft.ingress,
                state=state,
                enqueued_at_ms=clock.timestamp_ms(),
                input=draft.input,
            )
        assert rows[0].enqueue_seq < rows[1].enqueue_seq
        assert list(await store.list_pending_turn_inputs("s")) == rows

    async def test_inputs_are_listed_in_the_order_of_submission(self, storage: Storage) -> None:
        """Whatever they are called and wherever they go."""
        store = await a_store(storage)
        names = ["z", "m", "a", "q"]
        for at, name in enumerate(names):
            draft = for_turn(input_id=name) if at % 2 else for_next_turn(input_id=name)
            await store.enqueue_pending_turn_input(draft)
        assert await pending_inputs(store) == names

    async def test_an_input_without_an_id_gets_one(self, storage: Storage) -> None:
        """Each its own, even where they say the same."""
        store = await a_store(storage)
        names = await submitted(store, for_next_turn(), for_next_turn(), for_turn())
        assert len(set(names)) == 3
        assert all(names)
        assert await pending_inputs(store) == names

    async def test_an_id_that_is_taken_is_refused(self, storage: Storage) -> None:
        """Two inputs of one id could not be told apart, equal or not, over or not."""
        store = await a_store(storage)
        await submitted(store, for_next_turn("hello", input_id="i"))
        for draft in (
            for_next_turn("hello", input_id="i"),
            for_next_turn("other", input_id="i", key="k"),
        ):
            await raised_by(store.enqueue_pending_turn_input(draft), StoreBackendError)
        await store.cancel_pending_turn_input("s", "i")
        await raised_by(
            store.enqueue_pending_turn_input(for_next_turn(input_id="i")), StoreBackendError
        )
        await submitted(store, for_next_turn(input_id="i", session_id="other"))
        await submitted(store, for_next_turn(input_id="j", key="k"))
        assert await pending_inputs(store) == ["j"]

    async def test_the_same_key_and_content_is_the_same_input(
        self, storage: Storage, clock: ManualClock
    ) -> None:
        """A repeated submission answers the stored row, whatever id it brings."""
        store = await a_store(storage)
        for at, draft in enumerate((for_turn(key="k1"), for_next_turn(key="k2", input_id="i"))):
            row = await store.enqueue_pending_turn_input(draft)
            clock.advance(1)
            assert await store.enqueue_pending_turn_input(draft) == row
            again = for_turn(key="k1", input_id="j") if at == 0 else for_next_turn(key="k2")
            assert await store.enqueue_pending_turn_input(again) == row
        assert len(await pending_inputs(store)) == 2

    async def test_a_key_answers_in_every_state(self, storage: Storage) -> None:
        """With the row as it is by then: taken, answered or cancelled. It is not sent again."""
        store = await a_store(storage)
        lease = await hold(store)
        steer, following, gone = for_turn(key="a"), for_next_turn(key="b"), for_next_turn(key="c")
        await submitted(store, steer, following)
        first = await steering(store, lease)
        assert first is not None
        assert (await store.enqueue_pending_turn_input(steer)).state is TurnInputState.ACCEPTED
        second = await claimed_inputs(store, lease)
        assert await store.enqueue_pending_turn_input(following) == second.inputs[0]
        await store.commit_runtime_state(
            a_commit(
                lease.fence(),
                completed_turn_input_claims=(first.completion(), second.completion()),
            )
        )
        (cancelled,) = await submitted(store, gone)
        await store.cancel_pending_turn_input("s", cancelled)
        for draft, state in (
            (steer, TurnInputState.COMPLETED),
            (following, TurnInputState.COMPLETED),
            (gone, TurnInputState.CANCELLED),
        ):
            assert (await store.enqueue_pending_turn_input(draft)).state is state
        assert await pending_inputs(store) == []
        assert await next_inputs(store, lease) is None

    async def test_a_key_with_other_content_conflicts(self, storage: Storage) -> None:
        """Other words, another turn or another boundary; the error names the first input."""
        store = await a_store(storage)
        await submitted(store, for_turn("t1", "hello", key="k", input_id="i"))
        for draft in (
            for_turn("t1", "other", key="k"),
            for_turn("t2", "hello", key="k"),
            for_turn(
                "t1", "hello", key="k", boundary=TurnInputCheckpointBoundary.BEFORE_COMPLETION
            ),
            for_next_turn("hello", key="k"),
            for_turn("t1", "other", key="k", input_id="i"),
        ):
            error = await raised_by(
                store.enqueue_pending_turn_input(draft), PendingTurnInputSourceKeyConflict
            )
            assert (error.session_id, error.source_key) == ("s", "k")
            assert error.existing_input_id == "i"
        await store.cancel_pending_turn_input("s", "i")
        await raised_by(
            store.enqueue_pending_turn_input(for_turn("t1", "other", key="k")),
            PendingTurnInputSourceKeyConflict,
        )
        assert await pending_inputs(store) == []

    async def test_a_deferred_input_is_compared_as_it_was_submitted(self, storage: Storage) -> None:
        """Its ingress has changed since; the host that repeats itself cannot know that."""
        store = await a_store(storage)
        lease = await hold(store)
        draft = for_turn("t1", key="k")
        await submitted(store, draft)
        await store.commit_runtime_state(
            a_commit(lease.fence(), interrupted_turn_input_turn_id="t1")
        )
        row = await store.enqueue_pending_turn_input(draft)
        assert row.state is TurnInputState.DEFERRED_NEXT_TURN
        await raised_by(
            store.enqueue_pending_turn_input(for_next_turn(key="k")),
            PendingTurnInputSourceKeyConflict,
        )

    async def test_keys_belong_to_their_session(self, storage: Storage) -> None:
        """The same key with other words elsewhere is another input."""
        store = await a_store(storage)
        (ours,) = await submitted(store, for_next_turn("one", key="k"))
        (theirs,) = await submitted(store, for_next_turn("two", key="k", session_id="other"))
        assert ours != theirs
        assert await pending_inputs(store) == [ours]
        assert await pending_inputs(store, "other") == [theirs]

    async def test_any_text_can_be_a_key_or_an_id(self, storage: Storage) -> None:
        """No key is taken for another, for a pattern or for nothing."""
        store = await a_store(storage)
        drafts = [
            for_next_turn(f"words {at}", key=text, input_id=text) for at, text in enumerate(ODD_IDS)
        ]
        assert await submitted(store, *drafts) == list(ODD_IDS)
        assert await submitted(store, *drafts) == list(ODD_IDS)
        for text in ODD_IDS:
            outcome = await store.cancel_pending_turn_input("s", text)
            assert isinstance(outcome, InputCancelled)
            assert outcome.input.input_id == text
        assert await pending_inputs(store) == []

    async def test_words_and_images_read_back(self, storage: Storage) -> None:
        """From the list and from the claim, byte by byte."""
        store = await a_store(storage)
        said = TurnInput(
            items=(
                *TurnInput.text("tab\t nul\x00 \u2028 \U0001f9ed").items,
                ImageRefItem(id="ä"),
                *TurnInput.text("").items,
            ),
            image_blobs={
                "ä": ImageBlob(data=b"AAECAwQF/w==", media_type=MediaType(type=ImageFormat.WEBP))
            },
            trace_turn_id="trace",
        )
        await submitted(store, for_next_turn(said=said))
        (row,) = await store.list_pending_turn_inputs("s")
        assert row.input == said
        claim = await claimed_inputs(store, await hold(store))
        assert claim.inputs[0].input == said

    async def test_submitting_needs_no_lease(self, storage: Storage) -> None:
        """The user speaks while a turn of another owner runs."""
        store = await a_store(storage)
        await hold(store, owner=BOB)
        names = await submitted(store, for_turn(), for_next_turn())
        assert await pending_inputs(store) == names

    async def test_many_submit_at_once(self, storage: Storage) -> None:
        """Nothing is lost, and one key is one input however many race for it."""
        store, again = await a_store(storage), await a_store(storage)
        answers: list[PendingTurnInput] = []

        async def submit(number: int) -> None:
            through = (store, again)[number % 2]
            answers.append(
                await through.enqueue_pending_turn_input(for_next_turn(f"words {number}"))
            )
            answers.append(await through.enqueue_pending_turn_input(for_next_turn(key="k")))

        async with anyio.create_task_group() as tasks:
            for number in range(16):
                tasks.start_soon(submit, number)
        listed = list(await store.list_pending_turn_inputs("s"))
        assert len(listed) == 17
        assert {row.input_id for row in answers} == {row.input_id for row in listed}
        assert len({row.enqueue_seq for row in listed}) == 17

    async def test_only_what_waits_is_listed(self, storage: Storage) -> None:
        """Not what a turn has, and not what is over."""
        store = await a_store(storage)
        lease = await hold(store)
        await submitted(
            store,
            for_turn("t1"),
            for_next_turn(input_id="held"),
            for_next_turn(input_id="gone"),
            for_next_turn(input_id="waits"),
            for_turn("t2", input_id="steers"),
        )
        await steering(store, lease)
        await claimed_inputs(store, lease, most=1)
        await store.cancel_pending_turn_input("s", "gone")
        assert await pending_inputs(store) == ["waits", "steers"]

    async def test_replacing_a_session_cancels_what_waits(self, storage: Storage) -> None:
        """What was said to the old history is not said to the new one, and is still known."""
        store = await a_store(storage)
        lease = await hold(store)
        drafts = [for_turn(key="a"), for_next_turn(key="b"), for_turn("t2", key="c")]
        await submitted(store, *drafts)
        await submitted(store, for_next_turn(session_id="other", input_id="theirs"))
        await steering(store, lease)
        await claimed_inputs(store, lease)
        await store.release_session_execution_lease(lease.fence())
        turn = await accepted(store, an_acceptance("t9", replace_session=True))
        assert await pending_inputs(store) == []
        assert await next_inputs(store, turn.lease) is None
        for draft in drafts:
            row = await store.enqueue_pending_turn_input(draft)
            assert row.state is TurnInputState.CANCELLED
        assert await pending_inputs(store, "other") == ["theirs"]
