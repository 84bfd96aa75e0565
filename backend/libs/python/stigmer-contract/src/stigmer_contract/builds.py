"""Tells builds of one version apart: programs of one build have the same in this package.

A released version is one build. Of a checkout's version there are as many as commits, and nothing else says
which of them understand each other.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

DIGITS: Final = 12


@cache
def contract_build() -> str:
    """The build of what is installed here: of this package's sources, wherever they lie."""
    root, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:DIGITS]


def find_other_build(version: str, of_server: tuple[str | None, str | None]) -> str | None:
    """What to tell a person where a runner of this version and a server are of one version and of two builds.

    Args:
        version: The runner's.
        of_server: The server's version and build, as far as it says them.
    """
    server_version, server_build = of_server
    if server_build is None or server_version != version or server_build == contract_build():
        return None
    return (
        f"the server ({server_build}) is another build of {version} than the runner ({contract_build()}); "
        "they may not understand each other; install both from one commit: where the runner has an image of "
        "its own, run `make build-image` there, then `stigmer server restart`"
    )
