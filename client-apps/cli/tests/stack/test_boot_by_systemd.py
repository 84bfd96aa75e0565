"""A real systemd of a user, in a mount namespace and cgroups of its own, starts the stack at each log-in and
ends it."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from stack_home import WAIT_SECONDS, StackHome, wait_until

SYSTEMD = Path("/usr/lib/systemd/systemd")
MANAGER = f"""
for cgroup; do echo $$ >"$cgroup/cgroup.procs" || exit; done
mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec {SYSTEMD} --user
"""
"""It asks only whether that directory is there before it believes that the system is systemd's."""
CGROUPS = Path("/sys/fs/cgroup")

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces are root's"),
    pytest.mark.skipif(
        not SYSTEMD.exists() or shutil.which("systemctl") is None, reason="systemd is not installed"
    ),
]


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Where a user's systemd is spoken to; the path is short, as those of sockets must be."""
    with tempfile.TemporaryDirectory(prefix="sd-") as directory:
        yield Path(directory)


@pytest.fixture
def cgroups() -> Iterator[list[Path]]:
    """Those by which systemd goes: whatever else is in its own when it starts, it moves elsewhere.

    Asked for before what ends the stack, so that they are empty when they go.
    """
    name = f"stigmer-test-{uuid4().hex}"
    hierarchies = [CGROUPS / each for each in (".", "unified", "systemd")]
    own = [each / name for each in hierarchies if (each / "cgroup.procs").exists()]
    try:
        for each in own:
            each.mkdir()
    except OSError as error:
        remove_cgroups(name)
        pytest.skip(f"no cgroup can be made: {error.strerror}")
    yield own
    wait_until(lambda: remove_cgroups(name), "nothing is left in them")


def remove_cgroups(name: str) -> bool:
    """Whether they are gone, those too that systemd made beside them for other controllers."""
    try:
        for tree in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")):
            for folder, _, _ in os.walk(tree, topdown=False):
                Path(folder).rmdir()
    except OSError:
        return False
    return True


@contextmanager
def log_in(home: StackHome, runtime: Path, cgroups: list[Path]) -> Generator[None]:
    """A user's systemd from log-in to log-out, when it stops what it started."""
    with (runtime / "log").open("ab") as log:
        manager = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", MANAGER, "manager", *cgroups],
            env=home.environment | {"XDG_RUNTIME_DIR": str(runtime), "SYSTEMD_LOG_TARGET": "console"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: (runtime / "systemd/private").exists(), "systemd answers")
        yield
    finally:
        manager.send_signal(signal.SIGTERM)
        try:
            manager.wait(WAIT_SECONDS)
        finally:
            manager.kill()


def is_up(home: StackHome) -> bool:
    """Whether the server of the stack is ready; there is no Temporal here."""
    server = next((one for one in home.status()["components"] if one["name"] == "server"), None)
    return server is not None and server["phase"] == "ready"


def is_gone(home: StackHome) -> bool:
    """Whether nothing of the stack runs; systemd itself has the home among its variables."""
    return not [line for line in home.command_lines().values() if "stigmer_cli.stack.supervisor" in line]


def test_the_stack_comes_with_each_log_in_and_goes_with_the_log_out_until_it_is_uninstalled(
    cgroups: list[Path], stack_home: StackHome, runtime: Path
) -> None:
    stack_home.environment["XDG_RUNTIME_DIR"] = str(runtime)
    with log_in(stack_home, runtime, cgroups):
        installed = stack_home.stigmer("server", "install", "--yes")
        assert installed.returncode == 0, installed.stderr
        wait_until(lambda: is_up(stack_home), "the stack is ready")
        first = stack_home.status()["supervisor_pid"]
    wait_until(lambda: is_gone(stack_home), "the log-out ends the stack")

    with log_in(stack_home, runtime, cgroups):
        wait_until(lambda: is_up(stack_home), "the next log-in starts it")
        assert stack_home.status()["supervisor_pid"] != first
        uninstalled = stack_home.stigmer("server", "uninstall")
        assert uninstalled.returncode == 0, uninstalled.stderr
        wait_until(lambda: is_gone(stack_home), "the stack ends with its unit")

    with log_in(stack_home, runtime, cgroups):
        listed = subprocess.run(
            ["systemctl", "--user", "list-unit-files", "stigmer.service"],
            env=stack_home.environment,
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
    assert "0 unit files listed" in listed.stdout, listed.stdout + listed.stderr
