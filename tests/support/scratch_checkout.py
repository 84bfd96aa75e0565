"""A clone of this repository for tests to release from: with a commit of the files as they are now."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
TIMEOUT_SECONDS: Final = 900.0
_PERSON: Final = {
    "GIT_AUTHOR_NAME": "Tester",
    "GIT_AUTHOR_EMAIL": "tester@example.org",
    "GIT_COMMITTER_NAME": "Tester",
    "GIT_COMMITTER_EMAIL": "tester@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


class ScratchCheckout:
    """The tracked and new files of this checkout, as one commit on `main`; without its history and tags."""

    def __init__(self, root: Path) -> None:
        self.root = root
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=REPOSITORY,
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            source, target = REPOSITORY / name, root / name
            if source.is_symlink() or source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("Start")
        uv = REPOSITORY / ".uv"
        if uv.exists():  # a link is not what .gitignore means
            (root / ".git/info/exclude").write_text(".uv\n", encoding="utf-8")
            (root / ".uv").symlink_to(uv.resolve())

    def git(self, *arguments: str) -> str:
        """What git says."""
        return self._run(["git", *arguments]).stdout.rstrip("\n")

    def commit(self, message: str) -> None:
        """All changes."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def sync(self) -> None:
        """Gives it an environment of its own, in which its packages bear its version."""
        own = REPOSITORY / ".uv/bin/uv"
        uv = str(own) if own.exists() else "uv"
        self._run([uv, "sync", "--frozen", "--quiet", "--python", sys.executable])
        (self.root / ".venv/.synced").touch()

    def write(self, name: str, text: str) -> None:
        """A file, committed."""
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text, encoding="utf-8")
        self.commit(f"Write {name}")

    def release_tools(
        self, *arguments: str, environment: Mapping[str, str] | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """`python -m stigmer_release` of the scratch checkout; in its own environment where it has one."""
        source = {"PYTHONPATH": str(self.root / "tools/release/src")}
        own = self.root / ".venv/bin/python"
        command = [str(own) if own.exists() else sys.executable, "-m", "stigmer_release", *arguments]
        return self._run(command, source | dict(environment or {}), check=check)

    def make(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`make` at its root, with the environment of this checkout."""
        source = {"PYTHONPATH": str(self.root / "tools/release/src")}
        bin_directory = Path(sys.executable).parent
        return self._run(["make", "-o", "setup", f"RUN={bin_directory}", *arguments], source, check=check)

    def _run(
        self, command: list[str], environment: Mapping[str, str] | None = None, *, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=os.environ | _PERSON | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done
