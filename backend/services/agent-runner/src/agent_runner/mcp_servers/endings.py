"""Why a server did not start, in a line that helps: what it wrote to stderr, and what may be done. Pure.

What a program says last tells the least with some: Node ends with its version, npm with the place of a log.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from stigmer_contract.isolation_words import Network

MAX_CHARACTERS: Final = 300
NODE: Final = "node"
"""Runs what comes from npm."""
_FETCHERS: Final = frozenset({"npx", "npm", "pnpm", "pnpx", "yarn", "bunx", "uvx", "uv", "pipx"})
"""Programs that fetch what is not installed."""
_TELLS_NOTHING: Final = re.compile(
    r"Node\.js v[\d.]+|npm (?:error|ERR!)(?: A complete log of this run.*| +/.*|)|[\W_]+|requireStack: .*",
    re.I,
)
_IS_ERROR: Final = re.compile(
    r"(?:\b|[a-z])(?:error|exception|errno|denied|failed|not found|refused)\b", re.I
)


def telling_line(stderr: str) -> str | None:
    """The last line of a program's stderr that says what failed, else the last that says anything."""
    lines = [line.rstrip() for line in stderr.splitlines()]
    said = [line.strip() for line in lines if line and not _TELLS_NOTHING.fullmatch(line.strip())]
    # What is indented belongs to a trace.
    whole = [line for line in lines if line[:1].strip() and line.strip() in said]
    errors = [line for line in whole if _IS_ERROR.search(line)]
    found = (errors or said)[-1:]
    return found[0][:MAX_CHARACTERS] if found else None


def advice_on(command: Sequence[str], network: Network, *, is_missing: bool = False) -> str:
    """What else is to be known where a program did not start; empty: nothing."""
    program = PurePosixPath(command[0]).name if command else ""
    if program in _FETCHERS and network == "none":
        return (
            f" ({program} fetches what is not installed, and the server has `network: none`: install it in "
            "the workspace, or set `network: all`)"
        )
    if program == NODE and is_missing:
        return " (it needs Node.js where the runner is; the image with `-full` in its tag has it)"
    return ""
