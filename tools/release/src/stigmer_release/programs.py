"""Runs other programs: by argument list, with a limit of time, and with one line where they fail."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from stigmer_release.errors import ProgramFailed

_TIMEOUT_SECONDS: Final = 900.0


def run_program(
    program: str, *arguments: str, directory: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """What it writes to its standard output. It is looked for beside this Python first.

    Raises:
        ProgramFailed: it is not installed, fails, or takes too long.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    try:
        done = subprocess.run(
            [program, *arguments],
            cwd=directory,
            env=os.environ | {"PATH": path} | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise ProgramFailed(f"could not run `{program}`: it is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise ProgramFailed(
            f"`{program} {arguments[0]}` took longer than {_TIMEOUT_SECONDS:.0f} s"
        ) from error
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or [
            f"exit code {done.returncode}"
        ]
        raise ProgramFailed(f"`{program} {' '.join(arguments[:2])}` failed: {reason[0]}")
    return done.stdout
