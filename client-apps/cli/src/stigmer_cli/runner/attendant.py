"""Stands for a runner's container as a process: `python -m stigmer_cli.runner.attendant [ID]`.

The supervisor starts, watches and ends it as it does any component: what the container writes comes out
of it, SIGTERM drains and removes the container, and it ends with the container's exit code. It reads the plan
anew at every start, so ending it is how a changed plan is put into force. Without the id of a placement it
stands for the standing container.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from stigmer_cli.config import Configuration, load_configuration, replace_file
from stigmer_cli.containers import Container, ContainerSpec, Engine, ExitState, reopen_engine
from stigmer_cli.containers.errors import (
    ContainerNotFound,
    ContainersError,
    EngineGone,
    EngineUnusable,
    MountRefused,
    NameTaken,
)
from stigmer_cli.errors import UsageError
from stigmer_cli.processes.exit_codes import EXIT_AWAY
from stigmer_cli.processes.runner_reports import post_report
from stigmer_cli.runner.environment import LOOPBACK
from stigmer_cli.runner.placement import (
    PlacementFiles,
    check_directory,
    placement_spec,
    read_placement,
)
from stigmer_cli.runner.plan import (
    HOME_LABEL,
    PLACEMENT_LABEL,
    PLAN_LABEL,
    STOP_SECONDS,
    RunnerFiles,
    RunnerPlan,
    container_spec,
    read_plan,
)
from stigmer_contract.handed_environment import receive_environment
from stigmer_contract.process_protection import protect_process
from stigmer_contract.runner_names import new_runner_name

EXIT_SETTINGS = 2
"""Starting again cannot help."""
EXIT_ENGINE = 1
_REPORT_TRIES = 5
_REPORT_SECONDS = 0.2
_LAST_OUTPUT_SECONDS = 2.0


@dataclass(frozen=True)
class Wanted:
    """The container that shall run."""

    spec: ContainerSpec
    proof: Path
    """Where the name of its runner is kept, and the proof that it was started from here."""


class Attendant:
    """Looks after one container from its start to its end."""

    def __init__(
        self, engine: Engine, wanted: Wanted, plan: RunnerPlan, configuration: Configuration
    ) -> None:
        self._engine = engine
        self._wanted = wanted
        self._plan = plan
        self._configuration = configuration
        self._kept_lines: int | None = None
        """Of the container's output so far, how many to show; None: all."""
        self._woken = threading.Event()
        self._stop_requested = False
        self._is_draining = False
        self._ended: ExitState | None = None
        self._failure: ContainersError | None = None

    def run(self) -> int:
        """Until the container has ended and is removed; answers the exit code.

        Raises:
            EngineGone: the engine is away; the container may outlive that, and is gone on with then.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request_stop)
        signal.signal(signal.SIGUSR1, self._request_drain)
        container = self._adopt_or_start()
        waiter = threading.Thread(target=self._wait_for, args=(container,), daemon=True)
        waiter.start()
        copying = threading.Thread(target=self._copy_output, args=(container,), daemon=True)
        copying.start()
        self._woken.wait()
        if self._is_draining and not self._stop_requested and not self._is_over():
            self._woken.clear()
            container.send_signal("SIGUSR1")  # it ends when it has finished what it is at
            if not self._stop_requested and not self._is_over():  # told while the flag was taken down
                self._woken.wait()
        if self._ended is None and isinstance(self._failure, EngineGone):
            raise self._failure
        try:
            if self._stop_requested and self._ended is None:
                container.stop(STOP_SECONDS)
            copying.join(_LAST_OUTPUT_SECONDS)
        finally:
            try:
                container.remove()
            finally:
                self._tell_end(self._how_it_ended())
        return self._judge()

    def _is_over(self) -> bool:
        """Whether it is known how it ended, or that this cannot be known."""
        return self._ended is not None or self._failure is not None

    def _request_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_requested = True
        self._woken.set()

    def _request_drain(self, _number: int, _frame: FrameType | None) -> None:
        self._is_draining = True
        self._woken.set()

    def _adopt_or_start(self) -> Container:
        spec = self._wanted.spec
        which = {name: spec.labels[name] for name in (HOME_LABEL, PLACEMENT_LABEL)}
        found = self._engine.find_containers(which)
        for container in found:
            state = container.inspect()
            is_same = state.labels.get(PLAN_LABEL) == spec.labels[PLAN_LABEL]
            if state.is_running and is_same and len(found) == 1:
                _say(f"going on with the container {container.name}, which was left running")
                self._kept_lines = 0  # they are in the log already
                return container
        for container in found:
            container.stop(STOP_SECONDS)
            container.remove()
        if found:
            self._tell_end("its container was left behind, and removed")
            _say("removed a container that was left behind")
        name, proof = new_runner_name(f"{socket.gethostname()}/{self._plan.traits.kind.value}")
        replace_file(self._wanted.proof, json.dumps({"runner": name, "proof": proof}) + "\n")
        created = self._engine.create(
            replace(spec, environment={**spec.environment, "STIGMER_RUNNER_NAME": name})
        )
        try:
            return created.start()
        except BaseException:
            created.remove()
            raise

    def _wait_for(self, container: Container) -> None:
        try:
            self._ended = container.wait()
        except ContainersError as error:
            self._failure = error
        self._woken.set()

    def _copy_output(self, container: Container) -> None:
        with contextlib.suppress(ContainersError), container.logs(follow=True, tail=self._kept_lines) as logs:
            for _, piece in logs.pieces():
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()

    def _how_it_ended(self) -> str:
        if self._ended is None:
            return "its container was removed"
        if self._ended.was_out_of_memory:
            return "its container used up its memory"
        return f"its container ended with exit code {self._ended.exit_code}"

    def _tell_end(self, how: str) -> None:
        """Tells the server that the container's runner is no more; Temporal would miss it only later."""
        try:
            report: dict[str, object] = json.loads(self._wanted.proof.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # of a container that is older than proofs
            return
        port, token = self._configuration.server_port, RunnerFiles(self._configuration).token
        for _ in range(_REPORT_TRIES):
            if post_report(LOOPBACK, port, token, {**report, "how": how}):
                break
            threading.Event().wait(_REPORT_SECONDS)
        self._wanted.proof.unlink(missing_ok=True)

    def _judge(self) -> int:
        if self._stop_requested or self._is_draining:
            return 0
        if self._ended is None:
            _say(f"the container is lost: {self._failure}")
            return EXIT_ENGINE
        ended = self._ended
        if ended.was_out_of_memory:
            limit = self._plan.memory_bytes // 1024**2
            _say(f"the container was ended because it used up its memory of {limit} MiB (runner.memory)")
        elif ended.error:
            _say(f"the engine ended the container: {ended.error}")
        elif ended.exit_code not in (0, EXIT_SETTINGS):  # of these it said itself what is wrong
            _say(f"the container ended with exit code {ended.exit_code}")
        return ended.exit_code


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _wanted(plan: RunnerPlan, configuration: Configuration, placement_id: str | None) -> Wanted:
    """Which container shall run.

    Raises:
        UsageError: there is no such placement; its directory is not what it was, or may be mounted no more.
    """
    if placement_id is None:
        return Wanted(container_spec(plan, configuration), RunnerFiles(configuration).proof)
    placement = read_placement(configuration, placement_id)
    if placement is None:
        raise UsageError(f"there is no placement {placement_id!r}")
    # Whoever has mounted what lies above it could have put a link to elsewhere in its place.
    if check_directory(configuration, placement.directory, plan.other_user) != placement.identity:
        raise UsageError(f"{placement.directory!r} is another directory than was named")
    spec = placement_spec(placement, plan, configuration)
    return Wanted(spec, PlacementFiles(configuration, placement_id).proof)


def main(arguments: list[str]) -> int:
    """Carries out the plan of STIGMER_HOME, for a placement or the standing container."""
    protect_process()  # it gives the container its keys
    receive_environment(os.environ)
    configuration = load_configuration(os.environ)
    plan = read_plan(configuration)
    if plan is None:
        _say("there is no plan of a container; run `stigmer server restart`")
        return EXIT_SETTINGS
    try:
        wanted = _wanted(plan, configuration, arguments[0] if arguments else None)
        with reopen_engine(os.environ, configuration.run_directory, plan.traits) as engine:
            return Attendant(engine, wanted, plan, configuration).run()
    except (EngineGone, EngineUnusable) as error:
        _say(f"{error}; it is waited for")
        return EXIT_AWAY
    except (MountRefused, NameTaken, UsageError) as error:
        _say(str(error))
        return EXIT_SETTINGS
    except (ContainerNotFound, ContainersError) as error:
        _say(str(error))
        return EXIT_ENGINE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
