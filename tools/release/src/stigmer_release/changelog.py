"""Whether a change that users can notice brings its entry of the changelog."""

import re
from typing import Final

from stigmer_release.errors import TreeUnfit
from stigmer_release.git import Checkout
from stigmer_release.notes import FOLDER

_PROGRAMS: Final = re.compile(
    r"(backend|client-apps)/.*/src/|backend/services/agent-runner/(Dockerfile|image/)"
)


def check_entry(checkout: Checkout, base: str) -> str:
    """Looks at what HEAD adds to a base revision; answers a line for the log.

    Raises:
        TreeUnfit: programs are changed, and no entry is new.
    """
    since = f"{base}...HEAD"
    changed = checkout.call("diff", "--name-only", since).splitlines()
    added = checkout.call("diff", "--name-only", "--diff-filter=A", since, "--", FOLDER).splitlines()
    programs = [path for path in changed if _PROGRAMS.match(path)]
    entries = [path for path in added if path != f"{FOLDER}/README.md"]
    if programs and not entries:
        raise TreeUnfit(
            f"{programs[0]} is changed, and {FOLDER}/ has no new entry",
            f"write one ({FOLDER}/README.md); where no user can notice it, label the request no-changelog",
        )
    return f"{len(programs)} files of programs are changed, {len(entries)} entries are new"
