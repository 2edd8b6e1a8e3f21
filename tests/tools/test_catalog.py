"""Which tools stand in one catalog, and what it says of them."""

from collections.abc import Sequence
from typing import Any

import pytest

from lash_runtime.model.schema import SchemaContract
from lash_runtime.model.tools import ToolContract, ToolDefinition, ToolManifest
from lash_runtime.ports.tools import PreparedToolCall, ToolContext
from lash_runtime.tools import StaticToolProvider, ToolCatalog, ToolCatalogError, tool


@tool
def alpha(city: str) -> str:
    """Do alpha."""
    return city


@tool
def beta() -> None:
    """Do beta."""


def definition(name: str, id: str | None = None) -> ToolDefinition:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    return ToolDefinition(
        manifest=ToolManifest(id=id or f"tool:{name}", name=name, description=f"Do {name}."),
        contract=ToolContract(input_schema=SchemaContract(canonical=schema)),
    )


class Echo:
    async def execute(self, call: PreparedToolCall, context: ToolContext) -> object:
        return call.args


class LateContracts(StaticToolProvider):
    """Cannot describe its tools until `ready` is set; counts how often it was asked."""

    def __init__(self, *definitions: ToolDefinition) -> None:
        super().__init__(definitions, Echo())
        self.ready = False
        self.asked: list[str] = []

    def resolve_contract(self, tool_id: str) -> ToolContract | None:
        self.asked.append(tool_id)
        return super().resolve_contract(tool_id) if self.ready else None


def provider(*definitions: ToolDefinition) -> StaticToolProvider:
    return StaticToolProvider(definitions, Echo())


def test_tools_and_providers_stand_side_by_side_in_the_order_given() -> None:
    """The order is part of the request's prefix, which providers cache."""
    catalog = ToolCatalog.of(beta, provider(definition("gamma"), definition("delta")), alpha)

    assert catalog.tool_names() == ("beta", "gamma", "delta", "alpha")
    assert [spec.name for spec in catalog.tool_specs()] == ["beta", "gamma", "delta", "alpha"]
    assert catalog.tool_specs()[1].description == "Do gamma."


def test_what_the_model_is_told_is_made_once() -> None:
    """Each model call asks for it, with dozens of schemas in it."""
    catalog = ToolCatalog.of(alpha, beta)

    assert catalog.tool_specs() is catalog.tool_specs()


def test_a_contract_is_asked_for_when_it_is_needed_and_then_kept() -> None:
    """Providers may have to fetch it."""
    late = LateContracts(definition("gamma"))
    late.ready = True
    catalog = ToolCatalog.of(late)
    assert late.asked == []

    catalog.tool_specs()
    found = catalog.get("gamma")
    assert found is not None
    assert found.contract() == definition("gamma").contract
    assert late.asked == ["tool:gamma"]


def test_a_tool_without_a_contract_is_not_shown_until_it_has_one() -> None:
    """Models make up arguments for a tool that they are not told of in full."""
    late = LateContracts(definition("gamma"))
    catalog = ToolCatalog.of(alpha, late)
    assert [spec.name for spec in catalog.tool_specs()] == ["alpha"]

    late.ready = True
    assert [spec.name for spec in catalog.tool_specs()] == ["alpha", "gamma"]


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ((alpha, alpha), "'alpha'"),
        ((alpha, provider(definition("alpha", id="other"))), "'alpha'"),
        ((provider(definition("one", id="x"), definition("two", id="x")),), "'one' and 'two'"),
        ((provider(definition(" ", id="x")),), "'x'"),
        ((len,), "@tool"),
    ],
    ids=["twice", "same name", "same id", "no name", "plain function"],
)
def test_what_cannot_stand_in_one_catalog_is_refused(sources: Sequence[Any], named: str) -> None:
    """A call by name has to reach exactly one tool."""
    with pytest.raises(ToolCatalogError, match=named):
        ToolCatalog.of(*sources)


def test_a_method_has_to_be_taken_from_an_instance() -> None:
    """The class alone has nothing to run it on."""

    class Shop:
        @tool
        def price(self) -> int:
            """Tell a price."""
            return 1

    with pytest.raises(ToolCatalogError, match="instance"):
        ToolCatalog.of(Shop.price)
    assert ToolCatalog.of(Shop().price).tool_names() == ("price",)


def test_arguments_are_checked_by_whoever_knows_best() -> None:
    """pydantic for functions, the schema for all others."""
    catalog = ToolCatalog.of(alpha, provider(definition("gamma")))

    def problem(name: str, args: Any) -> str | None:
        found = catalog.get(name)
        assert found is not None
        contract = found.contract()
        assert contract is not None
        return found.problem_with(contract, args)

    assert problem("alpha", {}) == "city: Field required"
    assert problem("gamma", {"n": "1"}) == "n: expected integer, got string"
    assert problem("gamma", {"n": 1}) is None


def test_a_name_that_is_not_in_it_is_not_found() -> None:
    """Membership is what lets a call through."""
    assert ToolCatalog.of(alpha).get("Alpha") is None
    assert ToolCatalog.of().tool_specs() == ()
