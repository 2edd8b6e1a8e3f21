"""The books of all sessions of one storage, with the clock and the ids they are kept by."""

from ...ports.clock import Clock, SystemClock
from ...ports.ids import IdSource, SystemIds
from ...ports.store_errors import StoreBackendError
from ._book import Numbers, SessionBook


class Library:
    """Holds every session's book as long as the storage object lives, closed or open."""

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()
        self.ids: IdSource = SystemIds()
        self.is_open = False
        self._books: dict[str, SessionBook] = {}
        self._numbers = Numbers()

    def book(self, session_id: str) -> SessionBook:
        """The book of a session, begun when it is first asked for."""
        self.check_open()
        book = self._books.get(session_id)
        if book is None:
            book = self._books[session_id] = SessionBook(session_id, self._numbers)
        return book

    def books(self) -> tuple[SessionBook, ...]:
        """The books that were begun, whether their sessions were created or not."""
        self.check_open()
        return tuple(self._books.values())

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

    def check_open(self) -> None:
        """Raise `StoreBackendError` unless the storage is open."""
        if not self.is_open:
            raise StoreBackendError("the memory storage is not open: call open() first")
