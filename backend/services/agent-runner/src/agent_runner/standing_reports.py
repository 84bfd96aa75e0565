"""Tells the server how this runner stands, for people who look at the stack. Nothing depends on it."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from agent_runner.server_client import ServerClient
from stigmer_contract.api import RunnerReport

logger = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0
LONGEST_AT_END_SECONDS: Final = 1.0
"""That a report may take when the runner drains: there is no time to lose."""
MOST_FINDINGS: Final = 100
MOST_CHARACTERS: Final = 1000


class StandingReports:
    """Reports of one runner."""

    def __init__(
        self, server: ServerClient, *, identity: str, version: str, slots: int, isolation: Mapping[str, Any]
    ) -> None:
        """`isolation`: the contract's `IsolationState`."""
        self._server = server
        findings = [str(each)[:MOST_CHARACTERS] for each in isolation.get("findings", ())]
        self._report = RunnerReport(
            runner=identity,
            version=version,
            slots=slots,
            isolation=isolation.get("level"),
            findings=findings[:MOST_FINDINGS],
        )

    async def run(self) -> None:
        """Tell it once a minute, until cancelled."""
        while True:
            is_told = await self._tell(self._report)
            await asyncio.sleep(INTERVAL_SECONDS if is_told else RETRY_SECONDS)

    async def tell_end(self, *, ended: bool) -> None:
        """Tell that the runner takes no more, or that it is about to be no more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_AT_END_SECONDS):
                await self._tell(self._report.model_copy(update={"draining": True, "ended": ended}))

    async def _tell(self, report: RunnerReport) -> bool:
        """Whether the server was reached."""
        try:
            await self._server.publish("/v1/runners/reports", report.model_dump_json().encode(), {})
        except (aiohttp.ClientError, TimeoutError, RuntimeError) as error:
            logger.debug("the server was not told how this runner stands: %s", type(error).__name__)
            return False
        return True
