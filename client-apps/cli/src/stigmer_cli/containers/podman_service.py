"""Podman's API service, started for one command where no socket is served, and ended with it.

Containers do not depend on it: each has a monitor of its own. It stays in our process group, so that whoever
ends the group ends it.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from stigmer_cli.containers.errors import EngineNotRunning

START_TIMEOUT_SECONDS = 45.0
"""Another Podman that writes a large layer keeps the store locked for so long (18 s seen on 2026-11-25)."""
IDLE_SECONDS = 60
"""It ends by itself after so long without a request: should we be killed, it stays no longer than this."""
SOCKET_PATTERN = "podman-*.sock"
"""The sockets of such services in their directory."""
_END_TIMEOUT_SECONDS = 3.0
_POLL_SECONDS = 0.01
_IN_OWN_DIRECTORY = "podman.sock"
_MAX_PATH_BYTES = 100
"""Of a Unix socket's address (unix(7): 108)."""


class PodmanService:
    """One `podman system service`, of this process alone."""

    def __init__(self, process: "subprocess.Popen[bytes]", socket_path: str) -> None:
        self._process = process
        self.socket_path = socket_path

    @classmethod
    def start(cls, program: str, directory: Path, environ: Mapping[str, str]) -> "PodmanService":
        """Starts it and waits until it answers.

        Raises:
            EngineNotRunning: it ended, or did not answer in time.
        """
        path = directory / f"podman-{os.getpid()}.sock"
        if len(os.fsencode(path)) > _MAX_PATH_BYTES:
            path = Path(tempfile.mkdtemp(prefix="podman-")) / _IN_OWN_DIRECTORY
        work = work_directory(path)
        work.mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile() as complaints:
            process = subprocess.Popen(
                [program, "system", "service", f"--time={IDLE_SECONDS}", f"unix://{path}"],
                env={**environ, **_temporary_files_in(work, environ)},
                cwd=work,  # Podman's monitors leave a file `oom` where they are started
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
            )
            service = cls(process, str(path))
            deadline = time.monotonic() + START_TIMEOUT_SECONDS
            while not _answers(service.socket_path):
                if process.poll() is not None or time.monotonic() > deadline:
                    service.end()
                    complaints.seek(0)
                    said = complaints.read().decode(errors="replace").strip().splitlines()
                    reason = said[-1] if said else "its service does not answer"
                    remedy = "run `podman info` to see what is wrong"
                    raise EngineNotRunning("Podman", f"it does not work: {reason}", remedy)
                time.sleep(_POLL_SECONDS)
        return service

    def end(self) -> None:
        """Ends it; idempotent."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_END_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        path = Path(self.socket_path)
        path.unlink(missing_ok=True)
        shutil.rmtree(work_directory(path), ignore_errors=True)
        if path.name == _IN_OWN_DIRECTORY and path.parent.exists():
            path.parent.rmdir()


def work_directory(socket_path: Path) -> Path:
    """Where the service of that socket works, and keeps what it is downloading."""
    return socket_path.with_suffix(".work")


def _temporary_files_in(directory: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Where Podman downloads to, so that it can be seen how much has come.

    Without a runtime directory of the person's it keeps its state there, too, and must be left alone.
    """
    user = os.geteuid()
    has_runtime = user == 0 or environ.get("XDG_RUNTIME_DIR") or Path(f"/run/user/{user}").exists()
    return {"TMPDIR": str(directory)} if has_runtime else {}


def _answers(path: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
    except OSError:
        return False
    return True
