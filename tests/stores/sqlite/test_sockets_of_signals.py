"""How storages on one file tell each other: their sockets, and all that can be wrong with them."""

import gc
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from lash_runtime.ports.leases import LeaseAcquired
from lash_runtime.ports.signals import SignalFilter, SignalKind, StoreSignal
from lash_runtime.ports.waiting import SAFETY_LOOK_S, wait_until
from lash_runtime.stores.signal_marks import mark_of
from lash_runtime.stores.sqlite import SqliteStorage
from lash_runtime.stores.sqlite._datagrams import MAX_BYTES, MOST_MARKS, datagram_of, marks_in
from lash_runtime.stores.sqlite._peers import MOST_PEERS
from lash_runtime.stores.sqlite._socket_folder import named_after
from lash_runtime.testing import RecordingClock
from lash_runtime.testing.conformance._samples import BOB, a_store, hold
from stores.sqlite.listening import (
    FREE,
    LANE_FREE,
    NOBODYS,
    a_change,
    a_temporary_directory,
    everything_in,
    heard,
    root,
    settled,
    sockets,
    the_folder,
    the_socket,
    two_storages,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path) -> Iterator[Path]:
    """The temporary directory of this test."""
    with a_temporary_directory() as place:
        yield place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agents.db"


# --- the folder ---------------------------------------------------------------------------------


async def test_only_those_who_listen_have_a_socket(path: Path, temporary: Path) -> None:
    """Whoever waits for nothing leaves nothing behind, and costs a commit nothing."""
    async with two_storages(path) as (here, there):
        await a_change(here)
        assert everything_in(temporary) == []
        with there.signals.listen(FREE), there.signals.listen(FREE):
            assert len(sockets()) == 1
            for folder in (root(), the_socket().parent):
                assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert len(sockets()) == 1, "it is kept for the next listener"
    assert everything_in(temporary) == []


async def test_each_file_has_a_folder_of_its_own_however_it_is_named(
    path: Path, tmp_path: Path
) -> None:
    """A link leads to the same database; what happens in another one wakes nobody."""
    link = tmp_path / "link.db"
    link.symlink_to(path)
    async with (
        SqliteStorage(path) as here,
        SqliteStorage(link) as linked,
        SqliteStorage(tmp_path / "another.db") as another,
    ):
        with linked.signals.listen(FREE) as told, another.signals.listen(FREE):
            assert len({found.parent for found in sockets()}) == 2
            await settled(told)
            await a_change(another)
            await a_change(here)
            assert await heard(told)


@pytest.mark.parametrize("first", [0, 1, 2])
async def test_closing_in_any_order_removes_everything(
    path: Path, temporary: Path, first: int
) -> None:
    """The last that leaves clears away; the others go on hearing."""
    storages = [SqliteStorage(path) for _ in range(3)]
    for storage in storages:
        await storage.open()
    subscriptions = [storage.signals.listen(FREE) for storage in storages]
    order = [*range(first, 3), *range(first)]
    for left, number in enumerate(order[:-1], 1):
        await storages[number].aclose()
        await a_change(storages[order[-1]])
        for other in order[left:]:
            assert await heard(subscriptions[other])
        assert len(sockets()) == 3 - left
    await storages[order[-1]].aclose()
    assert everything_in(temporary) == []
    for subscription in subscriptions:
        assert not subscription.take()
        subscription.close()


async def test_a_storage_can_be_closed_and_opened_again(path: Path, temporary: Path) -> None:
    """Its signals are those of whatever it has open."""
    async with SqliteStorage(path) as here:
        storage = SqliteStorage(path)
        for _ in range(3):
            async with storage:
                with storage.signals.listen(FREE) as told:
                    await a_change(here)
                    assert await heard(told)
    assert everything_in(temporary) == []


async def test_a_forgotten_storage_takes_its_socket_with_it(path: Path, temporary: Path) -> None:
    """The warning is its own; nothing is left that anybody would send to."""
    storage = SqliteStorage(path)
    await storage.open()
    storage.signals.listen(FREE).close()
    assert len(sockets()) == 1
    with pytest.warns(ResourceWarning, match="never closed"):
        del storage
        gc.collect()
    await anyio.wait_all_tasks_blocked()
    assert everything_in(temporary) == []


async def test_a_folder_that_vanishes_is_made_again_for_the_next_listener(path: Path) -> None:
    """Somebody tidies the temporary directory while the program runs."""
    async with two_storages(path) as (here, there):
        with there.signals.listen(FREE) as deaf:
            folder = the_socket().parent
            the_socket().unlink()
            folder.rmdir()
            root().rmdir()
            await a_change(here)
            with there.signals.listen(FREE) as told:
                await a_change(here)
                assert await heard(told)
                assert await heard(deaf)


def make_it_a_file(place: Path) -> None:
    place.write_text("", "utf-8")


def make_it_a_link(place: Path) -> None:
    (place.parent / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(place.parent / "elsewhere")


def make_it_open_to_others(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)


def give_it_to_another(place: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    place.mkdir(mode=0o700)
    os.chown(place, 65534, 65534)


@pytest.mark.parametrize(
    "hijack", [make_it_a_file, make_it_a_link, make_it_open_to_others, give_it_to_another]
)
async def test_a_folder_that_is_not_ours_alone_is_not_used(
    path: Path, temporary: Path, hijack: object
) -> None:
    """Anybody may have made it first. Nothing is put there, sent there or removed there, and
    listeners hear by other means."""
    hijack(root())  # type: ignore[operator]
    async with two_storages(path) as (here, there):
        planted = []
        if root().is_dir():
            trap = the_folder(here)
            trap.mkdir()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as trapped:
                trapped.setblocking(False)
                trapped.bind(str(trap / named(0)))
                await a_change(here)
                with pytest.raises(BlockingIOError):
                    trapped.recv(1)
            await a_change(here)
            planted = [trap, trap / named(0)]
        before = everything_in(temporary)
        assert [found for found in planted if not found.exists()] == []
        with there.signals.listen(FREE) as told:
            await settled(told)
            await a_change(here)
            assert await heard(told)
            assert everything_in(temporary) == before


async def test_a_path_that_is_too_long_for_a_socket_is_survived(
    path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Systems differ in what they allow; some have long temporary directories."""
    long = temporary / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    async with two_storages(path) as (here, there):
        with there.signals.listen(FREE) as told:
            await settled(told)
            await a_change(here)
            assert await heard(told)


async def test_what_else_is_in_the_folder_is_left_alone(path: Path) -> None:
    """Only a socket that refuses what is sent to it is dead."""
    async with two_storages(path) as (here, there):
        with there.signals.listen(FREE) as told:
            await settled(told)
            mine = the_socket()
            folder = mine.parent
            (folder / "notes.txt").write_text("", "utf-8")
            (folder / named(1)).write_text("looks like a socket", "utf-8")
            (folder / named(2)).mkdir()
            (folder / named(3)).symlink_to(path)
            os.mkfifo(folder / named(4))
            os.mkfifo(folder / f"{named(4)}f")
            os.mkfifo(folder / ("x" * 200))
            stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            stream.bind(str(folder / named(5)))
            dead = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            dead.bind(str(folder / named(6)))
            dead.close()
            before = set(everything_in(folder))
            here.signals._peers._known_until = 0
            await a_change(here)
            assert await heard(told)
            assert before - set(everything_in(folder)) == {folder / named(6)}
            stream.close()
        for left in everything_in(folder):
            if left != mine:
                left.rmdir() if left.is_dir() and not left.is_symlink() else left.unlink()
    assert not root().exists()


async def test_what_the_killed_have_left_is_cleared_away_by_the_next_listener(path: Path) -> None:
    """Whatever they wanted to hear of: nobody may ever announce that."""
    async with two_storages(path) as (here, there):
        with here.signals.listen(FREE):
            for number in range(2 * MOST_PEERS):
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as killed:
                    kind = SignalKind.LANE_FREE if number % 2 else SignalKind.WAIT_RESOLVED
                    killed.bind(str(the_folder(there) / named(number, kind)))
            assert len(sockets()) == 1 + 2 * MOST_PEERS
            with there.signals.listen(FREE) as told:
                assert len(sockets()) == 2
                await a_change(here)
                assert await heard(told)


def named(number: int, *kinds: SignalKind) -> str:
    """The name of a socket that wants to hear of those kinds, of all if there are none."""
    signals = [StoreSignal(kind, "") for kind in kinds or SignalKind]
    return named_after(f"{number:016x}-", [mark_of(signal).kind for signal in signals])


# --- telling ------------------------------------------------------------------------------------


@pytest.fixture
def stuck(path: Path) -> Iterator[list[socket.socket]]:
    """Sockets that nobody reads; a test puts them where it wants."""
    made: list[socket.socket] = []
    yield made
    for each in made:
        each.close()


async def test_those_who_do_not_read_silence_nobody(path: Path, stuck: list[socket.socket]) -> None:
    """Processes that were stopped, or have hung: what they have not read is their own affair."""
    async with two_storages(path) as (here, there):
        with there.signals.listen(FREE) as told:
            await settled(told)
            folder = the_socket().parent
            for number in range(60):
                stuck.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                stuck[-1].bind(str(folder / named(number)))
            for _ in range(40):
                await a_change(here)
                assert await heard(told)


async def test_nobody_is_woken_for_what_nobody_waits_for_there(
    path: Path, stuck: list[socket.socket]
) -> None:
    """Many processes have a database open, and few of them wait for any one thing."""
    async with two_storages(path) as (here, there):
        with there.signals.listen(FREE) as told:
            await settled(told)
            for number, kind in enumerate((SignalKind.TURN_SETTLED, SignalKind.LANE_FREE)):
                stuck.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                stuck[-1].setblocking(False)
                stuck[-1].bind(str(the_folder(there) / named(number, kind)))
            here.signals._peers._known_until = 0
            here.signals.announce(LANE_FREE)
            assert await heard(told)
            of_settled, of_free = stuck
            assert marks_in(of_free.recv(MAX_BYTES)) == [mark_of(LANE_FREE)]
            with pytest.raises(BlockingIOError):
                of_settled.recv(MAX_BYTES)


async def test_one_who_wants_to_hear_of_more_goes_on_hearing(path: Path) -> None:
    """Senders find out by themselves, also those that have just looked."""
    async with two_storages(path) as (here, there):
        with ExitStack() as listening:
            of_free = listening.enter_context(there.signals.listen(FREE))
            await settled(of_free)
            for kind in SignalKind:
                here.signals.announce(NOBODYS)
                wanted = SignalFilter.of(kind, session_id="s")
                told = listening.enter_context(there.signals.listen(wanted))
                of_free.take()
                here.signals.announce(LANE_FREE)
                assert await heard(of_free)
                told.take()
                here.signals.announce(StoreSignal(kind, "s"))
                assert await heard(told)
            assert len(sockets()) == 1


async def test_what_did_not_fit_is_looked_for(path: Path) -> None:
    """A listener that was busy may have been refused the one signal that was for it."""
    async with two_storages(path) as (here, there):
        with there.signals.listen(FREE) as told:
            await settled(told)
            for _ in range(1_000):
                here.signals.announce(NOBODYS)
            here.signals.announce(LANE_FREE)
            assert await heard(told)


async def test_what_others_are_told_wakes_nobody(path: Path) -> None:
    """As long as everything fits."""
    async with two_storages(path) as (here, there):
        other = SignalFilter.of(SignalKind.LANE_FREE, session_id=NOBODYS.session_id)
        with there.signals.listen(FREE) as told, there.signals.listen(other) as of_other:
            await settled(told)
            await settled(of_other)
            for _ in range(100):
                here.signals.announce(NOBODYS)
                assert await heard(of_other)
            assert not told.take()


async def test_one_who_stops_listening_is_not_woken_and_holds_nobody_up(path: Path) -> None:
    """It is not read any more, fills, and is passed over; listening again is hearing again."""
    async with two_storages(path) as (here, there):
        with there.signals.listen(FREE) as told:
            await settled(told)
        for _ in range(3):
            for _ in range(100):
                here.signals.announce(LANE_FREE)
                await checkpoint()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)
                with pytest.raises(BlockingIOError):
                    out.sendto(b"\x01", str(the_socket()))
            with there.signals.listen(FREE) as told:
                here.signals.announce(LANE_FREE)
                assert await heard(told)
                for _ in range(100):
                    told.take()
                    here.signals.announce(LANE_FREE)
                    assert await heard(told)


async def test_a_listener_that_has_just_come_is_not_overlooked(path: Path) -> None:
    """Senders go by what they found a moment ago; what they commit meanwhile is found all the
    same."""
    for _ in range(5):
        async with two_storages(path) as (here, there):
            await a_change(here)
            here.signals.announce(NOBODYS)
            with there.signals.listen(FREE) as told:
                await a_change(here)
                assert await heard(told)


async def test_a_wait_ends_though_every_signal_is_lost(path: Path) -> None:
    """Nothing arrives where nobody finds the socket; the waiter looks by itself."""
    async with two_storages(path) as (here, there):
        store, clock = await a_store(here), RecordingClock()
        lease = await hold(store)
        with there.signals.listen(FREE) as told:
            await settled(told)
        looks = 0

        async def is_free() -> bool:
            nonlocal looks
            looks += 1
            if looks == 1:
                the_socket().unlink()
                await store.release_session_execution_lease(lease.fence())
                return False
            claimed = await (await a_store(there)).try_claim_session_execution_lease(
                "s", BOB, 1_000
            )
            return isinstance(claimed, LeaseAcquired)

        assert await wait_until(is_free, there.signals, FREE, clock=clock)
        assert (looks, clock.sleeps) == (2, [SAFETY_LOOK_S])


@pytest.mark.parametrize(
    "datagram",
    [b"", b"\x00", b"\x02later", b"\x01short", b"\xff" * (MAX_BYTES + 5), b"\x01"],
)
async def test_what_cannot_be_read_is_a_reason_to_look(path: Path, datagram: bytes) -> None:
    """It may come from a later release, and a hint may be about nothing."""
    async with SqliteStorage(path) as storage:
        with storage.signals.listen(FREE) as told:
            await settled(told)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(datagram, str(the_socket()))
            assert await heard(told)


def test_datagrams_are_small_and_say_what_they_were_given() -> None:
    """However long the ids; and more than fits is told in a byte."""
    signals = [
        StoreSignal(kind, name * 5_000, turn)
        for kind in SignalKind
        for name in ("s", "\U0001f9ed")
        for turn in (None, "t" * 10_000)
    ]
    marks = [mark_of(signal) for signal in signals]
    datagram = datagram_of(marks)
    assert marks_in(datagram) == marks
    assert len(set(marks)) == len(signals)
    assert len(datagram) <= 20 * len(signals)
    many = marks * MOST_MARKS
    assert len(datagram_of(many[:MOST_MARKS])) == MAX_BYTES < 5_000
    assert marks_in(datagram_of(many)) is None


async def test_a_process_without_descriptors_commits_all_the_same(path: Path) -> None:
    """It cannot tell anybody, and they will look by themselves."""
    import resource

    async with two_storages(path) as (here, there):
        with there.signals.listen(FREE) as told:
            await settled(told)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            peers = here.signals._peers.present()
            assert len(peers) == 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                here.signals.announce(LANE_FREE)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            here.signals.announce(LANE_FREE)
            assert await heard(told)
