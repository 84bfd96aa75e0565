"""Finds an image of the runner that was built on this machine: that of this very checkout.

The newest of all would be anybody's: of another branch, or what a test left.
"""

import subprocess
from pathlib import Path
from typing import Final

from stigmer_cli.containers import Engine, Image
from stigmer_cli.errors import ImageUnavailable
from stigmer_cli.program_version import program_version
from stigmer_cli.runner.released_image import image_version
from stigmer_contract.versions import LOCAL_VERSION, is_compatible

TITLE_LABEL: Final = "org.opencontainers.image.title"
VERSION_LABEL: Final = "org.opencontainers.image.version"
REVISION_LABEL: Final = "org.opencontainers.image.revision"
TITLE: Final = "agent-runner"
_DOCKERFILE: Final = "backend/services/agent-runner/Dockerfile"
_GIT_SECONDS: Final = 10.0
_SHORT: Final = 12
"""Characters of a commit that tell it from others."""


def checkout_revision() -> str | None:
    """The commit of the checkout that this program runs from; None where it was installed without one."""
    folder = Path(__file__).parent
    try:
        asked = subprocess.run(
            # Whose the checkout is does not matter to who only asks for its commit.
            ["git", "-c", "safe.directory=*", "-C", str(folder), "rev-parse", "--show-toplevel", "HEAD"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = asked.stdout.splitlines()
    # Installed into a folder of another repository it is not that one's.
    is_ours = asked.returncode == 0 and len(lines) > 1 and Path(lines[0], _DOCKERFILE).is_file()
    return lines[1] if is_ours else None


def find_local_build(engine: Engine) -> tuple[str, Image] | None:
    """Reference and image of the newest build of this checkout or, without one, of this version."""
    revision = checkout_revision()
    for reference, image in _local_builds(engine):
        if revision is None:
            is_ours = image.labels.get(VERSION_LABEL) == image_version(program_version())
        else:
            is_ours = image.labels.get(REVISION_LABEL) == revision
        is_fit = is_compatible(program_version(), image.labels.get(VERSION_LABEL, ""))
        if is_ours and is_fit and image.architecture == engine.traits.architecture:
            return reference, image
    return None


def require_local_build(engine: Engine) -> tuple[str, Image]:
    """The same.

    Raises:
        ImageUnavailable: there is none; says which there are.
    """
    found = find_local_build(engine)
    if found is not None:
        return found
    revision = checkout_revision()
    what = f"version {program_version()}" if revision is None else f"commit {revision[:_SHORT]}"
    others = [
        f"{reference} (commit {image.labels.get(REVISION_LABEL, 'unknown')[:_SHORT]})"
        for reference, image in _local_builds(engine)
    ]
    raise ImageUnavailable(
        f"could not find a local build of {what} of the runner's image in {engine.traits.title}"
        + (f"; there is {', '.join(others[:3])}" if others else ""),
        "run `make build-image` in backend/services/agent-runner, with the same engine"
        + (", or name one: `--use-local-image=REFERENCE`" if others else ""),
        can_retry=False,
    )


def _local_builds(engine: Engine) -> list[tuple[str, Image]]:
    """What carries the labels of a runner that was built and not pulled, the newest first."""
    builds = list[tuple[str, Image]]()
    for listed in engine.images.list_images({TITLE_LABEL: TITLE}):
        is_local = listed.labels.get(VERSION_LABEL) == LOCAL_VERSION or not listed.digests
        image = engine.images.find(listed.image_id) if is_local else None
        if image is not None:
            builds.append((listed.tags[0], image))
    return builds
