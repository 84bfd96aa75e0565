"""Why executions stand still, as the last look at their workflows found. Forgotten with the process."""


class StandingStill:
    """The reasons, by execution."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def note(self, execution_id: str, reason: str | None) -> None:
        """The execution stands still for this reason; None: it does not."""
        if reason is None:
            self._reasons.pop(execution_id, None)
        else:
            self._reasons[execution_id] = reason

    def reason_of(self, execution_id: str) -> str | None:
        """Why the execution stands still; None where nothing is known of that."""
        return self._reasons.get(execution_id)
