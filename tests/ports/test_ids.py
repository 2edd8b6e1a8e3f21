"""Ids are unique, also where one would expect them not to be."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from lash_runtime.ports.ids import SystemIds


def test_an_id_is_a_version_4_uuid() -> None:
    """Hosts store ids in columns that take nothing else."""
    drawn = UUID(SystemIds().uuid())
    assert (drawn.version, drawn.variant) == (4, "specified in RFC 4122")


def test_threads_never_draw_the_same_id() -> None:
    """Randomness is drawn in advance and shared, so each piece is given out once."""
    start = threading.Barrier(8)

    def draw(_: int) -> list[str]:
        start.wait()
        return [SystemIds().hex() for _ in range(2_000)]

    with ThreadPoolExecutor(8) as threads:
        drawn = [one for many in threads.map(draw, range(8)) for one in many]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_draws_other_ids_than_its_parent() -> None:
    """Two processes that share a session must not share lease tokens or turn ids."""
    SystemIds().hex()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, SystemIds().hex().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read()
    os.waitpid(child, 0)
    assert theirs != SystemIds().hex()
