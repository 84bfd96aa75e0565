"""Bubblewrap for tests that need it: in CI it must work, elsewhere they are left out where it does not."""

import subprocess

from needed import skip_outside_ci
from stigmer_isolation.bubblewrap import Bubblewrap

_TRIAL = ("bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "true")


def working_bubblewrap() -> Bubblewrap:
    """The installed one, or the end of the test."""
    bubblewrap = Bubblewrap.find()
    if bubblewrap is None:
        skip_outside_ci("bubblewrap is not installed")
    if subprocess.run(_TRIAL, capture_output=True, check=False, timeout=30).returncode != 0:
        skip_outside_ci("this machine forbids namespaces, which bubblewrap needs")
    return bubblewrap
