"""Asks a model until it answers: what one failed request means, and how long to wait for the next."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pydantic import JsonValue

from agent_runner.errors import ExecutionFailure, RunnerError
from agent_runner.models import backoff_seconds, classify_fault
from agent_runner.tracing import mark_failed_request

logger = logging.getLogger(__name__)


async def ask_until_answered(
    ask: Callable[[], Awaitable[JsonValue]], turn: int, on_failure: Callable[[str, float], None]
) -> tuple[JsonValue, int]:
    """The answer, and how many requests failed before it.

    Args:
        ask: makes one request.
        turn: for the log.
        on_failure: called with what failed and the seconds until the next request, before they pass.

    Raises:
        ExecutionFailure: the model cannot be had.
    """
    failures = 0
    while True:
        try:
            return await ask(), failures
        except RunnerError:
            raise
        except Exception as error:
            fault = classify_fault(error)
            failures += 1
            mark_failed_request(fault.code)
            if failures >= fault.retry:
                raise ExecutionFailure(fault.code, fault.message, fault.hint) from error
            delay = backoff_seconds(failures, fault.retry_after_seconds)
        logger.warning(
            "model request failed (%s); asking again in %.1f s",
            fault.code,
            delay,
            extra={"turn": turn, "failures": failures},
        )
        on_failure(fault.message, delay)
        await asyncio.sleep(delay)
