"""The suites are for tests alone: a program never pays for them."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["lash_runtime", "lash_runtime.testing"])
def test_pytest_is_loaded_by_the_suites_alone(package: str) -> None:
    """Test kits are used by hosts in production, and pytest is not among the dependencies."""
    program = f"import sys, {package}; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
