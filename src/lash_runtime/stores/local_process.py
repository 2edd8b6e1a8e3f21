"""What the process table of this machine says: who this process is, and whether another lives.

Rule 1: anything short of a proof is "alive". A table that cannot be read, or that hides the
processes of other users, proves nothing.
Rule 2: only Linux gives the facts. Elsewhere a process is opaque and its leases end by expiry.
"""

import os
import sys
from functools import cache
from pathlib import Path
from typing import Final

from ..kernel.lease_rules import ProcessSighting, death_is_proven
from ..ports.leases import (
    LeaseOwnerIdentity,
    LeaseOwnerLiveness,
    LocalProcessLiveness,
    OpaqueLiveness,
)

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE: Final = "/proc/self/ns/pid"

# Positions after the command's name in a stat line, which may itself contain blanks and brackets.
_STATE, _THREADS, _START = 0, 17, 19
_ENDED: Final = frozenset("ZXx")


def local_process_liveness() -> LeaseOwnerLiveness:
    """The facts by which the death of this process can be proven later."""
    try:
        return _own_facts()
    except (OSError, ValueError):
        return OpaqueLiveness()


def sight(pid: int) -> ProcessSighting | None:
    """What the process table says of `pid`; `None` when it says nothing that can be relied on."""
    if sys.platform != "linux" or pid <= 0:
        return None
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ProcessSighting(start=None) if _is_absent(pid) else None
    except OSError:
        return None
    fields = line.rpartition(") ")[2].split()
    if len(fields) <= _START:
        return None
    # A first thread that is over while others run on shows as a zombie, but the process lives.
    ended = fields[_STATE] in _ENDED and fields[_THREADS] in ("0", "1")
    return ProcessSighting(start=fields[_START], ended=ended)


def proven_dead(holder: LeaseOwnerIdentity, claimant: LeaseOwnerIdentity) -> bool:
    """Whether `holder` is a process of this machine that can never write again."""
    match holder.liveness, claimant.liveness:
        case LocalProcessLiveness() as theirs, LocalProcessLiveness() as ours:
            return death_is_proven(theirs, ours, sight(theirs.pid))
        case _:
            return False


@cache
def _own_facts() -> LocalProcessLiveness:
    """Read once, and shared by all that this process owns: each file that is read lets go of the
    interpreter's lock, which a busy database thread then keeps."""
    pid = os.getpid()
    here = sight(pid)
    if here is None or here.start is None:
        raise ValueError("the process table does not tell when this process began")
    return LocalProcessLiveness(
        host_id=os.uname().nodename,
        boot_id=_BOOT_ID.read_text(encoding="ascii").strip(),
        pid=pid,
        process_start=here.start,
        pid_namespace=os.readlink(_PID_NAMESPACE),
    )


# A child is another process, also where it has the same number in a namespace of its own.
os.register_at_fork(after_in_child=_own_facts.cache_clear)


def _is_absent(pid: int) -> bool:
    """Ask the kernel itself: a mounted table may leave out what belongs to other users."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
