"""Runs the runner as a native process: under a name that only we can prove, with a spare one beside it.

A spare has loaded its programs, which takes most of a start, and waits for a line on its standard input. That
a runner has ended the server is told at once, so that what it had in hand goes on elsewhere.
"""

import asyncio
import contextlib
import logging
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path

from stigmer_cli.processes.identity import ProcessIdentity
from stigmer_cli.processes.runner_reports import RunnerReports
from stigmer_cli.stack.component import LineSink
from stigmer_cli.stack.process_launcher import ProcessLauncher, RunningProcess
from stigmer_contract.runner_names import MARKER_BYTES, RUNNER_FILES, new_runner_name, runner_file_name

logger = logging.getLogger(__name__)

RUNNER_NAME_VARIABLE = "STIGMER_RUNNER_NAME"
_SPARE = "spare"
_GO = b"go\n"


@dataclass
class _Spare:
    """A process that waits to become the runner."""

    process: RunningProcess
    name: str
    proof: str
    starter: int
    """Descriptor: a line there makes it the runner, its closing ends it."""


class RunnerLauncher:
    """Starts runners, one after the other."""

    def __init__(
        self, process: ProcessLauncher, reports: RunnerReports, *, with_spare: bool, workspaces: Path
    ) -> None:
        """`workspaces` is the runners' `SANDBOX_ROOT_DIR`."""
        self._process = process
        self._workspaces = workspaces
        self._reports = reports
        self._with_spare = with_spare
        self._spare: _Spare | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def launch(self, write_line: LineSink) -> "RunningRunner":
        """Makes the spare process the runner, or starts one.

        Raises:
            OSError: the program is missing or cannot be run.
        """
        spare, self._spare = self._spare, None
        if spare is not None and _let_go(spare):
            return RunningRunner(spare.process, spare.name, spare.proof, self._reports, self._workspaces)
        name, proof = new_runner_name(socket.gethostname())
        process = await self._named(name).launch(write_line)
        return RunningRunner(process, name, proof, self._reports, self._workspaces)

    async def prepare(self, write_line: LineSink) -> None:
        """Starts a spare process where there is none; without one, the next start takes longer."""
        if not self._with_spare or self._spare is not None:
            return
        name, proof = new_runner_name(socket.gethostname())
        launcher = self._named(name)
        launcher = replace(launcher, arguments=(*launcher.arguments, _SPARE))
        read_end, write_end = os.pipe()
        try:
            process = await launcher.launch(write_line, standard_input=read_end)
        except OSError as error:
            logger.warning("no spare runner could be started error=%s", error)
            os.close(write_end)
            return
        finally:
            os.close(read_end)
        self._spare = _Spare(process, name, proof, write_end)

    async def close(self) -> None:
        """Ends the spare process, and stops telling of ended ones."""
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare.starter)
            spare.process.kill()
            await spare.process.wait()
        await self._reports.close()

    def _named(self, name: str) -> ProcessLauncher:
        return replace(self._process, environment={**self._process.environment, RUNNER_NAME_VARIABLE: name})


class RunningRunner:
    """A runner's process, whose end the server is told."""

    def __init__(
        self, process: RunningProcess, name: str, proof: str, reports: RunnerReports, workspaces: Path
    ) -> None:
        self._process = process
        self._name = name
        self._proof = proof
        self._reports = reports
        self._workspaces = workspaces
        self._hung: str | None = None

    @property
    def process(self) -> ProcessIdentity:
        """The process."""
        return self._process.process

    async def wait(self) -> int:
        """Waits for its end, and sees that the server hears of it."""
        exit_code = await self._process.wait()
        how = (
            f"it was ended by signal {-exit_code}"
            if exit_code < 0
            else f"it ended with exit code {exit_code}"
        )
        if self._hung is None:
            self._reports.tell(self._name, self._proof, how)
        else:
            frozen_by = _read_marker(self._workspaces, self._name)
            self._reports.tell(self._name, self._proof, self._hung, hung=True, frozen_by=frozen_by)
        return exit_code

    def drain(self) -> None:
        """Sends SIGUSR1."""
        self._process.drain()

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self._process.terminate()

    def end_hung(self, how: str) -> None:
        """Kills it, and sees that the server is told why, and whose leg froze it."""
        self._hung = how
        self.kill()

    def kill(self) -> None:
        """Sends SIGKILL to the process and its group."""
        self._process.kill()


def _read_marker(workspaces: Path, name: str) -> str | None:
    """Which execution's leg held the runner's event loop to the last; None: none, or it is not known."""
    try:
        with (workspaces / RUNNER_FILES / runner_file_name(name)).open("rb") as file:
            text = file.read(MARKER_BYTES).rstrip(b"\0").decode("ascii")
    except (OSError, ValueError):
        return None
    return text or None


def _let_go(spare: _Spare) -> bool:
    """Makes the spare the runner; whether it lived to hear it."""
    with contextlib.closing(os.fdopen(spare.starter, "wb", buffering=0)) as starter:
        try:
            starter.write(_GO)
        except BrokenPipeError:
            return False
    return not spare.process.has_ended
