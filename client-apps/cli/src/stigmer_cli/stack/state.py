"""What the supervisor writes down about itself and the components, for other processes to read.

A record is a claim, not the truth: readers check that the processes it names still run.
"""

import contextlib
import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from stigmer_cli.config import Configuration, replace_file
from stigmer_cli.processes.identity import ProcessIdentity
from stigmer_cli.stack.locks import is_locked

LOOPBACK = "127.0.0.1"
"""Every component of our own listens here, and nowhere else."""
TEMPORAL, SERVER, RUNNER = "temporal", "server", "runner"
COMPONENT_NAMES = (TEMPORAL, SERVER, RUNNER)
"""In the order in which they depend on each other."""


class ComponentPhase(StrEnum):
    """Where a component of the stack stands."""

    STARTING = "starting"
    READY = "ready"
    UNHEALTHY = "unhealthy"
    """It runs, was ready, and says now that it is not."""
    RESTARTING = "restarting"
    """It ended, and will be started again after a pause."""
    FAILED = "failed"
    """It refused its settings, or cannot be run; nobody starts it again."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    EXTERNAL = "external"
    """It is not the stack's own: an address was given."""


@dataclass(frozen=True)
class ComponentState:
    """One component, as the supervisor sees it."""

    name: str
    address: str
    """`host:port`."""
    phase: ComponentPhase = ComponentPhase.STOPPED
    process: ProcessIdentity | None = None
    version: str | None = None
    restarts: int = 0
    reason: str | None = None
    """Why it is not ready."""
    last_lines: tuple[str, ...] = ()
    """What it said last, where it failed, or lives too short again and again."""
    failures: int = 0
    """How often it lived too short, one time after the other, up to now."""
    other_build: str | None = None
    """What to do, where it is another build than the server."""


@dataclass(frozen=True)
class PlacementState:
    """A container for one workspace directory, as the supervisor sees it."""

    directory: str
    placement_id: str
    is_idle: bool
    """It has no work to do, and ends when that has lasted (`runner.idleAfter`)."""
    component: ComponentState


@dataclass(frozen=True)
class StackState:
    """The supervisor and its components, in the order in which they depend on each other."""

    supervisor: ProcessIdentity
    version: str
    """Of the `stigmer` that started the stack."""
    model_fingerprint: str
    """Tells whether the model settings are still those that the stack was started with."""
    components: tuple[ComponentState, ...]
    can_hand_over: bool = False
    """Whether the supervisor knows what SIGUSR1 asks of it; the first version's does not."""
    placements: tuple[PlacementState, ...] = ()

    @property
    def processes(self) -> tuple[ProcessIdentity, ...]:
        """Of all components, and of all that stand for containers of placements."""
        every = (*self.components, *(placement.component for placement in self.placements))
        return tuple(component.process for component in every if component.process is not None)

    def with_component(self, changed: ComponentState) -> "StackState":
        """The same state, with one component replaced by name."""
        components = tuple(changed if old.name == changed.name else old for old in self.components)
        return replace(self, components=components)


class StackFiles:
    """The files through which the `stigmer` commands and the supervisor of one STIGMER_HOME meet."""

    def __init__(self, configuration: Configuration) -> None:
        run_directory = configuration.run_directory
        self.token = run_directory / "token"
        """The administrator's, which commands show."""
        self.runner_token = run_directory / "runner-token"
        """The runner's, which reaches only the executions that are leased to it."""
        self.state = run_directory / "supervisor.json"
        self.supervisor_lock = run_directory / "supervisor.lock"
        """Held by the supervisor for as long as it lives."""
        self.grace = run_directory / "grace"
        """How many seconds a supervisor that is asked to hand over has its runner drain at most."""
        self._run_directory = run_directory
        self._owner = run_directory / "owner.json"
        self.change_lock = run_directory / "change.lock"
        """Held by a command while it starts or stops the stack."""

    def note_owner(self, owner: ProcessIdentity) -> None:
        """Have the supervisor that starts next end with this process, even where it is killed.

        Raises:
            HomeUnusable: it cannot be written.
        """
        write_json(self._owner, asdict(owner))

    def read_owner(self) -> ProcessIdentity | None:
        """The process for which alone the stack runs; None: it is anybody's."""
        try:
            return ProcessIdentity(**json.loads(self._owner.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def draining(self, supervisor: ProcessIdentity) -> Path:
        """The record of a supervisor that has handed over, and waits for its runner's end."""
        return self._run_directory / f"draining-{supervisor.pid}.json"

    def drainings(self) -> dict[Path, ProcessIdentity]:
        """The supervisors that wait for their runner's end, by record."""
        found: dict[Path, ProcessIdentity] = {}
        for path in self._run_directory.glob("draining-*.json"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                process = ProcessIdentity(**json.loads(path.read_text(encoding="utf-8")))
                if process.is_alive():
                    found[path] = process
        return found


def write_state(path: Path, state: StackState) -> None:
    """Replaces the record in one step.

    Raises:
        HomeUnusable: it cannot be written.
    """
    write_json(path, asdict(state))


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Replaces a file by a document, in one step.

    Raises:
        HomeUnusable: it cannot be written.
    """
    replace_file(path, json.dumps(document, indent=2) + "\n")


def read_state(path: Path) -> StackState | None:
    """The record; None where there is none that this version understands."""
    try:
        document = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        return StackState(
            supervisor=ProcessIdentity(**document["supervisor"]),
            version=document["version"],
            model_fingerprint=document["model_fingerprint"],
            components=tuple(_read_component(entry) for entry in document["components"]),
            can_hand_over=document.get("can_hand_over", False),
            placements=tuple(
                PlacementState(**entry | {"component": _read_component(entry["component"])})
                for entry in document.get("placements", ())
            ),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def running_version(configuration: Configuration) -> str | None:
    """The version of the running stack; None where none runs."""
    files = StackFiles(configuration)
    state = read_state(files.state)
    return None if state is None or not is_locked(files.supervisor_lock) else state.version


def find_other_build(configuration: Configuration) -> str | None:
    """What to do, where a part of the running stack is another build than the server."""
    state = read_state(StackFiles(configuration).state)
    parts = () if state is None else state.components
    return next((part.other_build for part in parts if part.other_build is not None), None)


def _read_component(entry: dict[str, Any]) -> ComponentState:
    process = entry["process"]
    return ComponentState(
        name=entry["name"],
        address=entry["address"],
        phase=ComponentPhase(entry["phase"]),
        process=None if process is None else ProcessIdentity(**process),
        version=entry["version"],
        restarts=entry["restarts"],
        reason=entry["reason"],
        last_lines=tuple(entry["last_lines"]),
        failures=entry.get("failures", 0),
        other_build=entry.get("other_build"),
    )
