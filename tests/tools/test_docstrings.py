"""What a docstring tells the model."""

import pytest

from lash_runtime.tools.docstrings import read_docstring

GOOGLE = """Look up the weather.

    Takes the nearest station.

    Args:
        city: The city,
            as people call it.
        days (int, optional): How far ahead: at most 7.

    Returns:
        What to expect.
    """

NUMPY = """
    Look up the weather.

    Takes the nearest station.

    Parameters
    ----------
    city : str
        The city,
        as people call it.
    days : int, optional
        How far ahead: at most 7.

    Returns
    -------
    str
        What to expect.
    """

REST = """Look up the weather.

    Takes the nearest station.

    :param city: The city,
        as people call it.
    :type city: str
    :param int days: How far ahead: at most 7.
    :returns: What to expect.
    """


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, REST], ids=["google", "numpy", "rest"])
def test_every_usual_style_gives_the_same_description_and_arguments(docstring: str) -> None:
    """Nobody should have to rewrite docstrings to make a tool."""
    read = read_docstring(docstring)

    assert read.description == "Look up the weather.\n\nTakes the nearest station."
    assert read.arguments == {
        "city": "The city, as people call it.",
        "days": "How far ahead: at most 7.",
    }


def test_one_numpy_entry_may_describe_several_arguments() -> None:
    """NumPy style groups arguments that mean the same."""
    read = read_docstring("Move.\n\nParameters\n----------\nx, y : int\n    Where to.\n")

    assert read.arguments == {"x": "Where to.", "y": "Where to."}


@pytest.mark.parametrize("docstring", [None, "", "   \n  "])
def test_no_docstring_is_no_description(docstring: str | None) -> None:
    """A tool without words is still a tool."""
    read = read_docstring(docstring)

    assert (read.description, read.arguments) == ("", {})


@pytest.mark.parametrize(
    "docstring",
    [
        "Note: this one is slow.",
        "Use it when the user asks for examples of:\nsongs, poems.",
        "Parameters\nare what it is about.",
        "See https://example.com: it says more.",
    ],
)
def test_prose_that_looks_like_a_section_stays_prose(docstring: str) -> None:
    """A description that loses half of itself misleads the model."""
    assert read_docstring(docstring).description == docstring


def test_a_section_that_is_no_argument_section_documents_no_argument() -> None:
    """`Raises:` has entries of the same shape."""
    read = read_docstring("Run.\n\nArgs:\n    city: The city.\n\nRaises:\n    ValueError: no city.")

    assert read.arguments == {"city": "The city."}


def test_an_argument_whose_text_is_below_its_name_is_read() -> None:
    """Long descriptions often start on the next line."""
    read = read_docstring(
        "Run.\n\nArgs:\n    city:\n        The city.\n    days:\n        A number."
    )

    assert read.arguments == {"city": "The city.", "days": "A number."}
