"""Runners that are known to have ended: their legs are over in the log, and at Temporal, at once.

Where nobody tells, Temporal misses the heartbeat; that takes seconds.
"""

import base64
import binascii
import logging
from typing import Final

from sqlalchemy import Connection, select

from stigmer_contract.api import RunnerEnded
from stigmer_contract.events import LegLossCause, LegLost
from stigmer_contract.runner_names import proves
from stigmer_server.database import Database
from stigmer_server.errors import Forbidden, TemporalUnavailable
from stigmer_server.event_log import Change, EventLog, NewEvent
from stigmer_server.execution_state import ExecutionState
from stigmer_server.sessions import UNENDED_PHASES
from stigmer_server.tables import executions
from stigmer_server.temporal_client import TemporalClient

logger = logging.getLogger(__name__)

_HINT: Final = "only who started a runner may say that it has ended"


class LostRunners:
    """Ends the legs of runners that have ended."""

    def __init__(self, database: Database, log: EventLog, temporal: TemporalClient) -> None:
        self._database = database
        self._log = log
        self._temporal = temporal

    async def end(self, ended: RunnerEnded) -> list[str]:
        """End the legs that a runner had in hand; answers the ids of their executions.

        Raises:
            Forbidden: the sender did not start that runner.
            Unavailable: the database does not answer.
        """
        if not proves(ended.proof, ended.runner):
            raise Forbidden(f"the proof is not of the runner {ended.runner!r}", _HINT)
        query = select(executions).where(
            executions.c.leg_runner == ended.runner, executions.c.phase.in_(UNENDED_PHASES)
        )

        def work(connection: Connection) -> list[ExecutionState]:
            return [ExecutionState.from_row(row) for row in connection.execute(query)]

        lost = await self._database.read(work)
        for state in lost:
            await self._end_leg(state, ended)
        logger.info("runner %s has ended with %d leg(s) in hand: %s", ended.runner, len(lost), ended.how)
        return [state.execution_id for state in lost]

    async def _end_leg(self, seen: ExecutionState, ended: RunnerEnded) -> None:
        froze_it = ended.hung and ended.frozen_by == seen.execution_id
        event = LegLost(
            attempt=seen.attempt,
            runner=ended.runner,
            cause=LegLossCause.RUNNER_HUNG if froze_it else LegLossCause.RUNNER_ENDED,
            how=ended.how,
        )

        def decide(state: ExecutionState) -> Change:
            if state.attempt != seen.attempt or state.leg_runner != ended.runner:
                return Change(state)
            return Change(state, [NewEvent.of(event, is_servers=True)])

        await self._log.append(seen.execution_id, decide)
        try:
            # A token of an attempt that has been given on meanwhile is refused, so no healthy one is hit.
            token = base64.b64decode(seen.leg_task_token or "", validate=True)
            if token:
                await self._temporal.end_leg(token, ended.how)
        except (binascii.Error, TemporalUnavailable) as error:
            logger.warning(
                "Temporal could not be told of a lost leg: %s",
                error,
                extra={"execution_id": seen.execution_id},
            )
