"""Which environment each Python process of a stack had from its very first moment, whoever looks when.

What `exec` is given stands in `/proc/PID/environ` for the whole of a life. A `sitecustomize` on PYTHONPATH,
which runs before the first line of any program, keeps it.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

_KEEP = """
import json, os, sys, time
def words(name):
    with open(f"/proc/self/{name}", "rb") as file:
        return [os.fsdecode(word) for word in file.read().split(b"\\0") if word]
path = os.path.join(%r, f"{os.getpid()}-{time.monotonic_ns()}")
with open(path + ".draft", "w") as file:
    json.dump({"command": words("cmdline"), "environment": words("environ")}, file)
os.rename(path + ".draft", path + ".json")
"""
_PROGRAMS = (
    *("stigmer_cli.stack.supervisor", "stigmer_cli.processes.guard"),
    *("stigmer_server", "agent_runner", "stigmer_cli.runner.attendant"),
)


@dataclass(frozen=True)
class FirstEnvironment:
    """That of one process."""

    program: str
    """The module, with ` spare` behind it for a runner that waits."""
    entries: tuple[str, ...]
    """`NAME=value`."""


class FirstEnvironments:
    """Those of a stack whose PYTHONPATH begins with `python_path`."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder, which everybody can reach."""
        self._kept = folder / "kept"
        self.python_path = folder / "python"
        for made, mode in ((folder, 0o755), (self._kept, 0o777), (self.python_path, 0o755)):
            made.mkdir()
            made.chmod(mode)
        (self.python_path / "sitecustomize.py").write_text(_KEEP % os.fspath(self._kept), encoding="utf-8")

    def seen(self) -> list[FirstEnvironment]:
        """Those of programs of the stack so far."""
        documents = [json.loads(path.read_text(encoding="utf-8")) for path in self._kept.glob("*.json")]
        found: list[FirstEnvironment] = []
        for document in documents:
            words: list[str] = document["command"]
            module = words[words.index("-m") + 1] if "-m" in words else ""
            if module in _PROGRAMS:
                program = f"{module} spare" if words[-1] == "spare" else module
                found.append(FirstEnvironment(program, tuple(document["environment"])))
        return found

    def count(self, program: str) -> int:
        """How many processes of a program there were."""
        return sum(one.program == program for one in self.seen())
