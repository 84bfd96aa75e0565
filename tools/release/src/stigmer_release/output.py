"""What a release says: results on stdout, everything else here."""

import sys


def say(line: str) -> None:
    """A line for the person or the workflow's log."""
    print(line, file=sys.stderr, flush=True)
