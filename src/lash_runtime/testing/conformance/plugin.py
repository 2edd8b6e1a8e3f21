"""Runs the suites against a backend that is named on the command line, without a test module.

    python -m pytest -p lash_runtime.testing.conformance.plugin --lash-storage=my_backend:storage

A backend is named as `module:factory`:

    --lash-storage      factory(directory: Path) -> Storage
    --lash-attachments  factory(directory: Path, clock: Clock) -> AttachmentStore
    --lash-replay       factory(max_events: int, max_age_s: float, clock: Clock) -> LiveReplayStore

Each case gets a directory of its own. With `--lash-durable` what is named must also outlive its
process: several calls of a factory with one directory then give several handles on one place.
`--lash-without=PART` leaves out the cases for what a backend does not do, as `Part` names it.

Rule: only the cases are collected, unless test paths are given as well.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args

import pytest

from ._case import Part

CASES: Final = Path(__file__).with_name("backend_cases.py")

OPTIONS: Final = {
    "storage": "--lash-storage",
    "attachments": "--lash-attachments",
    "replay": "--lash-replay",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lash", "conformance of a backend")
    for port, option in OPTIONS.items():
        group.addoption(
            option,
            dest=f"lash_{port}",
            metavar="MODULE:FACTORY",
            help=f"hold what FACTORY makes to the rules of the port: {port}",
        )
    group.addoption(
        "--lash-durable",
        action="store_true",
        help="what is named outlives its process, and is held to the rules for that too",
    )
    group.addoption(
        "--lash-without",
        action="append",
        default=[],
        choices=get_args(Part),
        help="what is named does not do this, and is not held to it; may be given several times",
    )


def pytest_configure(config: pytest.Config) -> None:
    named = [port for port in OPTIONS if config.getoption(f"lash_{port}") is not None]
    if not named:
        if config.getoption("lash_durable"):
            raise pytest.UsageError(f"--lash-durable needs one of {', '.join(OPTIONS.values())}")
        if config.getoption("lash_without"):
            raise pytest.UsageError(f"--lash-without needs one of {', '.join(OPTIONS.values())}")
        return
    for port in named:
        factory_of(config, port)
    paths = config.args if config.args_source is config.ArgsSource.ARGS else []
    config.args = [*paths, str(CASES)]


def factory_of(config: pytest.Config, port: str) -> Callable[..., Any]:
    """The factory that was named for `port`. Raises `pytest.UsageError` when there is none."""
    option, named = OPTIONS[port], str(config.getoption(f"lash_{port}"))
    module_name, colon, attribute = named.partition(":")
    if not colon or not module_name or not attribute:
        raise pytest.UsageError(f"{option}={named}: name it as module:factory")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise pytest.UsageError(
            f"{option}={named}: {error}. Run `python -m pytest` to import from this folder"
        ) from error
    if not callable(factory):
        raise pytest.UsageError(f"{option}={named}: it cannot be called")
    made: Callable[..., Any] = factory
    return made


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[pytest.Item] | None:
    """Leave out the classes of ports that were not named, and of the other kind of durability."""
    port = getattr(obj, "of_port", None)
    if collector.path != CASES or port is None:
        return None
    is_named = collector.config.getoption(f"lash_{port}") is not None
    durable: bool | None = getattr(obj, "for_durable", None)
    fits = durable is None or durable is bool(collector.config.getoption("lash_durable"))
    return None if is_named and fits else []
