"""The suites as a third party runs them: another process, another folder, a plugin's options."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BACKENDS = """
from lash_runtime.attachments import FileAttachmentStore
from lash_runtime.replay import InMemoryLiveReplayStore
from lash_runtime.stores.memory import MemoryStorage
from lash_runtime.stores.sqlite import SqliteStorage

def memory(directory):
    return MemoryStorage()

def sqlite(directory):
    return SqliteStorage(directory / "agents.db")

def files(directory, clock):
    return FileAttachmentStore(directory / "images", clock=clock)

class Forgetful(FileAttachmentStore):
    async def put(self, data, meta):
        return await super().put(data, meta.model_copy(update={"label": None}))

def forgetful(directory, clock):
    return Forgetful(directory / "images", clock=clock)

class Plain:
    def __init__(self, intact):
        self.durability_tier = intact.durability_tier
        self.put, self.get, self.delete = intact.put, intact.get, intact.delete

def plain(directory, clock):
    return Plain(files(directory, clock))

def replay(max_events, max_age_s, clock):
    return InMemoryLiveReplayStore.with_bounds(max_events, max_age_s, clock=clock)

nothing = None
"""

A_TEST_OF_THEIR_OWN = "def test_of_their_own():\n    pass\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Somebody's project: backends, and a test that has nothing to do with them."""
    (tmp_path / "backends.py").write_text(BACKENDS, "utf-8")
    (tmp_path / "test_theirs.py").write_text(A_TEST_OF_THEIR_OWN, "utf-8")
    return tmp_path


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    plugin = ("-p", "lash_runtime.testing.conformance.plugin", "-p", "no:cacheprovider")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugin, *arguments],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def collected(folder: Path, *arguments: str) -> list[str]:
    finished = run(folder, "--collect-only", *arguments)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return [line.split("::", 1)[1] for line in finished.stdout.splitlines() if "::" in line]


def test_a_backend_that_keeps_the_rules_passes(folder: Path) -> None:
    """One option is all it takes."""
    finished = run(folder, "--lash-attachments=backends:files", "--lash-durable")
    assert finished.returncode == 0, finished.stdout
    assert re.search(r"\d\d passed", finished.stdout)


def test_a_backend_that_breaks_a_rule_is_told_which(folder: Path) -> None:
    """The case is named after the rule, and its assertion says what was found instead."""
    finished = run(folder, "--lash-attachments=backends:forgetful")
    assert finished.returncode == 1
    failed = re.findall(r"^FAILED .*::(\w+)", finished.stdout, re.MULTILINE)
    assert "test_bytes_come_back_as_they_were" in failed
    assert "None != 'Oslo'" in finished.stdout


def test_what_a_backend_does_without_has_to_be_said(folder: Path) -> None:
    """A part that is missing by mistake must not pass for one that is missing on purpose."""
    plain = "--lash-attachments=backends:plain"
    undeclared = run(folder, plain)
    assert undeclared.returncode == 1
    assert re.search(r"\d+ errors?", undeclared.stdout), undeclared.stdout
    declared = run(folder, plain, "--lash-without=sweep", "-rs")
    assert declared.returncode == 0, declared.stdout
    assert "attachments of this backend cannot be swept" in declared.stdout


def test_a_storage_is_held_to_every_case(folder: Path) -> None:
    """A durable one to more of them."""
    inline = collected(folder, "--lash-storage=backends:memory")
    durable = collected(folder, "--lash-storage=backends:sqlite", "--lash-durable")
    names = {name.split("::")[1] for name in inline}
    suites = {"TestStorage", "TestAwaitEvents"}
    assert {name.split("::")[0] for name in inline} == suites
    suites = {"TestDurableStorage", "TestAwaitEvents", "TestDurableAwaitEvents"}
    assert {name.split("::")[0] for name in durable} == suites
    assert len(names) > 250
    assert names < {name.split("::")[1] for name in durable}


def test_a_storage_that_claims_to_be_durable_and_is_not_is_caught(folder: Path) -> None:
    """Each handle on it begins with nothing, and the cases of several handles notice."""
    cases = ("waits_is_there", "dead_holder_claimed", "claimed_through_two", "one_through_two")
    backend = ("--lash-storage=backends:memory", "--lash-durable")
    finished = run(folder, *backend, "-k", " or ".join(cases))
    assert finished.returncode == 1
    failed = re.findall(r"^FAILED .*::(\w+)", finished.stdout, re.MULTILINE)
    assert len(failed) == len(cases), finished.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--lash-storage=backends:memory",),
        ("--lash-storage=backends:sqlite", "--lash-durable"),
        ("--lash-replay=backends:replay",),
    ],
)
def test_the_cases_run_on_what_was_named(folder: Path, arguments: tuple[str, ...]) -> None:
    """Some of them; that all of them pass is what the other modules here show."""
    some = "source_key or lane_again or cursor"
    finished = run(folder, *arguments, "-k", some)
    assert finished.returncode == 0, finished.stdout
    assert re.search(r"[1-9]\d* passed", finished.stdout)


def test_ones_own_tests_run_only_when_they_are_named(folder: Path) -> None:
    """Pointing the kit at a backend is no run of everything else."""
    backend = "--lash-replay=backends:replay"
    alone = collected(folder, backend)
    assert "test_of_their_own" not in alone
    assert "test_of_their_own" in collected(folder, backend, "test_theirs.py")
    assert collected(folder) == ["test_of_their_own"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--lash-storage=backends",), "name it as module:factory"),
        (("--lash-storage=:memory",), "name it as module:factory"),
        (("--lash-storage=backends:never",), "has no attribute 'never'"),
        (("--lash-storage=nowhere:memory",), "No module named 'nowhere'"),
        (("--lash-storage=backends:nothing",), "cannot be called"),
        (("--lash-durable",), "needs one of --lash-storage"),
        (("--lash-without=sweep",), "needs one of --lash-storage"),
        (("--lash-storage=backends:memory", "--lash-without=turns"), "invalid choice"),
    ],
)
def test_a_backend_that_cannot_be_found_is_an_error_of_use(
    folder: Path, arguments: tuple[str, ...], says: str
) -> None:
    """It says what is wrong with the option, and no case fails for it."""
    finished = run(folder, *arguments)
    assert finished.returncode == pytest.ExitCode.USAGE_ERROR
    assert says in finished.stderr
    assert "Traceback" not in finished.stderr
