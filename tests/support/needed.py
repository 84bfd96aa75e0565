"""What a test needs of the machine: in CI it must be there, elsewhere the test is left out."""

import os
from typing import NoReturn

import pytest


def skip_outside_ci(reason: str) -> NoReturn:
    """Leaves the test out; in CI, where nobody would notice, it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and in CI nothing may be missing", pytrace=False)
    pytest.skip(reason)
