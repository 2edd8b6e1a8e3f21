"""A session's transcript as short lines, for tests that compare whole conversations."""

from lash_runtime import LashSession, PartKind


def lines(session: LashSession) -> list[str]:
    """One line for each part: who said it, what kind it is if not text, and its content."""
    said = []
    for message in session.read_view().messages:
        for part in message.parts:
            kind = "" if part.kind in (PartKind.TEXT, PartKind.PROSE) else f" [{part.kind.value}]"
            said.append(f"{message.role.value}{kind}: {part.content}")
    return said
