"""What an installation of this version is made of: every package at its locked version, with its hashes."""

import hashlib
from pathlib import Path
from typing import Final

from stigmer_release.errors import TreeUnfit
from stigmer_release.packages import PACKAGES
from stigmer_release.programs import run_program
from stigmer_release.python_packages import uv_program

WHOLE: Final = "stigmer-agents"
CLIENT: Final = "stigmer-agents-client"
_OURS_OF: Final = {WHOLE: tuple(PACKAGES), CLIENT: ("stigmer-contract", CLIENT)}


def indexed_requirements(root: Path, packages: Path) -> str:
    """Of the whole, for who installs from the package index: ours by name, too.

    Raises:
        TreeUnfit: a package of ours is not there.
        ProgramFailed: uv failed.
    """
    lines = [_locked(root, WHOLE)]
    for name in PACKAGES:
        files = [_file(packages, name, ".tar.gz"), _file(packages, name, "-py3-none-any.whl")]
        version = files[0].name.split("-")[1].removesuffix(".tar.gz")
        lines.append(f"{name}=={version} {' '.join(map(_hash, files))}")
    return "\n".join(lines) + "\n"


def requirements_of_wheels(root: Path, packages: Path, name: str) -> str:
    """For who installs from the directory of the wheels: ours are those files, and the index is not asked
    for them, where anybody could have taken their names.

    Raises:
        TreeUnfit, ProgramFailed: as `indexed_requirements`.
    """
    wheels = [_file(packages, ours, "-py3-none-any.whl") for ours in _OURS_OF[name]]
    return "\n".join([_locked(root, name), *(f"./{wheel.name} {_hash(wheel)}" for wheel in wheels)]) + "\n"


def _locked(root: Path, name: str) -> str:
    return run_program(
        uv_program(root),
        *("export", "--quiet", "--frozen", "--no-dev", "--no-header", "--no-annotate", "--no-emit-workspace"),
        *("--package", name, "--format", "requirements.txt"),
        directory=root,
    ).rstrip("\n")


def _file(packages: Path, name: str, suffix: str) -> Path:
    files = list(packages.glob(f"{name.replace('-', '_')}-[0-9]*{suffix}"))
    if len(files) != 1:
        raise TreeUnfit(f"{packages} has not one source archive and one wheel of {name}")
    return files[0]


def _hash(file: Path) -> str:
    return f"--hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
