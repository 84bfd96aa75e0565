"""`python -m stigmer_contract.schema [--check] [FILE]`: writes the manifest's JSON Schema, or compares it.

Without FILE it goes to stdout.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from stigmer_contract.manifest import manifest_json_schema


def schema_text() -> str:
    """The schema as the committed file holds it."""
    return json.dumps(manifest_json_schema(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Answers the exit code: 1 where `--check` finds a difference."""
    parser = argparse.ArgumentParser(prog="python -m stigmer_contract.schema", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 where FILE is outdated")
    options = parser.parse_args(arguments)
    file: Path | None = options.file
    if file is None:
        sys.stdout.write(schema_text())
        return 0
    if not options.check:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(schema_text(), encoding="utf-8")
        return 0
    if file.is_file() and file.read_text(encoding="utf-8") == schema_text():
        return 0
    print(f"error: {file} is outdated\n\nhint: run `make schema`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
