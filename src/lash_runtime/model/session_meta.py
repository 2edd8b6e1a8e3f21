"""What identifies a session to people: its name, its age, its parent."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from ._value import Value, omitted_when_none
from .causes import CausalRef
from .policy import ModelSpec


class RootRelation(Value):
    kind: Literal["root"] = "root"


class ChildRelation(Value):
    kind: Literal["child"] = "child"
    parent_session_id: str
    caused_by: CausalRef | None = omitted_when_none()


SessionRelation = Annotated[RootRelation | ChildRelation, Field(discriminator="kind")]


class SessionMeta(Value):
    """Known before the first commit.

    `created_at` is RFC 3339. `cwd` is the working directory of the process that created the
    session, `None` where that is not known or was not recorded.
    """

    session_id: str
    session_name: str
    created_at: str
    model: str = ""
    cwd: str | None = omitted_when_none()
    relation: SessionRelation = RootRelation.defaults()

    @property
    def parent_session_id(self) -> str | None:
        match self.relation:
            case ChildRelation(parent_session_id=parent):
                return parent
            case _:
                return None


class PersistedSessionConfig(Value):
    """The only configuration in a session's head. It names a provider, and holds none."""

    provider_id: str = ""
    model: ModelSpec = ModelSpec.defaults()

    @field_validator("provider_id")
    @classmethod
    def _strip(cls, value: str) -> str:
        return value.strip()
