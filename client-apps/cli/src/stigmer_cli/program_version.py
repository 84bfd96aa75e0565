"""The version of this program, which is that of the distribution it came in, and of no other of that name."""

from typing import Final

DISTRIBUTION: Final = "stigmer-agents-client"
"""Not `stigmer`: in the package index that is another project's, which may be installed beside."""
WHOLE_DISTRIBUTION: Final = "stigmer-agents"
"""Brings the server, the runner and Temporal, too."""


def is_newer(theirs: str) -> bool:
    """Whether another's version, such as a running stack's, is newer than ours."""
    return _numbers(theirs) > _numbers(program_version())


def _numbers(version: str) -> list[int]:
    # Of a pre-release the first three: it is neither newer nor older than its release, which is as well.
    return [int("".join(filter(str.isdigit, part)) or 0) for part in version.split(".")[:3]]


def program_version() -> str:
    """Such as `1.2.0`."""
    from importlib.metadata import version  # 5 ms that most commands do not need

    return version(DISTRIBUTION)
