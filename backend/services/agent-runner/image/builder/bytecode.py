"""Keeps the bytecode of the modules that a program imports, and no other: a fast start at little size.

Runs with the Python that will run them. Importing writes the bytecode; here it is made to count whatever the
source's time. What was done by an earlier run stands in a lower layer of the image and is passed over.
"""

import argparse
import contextlib
import importlib
import importlib.util
import pkgutil
import shutil
import sys
from pathlib import Path
from typing import Final

HEADER_BYTES: Final = 16
CHECKED_BY_TIME: Final = (0).to_bytes(4, "little")
NOT_CHECKED: Final = (1).to_bytes(4, "little")
"""Flags of a .pyc file, after the four bytes of its magic number (PEP 552)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", type=Path, required=True, help="where the image has its packages")
    parser.add_argument(
        "--output", type=Path, required=True, help="directory that stands for the image's root"
    )
    parser.add_argument("--package", action="append", default=[], help="import it with all its modules")
    parser.add_argument("modules", nargs="*", help="import it where it is installed")
    arguments = parser.parse_args()
    for name in arguments.modules:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    for name in arguments.package:
        import_whole(name)
    prefix = Path(sys.prefix)
    for module in list(sys.modules.values()):
        source, compiled = Path(getattr(module, "__file__", None) or ""), getattr(module, "__cached__", None)
        if compiled and make_timeless(Path(compiled), source):
            in_image = Path(compiled)
            if in_image.is_relative_to(prefix):
                in_image = arguments.environment / in_image.relative_to(prefix)
            copy(Path(compiled), arguments.output / in_image.relative_to("/"))


def import_whole(package_name: str) -> None:
    """Import a package and every module in it, and with them what they need."""
    package = importlib.import_module(package_name)
    for module in pkgutil.walk_packages(package.__path__, f"{package_name}."):
        importlib.import_module(module.name)


def make_timeless(compiled: Path, source: Path) -> bool:
    """Let a .pyc file count whatever the time of its source; False where there is none, or it does."""
    if not compiled.is_file():
        return False
    content = compiled.read_bytes()
    if content[4:8] != CHECKED_BY_TIME:
        return False
    source_hash = importlib.util.source_hash(source.read_bytes())
    compiled.write_bytes(content[:4] + NOT_CHECKED + source_hash + content[HEADER_BYTES:])
    return True


def copy(file: Path, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, destination)


if __name__ == "__main__":
    main()
