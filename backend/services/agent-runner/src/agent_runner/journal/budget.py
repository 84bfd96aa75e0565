"""What an execution may use and has used: turns, tokens and dollars. Time is the leg's own business."""

from decimal import Decimal

from agent_runner.errors import ExecutionFailure
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import Usage
from stigmer_contract.manifest import Limits
from stigmer_contract.manifest_parts import format_duration


class Budget:
    """Counts what the log holds, so that limits hold across crashes. One for all agents of a leg."""

    def __init__(self, limits: Limits, used: Usage) -> None:
        """`used` is what the log says has been paid so far."""
        self._limits = limits
        self.used = used

    def check(self, turn: int) -> None:
        """Whether another request may be made, as an agent's `turn`.

        Raises:
            ExecutionFailure: a limit is reached.
        """
        limits, used = self._limits, self.used
        if turn > limits.turns:
            raise ExecutionFailure(
                ErrorCode.LIMIT_TURNS,
                f"the agent was not done after {limits.turns} turns",
                "raise limits.turns in the manifest",
            )
        if limits.tokens is not None and used.total_tokens >= limits.tokens:
            raise ExecutionFailure(
                ErrorCode.LIMIT_TOKENS,
                f"the agent was not done after {used.total_tokens} tokens (limit {limits.tokens})",
                "raise limits.tokens in the manifest",
            )
        if limits.cost_usd is not None and (used.cost_usd or Decimal(0)) >= limits.cost_usd:
            raise ExecutionFailure(
                ErrorCode.LIMIT_COST,
                f"the agent was not done after {used.cost_usd} USD (limit {limits.cost_usd})",
                "raise limits.costUsd in the manifest",
            )

    def add(self, usage: Usage) -> None:
        """Count what one request was paid for."""
        self.used += usage

    def check_price(self, model_reference: str, *, is_known: bool) -> None:
        """Whether dollars can be counted, where they are limited.

        Raises:
            ExecutionFailure: no price is known for the model.
        """
        if self._limits.cost_usd is not None and not is_known:
            raise ExecutionFailure(
                ErrorCode.LIMIT_COST,
                f"limits.costUsd cannot be kept: no price is known for model {model_reference!r}",
                "remove limits.costUsd, or limit limits.tokens instead",
            )


def duration_exceeded(limits: Limits) -> ExecutionFailure:
    """The failure of an execution that took longer than `limits.duration`, which is set."""
    assert limits.duration is not None
    return ExecutionFailure(
        ErrorCode.LIMIT_DURATION,
        f"the agent was not done after {format_duration(limits.duration)}",
        "raise limits.duration in the manifest",
    )
