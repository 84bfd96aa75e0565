"""What must hold for ordinary users, too: suites that CI, which is root, runs as another person as well.

The attacks by commands are run so where they are (`test_command_attacks`).
"""

import os
import subprocess
import sys

import pytest

from other_person import REPOSITORY, other_person

SUITES = (
    "backend/libs/python/stigmer-isolation/tests/test_command_policy.py",
    "backend/libs/python/stigmer-isolation/tests/test_networks.py",
    "backend/libs/python/stigmer-isolation/tests/test_temporary_files.py",
    "backend/services/agent-runner/tests/test_runnable_files.py",
    "backend/services/agent-runner/tests/test_workspace_directories.py",
    "backend/services/agent-runner/tests/toolsets/test_file_search.py",
)
SUITE_SECONDS = 550


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux isolates commands")
@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user runs them already")
@pytest.mark.timeout(SUITE_SECONDS + 50)
@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_passes_as_an_ordinary_user(suite: str) -> None:
    with other_person() as person:
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n0"]
        done = subprocess.run(
            [*person.prefix, *argv, "--basetemp", str(person.home / "t"), suite],
            env=person.environment
            | {
                "LANG": "C.UTF-8",
                "PYTHONDONTWRITEBYTECODE": "1",
                "HYPOTHESIS_STORAGE_DIRECTORY": str(person.home / "hypothesis"),
            },
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SUITE_SECONDS,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-5000:]
