"""Encrypted reasoning that came with a tool call and goes back with it, to where it came from.

An endpoint refuses what another one has encrypted, or the same one for another model. So the
origin is stored inside the opaque text, and foreign data is left out of a request.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from ...model.messages import ProviderReplayMeta
from ...model.records import dataclass

ENCRYPTED: Final = "reasoning.encrypted"
ORIGIN: Final = "minted_by"


@dataclass(frozen=True, slots=True)
class ReplayRoute:
    """Where replay data is minted: this kind of provider, at this endpoint, by this model."""

    endpoint: str
    model: str

    def opaque_of(self, detail: Mapping[str, Any]) -> str:
        """`detail` as it is stored with a call."""
        return json.dumps(dict(detail) | {ORIGIN: [self.endpoint, self.model]})

    def detail_of(self, replay: ProviderReplayMeta | None) -> dict[str, Any] | None:
        """The detail as the endpoint sent it; `None` when it was minted elsewhere."""
        if replay is None or replay.opaque is None:
            return None
        try:
            detail = json.loads(replay.opaque)
        except ValueError:
            return None
        if not isinstance(detail, dict) or detail.get("type") != ENCRYPTED:
            return None
        if detail.pop(ORIGIN, None) not in (None, [self.endpoint, self.model]):
            return None
        return detail
