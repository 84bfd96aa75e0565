"""What of an image a pull request found in place, so that its holes are not the request's to mend.

Two things in git choose what the image is made of: the lock file, and the files that its build reads. Which
Debian packages the base has on a day stands in neither: they were found in place where the build is the same.
"""

import re
import tomllib
from typing import Final

from stigmer_release.errors import EvidenceUnusable
from stigmer_release.git import Checkout
from stigmer_release.vulnerabilities import Inherited

LOCK: Final = "uv.lock"
BUILD: Final = (
    "backend/services/agent-runner/Dockerfile",
    "backend/services/agent-runner/image",
    "backend/services/stigmer-server/Dockerfile",
)


def inherited_parts(checkout: Checkout, base: str) -> Inherited:
    """What the revision before had already.

    Raises:
        EvidenceUnusable: its lock file cannot be read.
        ProgramFailed: git does not know the revision.
    """
    try:
        lock = tomllib.loads(checkout.call("show", f"{base}:{LOCK}"))
        packages = frozenset((_normal(one["name"]), str(one["version"])) for one in lock["package"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise EvidenceUnusable(f"{LOCK} of {base} is no lock file: {error!r}") from error
    changed = checkout.call("diff", "--name-only", base, "HEAD", "--", *BUILD).splitlines()
    return Inherited(python_packages=packages, has_same_build=not changed)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
