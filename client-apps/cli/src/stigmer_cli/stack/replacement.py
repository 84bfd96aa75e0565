"""Replaces the runner's containers while the stack runs: another image or environment, with a drain.

The rest of the stack goes on, and so do executions, at the next leg. A native runner is never touched.
"""

import signal
import time
from dataclasses import replace

from stigmer_cli.config import Configuration
from stigmer_cli.errors import ComponentFailed, UsageError
from stigmer_cli.processes.identity import ProcessIdentity
from stigmer_cli.runner.choice import PlainRunner, Report, plan_runner
from stigmer_cli.runner.plan import (
    RunnerPlan,
    differences,
    read_plan,
    write_plan,
)
from stigmer_cli.runner.wish import RunnerWish, keep_wish, kept_wish
from stigmer_cli.stack.lifecycle import CHANGE_TIMEOUT_SECONDS, ensure_token
from stigmer_cli.stack.locks import hold
from stigmer_cli.stack.readiness import wait_until_ready
from stigmer_cli.stack.state import RUNNER, ComponentPhase, StackFiles, StackState, read_state

_END_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.02


def refresh_runner(configuration: Configuration, wish: RunnerWish, report: Report) -> bool:
    """Replaces the container of a running stack where another is wanted now; answers whether it did.

    Raises:
        EnvironmentNotReady: the wanted one cannot be had; the old one goes on.
    """
    old = read_plan(configuration)
    if old is None:
        if wish.wants_container:
            raise UsageError(
                "could not change the runner: it runs as a plain process",
                "run `stigmer server restart` with the same flags",
            )
        return False
    if wish.is_native:
        raise UsageError(
            "could not change the runner: it runs in a container", "run `stigmer server restart --native`"
        )
    wish = kept_wish(configuration).changed_by(wish)
    if wish.must_pull and wish.loaded_image is not None:
        raise UsageError(
            f"could not update the runner: its image {wish.loaded_image[0]!r} was loaded from an archive",
            "run `stigmer server start --image-archive FILE` with a newer one",
        )
    if wish.must_pull and wish.use_local_image:
        report("nothing is pulled: the stack was started with --use-local-image")
    wanted = wish if wish.engine else _with_engine(wish, old)
    token = ensure_token(StackFiles(configuration).runner_token)
    planned = plan_runner(configuration, wanted, token, report, keeps_image=True)
    if isinstance(planned, PlainRunner):  # the settings of now; a restart follows them
        return False
    reasons = differences(old, planned.plan)
    if reasons and old.engine != planned.plan.engine:
        raise UsageError(
            f"could not change the runner: it runs in {old.traits.title}",
            f"run `stigmer server restart --engine {planned.plan.engine}`",
        )
    with hold(StackFiles(configuration).change_lock, CHANGE_TIMEOUT_SECONDS):
        keep_wish(configuration, wish, planned.image)
        if reasons:
            write_plan(planned.plan, planned.environment, configuration)
            _replace(configuration, reasons, report)
    return bool(reasons)


def _replace(configuration: Configuration, reasons: list[str], report: Report) -> None:
    files = StackFiles(configuration)
    state = read_state(files.state)
    process = None if state is None else _runner_process(state)
    report(f"replacing the runner's container: {'; '.join(reasons)}")
    placements = () if state is None else state.placements
    for one in (process, *(placement.component.process for placement in placements)):
        if one is not None:  # whoever looks after it starts it by the new plan
            one.send(signal.SIGTERM)
    deadline = time.monotonic() + _END_TIMEOUT_SECONDS
    while not _is_succeeded(read_state(files.state), process):
        if time.monotonic() > deadline:
            raise ComponentFailed(RUNNER, f"its container was not replaced in {_END_TIMEOUT_SECONDS:.0f} s")
        time.sleep(_POLL_SECONDS)
    wait_until_ready(files, report, announce=False)


def _is_succeeded(state: StackState | None, old: ProcessIdentity | None) -> bool:
    """Whether another process stands for the runner now, or none will."""
    runner = next((one for one in state.components if one.name == RUNNER), None) if state else None
    if runner is None or runner.phase is ComponentPhase.FAILED:
        return True
    return runner.process is not None and runner.process != old


def _runner_process(state: StackState) -> ProcessIdentity | None:
    return next((one.process for one in state.components if one.name == RUNNER), None)


def _with_engine(wish: RunnerWish, old: RunnerPlan) -> RunnerWish:
    return replace(wish, engine=old.engine.value)
