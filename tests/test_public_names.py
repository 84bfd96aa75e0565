"""What packages offer to the rest of the code is a decision: a change of it is seen in `public_names.txt`.

After a wanted change: `python tests/test_public_names.py > tests/public_names.txt`.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("backend/libs/python", "backend/services", "client-apps", "tools")
PINNED = Path(__file__).with_name("public_names.txt")


def public_names() -> str:
    """A line for each package that offers names: what it is called, and the names in order."""
    lines = sorted(f"{package}: {' '.join(names)}" for package, names in _packages() if names)
    return "".join(f"{line}\n" for line in lines)


def _packages() -> Iterator[tuple[str, list[str]]]:
    for source in SOURCES:
        for file in (ROOT / source).glob("*/src/**/__init__.py"):
            parts = file.parent.relative_to(ROOT).parts
            yield ".".join(parts[parts.index("src") + 1 :]), _names_in(file)


def _names_in(file: Path) -> list[str]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return sorted(ast.literal_eval(value))
            case _:
                pass
    return []


def test_packages_offer_the_names_that_are_pinned() -> None:
    assert public_names().splitlines() == PINNED.read_text(encoding="utf-8").splitlines()


def test_what_is_pinned_is_a_good_part_of_the_packages() -> None:
    packages = {line.partition(":")[0] for line in PINNED.read_text(encoding="utf-8").splitlines()}
    assert {"agent_runner.models", "agent_runner.toolsets", "stigmer_contract.cassette"} <= packages


if __name__ == "__main__":
    sys.stdout.write(public_names())
