"""What commands see of the machine in bubblewrap: what their policy grants, and nothing else.

The other layers refuse the use of what is there; here the rest is not there: no file of another session whose
modes could be changed or whose existence could be seen, no process of another to be named. One such
place serves all commands of a directory that have the same policy; the zygote inside is their first process.

bubblewrap needs user namespaces, which container engines and some distributions forbid: a self-test decides
(`self_test`). How it is called: bwrap(1), version 0.8.
"""

# ruff: noqa: PTH114, PTH115 - paths here are text, as the kernel and bubblewrap take them

import os
import subprocess
from pathlib import Path
from typing import Final, NamedTuple, Self

from stigmer_isolation.command_policy import is_beneath, outermost
from stigmer_isolation.system_programs import find_system_program
from stigmer_isolation.zygote.policy import Policy

TRIAL_SECONDS: Final = 10.0
SHARED_MEMORY_BYTES: Final = 64 << 20
"""Size of a session's own /dev/shm; what container engines give a whole container."""

_OWN_CODE: Final = str(Path(__file__).parent)
"""The zygote is started inside."""
_MADE_ANEW: Final = ("/proc", "/dev")
_DEVICES: Final = ("/dev/random", "/dev/urandom")
_LINKS: Final = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
_SEPARATED: Final = (
    "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
    "--as-pid-1", "--cap-drop", "ALL",
)  # fmt: skip


class View(NamedTuple):
    """What commands in one bubblewrap see. Equal views can share one."""

    directory: str
    """Canonical path of the directory that commands start in; they may change it."""
    identity: tuple[int, int]
    """Device and number of that directory: another one at the same path needs a bubblewrap of its own."""
    writable: tuple[str, ...]
    readable: tuple[str, ...]
    devices: tuple[str, ...]
    has_network: bool

    @classmethod
    def of(cls, directory: int, policy: Policy) -> Self:
        """The view of commands that are held to a policy and start in the open directory."""
        status = os.fstat(directory)
        return cls(
            directory=os.readlink(f"/proc/self/fd/{directory}"),
            identity=(status.st_dev, status.st_ino),
            writable=policy.writable,
            readable=(*policy.readable, *policy.executable),
            devices=policy.devices,
            has_network=policy.network != "none",
        )


class Bubblewrap:
    """The program, and how it is called for a view."""

    def __init__(self, program: str) -> None:
        """`program` is its path."""
        self._program = program

    @classmethod
    def find(cls) -> Self | None:
        """The system's own; None: it is not installed."""
        program = find_system_program("bwrap")
        return None if program is None else cls(program)

    def arguments(self, view: View, temporary: str) -> list[str]:
        """The command line up to the program that is to run inside.

        `temporary` is a directory that is shown to be written to, too.
        """
        readable = [path for path in view.readable if not is_beneath(path, _MADE_ANEW)]
        shown = outermost([_OWN_CODE, *map(_shown_as, readable)])
        options = [*_SEPARATED, *_mounting_as_root(), *([] if view.has_network else ["--unshare-net"])]
        for path in shown:
            target = os.path.realpath(path)
            if target != path and os.path.islink(path) and is_beneath(target, shown):
                options += ["--symlink", os.readlink(path), path]
            else:
                options += ["--ro-bind-try", path, path]
        options += ["--proc", "/proc", "--tmpfs", "/dev"]
        for device in (*_DEVICES, *view.devices):
            options += ["--dev-bind-try", device, device]
        for link, target in _LINKS.items():
            options += ["--symlink", target, link]
        options += ["--perms", "1777", "--size", str(SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm"]  # noqa: S108 - its own
        for path in outermost([temporary, view.directory, *view.writable]):
            options += ["--bind", path, path]
        return [self._program, *options, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"]

    def why_not(self, view: View) -> str:
        """What it says when it is to run nothing, for when running something failed. Blocks."""
        try:
            tried = subprocess.run(
                [*self.arguments(view, view.directory), "/bin/true"],
                env={},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TRIAL_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        said = tried.stderr.decode("utf-8", errors="replace").strip()
        return said.splitlines()[-1] if said else f"it ended with {tried.returncode}"


def _mounting_as_root() -> list[str]:
    """For the zygote, which gives each command mounts of its own and takes this away from it.

    Root without powers may not make a user namespace with root in it (user_namespaces(7), CAP_SETFCAP). Other
    users may, and a bubblewrap that is installed set-user-id refuses this to them.
    """
    return ["--cap-add", "CAP_SYS_ADMIN"] if os.getuid() == 0 else []


def _shown_as(path: str) -> str:
    """All of /etc instead of its parts: hundreds, for root, and the contents are Landlock's matter."""
    return "/etc" if is_beneath(path, ["/etc"]) else path
