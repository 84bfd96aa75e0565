"""Waits until the parts of a stack are ready, and explains where one never will be."""

import re
import time
from collections.abc import Callable

from stigmer_cli.errors import ComponentFailed, EnvironmentNotReady, NotReadyInTime
from stigmer_cli.rendering.waiting_line import WaitingLine
from stigmer_cli.runner.choice import Report
from stigmer_cli.stack.health import USUAL_AT_START
from stigmer_cli.stack.locks import is_locked
from stigmer_cli.stack.state import COMPONENT_NAMES, ComponentPhase, ComponentState, StackFiles, read_state

START_TIMEOUT_SECONDS = 120.0
FAILURES_TO_REPORT = 5
"""After so many short lives in a row a start does not wait for another one, though the supervisor goes on."""
TELL_AFTER_SECONDS = 2.0
"""A reason that has stood for so long is told: until when it stands, nobody knows."""
TELL_USUAL_AFTER_SECONDS = 15.0
"""Likewise, of what is said of every component while it starts."""
_POLL_SECONDS = 0.02
_SETTLED = (ComponentPhase.READY, ComponentPhase.EXTERNAL)


class _Reasons:
    """Why components are not ready, told once each: that it was tried once more is no other reason."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._since: dict[tuple[str, str], float] = {}
        self._told: set[tuple[str, str]] = set()

    def look(self, components: tuple[ComponentState, ...]) -> None:
        """Tell what has stood for long enough."""
        now = self._clock()
        known = {
            (one.name, re.sub(r"[0-9]+", "", one.reason)): one.reason
            for one in components
            if one.reason is not None and one.phase not in _SETTLED
        }
        self._since = {key: self._since.get(key, now) for key in known}
        for key, reason in known.items():
            after = TELL_USUAL_AFTER_SECONDS if reason in USUAL_AT_START else TELL_AFTER_SECONDS
            if now - self._since[key] >= after and key not in self._told:
                self._told.add(key)
                self._tell(f"{key[0]} is not ready yet: {reason}")


def wait_until_ready(
    files: StackFiles,
    report: Report,
    *,
    announce: bool,
    tells_reasons: bool = True,
    timeout_seconds: float = START_TIMEOUT_SECONDS,
    needed: tuple[str, ...] = COMPONENT_NAMES,
) -> None:
    """Waits until every component that is needed is ready, and tells why one is not.

    Raises:
        ComponentFailed: one failed.
        NotReadyInTime: one is not ready in time.
        EnvironmentNotReady: the stack was stopped meanwhile.
    """
    deadline = time.monotonic() + timeout_seconds
    announced: set[str] = set()
    with WaitingLine() as line:

        def tell(text: str) -> None:
            line.clear()
            report(text)

        reasons = _Reasons(tell)
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
            if tells_reasons:
                reasons.look(components)
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
