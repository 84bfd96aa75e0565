"""Bubblewrap for tests that need it: in CI it must work, elsewhere they are left out where it does not."""

import os
import subprocess

import pytest

from agent_runner.workspace import Bubblewrap

_TRIAL = ("bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "--proc", "/proc", "true")


def working_bubblewrap() -> Bubblewrap:
    """The installed one, or the end of the test."""
    bubblewrap = Bubblewrap.find(os.environ["PATH"])
    if not os.environ.get("CI"):
        if bubblewrap is None:
            pytest.skip("bubblewrap is not installed")
        if subprocess.run(_TRIAL, capture_output=True, check=False, timeout=30).returncode != 0:
            pytest.skip("this machine forbids namespaces")
    assert bubblewrap is not None, "install the package bubblewrap"
    return bubblewrap
