"""Waits for an execution by its event stream: looks at it again when its log has grown, and not before."""

import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient
    from stigmer_contract.api import ExecutionResource

AFTER_END_SECONDS = 0.5
"""Between looks where the stream has ended and the execution has not: it is being retried."""


class Awaited:
    """One execution. A context manager: a thread reads the stream, and ends with it or with the command."""

    def __init__(self, client: "ApiClient", execution_id: str) -> None:
        self._client = client
        self._execution_id = execution_id
        self._has_grown = threading.Event()
        self._has_ended = False
        self._error: Exception | None = None
        self._is_left = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._follow, name=f"follow {self._execution_id}", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_left = True

    def look(self) -> "ExecutionResource":
        """What it is now."""
        self._has_grown.clear()
        return self._client.get_execution(self._execution_id)

    def wait(self, until: float | None) -> None:
        """Wait for something that was written since the last look, no longer than `until`, by the monotonic
        clock.

        Raises:
            StigmerError: the server gives the log no longer.
        """
        seconds = None if until is None else max(0.0, until - time.monotonic())
        if self._has_ended:
            if self._error is not None:
                raise self._error
            time.sleep(AFTER_END_SECONDS if seconds is None else min(seconds, AFTER_END_SECONDS))
        else:
            self._has_grown.wait(seconds)

    def _follow(self) -> None:
        from stigmer_cli.api_client import follow_events
        from stigmer_contract.events import RecordedEvent

        try:
            for event in follow_events(self._client.transport, self._execution_id):
                if self._is_left:
                    return
                if isinstance(event, RecordedEvent):
                    self._has_grown.set()
        except Exception as error:
            self._error = error
        finally:
            self._has_ended = True
            self._has_grown.set()
