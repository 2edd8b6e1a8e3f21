"""Tools made from functions: what the model is told, what is checked, and what runs."""

from __future__ import annotations

import contextvars
import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from lash_runtime.model.tool_results import PendingToolCall, ToolCallOutput, ToolFailureClass
from lash_runtime.model.tools import IdempotentRetry, OnUnknown, ToolManifest, ToolScheduling
from lash_runtime.ports.tools import PreparedToolCall, ToolContext
from lash_runtime.tools import FunctionTool, ToolDefinitionError, ToolResult, tool
from tools.dispatching import context, failure_of, schema_of

pytestmark = pytest.mark.anyio


class Weather(BaseModel):
    city: str
    degrees: float


class Unit(Enum):
    METRIC = "metric"
    IMPERIAL = "imperial"


@tool
async def weather(
    city: str,
    days: Annotated[int, Field(ge=1, le=7)] = 1,
    units: Literal["metric", "imperial"] = "metric",
) -> Weather:
    """Look up the weather.

    Args:
        city: The city.
        days: How many days.
    """
    return Weather(city=city, degrees=days * 1.5)


async def run(made: FunctionTool[..., Any], **args: Any) -> ToolCallOutput:
    return await made.execute(args, context())


async def value_of(made: FunctionTool[..., Any], **args: Any) -> Any:
    output = await run(made, **args)
    assert output.is_success, output
    return output.value_for_projection()


class TestWhatTheModelIsTold:
    def test_name_description_and_schema_come_from_the_function(self) -> None:
        """The function is the only place where a tool has to be described."""
        assert weather.name == "weather"
        assert weather.description == "Look up the weather."
        assert schema_of(weather) == {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city."},
                "days": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 7,
                    "default": 1,
                    "description": "How many days.",
                },
                "units": {
                    "type": "string",
                    "enum": ["metric", "imperial"],
                    "default": "metric",
                },
            },
            "required": ["city"],
            "additionalProperties": False,
        }

    def test_the_output_schema_comes_from_the_return_type(self) -> None:
        """Hosts and bindings want to know what a tool gives."""
        assert weather.contract.output_schema.canonical["required"] == ["city", "degrees"]

    def test_a_return_type_without_a_schema_is_no_error(self) -> None:
        """What the value is worth shows when it is returned, not before."""

        @tool
        def opaque() -> Callable[[], object]:
            """Give something."""
            return dict

        assert opaque.contract.output_schema.canonical == {}

    def test_options_replace_what_was_read(self) -> None:
        """The model's name for a thing need not be the code's."""

        @tool(
            name="get-weather",
            id="weather:1",
            description="Ask the weather service.",
            scheduling="serial",
            retry=IdempotentRetry(max_attempts=3),
            timeout_ms=500,
            on_unknown="rerun",
        )
        def lookup(city: str) -> str:
            """Unused."""
            return city

        assert lookup.manifest == ToolManifest(
            id="weather:1",
            name="get-weather",
            description="Ask the weather service.",
            scheduling=ToolScheduling.SERIAL,
            retry_policy=IdempotentRetry(max_attempts=3),
            timeout_ms=500,
            on_unknown=OnUnknown.RERUN,
        )

    def test_a_description_in_the_annotation_wins_over_the_docstring(self) -> None:
        """The more specific place is meant for the model."""

        @tool
        def lookup(city: Annotated[str, Field(description="An exact name.")]) -> None:
            """Look up.

            Args:
                city: The city.
            """

        assert schema_of(lookup)["properties"]["city"]["description"] == "An exact name."

    def test_a_field_as_default_value_sets_default_and_bounds(self) -> None:
        """The other way in which pydantic's users write it."""

        @tool
        def lookup(days: int = Field(3, ge=1)) -> int:
            """Look up."""
            return days

        assert schema_of(lookup)["properties"]["days"] == {
            "type": "integer",
            "default": 3,
            "minimum": 1,
        }

    def test_an_alias_is_the_name_that_the_model_sees(self) -> None:
        """Some good names are reserved words of Python."""

        @tool
        def fly(from_: Annotated[str, Field(alias="from")]) -> None:
            """Fly."""

        assert schema_of(fly)["required"] == ["from"]

    def test_a_default_that_json_cannot_express_is_left_out(self) -> None:
        """It is still the function's default."""

        @tool
        def lookup(when: Any = threading.Lock) -> None:
            """Look up."""

        assert schema_of(lookup)["properties"]["when"] == {}

    def test_no_arguments_is_an_empty_object(self) -> None:
        """Providers want a schema with properties in any case."""

        @tool
        def now() -> str:
            """Tell the time."""
            return "noon"

        assert schema_of(now) == {
            "type": "object",
            "properties": {},
            "additionalProperties": False,
        }

    async def test_names_that_a_pydantic_model_reserves_are_ordinary_arguments(self) -> None:
        """Tool authors do not know that a model is made of their parameters."""

        @tool
        def query(schema: str, json: str, model_config: str, _id: int, copy: bool) -> list[Any]:
            """Query."""
            return [schema, json, model_config, _id, copy]

        args = {"schema": "a", "json": "b", "model_config": "c", "_id": 1, "copy": True}
        assert schema_of(query)["required"] == list(args)
        assert await value_of(query, **args) == ["a", "b", "c", 1, True]

    async def test_a_model_made_inside_a_function_is_found(self) -> None:
        """Annotations are text here, and no module has the name."""

        class Place(BaseModel):
            name: str

        class Guide:
            @tool
            def about(self, place: Place) -> str:
                """Tell about a place."""
                return place.name.upper()

        assert await value_of(Guide().about, place={"name": "Oslo"}) == "OSLO"


class TestWhatCannotBeATool:
    @staticmethod
    def refused(function: Callable[..., Any]) -> str:
        with pytest.raises(ToolDefinitionError) as caught:
            tool(function)
        return str(caught.value)

    def test_a_function_with_arguments_that_have_no_fixed_names(self) -> None:
        """The model can only fill in what it was told of."""

        def gather(*cities: str) -> None: ...
        def collect(**options: str) -> None: ...

        assert "*cities" in self.refused(gather)
        assert "**options" in self.refused(collect)

    def test_a_function_with_positional_only_arguments(self) -> None:
        """Models give arguments by name."""

        def lookup(city: str, /) -> None: ...

        assert "'city' is positional-only" in self.refused(lookup)

    def test_an_argument_without_annotation(self) -> None:
        """To guess its type would be to let the model guess it."""

        def lookup(city) -> None: ...  # type: ignore[no-untyped-def]

        assert "'city' has no annotation" in self.refused(lookup)

    def test_an_argument_of_a_type_that_json_cannot_give(self) -> None:
        """Said where the function is decorated, not when the model first calls it."""

        def locked(lock: threading.Thread) -> None: ...
        def called(back: Callable[[], int]) -> None: ...

        assert "'locked'" in self.refused(locked)
        assert "'called'" in self.refused(called)

    def test_an_annotation_that_names_nothing(self) -> None:
        """A typo in an annotation that is text shows nowhere else."""

        def lookup(city: Cty) -> None: ...  # type: ignore[name-defined]  # noqa: F821

        assert "'Cty'" in self.refused(lookup)

    def test_a_generator(self) -> None:
        """A call has one result."""

        def count() -> Iterator[int]:
            yield 1

        assert "yields" in self.refused(count)

    def test_a_context_asked_for_twice(self) -> None:
        """There is one; two parameters for it are a mistake."""

        def lookup(one: ToolContext, other: ToolContext) -> None: ...

        assert "twice" in self.refused(lookup)

    @pytest.mark.parametrize("name", ["two words", "näme", "x" * 65])
    def test_a_name_that_providers_refuse(self, name: str) -> None:
        """The provider would refuse the whole request, in a session, much later."""
        with pytest.raises(ToolDefinitionError, match="cannot be a tool's name"):
            tool(name=name)(dict)

    def test_a_lambda_without_a_name(self) -> None:
        """Its own name is none that a model could call."""
        assert "tool(name=...)" in self.refused(lambda: None)

    def test_a_classmethod_object(self) -> None:
        """It cannot be called, and says so by a strange error elsewhere."""
        with pytest.raises(ToolDefinitionError, match="classmethod"):
            tool(classmethod(lambda cls: None))  # type: ignore[arg-type]


class TestArguments:
    @pytest.mark.parametrize(
        ("args", "problem"),
        [
            ({}, "city: Field required"),
            ({"city": 7}, "city: Input should be a valid string"),
            ({"city": "Oslo", "days": 8}, "days: Input should be less than or equal to 7"),
            ({"city": "Oslo", "day": 1}, "day: Extra inputs are not permitted"),
            ([], "arguments: Input should be"),
            (None, "arguments: Input should be"),
        ],
    )
    def test_a_problem_names_the_argument_and_the_reason(self, args: Any, problem: str) -> None:
        """The model mends its call when it is told what to mend."""
        assert (weather.problem_with(args) or "").startswith(problem)

    def test_a_problem_deep_inside_is_located(self) -> None:
        """Lists of objects are where models slip most."""

        @tool
        def plan(stops: list[Weather]) -> None:
            """Plan."""

        problem = plan.problem_with({"stops": [{"city": "Oslo", "degrees": 1}, {"city": "Rome"}]})
        assert problem == "stops[1].degrees: Field required"

    def test_all_problems_are_told_at_once(self) -> None:
        """One round trip for each mistake would be dear."""
        problem = weather.problem_with({"days": 9, "units": "kelvin"})
        assert problem is not None
        assert [part.partition(":")[0] for part in problem.split("; ")] == [
            "city",
            "days",
            "units",
        ]

    def test_good_arguments_have_no_problem(self) -> None:
        """Numbers as text included: models send those."""
        assert weather.problem_with({"city": "Oslo", "days": "3"}) is None

    async def test_arguments_arrive_as_the_annotated_types(self) -> None:
        """A tool is written in Python's types, not in JSON's."""

        @tool
        def plan(day: date, unit: Unit, place: Weather, tags: set[str]) -> list[str]:
            """Plan."""
            return [type(x).__name__ for x in (day, unit, place, tags)]

        args = {
            "day": "2026-01-02",
            "unit": "metric",
            "place": {"city": "Oslo", "degrees": 3},
            "tags": ["a"],
        }
        assert await value_of(plan, **args) == ["date", "Unit", "Weather", "set"]

    async def test_a_mutable_default_is_fresh_in_each_call(self) -> None:
        """Sessions share the tool; one call must not leave traces in the next."""

        @tool
        def note(text: str, notes: list[str] = []) -> list[str]:  # noqa: B006
            """Note."""
            notes.append(text)
            return notes

        assert await value_of(note, text="a") == ["a"]
        assert await value_of(note, text="b") == ["b"]

    async def test_a_call_with_bad_arguments_does_not_reach_the_function(self) -> None:
        """A recorded call may be run long after it was checked."""
        failure = failure_of(await run(weather, city=7))

        assert failure.class_ is ToolFailureClass.INVALID_REQUEST
        assert failure.code == "invalid_tool_args"
        assert failure.message.startswith("city: ")


class TestRunning:
    async def test_an_async_function_gives_its_value_as_json(self) -> None:
        """Models and dataclasses and enums are what Python functions return."""

        @dataclass
        class Report:
            unit: Unit
            when: date

        @tool
        async def report() -> Report:
            """Report."""
            return Report(Unit.METRIC, date(2026, 1, 2))

        assert await value_of(weather, city="Oslo") == {"city": "Oslo", "degrees": 1.5}
        assert await value_of(report) == {"unit": "metric", "when": "2026-01-02"}

    async def test_a_sync_function_runs_in_a_thread_with_the_callers_context(self) -> None:
        """It may block, and it may need to know whose request it serves."""
        user = contextvars.ContextVar[str]("user")
        user.set("ada")

        @tool
        def whoami() -> tuple[str, bool]:
            """Say who asks."""
            return user.get(), threading.current_thread() is threading.main_thread()

        assert await value_of(whoami) == ["ada", False]

    async def test_the_context_is_handed_over_and_never_shown(self) -> None:
        """The model neither sees nor chooses it."""

        @tool
        async def key(context: ToolContext, suffix: str = "!") -> str:
            """Give the key."""
            return context.tool_call_id + suffix

        @tool
        def optional(context: ToolContext | None = None) -> bool:
            """Say whether there is one."""
            return context is not None

        assert list(schema_of(key)["properties"]) == ["suffix"]
        assert schema_of(optional)["properties"] == {}
        assert await value_of(key) == "call-1!"
        assert await value_of(optional) is True
        assert failure_of(await run(key, context={})).code == "invalid_tool_args"

    async def test_a_tool_is_still_the_function(self) -> None:
        """It can be called and tested without any model."""
        assert await weather("Oslo", days=2) == Weather(city="Oslo", degrees=3.0)
        assert weather.__doc__ is not None
        assert weather.__name__ == "weather"

    async def test_a_method_is_a_tool_of_its_instance(self) -> None:
        """Tools often share a client or a cache."""

        class Shop:
            def __init__(self, currency: str) -> None:
                self.currency = currency

            @tool
            async def price(self, item: str) -> str:
                """Tell a price.

                Args:
                    item: What to buy.
                """
                return f"{item}: 5 {self.currency}"

            @tool
            @staticmethod
            def open() -> bool:
                """Say whether the shop is open."""
                return True

        shop = Shop("EUR")
        assert list(schema_of(shop.price)["properties"]) == ["item"]
        assert await value_of(shop.price, item="tea") == "tea: 5 EUR"
        assert await value_of(Shop("NOK").price, item="tea") == "tea: 5 NOK"
        assert await shop.price("tea") == "tea: 5 EUR"
        assert await value_of(shop.open) is True
        assert await value_of(tool(shop.price), item="tea") == "tea: 5 EUR"

    async def test_other_callables_are_tools_too(self) -> None:
        """Partials and callable objects are how some code is put together."""

        def add(a: int, b: int) -> int:
            """Add."""
            return a + b

        class Double:
            """Double a number."""

            async def __call__(self, number: int) -> int:
                return number * 2

        double = tool(name="double")(Double())
        assert double.description == "Double a number."
        assert await value_of(double, number=4) == 8
        assert tool(functools.partial(add, b=1)).name == "add"
        assert await value_of(tool(functools.partial(add, b=1)), a=2) == 3

    async def test_a_sync_wrapper_around_an_async_function_is_awaited(self) -> None:
        """Decorators that are not aware of async are common."""

        async def inner(city: str) -> str:
            return city.upper()

        @tool
        @functools.wraps(inner)
        def outer(*args: Any, **kwargs: Any) -> Any:
            return inner(*args, **kwargs)

        assert await value_of(outer, city="Oslo") == "OSLO"

    @pytest.mark.parametrize("error", [StopIteration, SystemExit])
    async def test_an_exception_that_threads_cannot_carry_arrives(
        self, error: type[BaseException]
    ) -> None:
        """The one would hang its caller for ever, the other end the process."""

        @tool
        def stops() -> None:
            """Stop."""
            raise error

        with pytest.raises(RuntimeError, match=error.__name__):
            await run(stops)

    async def test_a_value_that_cannot_be_stored_is_a_failure_that_names_it(self) -> None:
        """The turn goes on, and the author finds out which type it was."""

        @tool
        def handle() -> Any:
            """Give a thread."""
            return {"thread": threading.current_thread()}

        failure = failure_of(await run(handle))
        assert failure.message.startswith("Failed to serialize tool result: ")
        assert "Thread" in failure.message

    async def test_a_result_may_say_more_than_a_value(self) -> None:
        """A tool decides itself what counts as failed."""

        @tool
        def lookup() -> ToolResult:
            """Look up."""
            return ToolResult.err({"missing": "Oslo"})

        failure = failure_of(await run(lookup))
        assert (failure.code, failure.raw) == ("tool_error", {"missing": "Oslo"})


def test_prepared_calls_survive_json() -> None:
    """An engine stores a call before it is made."""
    call = PreparedToolCall(call_id="c", tool_id="tool:w", tool_name="w", args={"city": "Oslo"})

    assert PreparedToolCall.model_validate_json(call.model_dump_json()) == call
    assert PendingToolCall(call_id="c", tool_name="w", args={}).args_error is None
