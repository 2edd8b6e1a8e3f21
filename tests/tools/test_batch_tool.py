"""The `batch` tool: several calls for models that can make only one at a time."""

from typing import Any

import anyio
import pytest

from lash_runtime.model.attachments import AttachmentRef, ImageFormat, MediaType
from lash_runtime.model.causes import ToolCallRef
from lash_runtime.model.tool_results import ReturnAttachment
from lash_runtime.ports.durability import DurabilityTier
from lash_runtime.ports.tools import ToolContext
from lash_runtime.tools import batch_tool, tool
from tools.dispatching import BATCH_KEY, Batches, RecordingController, calls, failure_of

pytestmark = pytest.mark.anyio


@tool
async def double(number: int) -> int:
    """Double."""
    return number * 2


def batch_of(*wanted: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    entries = [{"tool": name, "parameters": parameters} for name, parameters in wanted]
    return ("batch", {"tool_calls": entries})


async def results_of(batches: Batches, *wanted: tuple[str, dict[str, Any]]) -> list[Any]:
    (completed,) = await batches.run(*calls(batch_of(*wanted)))
    assert completed.output.is_success
    results: list[Any] = completed.output.value_for_projection()["results"]
    return results


async def test_each_entry_says_how_its_call_went() -> None:
    """The batch succeeds as a whole; the model reads what failed in it."""
    results = await results_of(
        Batches(batch_tool(), double),
        ("double", {"number": 4}),
        ("double", {"number": "many"}),
        ("teleport", {}),
        ("batch", {"tool_calls": []}),
    )

    assert [(r["index"], r["tool"], r["success"]) for r in results] == [
        (0, "double", True),
        (1, "double", False),
        (2, "teleport", False),
        (3, "batch", False),
    ]
    assert results[0]["result"] == 8
    assert results[1]["error"].startswith("number: ")
    assert results[2]["error"] == "Tool 'teleport' is unavailable in this session"
    assert results[3]["error"] == "Tool 'batch' is not allowed inside batch"


async def test_children_run_side_by_side() -> None:
    """That is what a batch is for."""
    here, both = [0], anyio.Event()

    @tool
    async def meet() -> str:
        """Wait for the other."""
        here[0] += 1
        if here[0] == 2:
            both.set()
        await both.wait()
        return "met"

    results = await results_of(Batches(batch_tool(), meet), ("meet", {}), ("meet", {}))
    assert [entry["result"] for entry in results] == ["met", "met"]


async def test_children_are_shown_as_calls_of_their_own() -> None:
    """A watcher sees what is done, not only that something is."""
    batches = Batches(batch_tool(), double)

    await results_of(batches, ("double", {"number": 1}))

    assert batches.shown == [
        "started c0",
        "started c0 > c0:00",
        "completed c0 > c0:00",
        "completed c0",
    ]


async def test_children_are_effects_under_the_key_of_their_parent() -> None:
    """Two batches of one turn must not answer for each other."""
    controller = RecordingController()

    await results_of(
        Batches(batch_tool(), double, controller=controller), ("double", {"number": 1})
    )

    parent = f"{BATCH_KEY}:child:0:c0:attempt:1"
    assert controller.keys == [parent, f"{parent}:batch:0:child:0:c0:00:attempt:1"]
    assert controller.envelopes[1].invocation.caused_by == ToolCallRef(session_id="s", call_id="c0")


async def test_children_have_idempotency_keys_of_their_own() -> None:
    """They are calls to the outside like any other."""
    keys: list[str] = []

    @tool
    async def key(context: ToolContext) -> None:
        """Note the key."""
        keys.append(context.idempotency_key)

    await results_of(Batches(batch_tool(), key), ("key", {}), ("key", {}))

    assert keys == ["lash-tool:s:t:2.0:c0:00:key", "lash-tool:s:t:2.0:c0:01:key"]


async def test_an_attachment_of_a_child_reaches_the_model() -> None:
    """As an image, not as the text of its reference."""
    image = AttachmentRef(id="ab", byte_len=3, media_type=MediaType(type=ImageFormat.PNG))

    @tool
    async def chart() -> AttachmentRef:
        """Draw."""
        return image

    (completed,) = await Batches(batch_tool(), chart).run(*calls(batch_of(("chart", {}))))

    assert ReturnAttachment(ref=image) in completed.model_return.parts


@pytest.mark.parametrize(
    ("count", "problem"),
    [
        (0, "tool_calls: expected array items >= 1, got 0 items"),
        (26, "tool_calls: expected array items <= 25, got 26 items"),
    ],
)
async def test_a_batch_has_one_to_25_calls(count: int, problem: str) -> None:
    """Refused as a whole, before anything runs."""
    batches = Batches(batch_tool(), double)
    (completed,) = await batches.run(*calls(batch_of(*[("double", {"number": 1})] * count)))

    failure = failure_of(completed.output)
    assert (failure.code, failure.message) == ("invalid_tool_args", problem)
    assert batches.shown == ["started c0", "completed c0"]


@pytest.mark.parametrize(
    "controller",
    [
        RecordingController(tier=DurabilityTier.DURABLE),
        RecordingController(concurrent=False),
    ],
    ids=["records attempts whole", "one effect at a time"],
)
async def test_where_a_call_cannot_make_calls_every_entry_says_so(
    controller: RecordingController,
) -> None:
    """Effects inside an attempt that is recorded whole would be lost from the record."""
    batches = Batches(batch_tool(), double, controller=controller)

    (entry,) = await results_of(batches, ("double", {"number": 1}))

    assert not entry["success"]
    assert "unavailable" in entry["error"]
    assert batches.shown == ["started c0", "completed c0"]
