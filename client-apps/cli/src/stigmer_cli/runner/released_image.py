"""Which image is released with a version of the command line. Asks nobody.

A release writes `RELEASE_DIGEST` before it builds the package, when the image is there and tested.
"""

import re
from typing import Final

from stigmer_cli.containers import ImageReference

REPOSITORY: Final = "ghcr.io/stigmer/agent-runner"
RELEASE_DIGEST: Final[str | None] = None
"""Of the image released with this version. None, in a checkout: the version's tag is pulled."""

_PRE_RELEASE: Final = re.compile(r"(\d+\.\d+\.\d+)(a|b|rc)(\d+)")
_STAGES: Final = {"a": "alpha", "b": "beta", "rc": "rc"}


def release_reference(version: str) -> ImageReference:
    """The image released with a version, as Python packages spell it."""
    return ImageReference(*REPOSITORY.split("/", 1), tag=image_version(version), digest=RELEASE_DIGEST)


def image_version(version: str) -> str:
    """As images spell it: `1.2.0rc1` is `1.2.0-rc.1`."""
    match = _PRE_RELEASE.fullmatch(version)
    return f"{match[1]}-{_STAGES[match[2]]}.{match[3]}" if match else version
