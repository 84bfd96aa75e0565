"""Why executions stand still, as the last look at their workflows found. Forgotten with the process."""


class StandingStill:
    """The reasons, by execution."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._placements: dict[str, str | None] = {}

    def note(self, execution_id: str, reason: str | None) -> None:
        """The execution stands still for this reason; None: it does not."""
        if reason is None:
            self._reasons.pop(execution_id, None)
        else:
            self._reasons[execution_id] = reason

    def reason_of(self, execution_id: str) -> str | None:
        """Why the execution stands still; None where nothing is known of that."""
        return self._reasons.get(execution_id)

    def note_placement(self, task_queue: str, reason: str | None) -> None:
        """Executions of a placement wait for its runner for this reason; None: they need not wait for it."""
        self._placements[task_queue] = reason

    def reason_of_placement(self, task_queue: str) -> str | None:
        """Why executions of the placement that no runner has in hand wait; None: nothing is known."""
        return self._placements.get(task_queue, "no runner for its workspace is there yet")
