"""Proof of death: who may be replaced before its lease lapses."""

import os
import subprocess
import sys

import pytest

from lash_runtime.ports.leases import LeaseOwnerIdentity, LocalProcessLiveness, OpaqueLiveness
from lash_runtime.stores.local_process import local_process_liveness, proven_dead, sight

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the facts come from /proc")

SAY_WHO = """
from lash_runtime.stores.local_process import local_process_liveness
print(local_process_liveness().model_dump_json(), flush=True)
input()
"""


SAY_WHO_BEFORE_AND_AFTER_A_FORK = """
import os
from lash_runtime.stores.local_process import local_process_liveness
print(local_process_liveness().model_dump_json(), flush=True)
if os.fork():
    os.wait()
    print(local_process_liveness().model_dump_json(), flush=True)
else:
    print(local_process_liveness().model_dump_json(), flush=True)
    os._exit(0)
"""


def an_owner(liveness: LocalProcessLiveness | OpaqueLiveness) -> LeaseOwnerIdentity:
    return LeaseOwnerIdentity(owner_id="o", incarnation_id="1", liveness=liveness)


def own_facts() -> LocalProcessLiveness:
    facts = local_process_liveness()
    assert isinstance(facts, LocalProcessLiveness)
    return facts


def test_a_running_process_is_not_dead() -> None:
    """Nobody loses a lane while it can still write."""
    child = subprocess.Popen(
        [sys.executable, "-c", SAY_WHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    holder = an_owner(LocalProcessLiveness.model_validate_json(child.stdout.readline()))
    assert not proven_dead(holder, an_owner(own_facts()))
    child.kill()
    child.communicate()
    assert proven_dead(holder, an_owner(own_facts()))


def test_a_fork_is_another_process() -> None:
    """A child that went by its parent's facts would pass for dead as soon as the parent is."""
    told = subprocess.run(
        [sys.executable, "-c", SAY_WHO_BEFORE_AND_AFTER_A_FORK],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    before, child, after = map(LocalProcessLiveness.model_validate_json, told.stdout.splitlines())
    assert before == after
    assert child.pid != before.pid


def test_what_is_known_of_this_process_is_known_once() -> None:
    """Every session that is opened asks, and the answer is read from files."""
    assert own_facts() is own_facts()


def test_a_killed_process_that_nobody_collected_is_dead() -> None:
    """A zombie never runs again, however long its parent looks away."""
    child = subprocess.Popen(
        [sys.executable, "-c", SAY_WHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    holder = an_owner(LocalProcessLiveness.model_validate_json(child.stdout.readline()))
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert proven_dead(holder, an_owner(own_facts()))
    child.communicate()


def test_a_pid_that_was_given_to_another_process_proves_the_first_one_dead() -> None:
    """Pids are used again; the start time tells the two apart."""
    earlier = own_facts().model_copy(update={"process_start": "1"})
    assert proven_dead(an_owner(earlier), an_owner(own_facts()))


@pytest.mark.parametrize(
    "elsewhere", [{"host_id": "other"}, {"boot_id": "other"}, {"pid_namespace": "other"}]
)
def test_a_holder_of_another_process_table_is_never_proven_dead(
    elsewhere: dict[str, str],
) -> None:
    """What this table says of that pid is about somebody else."""
    gone = own_facts().model_copy(update={"process_start": "1", **elsewhere})
    assert not proven_dead(an_owner(gone), an_owner(own_facts()))


def test_an_opaque_owner_proves_nothing() -> None:
    """Only expiry frees its lease, and it can take nobody's early."""
    gone = an_owner(own_facts().model_copy(update={"process_start": "1"}))
    opaque = an_owner(OpaqueLiveness())
    assert not proven_dead(opaque, an_owner(own_facts()))
    assert not proven_dead(gone, opaque)


def test_a_pid_that_cannot_exist_is_seen_as_nothing() -> None:
    """Zero and negative numbers mean groups of processes to the kernel."""
    assert sight(0) is None
    assert sight(-1) is None
