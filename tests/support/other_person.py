"""A person of this machine for one test: a user with a home, made by root and gone afterwards.

The interpreter and the checkout may lie where only root may look; in a mount namespace of the person's own
they are at the same places, and can be reached.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
_COMMAND_SECONDS = 120
# $1: the person; $2: directories that must be reached, by lines; then the command.
_AS_PERSON = r"""
set -eu
IFS='
'
person=$1 needed=$2
shift 2
closed_ancestor() {
    path=
    for part in $(printf '%s' "$1" | tr '/' '\n'); do
        path=$path/$part
        case $(stat -c %A "$path") in *[xst]) ;; *) printf '%s' "$path"; return ;; esac
    done
}
shelves=$(mktemp -d) covered=
for directory in $needed; do
    closed=$(closed_ancestor "$directory")
    [ -n "$closed" ] || continue
    covered="$covered$IFS$closed"
    mkdir -p "$shelves$directory"
    mount --bind "$directory" "$shelves$directory"
done
for closed in $(printf '%s' "$covered" | sort -u); do
    mount -t tmpfs -o mode=755 tmpfs "$closed"
done
for directory in $needed; do
    [ -d "$shelves$directory" ] || continue
    mkdir -p "$directory"
    mount --bind "$shelves$directory" "$directory"
    umount "$shelves$directory"
done
rm -r "$shelves"
exec setpriv --reuid "$person" --regid "$person" --init-groups -- "$@"
"""


@dataclass(frozen=True)
class OtherPerson:
    """The person."""

    name: str
    user_id: int
    home: Path
    """Readable by everybody, short, and of this file system."""

    @property
    def prefix(self) -> list[str]:
        """Before a command: runs it as the person."""
        needed = "\n".join(dict.fromkeys(map(str, (Path(sys.base_prefix).resolve(), REPOSITORY))))
        return [
            "unshare",
            "--mount",
            "--propagation",
            "slave",
            "sh",
            "-c",
            _AS_PERSON,
            "sh",
            self.name,
            needed,
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What a log-in gives."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "USER": self.name,
            "LOGNAME": self.name,
            "XDG_RUNTIME_DIR": str(self.home / "runtime"),
        }

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command to its end, and expects it to go well."""
        completed = subprocess.run(
            [*self.prefix, *command],
            env=self.environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        assert completed.returncode == 0, completed.stderr
        return completed


@contextmanager
def other_person(*groups: str) -> Generator[OtherPerson]:
    """A person in these groups. On Debian `useradd` gives a range of subuids, for containers of their own."""
    assert os.geteuid() == 0, "only root makes users"
    name = f"stigmer{token_hex(4)}"
    home = Path("/var/tmp") / name
    _run("useradd", "--create-home", "--home-dir", str(home), "--shell", "/bin/sh", name)
    try:
        home.chmod(0o755)
        user = pwd.getpwnam(name)
        for group in groups:
            _run("usermod", "--append", "--groups", group, name)
        for folder in (home / "runtime", home / ".config", home / ".config/containers"):
            folder.mkdir(mode=0o700)
            os.chown(folder, user.pw_uid, user.pw_gid)
        # Podman 4.3 falls back to copying whole images where /dev/fuse is closed.
        (home / ".config/containers/storage.conf").write_text('[storage]\ndriver = "overlay"\n')
        yield OtherPerson(name, user.pw_uid, home)
    finally:
        _end_processes(pwd.getpwnam(name).pw_uid)
        _run("userdel", name)
        shutil.rmtree(home, ignore_errors=True)


def _end_processes(user_id: int) -> None:
    """Also those of the person's users in containers, which end with their monitor."""
    own = [process for process in psutil.process_iter(["uids"]) if process.info["uids"].real == user_id]
    for process in own:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(own, timeout=5)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_COMMAND_SECONDS)
