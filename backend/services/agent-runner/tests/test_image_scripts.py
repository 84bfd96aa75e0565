"""The scripts that build the image, with a container engine that fails; `image/` has real ones."""

import os
import subprocess
from pathlib import Path

import pytest

BUILD = Path(__file__).parents[1] / "image/build.sh"
# Answers as Docker does, and has no image.
ENGINE = """#!/bin/sh
case $1 in
    --version) echo 'Docker version 28.0.0, build 0' ;;
    info | version) echo 'linux/amd64' ;;
    buildx) test "$2" = version ;;
    *) exit 1 ;;
esac
"""


@pytest.mark.parametrize("builder", ["classic", "buildkit"])
def test_a_build_that_fails_is_told_and_ends_so(tmp_path: Path, builder: str) -> None:
    engine = tmp_path / "docker"
    engine.write_text(ENGINE, encoding="utf-8")
    engine.chmod(0o755)
    done = subprocess.run(
        ["bash", str(BUILD), "linux/amd64", "example/runner:1.0.0"],
        env={
            "PATH": os.environ["PATH"],
            "ENGINE": str(engine),
            "BUILDER": builder,
            "VERSION": "1.0.0",
            "IMAGE": "example/runner",
        },
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("", 1)
    why = "could not build 'example/runner:1.0.0' for linux/amd64; the reason stands above"
    assert done.stderr.splitlines()[-1] == f"error: {why}"
