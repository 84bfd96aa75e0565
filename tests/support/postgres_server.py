"""A real PostgreSQL for tests, from the binaries on the machine, on a free loopback port.

PostgreSQL refuses to run as root, so as root it runs as an unprivileged user. Nothing is durable in it.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final
from uuid import uuid4

import asyncpg
import psutil

from temporal_server import free_port

START_TIMEOUT_SECONDS: Final = 120.0
STOP_TIMEOUT_SECONDS: Final = 30.0
USER: Final = "stigmer"
_POLL_SECONDS: Final = 0.05


def find_postgres_binaries() -> Path | None:
    """The folder with `initdb` and `postgres`; None where there is none."""
    on_path = shutil.which("postgres")
    candidates = [] if on_path is None else [Path(on_path).resolve().parent]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in candidates:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    return None


class PostgresServer:
    """One server; a context manager that starts it and removes it with all its data."""

    def __init__(self, binaries: Path, *, directory: Path | None = None) -> None:
        """`binaries` is what `find_postgres_binaries` found. `directory` is an empty one of the caller's."""
        self._binaries = binaries
        self._port = free_port()
        self._user = _unprivileged_user()
        self._given_directory = directory
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return self._port

    @property
    def pid(self) -> int | None:
        """Of the process that the others are children of, while it runs."""
        return None if self._process is None else self._process.pid

    def __enter__(self) -> "PostgresServer":
        # Not below pytest's own directory, which the unprivileged user may not enter.
        directory = self._directory = self._given_directory or Path(
            tempfile.mkdtemp(prefix="stigmer-postgres-")
        )
        if self._user is not None:
            os.chown(directory, self._user.pw_uid, self._user.pw_gid)
        arguments = ("--username", USER, "--auth", "trust", "--encoding", "UTF8", "--no-sync")
        self._run("initdb", "--pgdata", str(directory / "data"), *arguments)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory / "data")
            if self._given_directory is None:
                self._directory.rmdir()

    def start(self) -> None:
        """Start it, on its old state if it ran before, and wait until it answers.

        Raises:
            RuntimeError: it ended, or did not answer in time.
        """
        assert self._directory is not None
        data = str(self._directory / "data")
        self._process = self._start("postgres", "-D", data, "-p", str(self._port), *_SETTINGS)
        self._wait_until_ready()

    def stop(self) -> None:
        """End it in good order; open connections are broken. Stopping a stopped one changes nothing."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)  # fast shutdown
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)  # immediate shutdown
            self._process.wait(STOP_TIMEOUT_SECONDS)
        self._process = None

    def kill(self) -> None:
        """End it at once, as a crash would; its children notice that within moments."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_SECONDS)
            self._process = None

    def freeze(self) -> None:
        """Stop all of its processes, as a machine does that hangs: connections stay open, nothing answers."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # one that was just ending
                process.suspend()

    def thaw(self) -> None:
        """Let them go on."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def _processes(self) -> list[psutil.Process]:
        assert self._process is not None
        postmaster = psutil.Process(self._process.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    async def create_database(self) -> str:
        """Make an empty database, and give its URL."""
        name = f"test_{uuid4().hex}"
        connection = await asyncpg.connect(self._url("postgres"))
        try:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        finally:
            await connection.close()
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self._port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        process = self._start(program, *arguments)
        if process.wait(START_TIMEOUT_SECONDS) != 0:
            raise RuntimeError(f"`{program}` ended with {process.returncode}")

    def _start(self, program: str, *arguments: str) -> "subprocess.Popen[bytes]":
        user = self._user
        return subprocess.Popen(
            [str(self._binaries / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        )

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        probe = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        while subprocess.run(probe, check=False, timeout=START_TIMEOUT_SECONDS).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not start")
            time.sleep(_POLL_SECONDS)


_SETTINGS: Final = (
    *("-c", "listen_addresses=127.0.0.1"),
    *("-c", "unix_socket_directories="),
    *("-c", "fsync=off"),
    *("-c", "max_connections=200"),
)


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Whom to run as: None, which is oneself, unless that is root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`")
