"""Checks whether another Stigmer uses the same Temporal under the same names, so that legs go astray."""

import http.client
from typing import TYPE_CHECKING

from stigmer_cli.config import Configuration
from stigmer_cli.stack.clock_diagnosis import TOLERATED_SECONDS
from stigmer_cli.stack.finding import Finding, Outcome
from stigmer_cli.stack.state import LOOPBACK, StackFiles

if TYPE_CHECKING:
    from stigmer_contract.api import InstallationResource

_TIMEOUT_SECONDS = 2.0
_NAME = "task queue"
_CLOCKS = "clocks of the stack"


def check_installation(configuration: Configuration) -> list[Finding]:
    """Which task queues the running server names; empty where it does not say."""
    installation = _ask(configuration)
    if installation is None:
        return []
    return [_check_queue(configuration, installation), *_check_clocks(installation)]


def _check_clocks(installation: "InstallationResource") -> list[Finding]:
    """Whether the server's clock agrees with those of Temporal and the runners."""
    if not installation.clocks:
        return []
    worst = max(installation.clocks, key=lambda clock: abs(clock.ahead_seconds))
    if abs(worst.ahead_seconds) <= TOLERATED_SECONDS:
        return [Finding(_CLOCKS, Outcome.PASSED, "Temporal's and the runners' agree with the server's")]
    where = "ahead of" if worst.ahead_seconds > 0 else "behind"
    detail = f"the clock of {worst.of} is {abs(worst.ahead_seconds):.0f} s {where} the server's"
    return [Finding(_CLOCKS, Outcome.FAILED, detail, "set the clocks, and keep them by NTP")]


def _check_queue(configuration: Configuration, installation: "InstallationResource") -> Finding:
    if (legs := installation.unknown_legs) > 0:
        detail = (
            f"{legs} legs came of executions that this server does not know: another Stigmer uses the same "
            f"Temporal, and its task queue {configuration.temporal_task_queue}"
        )
        remedy = "bring that one up to date, or give each a namespace of its own (`temporal.namespace`)"
        return Finding(_NAME, Outcome.WARNING, detail, remedy)
    older = ", ".join(installation.older_task_queues)
    also = f", and {older} until what was started there has ended" if older else ""
    return Finding(_NAME, Outcome.PASSED, f"{installation.task_queue}{also}")


def _ask(configuration: Configuration) -> "InstallationResource | None":
    # Takes a while to import, and only `doctor` asks.
    from stigmer_contract.api import InstallationResource

    connection = http.client.HTTPConnection(LOOPBACK, configuration.server_port, timeout=_TIMEOUT_SECONDS)
    try:
        token = StackFiles(configuration).token.read_text(encoding="ascii").strip()
        connection.request("GET", "/v1/installation", headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        if response.status != http.client.OK:
            return None
        return InstallationResource.model_validate_json(response.read())
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
