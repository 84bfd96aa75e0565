"""The phases of an execution and the moves between them. Nothing else decides what may follow what."""

from enum import StrEnum


class ExecutionPhase(StrEnum):
    """Where an execution stands. It is derived from the log: no event, no move."""

    PENDING = "pending"
    """Written down, no leg has started yet."""
    IN_PROGRESS = "in_progress"
    """A leg works on it, or the next leg is queued after an interrupted one."""
    WAITING = "waiting"
    """Nothing works on it until something comes: what, `waiting_for` says."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing works on it, or will by itself. One that failed may be retried."""
        return self in (ExecutionPhase.COMPLETED, ExecutionPhase.FAILED, ExecutionPhase.CANCELLED)


LEGAL_MOVES: dict[ExecutionPhase, frozenset[ExecutionPhase]] = {
    ExecutionPhase.PENDING: frozenset(
        {ExecutionPhase.IN_PROGRESS, ExecutionPhase.FAILED, ExecutionPhase.CANCELLED}
    ),
    ExecutionPhase.IN_PROGRESS: frozenset(
        {
            ExecutionPhase.WAITING,
            ExecutionPhase.COMPLETED,
            ExecutionPhase.FAILED,
            ExecutionPhase.CANCELLED,
        }
    ),
    ExecutionPhase.WAITING: frozenset(
        {ExecutionPhase.IN_PROGRESS, ExecutionPhase.FAILED, ExecutionPhase.CANCELLED}
    ),
    ExecutionPhase.COMPLETED: frozenset(),
    ExecutionPhase.FAILED: frozenset({ExecutionPhase.IN_PROGRESS}),
    ExecutionPhase.CANCELLED: frozenset(),
}
"""For each phase, the phases that may follow it. Staying in a phase is always legal."""


def is_legal_move(current: ExecutionPhase, following: ExecutionPhase) -> bool:
    """Whether an execution in `current` may go to `following`."""
    return following is current or following in LEGAL_MOVES[current]
