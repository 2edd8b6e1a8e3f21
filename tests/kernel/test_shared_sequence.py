"""Versions of one growing sequence share their items and never mix."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from lash_runtime.kernel.shared_sequence import SharedSequence

steps = st.lists(
    st.tuples(st.integers(0, 10), st.integers(0, 6), st.lists(st.integers(), max_size=3)),
    max_size=12,
)


@given(steps)
def test_no_version_ever_shows_what_another_has_added(
    steps: list[tuple[int, int, list[int]]],
) -> None:
    """A snapshot that an observer holds must stay what it was, whatever grows from it."""
    versions: list[tuple[SharedSequence[int], list[int]]] = [(SharedSequence(), [])]
    for choice, length, items in steps:
        sequence, expected = versions[choice % len(versions)]
        grown = sequence.prefix(length).extend(items)
        versions.append((grown, expected[:length] + items))
    for sequence, expected in versions:
        assert list(sequence) == expected
        assert sequence == expected
        assert sequence[:] == tuple(expected)
        assert [sequence[at] for at in range(-len(expected), 0)] == expected
        assert list(reversed(sequence)) == expected[::-1]


@given(steps)
def test_growing_from_says_only_what_is_true(steps: list[tuple[int, int, list[int]]]) -> None:
    """Caches trust it without looking at the items."""
    versions: list[SharedSequence[int]] = [SharedSequence()]
    for choice, length, items in steps:
        versions.append(versions[choice % len(versions)].prefix(length).extend(items))
    for one in versions:
        for other in versions:
            if one.grew_from(other):
                assert one[: len(other)] == other[:]


def test_the_longest_version_grows_in_place() -> None:
    """Appending may not cost the length of the transcript."""
    start = SharedSequence(range(3))
    grown = start.extend([3]).append(4)
    assert grown.grew_from(start)
    assert not start.append(9).grew_from(grown.prefix(4))


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_beyond_the_version_is_an_error(index: int) -> None:
    """The shared list behind it may be longer."""
    version = SharedSequence(range(3))
    version.append(3)
    with pytest.raises(IndexError):
        version[index]


def test_a_sequence_is_a_flat_list_in_json() -> None:
    """What it shares is an optimisation and not a fact."""
    adapter = TypeAdapter(SharedSequence[int])
    sequence = SharedSequence([1, 2]).append(3)
    assert adapter.dump_json(sequence) == b"[1,2,3]"
    assert adapter.validate_json(b"[1,2,3]") == sequence
