"""What there is of a home's containers, and how the running one does; removes what was left behind."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stigmer_cli.config import Configuration
from stigmer_cli.containers import Container, Engine, RunningContainer, reopen_engine
from stigmer_cli.containers.container import Usage
from stigmer_cli.containers.errors import ContainersError, EngineGone, EngineRefused
from stigmer_cli.runner.plan import (
    HOME_LABEL,
    PLACEMENT_LABEL,
    STANDING,
    STOP_SECONDS,
    RunnerPlan,
    home_mark,
)

ANSWER_SECONDS = 2.0
"""How long an engine is waited for that says nothing at all."""
_ENDED_AT_ONCE = 8
_MEASURE_SECONDS = 0.3
"""`stigmer server status` answers within half a second."""


@dataclass(frozen=True)
class ContainerStatus:
    """The runner's container, now."""

    engine: str
    """`Docker 20.10.24`."""
    name: str | None
    """None where no container is there."""
    image: str
    image_id: str
    digest: str | None
    """In its registry; None for a local build."""
    image_version: str | None
    memory_bytes: int | None
    memory_limit_bytes: int
    cpu_seconds: float | None
    """Used since it started."""
    problem: str | None
    """Why the engine could not be asked."""


def find_own_containers(engine: Engine, home: str) -> list[Container]:
    """The containers of a home, the standing one and those of placements, newest first."""
    return engine.find_containers({HOME_LABEL: home_mark(home)})


def remove_containers(engine: Engine, home: str) -> int:
    """Drains and removes what is left of a home's containers; answers how many there were."""
    left = find_own_containers(engine, home)

    def end(container: Container) -> None:
        container.stop(STOP_SECONDS)
        container.remove()

    if left:
        with ThreadPoolExecutor(max_workers=_ENDED_AT_ONCE) as pool:
            list(pool.map(end, left))
    return len(left)


def container_status(configuration: Configuration, plan: RunnerPlan) -> ContainerStatus:
    """Asks the engine of the plan; never raises for what the engine does."""
    name, memory_bytes, cpu_seconds, problem = None, None, None, None
    try:
        with reopen_engine(configuration.environment, configuration.run_directory, plan.traits) as engine:
            engine.check_answers(ANSWER_SECONDS)
            labels = {HOME_LABEL: home_mark(plan.home), PLACEMENT_LABEL: STANDING}
            for container in engine.find_containers(labels)[:1]:
                name = container.name
                running = RunningContainer(container.api, container.container_id, container.name)
                # Without a cgroup of its own the engine measures all of the machine (rootless, cgroup v1).
                usage = _measure(running) if plan.traits.has_limits else None
                if usage is not None:
                    memory_bytes, cpu_seconds = usage.memory_bytes, usage.cpu_seconds
    except ContainersError as error:
        problem = str(error)
    return ContainerStatus(
        engine=plan.traits.title,
        name=name,
        image=plan.image_reference,
        image_id=plan.image_id,
        digest=plan.image_digest,
        image_version=plan.image_version,
        memory_bytes=memory_bytes,
        memory_limit_bytes=plan.memory_bytes,
        cpu_seconds=cpu_seconds,
        problem=problem,
    )


def _measure(container: RunningContainer) -> Usage | None:
    try:
        return container.usage(_MEASURE_SECONDS)
    except (EngineGone, EngineRefused):  # it takes too long, or the container is just ending
        return None
