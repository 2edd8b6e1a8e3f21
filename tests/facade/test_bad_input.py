"""What goes wrong outside the library: models, tools, words, ids and files. Each ends in the
outcome or the error that is documented for it, and the stored session is unharmed."""

import asyncio
import os
import resource
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from facade.models import asked
from facade.places import Place, a_core
from facade.transcripts import lines
from lash_runtime import (
    EmbedError,
    ImageBlob,
    ImageRefItem,
    InvalidSessionId,
    LashSession,
    OutputState,
    RuntimeFailure,
    StopReason,
    StoreFailure,
    TurnInput,
    tool,
)
from lash_runtime.model.llm import (
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    ProviderFailureKind,
    TextOutput,
    ToolCallOutputPart,
)
from lash_runtime.ports.provider import ProviderFailure
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.testing import Call, ScriptedProvider, TestProvider, text_response

pytestmark = pytest.mark.anyio


@tool
async def weather(city: str, days: int = 1) -> str:
    """Look up the weather.

    Args:
        city: Where.
        days: How many days ahead.
    """
    return f"sunny in {city}"


async def goes_on(session: LashSession) -> None:
    """The session takes another turn, as if nothing had been."""
    model = ScriptedProvider([Call.text("Still here.")])
    output = await session.turn("Are you there?").provider(model).run()
    assert output.assistant_message == "Still here."
    assert lines(session)[-2:] == ["user: Are you there?", "assistant: Still here."]


# --- what a model asks for ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("teleport", "{}", "teleport"),
        ("weather", '{"town": "Oslo"}', "city"),
        ("weather", '{"city": 7}', "city"),
        ("weather", '{"city": "Oslo", "days": "many"}', "days"),
        ("weather", '{"city": "Os', ""),
        ("weather", "", "city"),
        ("weather", "[1, 2]", ""),
        ("weather", "null", ""),
        ("", "{}", ""),
    ],
    ids=[
        "unknown tool",
        "missing argument",
        "wrong type",
        "wrong optional",
        "cut-off JSON",
        "no JSON",
        "a list",
        "null",
        "no name",
    ],
)
async def test_a_call_that_cannot_be_made_is_explained_to_the_model(
    anywhere: Place, name: str, args: str, said: str
) -> None:
    """Models mistype; they mend it themselves when they are told what was wrong."""
    provider = ScriptedProvider([Call.tool("call-1", name, args), Call.text("Sorry.")])
    async with a_core(anywhere, provider, weather) as core, core.session("s") as session:
        output = await session.turn("Weather?").run()
        assert output.assistant_message == "Sorry."
        assert [call.output.is_success for call in output.tool_calls] == [False]
        assert said in asked(provider.requests[1])[-1]
        await goes_on(session)


async def test_good_calls_beside_bad_ones_are_made(anywhere: Place) -> None:
    """One mistake does not spoil the round."""
    calls = LlmResponse(
        parts=(
            ToolCallOutputPart("a", "weather", '{"city": "Oslo"}'),
            ToolCallOutputPart("b", "weather", '{"city"'),
            ToolCallOutputPart("c", "nothing", "{}"),
        ),
        terminal_reason=LlmTerminalReason.TOOL_USE,
    )
    provider = ScriptedProvider([calls, Call.text("Done.")])
    async with a_core(anywhere, provider, weather) as core, core.session("s") as session:
        output = await session.turn("Weather?").run()
    assert [(c.call_id, c.output.is_success) for c in output.tool_calls] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]


async def test_the_same_call_id_twice_gives_two_results(anywhere: Place) -> None:
    """Some endpoints number their calls anew in every answer, or all alike."""
    calls = LlmResponse(
        parts=(
            ToolCallOutputPart("call", "weather", '{"city": "Oslo"}'),
            ToolCallOutputPart("call", "weather", '{"city": "Rome"}'),
        ),
        terminal_reason=LlmTerminalReason.TOOL_USE,
    )
    provider = ScriptedProvider([calls, Call.text("Done.")])
    async with a_core(anywhere, provider, weather) as core, core.session("s") as session:
        await session.turn("Weather?").run()
        results = [line for line in lines(session) if "[tool_result]" in line]
    assert results == [
        "user [tool_result]: sunny in Oslo",
        "user [tool_result]: sunny in Rome",
    ]
    shown = asked(provider.requests[1])
    ids = [line.split("]")[0].split("[")[1] for line in shown if line.startswith("user: [")]
    assert len(set(ids)) == 2


# --- what a provider does -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(ProviderFailureKind))
async def test_a_failing_provider_is_an_outcome(anywhere: Place, kind: ProviderFailureKind) -> None:
    """The model's trouble raises nothing; the issue says what a host can react to."""
    failure = ProviderFailure("no luck", kind=kind, code="e-42", retryable=False)
    async with (
        a_core(anywhere, ScriptedProvider([failure])) as core,
        core.session("s") as session,
    ):
        output = await session.turn("Pack").run()
        assert output.stop_reason is StopReason.PROVIDER_ERROR
        [issue] = output.errors
        assert (issue.kind, issue.code, issue.retryable) == ("llm_provider", "e-42", False)
        known = kind is not ProviderFailureKind.UNKNOWN
        assert issue.provider_failure_kind is (kind if known else None)
        assert "no luck" in issue.message
        assert [a.event.type for a in output.activities].count("error") == 1
        assert lines(session) == ["user: Pack"]
        await goes_on(session)


@pytest.mark.parametrize(
    "error",
    [ValueError("bad wiring"), KeyError("choices"), ConnectionError(), TimeoutError("slow")],
)
async def test_a_provider_that_breaks_is_an_outcome(anywhere: Place, error: Exception) -> None:
    """An adapter's bug must not reach the host as a bare exception of any kind."""
    async with a_core(anywhere, ScriptedProvider([error])) as core, core.session("s") as session:
        output = await session.turn("Pack").run()
        assert output.stop_reason is StopReason.PROVIDER_ERROR
        assert output.errors[0].code == "provider_panicked"
        assert type(error).__name__ in output.errors[0].message
        await goes_on(session)


async def test_a_provider_that_fails_after_a_round_keeps_the_round(anywhere: Place) -> None:
    """The tool ran and was paid for; its result is there when the host tries again."""
    provider = ScriptedProvider(
        [
            Call.tool("call-1", "weather", {"city": "Oslo"}),
            ProviderFailure("no luck", retryable=False),
            Call.text("Coat."),
        ]
    )
    async with a_core(anywhere, provider, weather) as core, core.session("s") as session:
        output = await session.turn("Pack").run()
        assert output.stop_reason is StopReason.PROVIDER_ERROR
        assert lines(session)[-1] == "user [tool_result]: sunny in Oslo"
        again = await session.turn("Try again").run()
    assert again.assistant_message == "Coat."
    assert "user: [call-1] sunny in Oslo" in asked(provider.requests[2])


@pytest.mark.parametrize(
    "nothing",
    [
        LlmResponse(),
        text_response(""),
        text_response("  \n\t "),
        LlmResponse(parts=(TextOutput(""),), terminal_reason=LlmTerminalReason.STOP),
    ],
    ids=["no parts", "empty text", "blank text", "an empty part"],
)
async def test_a_provider_that_says_nothing_is_an_outcome(
    anywhere: Place, nothing: LlmResponse
) -> None:
    """An empty answer is not an answer, and is never stored as one."""
    async with a_core(anywhere, ScriptedProvider([nothing])) as core, core.session("s") as session:
        output = await session.turn("Pack").run()
        assert output.stop_reason is StopReason.PROVIDER_ERROR
        assert output.errors[0].code == "empty_response"
        assert output.result.assistant_output.state is OutputState.EMPTY_OUTPUT
        assert lines(session) == ["user: Pack"]
        await goes_on(session)


@pytest.mark.parametrize("answer", [None, "text", {"choices": []}], ids=["None", "str", "dict"])
async def test_a_provider_that_returns_something_else_is_an_outcome(
    anywhere: Place, answer: Any
) -> None:
    """A host's own adapter forgot its `return`: its mistake, said as such."""
    async with (
        a_core(anywhere, TestProvider(lambda request: answer)) as core,
        core.session("s") as session,
    ):
        output = await session.turn("Pack").run()
        assert output.stop_reason is StopReason.PROVIDER_ERROR
        assert lines(session) == ["user: Pack"]
        await goes_on(session)


async def test_a_provider_whose_own_work_was_cancelled_does_not_hang_the_turn(
    anywhere: Place,
) -> None:
    """An adapter awaits a task of its own that somebody else has cancelled: nobody cancelled us."""

    async def broken(request: LlmRequest) -> LlmResponse:
        raise asyncio.CancelledError

    async with a_core(anywhere, TestProvider(broken)) as core, core.session("s") as session:
        with anyio.fail_after(5):
            output = await session.turn("Pack").run()
        assert output.stop_reason is StopReason.PROVIDER_ERROR
        await goes_on(session)


async def test_a_tool_whose_own_work_was_cancelled_does_not_hang_the_turn(anywhere: Place) -> None:
    """The same for a tool: the model is told, and the turn goes on."""

    @tool
    async def broken() -> str:
        """Await something that somebody cancelled."""
        raise asyncio.CancelledError

    provider = ScriptedProvider([Call.tool("call-1", "broken", {}), Call.text("Never mind.")])
    async with a_core(anywhere, provider, broken) as core, core.session("s") as session:
        with anyio.fail_after(5):
            output = await session.turn("Pack").run()
        assert output.assistant_message == "Never mind."
        assert [call.output.is_success for call in output.tool_calls] == [False]


async def test_an_answer_that_was_cut_short_is_incomplete(anywhere: Place) -> None:
    """Text that stops at the output limit is kept, and not sold as a whole answer."""
    cut = LlmResponse(
        full_text="Take a c",
        parts=(TextOutput("Take a c"),),
        terminal_reason=LlmTerminalReason.OUTPUT_LIMIT,
    )
    async with a_core(anywhere, ScriptedProvider([cut])) as core, core.session("s") as session:
        output = await session.turn("Pack").run()
        assert not output.is_success
        assert output.stop_reason in (StopReason.INCOMPLETE, StopReason.PROVIDER_ERROR)
        await goes_on(session)


async def test_no_secret_of_a_failure_reaches_the_session(place: Place) -> None:
    """An SDK's error text may quote the key it was called with."""
    secret = "sk-" + "a1B2" * 10
    error = RuntimeError(f"401: incorrect API key provided: {secret}")
    async with a_core(place, ScriptedProvider([error])) as core, core.session("s") as session:
        output = await session.turn("Pack").run()
    assert secret not in repr(output.errors)
    assert secret not in repr([activity.event for activity in output.activities])


# --- words --------------------------------------------------------------------------------------

HOSTILE = ["half a \ud83c pair", "nul\x00l"]


@pytest.mark.parametrize("words", HOSTILE, ids=["surrogate", "nul"])
async def test_words_that_cannot_be_stored_are_refused(anywhere: Place, words: str) -> None:
    """An outcome, not a crash in the store; nothing is accepted and no model is asked."""
    provider = ScriptedProvider()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        for said in (words, TurnInput.of("fine", words)):
            output = await session.turn(said).run()
            assert output.stop_reason is StopReason.INVALID_INPUT
            assert output.errors[0].kind == "input_validation"
            assert lines(session) == []
        await goes_on(session)
    assert provider.calls == 0


@pytest.mark.parametrize("words", HOSTILE, ids=["surrogate", "nul"])
async def test_a_model_that_says_what_cannot_be_stored_ends_in_an_outcome(
    anywhere: Place, words: str
) -> None:
    """A byte-level model can say anything; the turn has to be stored all the same."""
    provider = ScriptedProvider([Call.text(words)])
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        output = await session.turn("Say it").run()
        assert output.is_success
        [question, answer] = lines(session)
        assert question == "user: Say it"
        assert answer.encode() == f"assistant: {output.assistant_message}".encode()
        await goes_on(session)


@pytest.mark.parametrize("words", HOSTILE, ids=["surrogate", "nul"])
async def test_a_call_that_cannot_be_stored_ends_in_an_outcome(anywhere: Place, words: str) -> None:
    """Nor is there anything that a model cannot put into the id, the name and the arguments."""
    provider = ScriptedProvider(
        [Call.tool(words, words, f'{{"city": "{words}"}}'), Call.text("Sorry.")]
    )
    async with a_core(anywhere, provider, weather) as core, core.session("s") as session:
        output = await session.turn("Weather?").run()
        assert output.assistant_message == "Sorry."
        assert [call.output.is_success for call in output.tool_calls] == [False]
        await goes_on(session)


@pytest.mark.parametrize("words", HOSTILE, ids=["surrogate", "nul"])
async def test_a_tool_that_returns_what_cannot_be_stored_ends_in_an_outcome(
    anywhere: Place, words: str
) -> None:
    """File names and web pages are full of such bytes."""

    @tool
    async def read() -> str:
        """Read a file."""
        return words

    provider = ScriptedProvider([Call.tool("call-1", "read", {}), Call.text("Odd.")])
    async with a_core(anywhere, provider, read) as core, core.session("s") as session:
        output = await session.turn("Read it").run()
        assert output.assistant_message == "Odd."
        await goes_on(session)


@pytest.mark.parametrize("words", HOSTILE, ids=["surrogate", "nul"])
async def test_a_tool_that_raises_what_cannot_be_stored_ends_in_an_outcome(
    anywhere: Place, words: str
) -> None:
    """So are the messages of the errors about them."""

    @tool
    async def read() -> str:
        """Read a file."""
        raise FileNotFoundError(words)

    provider = ScriptedProvider([Call.tool("call-1", "read", {}), Call.text("Odd.")])
    async with a_core(anywhere, provider, read) as core, core.session("s") as session:
        output = await session.turn("Read it").run()
        assert output.assistant_message == "Odd."
        await goes_on(session)


@pytest.mark.parametrize(
    "image",
    [
        TurnInput(items=(ImageRefItem(id="cat"),)),
        TurnInput(items=(ImageRefItem(id=" "),)),
        TurnInput(
            items=(ImageRefItem(id="dog"),),
            image_blobs={"cat": ImageBlob(data=b"hello")},
        ),
    ],
    ids=["no bytes", "blank name", "other name"],
)
async def test_an_image_without_bytes_is_refused(anywhere: Place, image: TurnInput) -> None:
    """Said before the turn is accepted, by naming the image."""
    provider = ScriptedProvider()
    async with a_core(anywhere, provider) as core, core.session("s") as session:
        output = await session.turn(image).run()
        assert output.stop_reason is StopReason.INVALID_INPUT
        assert "image" in output.errors[0].message
        assert lines(session) == []
        await goes_on(session)
    assert provider.calls == 0


async def test_an_image_is_shown_to_the_model_and_kept_by_reference(place: Place) -> None:
    """The good case beside the bad ones: bytes go to the attachment store, not to the history."""
    image = TurnInput(
        items=(ImageRefItem(id="cat"),), image_blobs={"cat": ImageBlob(data=b"hello")}
    )
    provider = ScriptedProvider([Call.text("A cat.")])
    async with a_core(place, provider) as core, core.session("s") as session:
        output = await session.turn(image).run()
        [part] = session.read_view().messages[0].parts
    assert output.assistant_message == "A cat."
    assert [attachment.data for attachment in provider.requests[0].attachments] == [b"hello"]
    assert part.attachments[0].byte_len == 5


async def test_very_long_words_are_stored_whole(place: Place) -> None:
    """A megabyte of text is a document that somebody pasted."""
    words = "word " * 200_000
    async with (
        a_core(place, ScriptedProvider([Call.text(words)])) as core,
        core.session("s") as session,
    ):
        output = await session.turn(words).run()
        assert output.assistant_message == words.strip()
    async with a_core(place, ScriptedProvider()) as core, core.session("s") as session:
        assert [len(m.text) for m in session.read_view().messages] == [len(words)] * 2


# --- session ids --------------------------------------------------------------------------------


@pytest.mark.parametrize("session_id", ["", " ", "\n\t", "half a \ud83c pair", "nul\x00l"])
async def test_a_session_id_that_cannot_be_a_key_is_refused_at_once(
    anywhere: Place, session_id: str
) -> None:
    """Before anything is opened, in the line that has the mistake."""
    async with a_core(anywhere, ScriptedProvider()) as core:
        with pytest.raises(InvalidSessionId) as raised:
            core.session(session_id)
    assert (raised.value.code, raised.value.is_terminal) == ("invalid_session_id", True)


@pytest.mark.parametrize(
    "session_id",
    [
        "x" * 10_000,
        "../../etc/passwd",
        "/etc/passwd",
        "C:\\con",
        "Zug 🚂",
        "'; DROP TABLE nodes",
        "%s",
    ],
    ids=["10,000", "dots", "absolute", "windows", "emoji", "sql", "format"],
)
async def test_any_other_text_is_a_session_id_and_never_a_path(
    place: Place, session_id: str
) -> None:
    """Ids come from outside; they are keys and nothing else, in the file and beside it."""
    provider = ScriptedProvider(otherwise=lambda request: Call.text("yes"))
    async with a_core(place, provider) as core:
        async with core.session(session_id) as session:
            await session.turn("hello").run()
        async with core.session(session_id + "!") as other:
            assert lines(other) == []
    async with a_core(place, provider) as core, core.session(session_id) as session:
        assert session.session_id == session_id
        assert lines(session) == ["user: hello", "assistant: yes"]
    made = {path.name for path in place.database.parent.rglob("*")}
    assert made <= {"agents.db", "agents.db-wal", "agents.db-shm"}


# --- files --------------------------------------------------------------------------------------


async def _remember(place: Place) -> None:
    """One settled turn in the file."""
    async with a_core(place, ScriptedProvider([Call.text("Coat.")])) as core:
        async with core.session("s") as session:
            await session.turn("Pack").run()


async def _recalls(place: Place) -> None:
    """The settled turn is there, once, and the session goes on."""
    async with a_core(place, ScriptedProvider()) as core, core.session("s") as session:
        assert lines(session)[:2] == ["user: Pack", "assistant: Coat."]
        await goes_on(session)


async def _refused(database: Path) -> EmbedError:
    """What a core over the file raises when it is entered."""
    core = Place("sqlite", database).builder(ScriptedProvider()).build()
    with pytest.raises(EmbedError) as raised:
        await core.start()
    await core.aclose()
    return raised.value


async def test_a_directory_in_place_of_the_file_is_refused(database: Path) -> None:
    """A path that was mistyped."""
    database.mkdir()
    error = await _refused(database)
    assert isinstance(error, StoreFailure)
    assert error.code == "backend"


async def test_a_file_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Making folders is the host's business; being told which is missing is ours."""
    error = await _refused(tmp_path / "nowhere" / "agents.db")
    assert "folder" in str(error)


async def test_a_file_that_is_no_database_is_refused_and_left_alone(database: Path) -> None:
    """Somebody's text file must survive a wrong setting."""
    database.write_text("Dear diary, " * 500)
    error = await _refused(database)
    assert "not a SQLite database" in str(error)
    assert database.read_text() == "Dear diary, " * 500


async def test_a_database_of_another_program_is_refused_and_left_alone(database: Path) -> None:
    """So must their database."""
    with sqlite3.connect(database) as theirs:
        theirs.execute("CREATE TABLE diary (words TEXT)")
    theirs.close()
    before = database.read_bytes()
    error = await _refused(database)
    assert (error.code, error.is_terminal) == ("store_schema_unsupported", True)
    assert database.read_bytes() == before


async def test_a_database_of_a_later_release_is_refused_and_left_alone(on_disk: Place) -> None:
    """An old program beside a new one: it must neither read wrongly nor write."""
    await _remember(on_disk)
    version = _pragma(on_disk.database, "user_version")
    _pragma(on_disk.database, f"user_version = {version + 1}")
    before = on_disk.database.read_bytes()
    error = await _refused(on_disk.database)
    assert (error.code, error.is_terminal) == ("store_schema_unsupported", True)
    assert f"{version + 1}" in str(error)
    assert on_disk.database.read_bytes() == before
    _pragma(on_disk.database, f"user_version = {version}")
    await _recalls(on_disk)


def _pragma(database: Path, text: str) -> Any:
    db = sqlite3.connect(database)
    try:
        row = db.execute(f"PRAGMA {text}").fetchone()
        db.commit()
        return None if row is None else row[0]
    finally:
        db.close()


async def test_a_damaged_database_is_said_to_be_damaged(on_disk: Place) -> None:
    """Pages full of noise: an error of the store, never wrong words and never a bare one."""
    provider = ScriptedProvider(otherwise=lambda request: Call.text("word " * 2_000))
    async with a_core(on_disk, provider) as core, core.session("s") as session:
        for number in range(10):
            await session.turn(f"{number}").run()
    whole = on_disk.database.read_bytes()
    damaged = bytearray(whole)
    damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
    on_disk.database.write_bytes(bytes(damaged))

    core = on_disk.builder(ScriptedProvider()).build()
    try:
        with pytest.raises(EmbedError) as raised:
            async with core.session("s") as session:
                await session.turn("hello").run()
        assert "damaged" in str(raised.value) or "read" in str(raised.value)
    finally:
        await core.aclose()

    on_disk.database.write_bytes(whole)
    async with a_core(on_disk, ScriptedProvider()) as core, core.session("s") as session:
        assert len(lines(session)) == 20
        await goes_on(session)


@contextmanager
def without_privileges() -> Iterator[Path]:
    """A folder, and no right to do more than its mode says: root may write anywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    folder = Path(tempfile.mkdtemp())
    try:
        yield folder
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)
        if user == 0:
            os.seteuid(user)


async def test_a_read_only_database_is_said_to_be_read_only(tmp_path: Path) -> None:
    """A wrong mount or owner: refused with words that name it, and nothing is harmed."""
    with without_privileges() as folder:
        place = Place("sqlite", folder / "agents.db")
        await _remember(place)
        place.database.chmod(0o444)
        folder.chmod(0o555)
        core = place.builder(ScriptedProvider([Call.text("no")])).build()
        try:
            with pytest.raises(EmbedError) as raised:
                async with core.session("s") as session:
                    await session.turn("Go on").run()
            assert "read-only" in str(raised.value) or "opened" in str(raised.value)
        finally:
            await core.aclose()
        folder.chmod(0o777)
        place.database.chmod(0o666)
        await _recalls(place)


@contextmanager
def a_small_disk() -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = Path(tempfile.mkdtemp())
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


async def test_a_full_disk_is_said_to_be_full_and_harms_nothing(tmp_path: Path) -> None:
    """No turn is half stored; once there is room, the same session goes on in the same core."""
    with a_small_disk() as disk:
        place = Place("sqlite", disk / "agents.db")
        await _remember(place)
        ballast = disk / "ballast"
        async with a_core(place, ScriptedProvider()) as core, core.session("s") as session:
            _fill(ballast)
            with pytest.raises(EmbedError) as raised:
                await session.turn("x" * 300_000).run()
            assert raised.value.code == "store_commit_failed"
            assert "full" in str(raised.value)
            assert lines(session) == ["user: Pack", "assistant: Coat."]
            ballast.unlink()
            await goes_on(session)
        await _recalls(place)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


@contextmanager
def no_file_may_grow_beyond(size: int) -> Iterator[None]:
    """A quota: writing further fails like a disk that fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_an_answer_that_cannot_be_stored_is_not_lost_sight_of(database: Path) -> None:
    """The commit failed, so the turn is unsettled: closed as interrupted, with its question."""
    on_disk = Place("inline", database)
    await _remember(on_disk)
    huge = ScriptedProvider([Call.text("y" * 2_000_000)])
    async with a_core(on_disk, huge) as core, core.session("s") as session:
        with no_file_may_grow_beyond(1_000_000), pytest.raises(RuntimeFailure) as raised:
            await session.turn("Talk").turn_id("t-1").run()
        assert raised.value.code == "store_commit_failed"
        assert lines(session) == ["user: Pack", "assistant: Coat."]
        await goes_on(session)
        assert lines(session)[2] == "user: Talk"
        closed = await session.turn("Talk").turn_id("t-1").run()
        assert closed.stop_reason is StopReason.INTERRUPTED
    await _recalls(on_disk)


async def test_a_commit_that_failed_is_made_again_from_the_journal(on_disk: Place) -> None:
    """The question waits for its answer: whoever uses the session next gets it one."""
    await _remember(on_disk)
    provider = ScriptedProvider([Call.text("y" * 2_000_000), Call.text("short")])
    async with a_core(on_disk, provider) as core, core.session("s") as session:
        with no_file_may_grow_beyond(1_000_000), pytest.raises(RuntimeFailure) as raised:
            await session.turn("Talk").turn_id("t-1").run()
        assert raised.value.code == "store_commit_failed"
        again = await session.turn("Talk").turn_id("t-1").run()
        assert again.assistant_message == "short"
        await goes_on(session)
        assert lines(session)[2:4] == ["user: Talk", "assistant: short"]
    await _recalls(on_disk)


async def test_a_commit_that_failed_does_not_hold_the_session(database: Path) -> None:
    """Another handle or core goes on at once, instead of waiting for a lease to lapse."""
    on_disk = Place("inline", database)
    huge = ScriptedProvider([Call.text("y" * 2_000_000)])
    async with a_core(on_disk, huge) as core:
        async with core.session("s") as session:
            with no_file_may_grow_beyond(1_000_000), pytest.raises(RuntimeFailure):
                await session.turn("Talk").run()
        async with core.session("s") as session:
            assert lines(session) == ["user: Talk"]
            await goes_on(session)
        async with core.session("t") as session:
            huge.extend([Call.text("y" * 2_000_000)])
            with no_file_may_grow_beyond(1_000_000), pytest.raises(RuntimeFailure):
                await session.turn("Talk").run()
    async with a_core(on_disk, huge) as core, core.session("t") as session:
        assert lines(session) == ["user: Talk"]
        await goes_on(session)


async def test_a_storage_belongs_to_one_event_loop(on_disk: Place) -> None:
    """A second loop in a second thread gets told so, instead of locking up."""
    storage = SqliteStorage(on_disk.database)
    core = on_disk.builder(ScriptedProvider()).storage(storage).build()

    async def elsewhere() -> str:
        with pytest.raises(EmbedError) as raised:
            await core.session("s").open()
        return raised.value.code

    async with core:
        code = await anyio.to_thread.run_sync(asyncio.run, elsewhere())
    assert code == "storage_wrong_loop"


async def test_a_core_can_be_started_again_after_its_file_was_mended(database: Path) -> None:
    """A start that failed leaves nothing half open."""
    database.mkdir()
    core = Place("sqlite", database).builder(ScriptedProvider([Call.text("yes")])).build()
    with pytest.raises(StoreFailure):
        await core.start()
    database.rmdir()
    async with core, core.session("s") as session:
        assert (await session.turn("hello").run()).assistant_message == "yes"
