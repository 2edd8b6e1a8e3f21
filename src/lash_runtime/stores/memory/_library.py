"""The books of all sessions of one storage, with the clock and the ids they are kept by."""

from ...model.records import dataclass
from ...ports.clock import Clock, SystemClock
from ...ports.ids import IdSource, SystemIds
from ...ports.signals import SignalKind, StoreSignal
from ...ports.store_errors import StoreBackendError, StoredSessionDeleted
from ..local_signals import LocalSignals
from ..owner import StorageOwner
from ._book import Numbers, SessionBook


@dataclass(frozen=True, slots=True)
class _Grave:
    """What must be known of the sessions that had an id before."""

    generation: int = 0
    last_token: int = 0


class Library:
    """Holds every session's book as long as the storage object lives, closed or open."""

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()
        self.ids: IdSource = SystemIds()
        self.signals = LocalSignals(hears_all=True, check=self.check_open)
        self._owner: StorageOwner | None = None
        self._books: dict[str, SessionBook] = {}
        self._graves: dict[str, _Grave] = {}
        self._numbers = Numbers()

    def book(self, session_id: str) -> SessionBook:
        """The book of a session, begun when it is first asked for."""
        self.check_open()
        book = self._books.get(session_id)
        if book is None:
            grave = self._graves.get(session_id, _Grave())
            book = self._books[session_id] = SessionBook(
                session_id,
                self._numbers,
                self.signals.announce,
                generation=grave.generation + 1,
                last_token=grave.last_token,
            )
        return book

    def books(self) -> tuple[SessionBook, ...]:
        """The books that were begun, whether their sessions were created or not."""
        self.check_open()
        return tuple(self._books.values())

    def generation(self, session_id: str) -> int:
        """The one that the session is in, or would begin in. Asking begins nothing."""
        self.check_open()
        book = self._books.get(session_id)
        if book is not None:
            return book.generation
        return self._graves.get(session_id, _Grave()).generation + 1

    def last_generation(self, session_id: str) -> int:
        """The one that the session is in, or was in last; the first one for an unused id."""
        self.check_open()
        book = self._books.get(session_id)
        if book is not None:
            return book.generation
        grave = self._graves.get(session_id)
        return 1 if grave is None else grave.generation

    def bury(self, session_id: str) -> SessionBook | None:
        """Take the book of a session away, if there is one; its id goes on in a new one."""
        self.check_open()
        book = self._books.pop(session_id, None)
        if book is not None:
            self._graves[session_id] = _Grave(book.generation, book.lane.counter)
            self.signals.announce(StoreSignal(SignalKind.SESSION_DELETED, session_id))
        return book

    def exists(self, session_id: str) -> bool:
        """Whether the session was created. Asking creates nothing."""
        self.check_open()
        book = self._books.get(session_id)
        return book is not None and book.exists

    def now_ms(self) -> int:
        return self.clock.timestamp_ms()

    def token(self) -> str:
        """A new lease token."""
        return self.ids.hex()

    def open(self) -> None:
        """Belong to the caller's loop, unless another one that has not ended has it."""
        if self._owner is None or self._owner.has_ended:
            self._owner = StorageOwner()
        self._owner.check()

    def close(self) -> None:
        if self._owner is not None and not self._owner.has_ended:
            self._owner.check()
        self._owner = None
        self.signals.end()

    def check_open(self) -> None:
        """Raise `StoreBackendError` unless the storage is open, and as `StorageOwner.check`."""
        if self._owner is None:
            raise StoreBackendError("the memory storage is not open: call open() first")
        self._owner.check()


class SessionLibrary:
    """The library as one incarnation of one session may use it: not at all, once it is deleted."""

    __slots__ = ("_generation", "_library", "_session_id")

    def __init__(self, library: Library, session_id: str) -> None:
        self._library = library
        self._session_id = session_id
        self._generation = library.book(session_id).generation

    def book(self, session_id: str) -> SessionBook:
        """As `Library.book`. Raises `StoredSessionDeleted` when the session of this view is gone,
        whichever session is asked for."""
        if self._library.generation(self._session_id) != self._generation:
            raise StoredSessionDeleted(session_id=self._session_id)
        return self._library.book(session_id)

    def now_ms(self) -> int:
        return self._library.now_ms()

    def token(self) -> str:
        return self._library.token()
