"""One turn as a host asks for it: a builder that says how, and the stream of what happens.

Nothing happens before `run()`, `stream()` or `stream_to()`.
"""

import asyncio
import warnings
from types import TracebackType
from typing import Any, Self

from ._arguments import (
    DEFAULT_CONTEXT_WINDOW,
    SINK,
    a_count,
    a_layer,
    a_model,
    a_part,
    a_provider,
    a_text,
    an,
)
from ._prompt_setters import PromptSetters
from ._translation import translated
from .errors import InvalidConfiguration
from .model.activity import TurnActivity
from .model.policy import ModelSpec, ProtocolTurnOptions
from .model.prompt import PromptLayer
from .model.records import dataclass, replace
from .model.turn_input import TurnInput
from .ports.cancel import CancelToken
from .ports.provider import Provider, ResolvedProvider
from .providers.shares import GivenProvider
from .runtime.open_session import OpenSession, check_turn_id
from .runtime.running_turns import RunningTurn
from .runtime.turn.channel import ActivityChannel
from .runtime.turn.request import TurnOverrides, TurnRequest
from .runtime.turn.result import TurnOutput, TurnResult
from .runtime.turn.sinks import CollectingSink, TurnActivitySink


@dataclass(frozen=True, slots=True)
class TurnBuilder(PromptSetters):
    """How to run one turn; nothing happens before `run()`, `stream()` or `stream_to()`.

    Each setter returns a new builder, so that a half-configured one can be kept and reused.
    What is set here holds for this turn and changes nothing about the session.

    Turns of one session stand in line, in the order in which they were started. A session that
    another process holds is refused with code `session_execution_busy` before any work is done.
    Cancelling the task that waits for a turn cancels the turn: what it has finished is stored.
    """

    _session: OpenSession
    _input: TurnInput
    _overrides: TurnOverrides = TurnOverrides()
    _turn_id: str | None = None
    _cancel: CancelToken | None = None

    def turn_id(self, turn_id: str) -> Self:
        """Name the turn. Running it again under the same id with the same content, by whomever and
        also while it runs, gives the result of the first run instead of a second turn; other
        content is refused. Cancelling a caller that waits for the turn of another one, by
        whatever means, ends its wait and does nothing to the turn."""
        a_text(turn_id, "a turn id")
        with translated():
            check_turn_id(turn_id)
        return replace(self, _turn_id=turn_id)

    def cancel(self, token: CancelToken) -> Self:
        """Cancel the turn when `token` fires, from any task or thread. Where another caller runs
        the turn already, this one is detached: it raises with the code `turn_detached`."""
        an(CancelToken, token, "a turn is cancelled by a CancelToken")
        return replace(self, _cancel=token)

    def provider(self, provider: Provider | ResolvedProvider) -> Self:
        """Call this provider instead of the session's. The model stays what it was.

        It gets the core's clock and ids, and is closed when the turn is over, unless another
        session or turn of the core uses it, too. A `ProviderHandle` keeps its own time and is
        left open for whoever made it.
        """
        return self._with(provider=GivenProvider.of(a_provider(provider)))

    def model(
        self,
        model: str | ModelSpec,
        *,
        context_window: int = DEFAULT_CONTEXT_WINDOW,
        output_capacity: int | None = None,
        variant: str | None = None,
    ) -> Self:
        """This turn's model: a name with its limits in tokens, or a whole `ModelSpec`."""
        spec = a_model(
            model,
            context_window=context_window,
            output_capacity=output_capacity,
            variant=variant,
        )
        return self._with(model=spec)

    def max_turns(self, max_turns: int) -> Self:
        """How many rounds of tools the turn may have before it has to answer."""
        return self._with(max_turns=a_count(max_turns, "max_turns"))

    def protocol_turn_options(self, options: ProtocolTurnOptions) -> Self:
        """Options that the protocol understands, on top of those of the session. They are part of
        the input, and so of what a repeated turn id is compared by."""
        an(ProtocolTurnOptions, options, "options of a protocol are ProtocolTurnOptions")
        said = self._input.model_copy(update={"protocol_turn_options": options})
        return replace(self, _input=said)

    def prompt_layer(self, layer: PromptLayer) -> Self:
        """Replace this turn's prompt layer."""
        return self._with_prompt(a_layer(layer))

    async def run(self) -> TurnOutput:
        """Run the turn and collect what happens on the way.

        Raises `EmbedError` when the turn cannot run or be stored. What goes wrong inside a
        turn (the model, a tool, the input) is its outcome and raises nothing.
        """
        sink = CollectingSink()
        result = await self.stream_to(sink)
        return TurnOutput(result, tuple(sink.activities))

    async def stream_to(self, sink: TurnActivitySink) -> TurnResult:
        """Run the turn and hand each activity to `sink`, which the turn waits for.

        An exception of the sink is logged and costs it that one activity. Raises as `run`.
        """
        a_part(sink, "a sink", SINK)
        with translated():
            return await self._start(sink).result()

    def stream(self) -> "TurnStream":
        """Start the turn and read it activity by activity. Needs a running event loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError as error:
            raise InvalidConfiguration(
                "stream() starts the turn and needs a running event loop: call it in the "
                "coroutine that reads the stream"
            ) from error
        channel = ActivityChannel()
        with translated():
            turn = self._start(channel)
        turn.on_over(channel.end)
        return TurnStream(turn, channel)

    @property
    def _prompt(self) -> PromptLayer:
        return self._overrides.prompt

    def _with_prompt(self, layer: PromptLayer) -> Self:
        return self._with(prompt=layer)

    def _with(self, **changes: Any) -> Self:
        return replace(self, _overrides=replace(self._overrides, **changes))

    def _start(self, sink: TurnActivitySink) -> RunningTurn:
        # The turn gets a token of its own: cancelling it must not fire the host's.
        request = TurnRequest(
            turn_id=self._session.turn_id_for(self._turn_id, self._input),
            input=self._input,
            overrides=self._overrides,
        )
        turn = self._session.start_turn(request, sink)
        if self._cancel is not None:
            turn.on_over(self._cancel.on_cancel(turn.cancel))
        return turn


class TurnStream:
    """A running turn, read as it happens: `async for`, and then `await finish()`.

    The turn waits for a reader that is more than 64 activities behind. Reading can be given up
    at any time: `finish()` drops what was not read and waits for the result; leaving an
    `async with` block early, or `aclose()`, cancels the turn and waits until it is stored as
    cancelled. A turn that cannot run or be stored raises its `EmbedError` from the iteration
    and from `finish()`. For a turn that shall outlive its reader, observe the session instead.
    """

    def __init__(self, turn: RunningTurn, channel: ActivityChannel) -> None:
        self._turn = turn
        self._channel = channel
        self._left = False

    @property
    def turn_id(self) -> str:
        return self._turn.turn_id

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TurnActivity:
        activity = await self.next_activity()
        if activity is None:
            raise StopAsyncIteration
        return activity

    async def next_activity(self) -> TurnActivity | None:
        """The next activity; `None` after the last. Being cancelled here loses nothing."""
        activity = await self._channel.receive()
        if activity is None and not self._left:
            with translated():
                await self._turn.result()
        return activity

    async def finish(self) -> TurnResult:
        """Stop reading and wait for the result. May be called again, from any task."""
        self._channel.discard()
        self._left = True
        with translated():
            return await self._turn.result()

    async def aclose(self) -> None:
        """Cancel the turn if it still runs, and wait until it is over; leave it alone if it is
        another caller's. Idempotent."""
        self._left = True
        if not self._turn.is_over:
            self._turn.cancel()
        self._channel.discard()
        await self._turn.closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._left or self._turn.is_over:
            return
        attached = self._turn.is_attached
        self._turn.cancel()
        self._channel.discard()
        if attached:
            return
        warnings.warn(
            f"the stream of turn {self.turn_id!r} was dropped while the turn ran, which cancels "
            "the turn: read it to its end, call finish(), or use it as `async with`",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )
