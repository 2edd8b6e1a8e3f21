"""Where the files of an attachment are, and the steps by which they get there and go away.

    <root>/sha256/<first two digits>/<id>          the bytes
    <root>/sha256/<first two digits>/<id>.json     what is known of them
    <root>/retired/<id>.<sweep>.bytes              the same two, set aside by a sweep
    <root>/retired/<id>.<sweep>.json
    <root>/staged/<any>                            a file that is being written

Rule 1: a file appears under its name whole and flushed, or not at all: it is written under a
name of its own, flushed, and renamed; the folder is flushed after that.
Rule 2: only 64 hex digits are an id. Nothing else ever becomes part of a path.
Rule 3: everything here blocks and is called in a thread. Other processes may do the same at the
same moment; whoever finds a file gone that was there an instant ago goes on without it.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

_ID: Final = re.compile(r"[0-9a-f]{64}")
_SWEEP: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
_SIDECAR: Final = ".json"
_BYTES: Final = ".bytes"


def is_id(attachment_id: str) -> bool:
    return _ID.fullmatch(attachment_id) is not None


class AttachmentFiles:
    """The files below one root. Every id that is passed in has been checked with `is_id`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._live = root / "sha256"
        self._retired = root / "retired"
        self._staged = root / "staged"

    def tidy(self, older_than_ns: int) -> None:
        """Remove what a crash has left half-written, unless it is younger than that."""
        for path in self._staged.glob("*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime_ns <= older_than_ns:
                    path.unlink()

    def write(self, attachment_id: str, data: bytes, sidecar: str, stored_at_ns: int) -> None:
        """Store the bytes unless they are there, and what is known of them in any case."""
        path = self._path(attachment_id)
        self._make_folder(path.parent)
        # Looked for only here, after the caller has noted its intent: a sweep that takes the
        # file away after this moment finds the intent and puts it back.
        try:
            os.utime(path, ns=(stored_at_ns, stored_at_ns))
        except FileNotFoundError:
            self._place(path, data, stored_at_ns)
        self._place(_beside(path), sidecar.encode(), stored_at_ns)
        _flush_folder(path.parent)

    def read(self, attachment_id: str) -> tuple[bytes | None, str | None]:
        """The bytes and what is known of them, set aside or not; `None` for what is missing."""
        path = self._path(attachment_id)
        return self._read_either(path, _BYTES), _text(self._read_either(_beside(path), _SIDECAR))

    def delete(self, attachment_id: str) -> None:
        path = self._path(attachment_id)
        for file in (path, _beside(path), *self._aside(attachment_id)):
            file.unlink(missing_ok=True)
        _flush_folder(path.parent)

    def stored(self, older_than_ns: int) -> Iterator[str]:
        """The ids of bytes that were last written at that time or before, set aside or not."""
        live = (path for path in self._live.glob("*/*") if path.suffix != _SIDECAR)
        for path in (*live, *self._retired.glob(f"*{_BYTES}")):
            attachment_id = path.name.partition(".")[0]
            with suppress(FileNotFoundError):
                if is_id(attachment_id) and path.stat().st_mtime_ns <= older_than_ns:
                    yield attachment_id

    def retired(self) -> Iterator[str]:
        for path in self._retired.glob(f"*{_BYTES}"):
            if is_id(attachment_id := path.name.partition(".")[0]):
                yield attachment_id

    def retire(self, attachment_id: str, sweep_id: str) -> None:
        """Move both files aside. What another sweep has set aside becomes this one's."""
        if _SWEEP.fullmatch(sweep_id) is None:
            raise ValueError(f"a sweep's id is of letters, digits, '-' and '_', not {sweep_id!r}")
        path = self._path(attachment_id)
        for live, suffix in ((path, _BYTES), (_beside(path), _SIDECAR)):
            target = self._retired / f"{attachment_id}.{sweep_id}{suffix}"
            for source in (*self._aside(attachment_id, suffix), live):
                if source != target and source.exists():
                    self._make_folder(self._retired)
                    with suppress(FileNotFoundError):
                        source.replace(target)
        if self._retired.exists():
            _flush_folder(self._retired)

    def restore(self, attachment_id: str) -> None:
        """Move both files back, unless they were written anew."""
        path = self._path(attachment_id)
        for live, suffix in ((path, _BYTES), (_beside(path), _SIDECAR)):
            for source in self._aside(attachment_id, suffix):
                with suppress(FileNotFoundError):
                    if live.exists():
                        source.unlink()
                    else:
                        source.replace(live)
        if path.parent.exists():
            _flush_folder(path.parent)

    def discard(self, attachment_id: str, sweep_id: str) -> None:
        for suffix in (_BYTES, _SIDECAR):
            (self._retired / f"{attachment_id}.{sweep_id}{suffix}").unlink(missing_ok=True)

    def _path(self, attachment_id: str) -> Path:
        return self._live / attachment_id[:2] / attachment_id

    def _aside(self, attachment_id: str, suffix: str = "") -> list[Path]:
        return sorted(self._retired.glob(f"{attachment_id}.*{suffix}"))

    def _read_either(self, live: Path, suffix: str) -> bytes | None:
        # A sweep moves a file to and fro; the second look at its own place is for one that was
        # moved back between the first and the look aside.
        attachment_id = live.name.partition(".")[0]
        for _ in range(2):
            with suppress(FileNotFoundError):
                return live.read_bytes()
            for aside in self._aside(attachment_id, suffix):
                with suppress(FileNotFoundError):
                    return aside.read_bytes()
        return None

    def _place(self, path: Path, content: bytes, stored_at_ns: int) -> None:
        """Make `content` the file at `path` in one step. The name of its own keeps two writers
        of the same file apart, and what a crash has left out of everybody's way."""
        self._make_folder(self._staged)
        staged = self._staged / uuid4().hex
        try:
            with staged.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.utime(staged, ns=(stored_at_ns, stored_at_ns))
            staged.replace(path)
        finally:
            staged.unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> None:
        """Make the folder, and flush each one above that has got a new entry."""
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            new.mkdir(exist_ok=True)
            _flush_folder(new.parent)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + _SIDECAR)


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode()


def _flush_folder(folder: Path) -> None:
    """Make names in the folder durable. Systems that cannot open one do so by themselves."""
    try:
        opened = os.open(folder, os.O_RDONLY)
    except (PermissionError, FileNotFoundError):
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
