"""The people of a chaos run: each starts an execution, follows it to its end, and now and then cancels it.

They use the command line's own client over a link that breaks, and start anew whatever it gave up.
"""

import json
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Final

from chaos.cluster import Cluster
from chaos.model import MARKS_FILE
from chaos.plan import Work
from executions import agent_manifest
from stigmer_cli.api_client import HttpTransport, follow_events
from stigmer_cli.config import Connection
from stigmer_cli.errors import CallRefused, ServerUnreachable
from stigmer_contract.api import ExecutionResource
from stigmer_contract.events import RecordedEvent

AGAIN_SECONDS: Final = 0.5
ANSWER_TIMEOUT_SECONDS: Final = 20
"""What the agents wait for one answer; the default is 10 minutes, which no short run has."""
_RETRYABLE: Final = frozenset({429, 500, 502, 503, 504})
_JOIN_SECONDS: Final = 60.0


@dataclass
class Told:
    """What one person was told of their execution."""

    work: Work
    execution_id: str = ""
    session_id: str = ""
    sequences: list[int] = field(default_factory=list[int])
    """Of the events that came, in order."""
    last_type: str = ""
    gave_up: int = 0
    """How often the client gave the stream up, and was started again."""
    is_cancelled: bool = False
    """Whether the server took a cancellation."""
    problem: str | None = None
    """What the client said that no network explains."""


class Workload:
    """Starts executions as the plan says, each followed by a thread of its own."""

    def __init__(self, cluster: Cluster, works: Sequence[Work]) -> None:
        """Starts nothing yet."""
        self.told = [Told(work) for work in works]
        self._cluster = cluster
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def run(self, started_at: float) -> None:
        """Start each execution at its time; returns when the last one is started."""
        for told in self.told:
            if self._over.wait(max(0.0, started_at + told.work.at_seconds - time.monotonic())):
                return
            thread = threading.Thread(target=self._live, args=(told,), name=told.work.key, daemon=True)
            self._threads.append(thread)
            thread.start()

    def wait_until_ended(self, seconds: float) -> list[Told]:
        """Wait until everybody has seen the end; gives those who have not, after so many seconds."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [told for told, thread in zip(self.told, self._threads, strict=False) if thread.is_alive()]

    def abandon(self) -> None:
        """Let everybody go home."""
        self._over.set()

    def _live(self, told: Told) -> None:
        try:
            with closing(self._connect()) as transport:
                self._start(told, transport)
                while not self._over.is_set():
                    try:
                        self._follow(told, transport)
                    except ServerUnreachable:
                        told.gave_up += 1
                    else:
                        return
        except Exception as error:  # the run's own report says it
            told.problem = f"{type(error).__name__}: {error}"

    def _start(self, told: Told, transport: HttpTransport) -> None:
        manifest = agent_manifest(tools=("shell",), model_settings={"timeout": f"{ANSWER_TIMEOUT_SECONDS}s"})
        prompt = f"Leave marks in {MARKS_FILE}. [conversation {told.work.key}]"
        body = json.dumps({"manifest": manifest, "input": prompt}).encode()
        answer = self._call(transport, "/v1/executions", body, {"Idempotency-Key": told.work.key})
        if answer is not None:
            resource = ExecutionResource.model_validate_json(answer)
            told.execution_id, told.session_id = resource.execution_id, resource.session_id

    def _call(
        self, transport: HttpTransport, path: str, body: bytes, headers: dict[str, str]
    ) -> bytes | None:
        """The answer to a call that is made as often as it takes; None where everybody was sent home."""
        while not self._over.is_set():
            try:
                sent = {"Content-Type": "application/json", **headers}
                return transport.request("POST", path, body=body, headers=sent).body
            except ServerUnreachable:
                pass
            except CallRefused as error:
                if error.status not in _RETRYABLE:
                    raise
            time.sleep(AGAIN_SECONDS)
        return None

    def _follow(self, told: Told, transport: HttpTransport) -> None:
        after = told.sequences[-1] if told.sequences else 0
        for event in follow_events(transport, told.execution_id, after=after):
            if self._over.is_set():
                return
            if isinstance(event, RecordedEvent):
                told.sequences.append(event.sequence)
                told.last_type = event.event.type
                if event.sequence == told.work.cancel_after:
                    self._cancel(told)

    def _cancel(self, told: Told) -> None:
        # The server's no means that it had ended by then.
        with closing(self._connect()) as transport, suppress(CallRefused):
            self._call(transport, f"/v1/executions/{told.execution_id}/cancel", b"{}", {})
            told.is_cancelled = True

    def _connect(self) -> HttpTransport:
        return HttpTransport(Connection(self._cluster.endpoint, self._cluster.token))
