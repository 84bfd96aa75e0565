"""Runs an example in a fresh copy of its input files, so that the files of the repository stay as they are.

Plays the recorded conversation, or asks the model that `--model` names. Everything else is `stigmer run`.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent


def main() -> int:
    """Parse the arguments, show the `stigmer` command, run it."""
    names = sorted(path.parent.name for path in EXAMPLES.glob("*/agent.yaml"))
    parser = argparse.ArgumentParser(description="Run an example in a fresh copy of its input files.")
    parser.add_argument("example", choices=names, metavar="EXAMPLE", help=", ".join(names))
    parser.add_argument("--model", help="provider:name; left out: the recorded conversation")
    parser.add_argument("--workspace", type=Path, help="work in this directory instead of a copy")
    options = parser.parse_args()
    stigmer = find_stigmer()
    if stigmer is None:
        print("error: there is no `stigmer` command\n\nhint: run `make setup`", file=sys.stderr)
        return 3
    example: str = options.example
    workspace: Path = options.workspace or copy_of_input(example)
    command = [stigmer, *run_arguments(example, workspace, options.model)]
    print(f"$ {shlex.join(command)}\n", file=sys.stderr)
    status = subprocess.run(command, check=False).returncode
    print(f"\nThe agent worked in {workspace}", file=sys.stderr)
    return status


def find_stigmer() -> str | None:
    """The command of this checkout, else the one on PATH."""
    for folder in (Path(sys.executable).parent, EXAMPLES.parent / ".venv" / "bin"):
        if (folder / "stigmer").is_file():
            return str(folder / "stigmer")
    return shutil.which("stigmer")


def copy_of_input(example: str) -> Path:
    """A new directory that holds the example's input files."""
    workspace = Path(tempfile.mkdtemp(prefix=f"{example}-"))
    shutil.copytree(EXAMPLES / example / "input", workspace, dirs_exist_ok=True)
    return workspace


def run_arguments(example: str, workspace: Path, model: str | None) -> list[str]:
    """What follows `stigmer`."""
    folder = EXAMPLES / example
    prompt = (folder / "prompt.txt").read_text(encoding="utf-8").strip()
    model = model or f"replay:{folder / 'cassette.yaml'}"
    return ["run", str(folder), prompt, "--workspace", str(workspace), "--model", model]


if __name__ == "__main__":
    sys.exit(main())
