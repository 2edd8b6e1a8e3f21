"""`python -m lash_runtime.stores.sqlite`: the command line for operators."""

import io
import sys

from ._commands import main

if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON is UTF-8, whatever the terminal is set to
    sys.exit(main())
