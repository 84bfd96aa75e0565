"""The Python packages of a release: built, tried alone, and told which image belongs to them."""

import re
import shutil
from pathlib import Path
from typing import Final

from stigmer_release.errors import TreeUnfit
from stigmer_release.packages import PACKAGES, extras
from stigmer_release.programs import run_program

RELEASED_IMAGE: Final = "client-apps/cli/src/stigmer_cli/runner/released_image.py"
_DIGEST_LINE: Final = re.compile(r"^RELEASE_DIGEST: Final\[str \| None\] = .*$", re.MULTILINE)
_IMPORT_ALL: Final = """
import importlib, importlib.metadata, pkgutil, sys
for top in importlib.metadata.distribution(sys.argv[1]).read_text("RECORD").splitlines():
    name = top.partition("/")[0]
    if not top.startswith(name + "/__init__.py"):
        continue
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith((".__main__", "migrations.env")):
            importlib.import_module(module.name)
    print(name)
"""


def set_image_digest(root: Path, digest: str) -> None:
    """Lets the command line pull exactly this image.

    Raises:
        TreeUnfit: the place for it is not there.
    """
    file = root / RELEASED_IMAGE
    text = file.read_text("utf-8")
    if len(_DIGEST_LINE.findall(text)) != 1:
        raise TreeUnfit(f"{RELEASED_IMAGE} has no line for RELEASE_DIGEST")
    line = f'RELEASE_DIGEST: Final[str | None] = (\n    "{digest}"\n)'
    file.write_text(_DIGEST_LINE.sub(line, text), encoding="utf-8")


def build_packages(root: Path, output: Path) -> list[Path]:
    """A source archive and a wheel of each, the wheel out of the archive. The directory is emptied before.

    Raises:
        ProgramFailed: uv failed.
    """
    shutil.rmtree(output, ignore_errors=True)
    for name in PACKAGES:
        run_program(
            uv_program(root), "build", "--quiet", "--package", name, "--out-dir", str(output), directory=root
        )
    (output / ".gitignore").unlink(missing_ok=True)
    return sorted(output.iterdir())


def try_package(root: Path, packages: Path, name: str, scratch: Path) -> str:
    """Installs one package from the directory, with all its extras, into an environment of its own, and
    imports all its modules.

    Answers the name that is imported.

    Raises:
        ProgramFailed: it cannot be installed, or a module not be imported.
    """
    environment = scratch / name
    python = environment / "bin/python"
    run_program(uv_program(root), "venv", "--quiet", "--clear", str(environment))
    [wheel] = packages.glob(f"{name.replace('-', '_')}-[0-9]*.whl")
    run_program(
        uv_program(root),
        "pip",
        "install",
        "--quiet",
        "--python",
        str(python),
        "--find-links",
        str(packages),
        f"{name}[{','.join(extras(root, name))}] @ {wheel.as_uri()}",
    )
    return run_program(str(python), "-c", _IMPORT_ALL, name, directory=scratch).strip()


def uv_program(root: Path) -> str:
    """The checkout's own uv, else the one on PATH."""
    own = root / ".uv/bin/uv"
    return str(own) if own.exists() else "uv"
