"""Waits until the parts of a stack are ready, and explains where one never will be."""

import time

from stigmer_cli.errors import ComponentFailed, EnvironmentNotReady, NotReadyInTime
from stigmer_cli.rendering.waiting_line import WaitingLine
from stigmer_cli.stack.locks import is_locked
from stigmer_cli.stack.runner_choice import Report
from stigmer_cli.stack.state import COMPONENT_NAMES, ComponentPhase, ComponentState, StackFiles, read_state

START_TIMEOUT_SECONDS = 120.0
FAILURES_TO_REPORT = 5
"""After so many short lives in a row a start does not wait for another one, though the supervisor goes on."""
_POLL_SECONDS = 0.02
_SETTLED = (ComponentPhase.READY, ComponentPhase.EXTERNAL)


def wait_until_ready(
    files: StackFiles,
    report: Report,
    *,
    announce: bool,
    timeout_seconds: float = START_TIMEOUT_SECONDS,
    needed: tuple[str, ...] = COMPONENT_NAMES,
) -> None:
    """Waits until every component that is needed is ready.

    Raises:
        ComponentFailed: one failed.
        NotReadyInTime: one is not ready in time.
        EnvironmentNotReady: the stack was stopped meanwhile.
    """
    deadline = time.monotonic() + timeout_seconds
    announced: set[str] = set()
    with WaitingLine() as line:
        while True:
            state = read_state(files.state)
            components = () if state is None else tuple(one for one in state.components if one.name in needed)
            _raise_if_failed(components)
            for component in components:
                if component.phase is ComponentPhase.READY and component.name not in announced:
                    announced.add(component.name)
                    if announce:
                        line.clear()
                        report(f"{component.name} is ready at {component.address}")
                    if component.other_build is not None:
                        report(f"warning: {component.other_build}")
            if components and all(component.phase in _SETTLED for component in components):
                return
            if not is_locked(files.supervisor_lock):
                raise EnvironmentNotReady(
                    "the stack was stopped while it started", "run `stigmer server start`"
                )
            if time.monotonic() >= deadline:
                raise NotReadyInTime(timeout_seconds, _waited_for(components))
            line.show(f"starting {', '.join(_waited_for(components))}")
            time.sleep(_POLL_SECONDS)


def _raise_if_failed(components: tuple[ComponentState, ...]) -> None:
    for component in components:
        if component.phase is ComponentPhase.FAILED or component.failures >= FAILURES_TO_REPORT:
            reason = component.reason or "it failed"
            raise ComponentFailed(component.name, reason, component.last_lines[-3:])


def _waited_for(components: tuple[ComponentState, ...]) -> dict[str, str]:
    waiting = {one.name: one.reason or one.phase.value for one in components if one.phase not in _SETTLED}
    return waiting or {"the supervisor": "it says nothing"}
