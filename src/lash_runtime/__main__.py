"""`python -m lash_runtime inspect DATABASE TURN`: what a turn did, effect by effect.

The other commands for operators are those of the store: `python -m lash_runtime.stores.sqlite`.
"""

import io
import sys

from .stores.sqlite._commands import main

if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON is UTF-8, whatever the terminal is set to
    sys.exit(main(program="python -m lash_runtime"))
