"""Processes that are quick to start, for tests that kill many."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, Final

import pytest

REPORT_TIMEOUT_S: Final = 120
"""How long a child may take to say something before the test gives up on it."""


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    return process_server()


def process_server() -> ForkServerContext:
    """A server that has the library loaded and forks a fresh process from it in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["crash.workload", "crash.queue_workload", "crash.crowd", "crash.warm"]
    )
    # The server imports before it is told the path of its parent, so it has to inherit one.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context


def ask(processes: ForkServerContext, work: Callable[..., None], *args: object) -> Any:
    """Run `work(*args, pipe)` in a process of its own and return the one thing it sends."""
    return together(processes, work, [args])[0]


def together(
    processes: ForkServerContext, work: Callable[..., None], each: Sequence[tuple[object, ...]]
) -> list[Any]:
    """Run `work` at the same time in a process for each of the arguments; what each has sent."""
    started = [start(processes, work, args) for args in each]
    answers = []
    for child, ours in started:
        with ours:
            assert ours.poll(REPORT_TIMEOUT_S), f"{work.__name__} said nothing"
            answers.append(ours.recv())
        child.join()
        assert child.exitcode == 0
    return answers


def start(
    processes: ForkServerContext, work: Callable[..., None], args: tuple[object, ...]
) -> tuple[ForkServerProcess, Connection]:
    """Run `work(*args, pipe)` in a process of its own; the process, and our end of the pipe."""
    ours, theirs = processes.Pipe()
    child = processes.Process(target=work, args=(*args, theirs), daemon=True)
    child.start()
    theirs.close()
    return child, ours
