"""Plans the runner at a start, and waits for an engine that is on its way."""

import time

from stigmer_cli.config import Configuration
from stigmer_cli.errors import EngineNotReady
from stigmer_cli.rendering.waiting_line import WaitingLine
from stigmer_cli.runner.choice import PlainRunner, PlannedRunner, Report, plan_runner
from stigmer_cli.runner.wish import RunnerWish

_ENGINE_PAUSE_SECONDS = 0.5


def plan_when_there(
    configuration: Configuration, wish: RunnerWish, token: str, report: Report, seconds: float
) -> PlannedRunner | PlainRunner:
    """How the runner shall run; an engine that is needed and away is waited for, for so long at most.

    Raises:
        EnvironmentNotReady: as `plan_runner`.
    """
    deadline = time.monotonic() + seconds
    is_told = False
    with WaitingLine() as line:
        while True:
            try:
                return plan_runner(configuration, wish, token, report)
            except EngineNotReady as error:
                if not error.is_away or time.monotonic() >= deadline:
                    raise
                if not is_told:
                    report(f"{error.message}; it is waited for, {seconds:.0f} s at most")
                    is_told = True
            line.show("waiting for the engine")
            time.sleep(_ENGINE_PAUSE_SECONDS)
