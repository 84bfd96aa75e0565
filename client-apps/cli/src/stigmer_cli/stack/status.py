"""Tells how the stack stands now: what the supervisor recorded, checked against what processes answer."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stigmer_cli.config import Configuration
from stigmer_cli.processes.identity import uptime_seconds
from stigmer_cli.runner.inspection import ContainerStatus, container_status
from stigmer_cli.runner.plan import read_plan
from stigmer_cli.stack.health import Health, endpoint_probe
from stigmer_cli.stack.local_components import component_probe
from stigmer_cli.stack.locks import is_locked
from stigmer_cli.stack.state import (
    LOOPBACK,
    RUNNER,
    SERVER,
    TEMPORAL,
    ComponentPhase,
    ComponentState,
    StackFiles,
    read_state,
)


@dataclass(frozen=True)
class ComponentStatus:
    """One component, now."""

    name: str
    phase: ComponentPhase
    ready: bool
    address: str
    pid: int | None = None
    version: str | None = None
    uptime_seconds: float | None = None
    restarts: int = 0
    reason: str | None = None
    """Why it is not ready."""
    isolation: str | None = None
    """How well a runner isolates commands of agents: `full`, `good`, `partial`, `weak` or `none`."""
    bubblewrap: str | None = None
    """Whether bubblewrap hides from them what they may not use, and if not, why; None: not told."""
    isolation_findings: tuple[str, ...] = ()
    """What commands could do that they should not."""
    warnings: tuple[str, ...] = ()
    """What should be seen to before it keeps the component from being ready."""


@dataclass(frozen=True)
class PlacementStatus:
    """A container for one workspace directory, now."""

    directory: str
    phase: ComponentPhase
    is_idle: bool
    """It has no work to do."""
    restarts: int
    reason: str | None
    """Why it is not ready."""


@dataclass(frozen=True)
class StackStatus:
    """The stack, now."""

    running: bool
    """Whether a supervisor runs."""
    ready: bool
    """Whether every component is ready."""
    contained: bool
    """Whether commands of agents run in a container."""
    version: str | None
    supervisor_pid: int | None
    uptime_seconds: float | None
    components: tuple[ComponentStatus, ...]
    container: ContainerStatus | None = None
    """The standing runner's; None where it is a plain process, or nothing runs."""
    placements: tuple[PlacementStatus, ...] = ()
    """Those for single directories; as the supervisor saw them last."""
    is_elsewhere: bool = False
    """It is not of this machine (`server.endpoint`): only its server is known."""


def stack_status(configuration: Configuration) -> StackStatus:
    """Asks every component; takes less than half a second. Changes nothing.

    Of a stack elsewhere (`server.endpoint`) it is that one's server, and nothing of this machine.
    """
    if configuration.server_endpoint is not None:
        return _status_elsewhere(configuration, configuration.server_endpoint)
    files = StackFiles(configuration)
    state = read_state(files.state)
    if state is None or not is_locked(files.supervisor_lock) or not state.supervisor.is_alive():
        recorded = {} if state is None else {component.name: component for component in state.components}
        stopped = tuple(
            _stopped(name, address, recorded.get(name)) for name, address in _addresses(configuration).items()
        )
        return StackStatus(False, False, False, None, None, None, stopped)
    plan = read_plan(configuration)
    with ThreadPoolExecutor(max_workers=len(state.components) + 1) as pool:
        container = pool.submit(container_status, configuration, plan) if plan else None
        components = tuple(pool.map(_ask, state.components))
    return StackStatus(
        running=True,
        ready=all(component.ready for component in components),
        contained=plan is not None,
        version=state.version,
        supervisor_pid=state.supervisor.pid,
        uptime_seconds=uptime_seconds(state.supervisor),
        components=components,
        container=container.result() if container else None,
        placements=tuple(
            PlacementStatus(
                one.directory,
                one.component.phase,
                one.is_idle,
                one.component.restarts,
                None if one.component.phase is ComponentPhase.READY else one.component.reason,
            )
            for one in state.placements
        ),
    )


def _status_elsewhere(configuration: Configuration, endpoint: str) -> StackStatus:
    health = endpoint_probe(endpoint, configuration.ca_bundle)()
    server = ComponentStatus(
        name=SERVER,
        phase=ComponentPhase.EXTERNAL,
        ready=health.ready,
        address=endpoint,
        version=health.version,
        reason=health.reason,
        warnings=health.warnings,
    )
    return StackStatus(
        running=health.ready,
        ready=health.ready,
        contained=False,
        version=health.version,
        supervisor_pid=None,
        uptime_seconds=None,
        components=(server,),
        is_elsewhere=True,
    )


def _ask(recorded: ComponentState) -> ComponentStatus:
    is_external = recorded.phase is ComponentPhase.EXTERNAL
    process = recorded.process
    is_alive = process is not None and process.is_alive()
    if is_alive or is_external:
        health = component_probe(recorded.name, recorded.address, is_external=is_external)()
    else:
        health = Health(ready=False, reason=recorded.reason)
    phase = _phase_now(recorded.phase, is_alive, health)
    return ComponentStatus(
        name=recorded.name,
        phase=phase,
        ready=health.ready,
        address=recorded.address,
        pid=process.pid if process is not None and is_alive else None,
        version=health.version or recorded.version,
        uptime_seconds=uptime_seconds(process) if process is not None else None,
        restarts=recorded.restarts,
        reason=None if health.ready else _why_not(recorded, health),
        isolation=health.isolation,
        bubblewrap=health.bubblewrap,
        isolation_findings=health.isolation_findings,
        warnings=health.warnings,
    )


def _why_not(recorded: ComponentState, health: Health) -> str | None:
    """Of what ends again and again, how it does says more than that it does not answer just now."""
    if recorded.failures <= 1 and recorded.phase is not ComponentPhase.FAILED:
        return health.reason or recorded.reason
    if recorded.reason is None or not recorded.last_lines:
        return recorded.reason
    return f"{recorded.reason}: {recorded.last_lines[-1].removeprefix('error: ')}"


def _phase_now(recorded: ComponentPhase, is_alive: bool, health: Health) -> ComponentPhase:
    if recorded in (ComponentPhase.EXTERNAL, ComponentPhase.FAILED, ComponentPhase.STOPPING):
        return recorded
    if not is_alive:
        was_up = recorded in (ComponentPhase.READY, ComponentPhase.STARTING)
        return ComponentPhase.RESTARTING if was_up else recorded
    if health.ready:
        return ComponentPhase.READY
    return ComponentPhase.UNHEALTHY if recorded is ComponentPhase.READY else recorded


def _stopped(name: str, address: str, recorded: ComponentState | None) -> ComponentStatus:
    process = None if recorded is None else recorded.process
    if process is None or not process.is_alive():
        return ComponentStatus(name, ComponentPhase.STOPPED, False, address)
    reason = (
        f"pid {process.pid} was left behind by a supervisor that is no more; `stigmer server stop` ends it"
    )
    return ComponentStatus(name, ComponentPhase.STOPPED, False, address, pid=process.pid, reason=reason)


def _addresses(configuration: Configuration) -> dict[str, str]:
    return {
        TEMPORAL: configuration.temporal_address or f"{LOOPBACK}:{configuration.temporal_port}",
        SERVER: f"{LOOPBACK}:{configuration.server_port}",
        RUNNER: f"{LOOPBACK}:{configuration.runner_health_port}",
    }
