"""What it costs to have the library: import time, and what a bare install brings along."""

import os
import re
import subprocess
import sys
import time
from importlib.metadata import distribution
from pathlib import Path

from .measure import Row, p50


async def bare_import(place: Path) -> Row:
    library = p50([_run_ms("import lash_runtime") for _ in range(9)])
    python = p50([_run_ms("pass") for _ in range(9)])
    packages = _requirements("lash-runtime")
    megabytes = sum(_size(name) for name in packages) / 1e6
    return Row(
        measure="import",
        floor=f"{python:.0f} ms (Python itself)",
        figure=f"{library:.0f} ms, {len(packages)} packages, {megabytes:.0f} MB",
        target="300 ms, at most 8 packages and 20 MB",
        reached=library <= 300 and len(packages) <= 8 and megabytes <= 20,
    )


def _run_ms(code: str) -> float:
    # Bytecode may be written, as an installer does it: compiling the sources is not importing.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    return (time.perf_counter() - started) * 1000


def _requirements(name: str) -> set[str]:
    """The packages that installing `name` without extras brings, itself left out."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for requirement in distribution(waiting.pop()).requires or ():
            wanted, _, marker = requirement.partition(";")
            if "extra ==" in marker or not _applies(marker):
                continue
            package = re.split(r"[\s<>=!~\[(]", wanted.strip())[0].lower().replace("_", "-")
            if package not in found:
                found.add(package)
                waiting.append(package)
    return found


def _applies(marker: str) -> bool:
    """Whether a requirement's marker holds here; only the versions of Python are looked at."""
    match = re.search(r'python_version\s*<\s*["\']3\.(\d+)["\']', marker)
    return match is None or sys.version_info.minor < int(match.group(1))


def _size(name: str) -> int:
    files = distribution(name).files or ()
    paths = (Path(str(file.locate())) for file in files)
    return sum(path.stat().st_size for path in paths if path.is_file() and path.suffix != ".pyc")
