"""Which model a session uses and how: the policy, the overlay a host gives, the options."""

from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ._value import UNSET, Unset, Value, omitted_when_empty, omitted_when_none
from .prompt import PromptLayer
from .records import dataclass, replace

PROTOCOL_TURN_OPTIONS_SCHEMA_VERSION = 1


class ModelLimits(Value):
    """`context_window_tokens` bounds the prompt alone, not prompt and output together."""

    context_window_tokens: int = Field(default=1, ge=1)
    output_token_capacity: int | None = Field(
        default=None, ge=1, exclude_if=lambda value: value is None
    )


class ModelSpec(Value):
    """A provider's model, its variant (for example a reasoning effort) and its limits."""

    id: str = ""
    variant: str | None = omitted_when_none()
    limits: ModelLimits = ModelLimits.defaults()

    @classmethod
    def from_token_limits(
        cls,
        id: str,
        *,
        context_window: int,
        output_capacity: int | None = None,
        variant: str | None = None,
    ) -> Self:
        """Raises `ValueError` naming the limit that is not a positive integer."""
        if context_window < 1:
            raise ValueError(f"context_window_tokens must be at least 1, got {context_window}")
        if output_capacity is not None and output_capacity < 1:
            raise ValueError(f"output_token_capacity must be at least 1, got {output_capacity}")
        limits = ModelLimits(
            context_window_tokens=context_window, output_token_capacity=output_capacity
        )
        return cls(id=id, variant=variant, limits=limits)


class SessionPolicy(Value):
    """What a session runs with. It names a provider and never holds one, nor any secret."""

    model: ModelSpec = ModelSpec.defaults()
    provider_id: str = ""
    session_id: str | None = omitted_when_none()
    autonomous: bool = omitted_when_empty(False)
    max_turns: int | None = omitted_when_none()
    prompt: PromptLayer = Field(default=PromptLayer.defaults(), exclude_if=PromptLayer.is_empty)

    @model_validator(mode="before")
    @classmethod
    def _refuse_provider_configuration(cls, data: Any) -> Any:
        if isinstance(data, dict) and "provider" in data:
            raise ValueError(
                "a stored policy may not carry provider configuration: keep `provider_id` alone"
            )
        return data

    @field_validator("provider_id")
    @classmethod
    def _strip(cls, value: str) -> str:
        return value.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSpec:
    """What a host sets on top of a policy; a field that is not set leaves the base as it is."""

    provider_id: str | None = None
    model: ModelSpec | None = None
    max_turns: int | Unset | None = UNSET
    prompt: PromptLayer | None = None

    def resolve_against(self, base: SessionPolicy) -> SessionPolicy:
        """Copy `base`, replacing each field that is set, whole."""
        changes: dict[str, Any] = {}
        if self.provider_id is not None:
            changes["provider_id"] = self.provider_id.strip()
        if self.model is not None:
            changes["model"] = self.model
        if not isinstance(self.max_turns, Unset):
            changes["max_turns"] = self.max_turns
        if self.prompt is not None:
            changes["prompt"] = self.prompt
        return base.model_copy(update=changes)

    def over(self, base: Self) -> Self:
        """This spec's set fields on top of those of `base`."""
        return replace(
            self,
            provider_id=self.provider_id if self.provider_id is not None else base.provider_id,
            model=self.model if self.model is not None else base.model,
            max_turns=base.max_turns if isinstance(self.max_turns, Unset) else self.max_turns,
            prompt=self.prompt if self.prompt is not None else base.prompt,
        )


class ProtocolTurnOptions(Value):
    """Options that a protocol understands and the runtime only carries.

    Their JSON names its version: what carries none, or another, cannot be read.
    """

    schema_version: int = PROTOCOL_TURN_OPTIONS_SCHEMA_VERSION
    payload: Any = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _check_version(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict):
            return data
        default = None if info.mode == "json" else PROTOCOL_TURN_OPTIONS_SCHEMA_VERSION
        version = data.get("schema_version", default)
        if isinstance(version, bool) or not isinstance(version, int):
            raise ValueError(f"schema_version of turn options must be an integer, got {version!r}")
        if version != PROTOCOL_TURN_OPTIONS_SCHEMA_VERSION:
            raise ValueError(f"turn options of version {version} are not supported by this release")
        return data

    def is_empty(self) -> bool:
        return self.payload == {} and self.payload is not None

    def merged_with_override(self, override: Self | None) -> Self:
        """Two objects merge key by key; any other override replaces."""
        if override is None:
            return self
        if isinstance(self.payload, dict) and isinstance(override.payload, dict):
            return type(self)(payload={**self.payload, **override.payload})
        return override
