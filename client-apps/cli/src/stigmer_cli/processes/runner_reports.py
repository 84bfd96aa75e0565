"""Tells the server that a runner has ended, until the server has heard it or nobody needs to know any more.

Whoever started a runner knows its end at once; Temporal misses it only after a heartbeat time-out.
"""

import asyncio
import http.client
import json
import logging
import time
from pathlib import Path

from stigmer_contract.http_statuses import RETRYABLE_STATUSES

logger = logging.getLogger(__name__)

_PATH = "/v1/runners/ended"
_CALL_SECONDS = 5.0
_FIRST_DELAY_SECONDS = 0.1
_MAX_DELAY_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
"""After that Temporal has long missed the runner by itself."""


class RunnerReports:
    """Reports on their way to one server. Belongs to one event loop."""

    def __init__(self, host: str, port: int, token_file: Path) -> None:
        """`token_file` holds a token of the scope `runner`."""
        self._host = host
        self._port = port
        self._token_file = token_file
        self._telling: set[asyncio.Task[None]] = set()

    def tell(
        self, runner: str, proof: str, how: str, *, hung: bool = False, frozen_by: str | None = None
    ) -> None:
        """Sees that the server is told; returns at once."""
        report: dict[str, object] = {
            "runner": runner,
            "proof": proof,
            "how": how,
            "hung": hung,
            "frozen_by": frozen_by,
        }
        task = asyncio.create_task(self._tell(report))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        """Gives up what is still on its way."""
        for task in self._telling:
            task.cancel()
        if self._telling:
            await asyncio.wait(self._telling)

    async def _tell(self, report: dict[str, object]) -> None:
        delay, give_up_at = _FIRST_DELAY_SECONDS, time.monotonic() + PATIENCE_SECONDS
        while not await asyncio.to_thread(self._post, report):
            if time.monotonic() > give_up_at:
                logger.warning("the server was not told of the end of a runner runner=%s", report["runner"])
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, _MAX_DELAY_SECONDS)

    def _post(self, report: dict[str, object]) -> bool:
        """Whether there is nothing more to tell: the server took it, or never will."""
        return post_report(self._host, self._port, self._token_file, report)


def post_report(host: str, port: int, token_file: Path, report: dict[str, object]) -> bool:
    """One try; whether there is nothing more to tell: the server took it, or never will."""
    connection = http.client.HTTPConnection(host, port, timeout=_CALL_SECONDS)
    try:
        token = token_file.read_text(encoding="ascii").strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", _PATH, json.dumps(report), headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    if status != http.client.OK:
        logger.info("the server did not take a report of a runner's end status=%d", status)
    return status not in RETRYABLE_STATUSES | {500}
