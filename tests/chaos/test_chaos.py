"""Whatever goes wrong: the short form of the chaos run. The long one is `make chaos`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from needed import skip_outside_ci
from postgres_server import find_postgres_binaries

pytestmark = [pytest.mark.timeout(1020), pytest.mark.postgres]

TESTS = Path(__file__).parents[1]
SEED = "1312"
MINUTES = "0.6"
LONGEST_SECONDS = 900
"""Most of it is for a busy machine; alone, all of it takes a minute and a half."""
CLEAN_UP_SECONDS = 90


def test_whatever_goes_wrong_everything_ends_truthfully_and_nothing_is_done_twice(tmp_path: Path) -> None:
    if find_postgres_binaries() is None:
        skip_outside_ci("PostgreSQL is missing")

    chaos = subprocess.Popen(
        [sys.executable, "-m", "chaos", "--minutes", MINUTES, "--seed", SEED, "--home", str(tmp_path)],
        env=os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS / 'support'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = chaos.communicate(timeout=LONGEST_SECONDS)
    finally:
        chaos.terminate()
        chaos.wait(CLEAN_UP_SECONDS)

    assert chaos.returncode == 0, said
