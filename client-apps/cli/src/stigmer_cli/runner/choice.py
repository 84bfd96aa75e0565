"""Chooses how the runner runs: in a container where an engine can be used, else as a plain process.

Asks engine and registry; starts nothing. Imports what it needs of containers only when it is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stigmer_cli.config import Configuration, replace_file
from stigmer_cli.runner.wish import RunnerWish

if TYPE_CHECKING:
    from stigmer_cli.runner.environment import RunnerEnvironment
    from stigmer_cli.runner.plan import RunnerPlan

Report = Callable[[str], None]

PLAN_FILE = "runner-container.json"
"""In the run directory; as `plan` names it, which is not imported to ask for this."""
WITHOUT_FILE = "runner-without-container"
"""In the run directory: why there is no container, where that was nobody's choice."""
UNCONTAINED_NOTE = "commands of agents run directly on this machine, not in a container"


@dataclass(frozen=True)
class PlannedRunner:
    """A runner in a container, before it runs."""

    plan: RunnerPlan
    environment: RunnerEnvironment

    @property
    def image(self) -> tuple[str, str]:
        """Its reference and its id."""
        return self.plan.image_reference, self.plan.image_id


@dataclass(frozen=True)
class PlainRunner:
    """A runner as a plain process, before it runs."""

    reason: str | None = None
    """Why there is no container, and what helps; None where that was asked for."""
    image: None = None


def plan_runner(
    configuration: Configuration, wish: RunnerWish, token: str, report: Report, *, keeps_image: bool = False
) -> PlannedRunner | PlainRunner:
    """How the runner shall run.

    `keeps_image`: that of the last plan stays, where nobody names another.

    Raises:
        EngineNotReady: a container is asked for, and no engine can be used.
        ImageUnavailable: a container is asked for, and its image cannot be had.
        ImageIncompatible: the runner's image is not fit.
    """
    from stigmer_cli.errors import EngineNotReady, ImageUnavailable, UsageError

    if wish.is_native or (configuration.runner_engine == "none" and not wish.wants_container):
        if configuration.runner_require_container:
            raise UsageError(
                "could not run the runner as a plain process: `runner.requireContainer` is true",
                "leave out --native, or run `stigmer config unset runner.requireContainer`"
                if wish.is_native
                else "set `runner.engine` to auto, docker or podman",
            )
        return PlainRunner()
    if wish.verify is not None:
        configuration = replace(configuration, runner_verify=wish.verify)
    try:
        return _plan_container(configuration, wish, token, report, keeps_image=keeps_image)
    except (EngineNotReady, ImageUnavailable) as error:
        if is_container_asked_for(configuration, wish) or not error.has_none:
            raise
        return PlainRunner(f"{error.message}; to have one, {error.hint}" if error.hint else error.message)


def is_container_asked_for(configuration: Configuration, wish: RunnerWish) -> bool:
    """Whether a plain process instead of a container would be an error, as where the last one was in one."""
    is_named = configuration.runner_engine in ("docker", "podman") or configuration.runner_image is not None
    is_required = configuration.runner_require_container or has_plan(configuration)
    return wish.wants_container or is_named or is_required


def _plan_container(
    configuration: Configuration, wish: RunnerWish, token: str, report: Report, *, keeps_image: bool
) -> PlannedRunner:
    from stigmer_cli.containers import EngineKind
    from stigmer_cli.runner.engine_access import open_engine, told_to_the_person
    from stigmer_cli.runner.plan import make_plan, read_plan
    from stigmer_cli.runner.pull_report import ImagePuller
    from stigmer_cli.runner.resolution import ImageWish, choose_image

    old = read_plan(configuration)
    current = (old.image_reference, old.image_id) if old and keeps_image else None
    image_wish = ImageWish(
        wish.use_local_image,
        wish.image_archive,
        wish.must_pull,
        wish.loaded_image,
        wish.local_reference,
        current,
    )
    is_asked_for = is_container_asked_for(configuration, wish)
    with told_to_the_person(is_asked_for=is_asked_for):
        engine = open_engine(configuration, EngineKind(wish.engine) if wish.engine else None)
    if engine.passed_over is not None:
        report(f"note: {engine.passed_over}; {engine.traits.title} is used in its stead")
    with engine, told_to_the_person(engine.traits.kind.value, is_asked_for=is_asked_for):
        puller = ImagePuller(configuration, report, is_quiet=wish.is_quiet, is_optional=not is_asked_for)
        chosen = choose_image(engine, configuration, image_wish, puller)
        planned = PlannedRunner(*make_plan(configuration, engine.traits, chosen, token))
        if not engine.traits.has_limits:
            report(
                f"note: {engine.traits.title} cannot limit memory and processes on this machine (cgroup v1)"
            )
        return planned


def apply_plan(configuration: Configuration, planned: PlannedRunner | PlainRunner, report: Report) -> None:
    """Puts the plan where the supervisor and the attendant find it, and says what agents' commands run in.

    Raises:
        HomeUnusable: it cannot be written.
    """
    without = configuration.run_directory / WITHOUT_FILE
    if isinstance(planned, PlainRunner):
        if has_plan(configuration):
            from stigmer_cli.runner.plan import forget_plan

            forget_plan(configuration)
        report(f"note: {UNCONTAINED_NOTE}" + (f": {planned.reason}" if planned.reason else ""))
        if planned.reason:
            replace_file(without, planned.reason + "\n")
        else:
            without.unlink(missing_ok=True)
        return
    without.unlink(missing_ok=True)
    from stigmer_cli.runner.plan import write_plan

    write_plan(planned.plan, planned.environment, configuration)
    report(f"the runner's container is {planned.plan.image_reference} in {planned.plan.traits.title}")


def why_uncontained(configuration: Configuration) -> str | None:
    """Why the runner is a plain process; None where somebody asked for that, or it is none."""
    try:
        return (configuration.run_directory / WITHOUT_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def has_plan(configuration: Configuration) -> bool:
    """Whether the runner was started in a container, last."""
    return (configuration.run_directory / PLAN_FILE).exists()


def runner_gateway_name(configuration: Configuration) -> str | None:
    """The name by which the runner's container reaches this machine; None where it is on its network."""
    if not has_plan(configuration):
        return None
    from stigmer_cli.runner.plan import read_plan

    plan = read_plan(configuration)
    return None if plan is None or plan.is_on_host_network else plan.traits.gateway_name


def is_plan_outdated(configuration: Configuration, token: str) -> bool:
    """Whether the settings of now would give the runner another environment."""
    from stigmer_cli.runner.plan import is_environment_changed, read_plan

    plan = read_plan(configuration)
    return plan is None or is_environment_changed(plan, configuration, token)


def remove_left_containers(configuration: Configuration) -> None:
    """Drains and removes the runner's container where nobody looks after it any more, and its secrets.

    Raises:
        EngineNotReady: it is still there; its labels tell the next start and the next stop.
    """
    if not has_plan(configuration):
        return
    from stigmer_cli.containers import reopen_engine
    from stigmer_cli.containers.errors import ContainersError
    from stigmer_cli.errors import EngineNotReady
    from stigmer_cli.runner.inspection import ANSWER_SECONDS, remove_containers
    from stigmer_cli.runner.plan import forget_secrets, read_plan

    plan = read_plan(configuration)
    if plan is None:
        return
    forget_secrets(configuration)
    try:
        with reopen_engine(configuration.environment, configuration.run_directory, plan.traits) as engine:
            engine.check_answers(ANSWER_SECONDS)
            remove_containers(engine, plan.home)
    except ContainersError as error:
        raise EngineNotReady(
            f"could not remove the runner's container: {error}",
            f"run `{plan.engine} info` to see how the engine is, then `stigmer server stop` again",
        ) from error
