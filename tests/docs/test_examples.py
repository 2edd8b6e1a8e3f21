"""The examples run as a reader would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
CHOOSES_A_MODEL = {"LOCAL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "LASH_MODEL"}


def run(example: str, directory: Path) -> str:
    """What the example prints on the scripted model."""
    finished = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / example],
        cwd=directory,
        env={name: value for name, value in os.environ.items() if name not in CHOOSES_A_MODEL},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, ""), finished.stdout + finished.stderr
    return finished.stdout


def test_the_quickstart_is_short() -> None:
    """It is what a reader copies."""
    assert len((EXAMPLES / "quickstart.py").read_text("utf-8").splitlines()) < 30


def test_the_quickstart_goes_on_where_it_was(tmp_path: Path) -> None:
    """The second process finds what the first one committed."""
    assert run("quickstart.py", tmp_path) == "A coat and boots. (4 messages)\n"
    assert run("quickstart.py", tmp_path) == "A coat and boots. (8 messages)\n"


@pytest.mark.crash
def test_the_durable_chat_survives_its_kill(tmp_path: Path) -> None:
    """The main job, end to end: nothing acknowledged is lost, repeated or left in pieces."""
    told = run("durable_chat.py", tmp_path)

    assert re.search(r"kill -9 +process \d+ ended with status -9", told), told
    assert re.search(r"observer +saw live \d+ pieces", told), told
    assert "turn-3     is finished, with 1 tool call from before the kill" in told, told
    assert told.splitlines()[-1].strip() == (
        "acknowledged turns: 4, turns found: 4, duplicates: 0, partial turns: 0"
    )


@pytest.mark.crash
def test_what_was_counted_before_a_kill_is_not_counted_again(tmp_path: Path) -> None:
    """Every process goes on where the last one has died, and the end is the same."""
    lines: list[str] = []
    environment = dict(os.environ, SECONDS_FOR_A_SHELF="0.15")
    for shelves in (1, 2):
        process = subprocess.Popen(
            [sys.executable, "-W", "error", EXAMPLES / "crash_proof.py"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process:
            for line in process.stdout:
                lines.append(line)
                if sum("model is asked" in told for told in lines) > shelves:
                    process.kill()
    last = run("crash_proof.py", tmp_path)
    assert "goes on with the turn, attempt 3" in last
    assert last.splitlines()[-1].endswith("There are 60 boxes on 5 shelves.")
    asked = [line for line in [*lines, *last.splitlines()] if "the model is asked" in line]
    assert len(asked) <= 5 + 2  # at most once more for each kill
