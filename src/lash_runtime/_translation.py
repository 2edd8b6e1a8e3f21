"""From the faults of the floors below to the errors of the public face. Nothing else leaves."""

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import (
    AttachmentFailure,
    CoreClosed,
    EmbedError,
    RuntimeFailure,
    SessionClosed,
    SessionDeleted,
    SessionNotDurable,
    SessionStillInUse,
    StoreFailure,
    StoreSessionMismatch,
)
from .ports.attachments import AttachmentStoreError
from .ports.effect_errors import EffectControllerError
from .ports.store_errors import StoredSessionDeleted, StoreError
from .runtime.faults import (
    RuntimeFault,
    SessionHasNoStore,
    SessionInUse,
    SessionIsClosed,
    SessionIsDeleted,
    StoreOfAnotherSession,
)


@contextmanager
def translated() -> Iterator[None]:
    """Raise what a host may see in place of what the block raised, with the same code."""
    try:
        yield
    except RuntimeFault as fault:
        raise error_of_fault(fault) from fault
    except StoredSessionDeleted as error:
        raise SessionDeleted(session_id=error.session_id) from error
    except StoreError as error:
        raise StoreFailure(error.code, str(error)) from error
    except EffectControllerError as error:
        raise RuntimeFailure(error.code, error.message) from error
    except AttachmentStoreError as error:
        raise AttachmentFailure(f"attachment_{error.code}", str(error)) from error


def error_of_fault(fault: RuntimeFault) -> EmbedError:
    """The public error for a fault: one of its own where a host may want to catch it by class."""
    match fault:
        case SessionIsClosed():
            return SessionClosed(session_id=fault.session_id)
        case SessionIsDeleted():
            return SessionDeleted(session_id=fault.session_id)
        case SessionInUse():
            return SessionStillInUse(
                session_id=fault.session_id, clones=fault.handles, turns=fault.turns
            )
        case SessionHasNoStore():
            return SessionNotDurable(session_id=fault.session_id, operation=fault.operation)
        case StoreOfAnotherSession():
            return StoreSessionMismatch(loaded=fault.loaded, requested=fault.requested)
        case _ if fault.code == "core_closed":
            return CoreClosed()
        case _:
            return RuntimeFailure(fault.code, fault.message)
