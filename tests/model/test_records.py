"""A class made by the library's decorator behaves like one made by the standard decorator.

Every test runs over both, so that what is asserted of ours is what Python does.
"""

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, InitVar, asdict, field, fields, replace
from types import SimpleNamespace
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from lash_runtime.model import records

T = TypeVar("T")
FROZEN = {"frozen": True, "slots": True}
NAMED = {**FROZEN, "kw_only": True}


@dataclasses.dataclass(frozen=True, slots=True)
class StandardPoint:
    x: int
    y: int = 0


@records.dataclass(frozen=True, slots=True)
class OurPoint:
    x: int
    y: int = 0


def declared(dataclass: Callable[..., Any]) -> SimpleNamespace:
    """The same classes, by either decorator."""

    @dataclass(**FROZEN)
    class Empty:
        pass

    @dataclass(**FROZEN)
    class Single:
        value: Any

    @dataclass(**FROZEN)
    class Mixed:
        """A docstring of its own."""

        KIND: ClassVar[str] = "mixed"
        first: int
        second: str = "two"
        third: list[int] = field(default_factory=list, kw_only=True)
        secret: str = field(default="s", repr=False, compare=False, kw_only=True)

        def sum(self) -> int:
            return self.first + len(self.second)

    @dataclass(**NAMED)
    class Checked:
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    @dataclass(**NAMED, eq=False)
    class Unlike:
        value: int

    @dataclass(**FROZEN)
    class Written:
        value: int

        def __repr__(self) -> str:
            return "by hand"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    @dataclass(**FROZEN)
    class Box(Generic[T]):
        item: T

    return SimpleNamespace(**{k: v for k, v in locals().items() if isinstance(v, type)})


@pytest.fixture(params=[dataclasses.dataclass, records.dataclass], ids=["standard", "ours"])
def made(request: pytest.FixtureRequest) -> SimpleNamespace:
    return declared(request.param)


def test_equal_fields_make_equal_values(made: SimpleNamespace) -> None:
    """Values are compared and used as keys all over the library."""
    assert made.Empty() == made.Empty()
    assert made.Single(1) == made.Single(1) != made.Single(2)
    assert made.Single(()) != made.Empty()
    assert made.Mixed(1, secret="a") == made.Mixed(1, secret="b")
    assert made.Mixed(1, third=[1]) != made.Mixed(1, third=[2])
    assert made.Single(1) != 1


def test_equal_values_have_equal_hashes(made: SimpleNamespace) -> None:
    """A value that is a key has to be found again, and one with a list in it cannot be one."""
    assert hash(made.Empty()) == hash(made.Empty())
    assert {made.Single("a"): 1}[made.Single("a")] == 1
    assert hash(made.Checked(low=1, high=2)) == hash((1, 2))
    assert hash(made.Single(1)) == hash((1,))
    with pytest.raises(TypeError, match="unhashable"):
        hash(made.Mixed(1))


def test_without_equality_a_value_equals_itself_alone(made: SimpleNamespace) -> None:
    """What holds a large graph is compared by identity."""
    one = made.Unlike(value=1)
    assert one == one
    assert one != made.Unlike(value=1)
    assert len({one, made.Unlike(value=1)}) == 2


def test_methods_written_by_hand_stay(made: SimpleNamespace) -> None:
    """A class may know better than its fields how it is shown or compared."""
    assert repr(made.Written(1)) == "by hand"
    assert made.Written(1) == made.Written(2)
    assert hash(made.Written(1)) == 7


def test_the_repr_shows_the_fields_that_are_to_be_seen(made: SimpleNamespace) -> None:
    """Reprs end up in logs: they must be readable, and without secrets."""
    where = "declared.<locals>."
    assert repr(made.Empty()) == f"{where}Empty()"
    assert repr(made.Mixed(1, third=[2])) == f"{where}Mixed(first=1, second='two', third=[2])"
    loop: list[Any] = []
    loop.append(made.Single(loop))
    assert repr(loop[0]) == f"{where}Single(value=[...])"
    own = made.Single(items := [])
    items.append(own)
    assert repr(own) == f"{where}Single(value=[...])"


def test_a_field_cannot_be_set_or_deleted(made: SimpleNamespace) -> None:
    """Values are shared between turns without copies."""
    value = made.Single(1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'value'"):
        value.value = 2
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'value'"):
        del value.value
    assert value.value == 1
    assert not hasattr(value, "__dict__")


def test_another_attribute_cannot_be_set_either() -> None:
    """Ours alone: the standard decorator of Python 3.11 fails here, with an error about `super`."""
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'other'"):
        OurPoint(1).other = 2  # type: ignore[attr-defined]


def test_a_plain_subclass_may_have_attributes_of_its_own() -> None:
    """Ours alone, as above: a host that derives freezes what it inherits and no more."""

    class Labelled(OurPoint):
        pass

    value: Any = Labelled(1)
    value.label = "one"
    assert value.label == "one"
    del value.label
    assert not hasattr(value, "label")
    with pytest.raises(FrozenInstanceError):
        value.x = 2


def test_a_standard_dataclass_can_extend_it(made: SimpleNamespace) -> None:
    """A host extends our values with the decorator that it knows."""
    extended = dataclasses.dataclass(frozen=True, slots=True)(
        type("Extended", (made.Single,), {"__annotations__": {"more": int}})
    )
    assert extended(1, 2) == extended(value=1, more=2)
    assert [member.name for member in fields(extended)] == ["value", "more"]
    with pytest.raises(TypeError, match="frozen"):
        dataclasses.dataclass(type("Loose", (made.Single,), {"__annotations__": {"more": int}}))


def test_the_signature_is_what_the_fields_say(made: SimpleNamespace) -> None:
    """Editors, documentation and test generators read it."""
    parameters = inspect.signature(made.Mixed).parameters
    kinds = {name: parameter.kind.name for name, parameter in parameters.items()}
    assert kinds == {
        "first": "POSITIONAL_OR_KEYWORD",
        "second": "POSITIONAL_OR_KEYWORD",
        "third": "KEYWORD_ONLY",
        "secret": "KEYWORD_ONLY",
    }
    assert parameters["second"].default == "two"
    assert parameters["first"].annotation is int
    assert inspect.signature(made.Mixed.__init__).return_annotation is None
    assert made.Mixed.__doc__ == "A docstring of its own."


def test_a_class_without_a_docstring_gets_none() -> None:
    """Ours alone: writing one, as the standard decorator does, costs more than it tells."""
    assert OurPoint.__doc__ is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"Checked.__init__\(\) missing 2 required keyword-only arguments: 'low' and 'high'"),
        ({"low": 1, "high": 2, "mid": 3}, "unexpected keyword argument 'mid'"),
    ],
)
def test_wrong_arguments_are_named(
    made: SimpleNamespace, arguments: dict[str, int], message: str
) -> None:
    """The error of a misspelt option is the first documentation that somebody reads."""
    with pytest.raises(TypeError, match=message):
        made.Checked(**arguments)
    with pytest.raises(TypeError, match="takes 1 positional argument but 3 were given"):
        made.Checked(1, 2)


def test_a_default_factory_is_called_for_each_value(made: SimpleNamespace) -> None:
    """Two values must never share a list that nobody gave them."""
    one, other = made.Mixed(1), made.Mixed(1)
    assert one.third == []
    assert one.third is not other.third
    assert made.Mixed(1, third=[5]).third == [5]


def test_the_check_after_construction_runs(made: SimpleNamespace) -> None:
    """Impossible values are refused where they are made, and when they are changed."""
    with pytest.raises(ValueError, match="low is above high"):
        made.Checked(low=2, high=1)
    with pytest.raises(ValueError, match="low is above high"):
        replace(made.Checked(low=1, high=2), high=0)


@pytest.mark.parametrize("change", [dataclasses.replace, records.replace])
def test_a_copy_with_changes_is_a_value_of_its_own(
    made: SimpleNamespace, change: Callable[..., Any]
) -> None:
    """The standard function and ours agree, on classes of either decorator."""
    value = made.Mixed(1, third=[1], secret="mine")
    changed = change(value, first=2)
    assert changed == made.Mixed(2, third=[1])
    assert changed.third is value.third
    assert changed.secret == "mine"
    assert value.first == 1
    assert change(value) == value
    assert change(value) is not value
    assert change(made.Single((1, 2)), value=3) == made.Single(3)
    assert change(made.Single((1, 2))) == made.Single((1, 2))
    assert change(made.Empty()) == made.Empty()
    with pytest.raises(TypeError, match="other"):
        change(value, other=1)
    with pytest.raises(ValueError, match="low is above high"):
        change(made.Checked(low=1, high=2), high=0)


@pytest.mark.parametrize("change", [dataclasses.replace, records.replace])
def test_a_copy_of_a_plain_subclass_is_made_by_its_own_init(
    made: SimpleNamespace, change: Callable[..., Any]
) -> None:
    """Whoever extends a value may have more to do than to keep its fields."""

    class Doubling(made.Single):  # type: ignore[misc]
        def __init__(self, value: int) -> None:
            super().__init__(value * 2)

    changed = change(Doubling(1), value=4)
    assert type(changed) is Doubling
    assert changed.value == 8


def test_the_standard_functions_know_it(made: SimpleNamespace) -> None:
    """`fields`, `replace`, `asdict` and `copy` are how values are taken apart and changed."""
    value = made.Mixed(1, third=[1])
    assert dataclasses.is_dataclass(value)
    assert [member.name for member in fields(value)] == ["first", "second", "third", "secret"]
    assert replace(value, first=2) == made.Mixed(2, third=[1])
    assert asdict(value) == {"first": 1, "second": "two", "third": [1], "secret": "s"}
    assert made.Mixed.KIND == "mixed"
    assert value.sum() == 4
    assert copy.copy(value) == value
    assert copy.deepcopy(value).third is not value.third


def test_it_is_taken_apart_by_position_and_by_name(made: SimpleNamespace) -> None:
    """Unions of such classes are matched everywhere; keyword-only fields have no position."""
    match made.Mixed(1, third=[3]):
        case made.Mixed(first, second, third=[third]):
            assert (first, second, third) == (1, "two", 3)
        case _:
            pytest.fail("did not match")
    assert made.Checked.__match_args__ == ()


def test_it_can_be_generic(made: SimpleNamespace) -> None:
    """Verdicts carry whatever the work returned."""
    assert made.Box(1) == made.Box(1)
    assert made.Box[int].__origin__ is made.Box


@pytest.mark.parametrize("kind", [StandardPoint, OurPoint])
def test_it_can_be_pickled(kind: type[Any]) -> None:
    """Hosts put values into caches and send them to other processes."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        restored = pickle.loads(pickle.dumps(kind(1, 2), protocol))
        assert restored == kind(1, 2)
        assert type(restored) is kind


def test_what_it_does_not_support_is_refused() -> None:
    """An option that is silently ignored would make a class other than the one that was meant."""
    ours: Callable[..., Any] = records.dataclass
    with pytest.raises(TypeError, match="frozen classes with slots"):
        ours(frozen=False, slots=True)
    with pytest.raises(TypeError, match="order"):
        ours(**FROZEN, order=True)
    with pytest.raises(TypeError, match="a dataclass as a base is not supported"):
        ours(**FROZEN)(type("Child", (OurPoint,), {}))
    with pytest.raises(TypeError, match="`InitVar` is not supported"):
        ours(**FROZEN)(type("Seeded", (), {"__annotations__": {"seed": InitVar[int]}}))
    with pytest.raises(TypeError, match="late: `init=False` is not supported"):
        late = field(default=1, init=False)
        ours(**FROZEN)(type("Late", (), {"__annotations__": {"late": int}, "late": late}))
