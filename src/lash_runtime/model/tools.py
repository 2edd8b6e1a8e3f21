"""What a tool is: its manifest, its contract, and the membership that a session keeps."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from ._value import Value, omitted_when_empty
from .schema import NULL_SCHEMA, OPEN_OBJECT_SCHEMA, SchemaContract

ToolId = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""Identity of a tool across renames and restarts; never blank."""


class ToolScheduling(StrEnum):
    """Whether a call may run beside the other calls of its batch."""

    PARALLEL = "parallel"
    SERIAL = "serial"


class ToolActivation(StrEnum):
    ALWAYS = "always"
    INTERNAL = "internal"


class OnUnknown(StrEnum):
    """What happens to a call that started before a crash and may or may not have taken effect.

    `report` tells the model so, `rerun` runs it again with the same idempotency key, `ask`
    leaves the decision to the host.
    """

    REPORT = "report"
    RERUN = "rerun"
    ASK = "ask"


class NeverRetry(Value):
    type: Literal["never"] = "never"


class SafeRetry(Value):
    """Retry a failure that declares itself safe. Delays in milliseconds; a cap of 0 is none."""

    type: Literal["safe"] = "safe"
    max_attempts: int = Field(ge=1)
    base_delay_ms: int = Field(default=0, ge=0)
    max_delay_ms: int = Field(default=0, ge=0)


class IdempotentRetry(Value):
    """As `SafeRetry`, for tools that recognise the idempotency key of an earlier attempt."""

    type: Literal["idempotent"] = "idempotent"
    max_attempts: int = Field(ge=1)
    base_delay_ms: int = Field(default=0, ge=0)
    max_delay_ms: int = Field(default=0, ge=0)


ToolRetryPolicy = Annotated[NeverRetry | SafeRetry | IdempotentRetry, Field(discriminator="type")]


def _never(policy: ToolRetryPolicy) -> bool:
    return isinstance(policy, NeverRetry)


class ToolManifest(Value):
    """What the runtime has to know of a tool without asking for its schemas."""

    id: ToolId
    name: str
    description: str = omitted_when_empty("")
    activation: ToolActivation = Field(
        default=ToolActivation.ALWAYS, exclude_if=lambda value: value is ToolActivation.ALWAYS
    )
    bindings: Mapping[str, Any] = omitted_when_empty({})
    scheduling: ToolScheduling = Field(
        default=ToolScheduling.PARALLEL, exclude_if=lambda value: value is ToolScheduling.PARALLEL
    )
    retry_policy: ToolRetryPolicy = Field(default=NeverRetry.defaults(), exclude_if=_never)
    timeout_ms: int | None = Field(default=None, ge=1, exclude_if=lambda value: value is None)
    on_unknown: OnUnknown = Field(
        default=OnUnknown.REPORT, exclude_if=lambda value: value is OnUnknown.REPORT
    )


class ToolContract(Value):
    """The schemas of a tool. Arguments are validated against the canonical input schema."""

    input_schema: SchemaContract = OPEN_OBJECT_SCHEMA
    output_schema: SchemaContract = NULL_SCHEMA
    examples: tuple[str, ...] = omitted_when_empty(())


class ToolDefinition(Value):
    """A tool in full: its manifest and its contract."""

    manifest: ToolManifest
    contract: ToolContract


class ToolStateEntry(Value):
    """One tool of a session: a member of the catalog unless removed or orphaned."""

    manifest: ToolManifest
    orphaned: bool = omitted_when_empty(False)
    member: bool = Field(default=True, exclude_if=bool)

    def is_member(self) -> bool:
        return self.member and not self.orphaned


class ToolState(Value):
    """Which tools a session knows, independent of where they came from."""

    generation: int = 0
    tools: Mapping[str, ToolStateEntry] = omitted_when_empty({})


class ToolAccess(Value):
    """Which tools a child session may see."""

    tools: tuple[str, ...] = omitted_when_empty(())
    hidden_tools: tuple[str, ...] = omitted_when_empty(())
