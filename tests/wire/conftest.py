"""One real model server for all wire tests."""

from collections.abc import Iterator

import pytest

from lash_runtime.testing.local_model import LocalModel, local_model, missing_packages


@pytest.fixture(scope="session")
def model() -> Iterator[LocalModel]:
    if missing := missing_packages():
        pytest.skip(f"not installed: {', '.join(missing)}")
    pytest.importorskip("openai")
    with local_model() as running:
        yield running
