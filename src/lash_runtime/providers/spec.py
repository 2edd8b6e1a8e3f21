"""A provider as an application's configuration names it: one flat JSON object.

Sessions never store it. It holds credentials, so it is shown by no `repr` and belongs where an
application keeps its secrets.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Self

from ..model.records import dataclass


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """A provider's kind with what `serialize_config` gives; no config is an empty one.

    Raises `ValueError` for a config that is no JSON object or has a `type` of its own.
    """

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # A config from a file may be anything, whatever its type says.
        config: object = self.config
        if config is None:
            object.__setattr__(self, "config", {})
        elif not isinstance(config, Mapping):
            raise ValueError(
                f"the config of provider {self.kind!r} is a JSON object, "
                f"not a {type(config).__name__}"
            )
        elif "type" in config:
            raise ValueError(
                f"the config of provider {self.kind!r} has a key 'type', which names its kind"
            )

    def to_json(self) -> dict[str, Any]:
        """The flat form: the config's keys with the kind as `type`. Holds credentials."""
        return {"type": self.kind, **self.config}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read the flat form. Raises `ValueError` for anything else."""
        if not isinstance(data, Mapping):
            raise ValueError(f"a provider is given as a JSON object, not a {type(data).__name__}")
        kind = data.get("type")
        if not isinstance(kind, str) or not kind.strip():
            raise ValueError("a provider's 'type' is missing or no name")
        return cls(kind, {key: value for key, value in data.items() if key != "type"})
