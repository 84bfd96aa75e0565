"""A real `python -m stigmer_server` for tests, and calls on it as a person and as a runner makes them."""

import contextlib
import hashlib
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol
from uuid import uuid4

import httpx

from stigmer_contract.conversation import AnswerText, ModelAnswer
from stigmer_contract.events import LOG_FORMAT
from temporal_server import free_port

START_TIMEOUT_SECONDS: Final = 120.0
STOP_TIMEOUT_SECONDS: Final = 60.0
WAIT_SECONDS: Final = 90.0
REQUEST_TIMEOUT_SECONDS: Final = 60.0
TOKEN: Final = "token-for-tests"
RUNNER_TOKEN: Final = "token-of-runners-for-tests"
NOWHERE: Final = "127.0.0.1:9"
"""An address where no Temporal is."""
_POLL_SECONDS: Final = 0.02


class ServerProcess:
    """One server with a home of its own; a context manager that starts and stops it.

    Attributes:
        url: base URL, the same over restarts.
        log_file: everything that the process wrote.
    """

    def __init__(
        self,
        home: Path,
        *,
        temporal_address: str = NOWHERE,
        database_url: str | None = None,
        environment: Mapping[str, str] | None = None,
        ca_bundle: Path | None = None,
        program: str | None = None,
    ) -> None:
        """Nothing is started yet. `environment` is added to the server's.

        `program` is run in the place of `python -m stigmer_server`.

        `ca_bundle` holds the authority of a server that is told its certificate, and so answers to https.
        """
        self.home = home
        self._arguments = ["-m", "stigmer_server"] if program is None else ["-c", program]
        self.database_url = database_url
        self.port = free_port()
        self.url = f"{'https' if ca_bundle else 'http'}://127.0.0.1:{self.port}"
        self._verify = ssl.create_default_context(cafile=ca_bundle) if ca_bundle else True
        self.log_file = home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._environment = inherited | {
            "STIGMER_HOME": str(home),
            "STIGMER_PORT": str(self.port),
            "STIGMER_TOKEN": TOKEN,
            "STIGMER_RUNNER_TOKEN": RUNNER_TOKEN,
            "STIGMER_RECONCILE_INTERVAL_SECONDS": "1",
            "TEMPORAL_SERVICE_ADDRESS": temporal_address,
            **({} if database_url is None else {"STIGMER_DATABASE_URL": database_url}),
            **(environment or {}),
        }

    def __enter__(self) -> "ServerProcess":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers.

        Raises:
            RuntimeError: it ended, or did not answer in time.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.wait_until_answers()

    def wait_until_answers(self) -> None:
        """Wait until the process answers.

        Raises:
            RuntimeError: it ended, or did not answer in time.
        """
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{self.log_file.read_text(encoding='utf-8')}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> int:
        """End it in good order.

        Returns:
            Its exit code.
        """
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a crash would. Killing a dead one changes nothing."""
        self._end(signal.SIGKILL)

    def client(self, token: str = TOKEN) -> "ServerApi":
        """A client with a token, by default the administrator's; close it."""
        return ServerApi(self.url, token)

    def _end(self, signal_number: int) -> int:
        if self._process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal_number)
        exit_code = self._process.wait(STOP_TIMEOUT_SECONDS)
        self._process = None
        return exit_code

    def _answers(self) -> bool:
        try:
            answer = httpx.get(f"{self.url}/healthz", timeout=10, trust_env=False, verify=self._verify)
            return answer.is_success
        except httpx.TransportError:
            return False


class ServerFactory(Protocol):
    """Starts a server of a test's own, with the arguments of `ServerProcess` but for its home."""

    def __call__(
        self,
        *,
        temporal_address: str = ...,
        database_url: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> ServerProcess:
        """The started server; it ends with the test."""
        ...


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = WAIT_SECONDS) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(_POLL_SECONDS)


def manifest(name: str = "worker", **spec: Any) -> dict[str, Any]:
    """The JSON of a manifest that runs as it is."""
    return {
        "apiVersion": "agentic.stigmer.ai/v1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {"instructions": "Do what is asked.", **spec},
    }


def responded(turn: int = 1, text: str = "fine", **usage: Any) -> dict[str, Any]:
    """The JSON of an event `model.responded`."""
    return {
        "type": "model.responded",
        "turn": turn,
        "model": "replay:test",
        "response": {"kind": "inline", "value": ModelAnswer(parts=[AnswerText(text=text)]).to_json()},
        "usage": {"requests": 1, **usage},
        "duration_seconds": 0.5,
    }


def completed(output: str = "done") -> dict[str, Any]:
    """The JSON of an event `execution.completed`."""
    return {"type": "execution.completed", "output": {"kind": "inline", "value": output}}


def failed(code: str = "model_unavailable", message: str = "the model is away") -> dict[str, Any]:
    """The JSON of an event `execution.failed`."""
    return {"type": "execution.failed", "code": code, "message": message}


class ServerApi:
    """HTTP calls with the token; `http` for everything that has no method of its own."""

    def __init__(self, url: str, token: str = TOKEN) -> None:
        """`url` is the server's base URL."""
        self.token = token
        self.http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=REQUEST_TIMEOUT_SECONDS,
            trust_env=False,
        )

    def __enter__(self) -> "ServerApi":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def create_execution(self, **request: Any) -> dict[str, Any]:
        """Make an execution, by default of a manifest that runs; gives the resource."""
        if "agent" not in request:
            request.setdefault("manifest", manifest())
        return _checked(self.http.post("/v1/executions", json={"input": "hello", **request}))

    def get_execution(self, execution_id: str) -> dict[str, Any]:
        """The execution."""
        return _checked(self.http.get(f"/v1/executions/{execution_id}"))

    def task_queue(self) -> str:
        """Where new executions run."""
        name: str = _checked(self.http.get("/v1/installation"))["task_queue"]
        return name

    def wait_for_phase(self, execution_id: str, phase: str) -> dict[str, Any]:
        """Wait until the execution is in a phase; gives the resource."""
        wait_until(lambda: self.get_execution(execution_id)["phase"] == phase, f"{execution_id} is {phase}")
        return self.get_execution(execution_id)

    def start_leg(self, execution_id: str) -> dict[str, Any]:
        """Take the execution as a runner would; gives the grant."""
        request = {"runner": "1@test", "runner_version": "0", "log_format": LOG_FORMAT}
        return _checked(self.http.post(f"/v1/executions/{execution_id}/legs", json=request))

    def append(
        self,
        execution_id: str,
        events: Sequence[Mapping[str, Any]],
        *,
        attempt: int = 1,
        append_id: str | None = None,
    ) -> httpx.Response:
        """Append as a runner would; gives the answer as it is."""
        request = {
            "attempt": attempt,
            "append_id": append_id or uuid4().hex,
            "log_format": LOG_FORMAT,
            "events": list(events),
        }
        return self.http.post(f"/v1/executions/{execution_id}/events", json=request)

    def fail_execution(self, execution_id: str, **failure: str) -> int:
        """Take the execution as a runner would, and end it as failed; gives the attempt."""
        attempt: int = self.start_leg(execution_id)["attempt"]
        answer = self.append(execution_id, [failed(**failure)], attempt=attempt)
        assert answer.is_success, answer.text
        return attempt

    def publish(
        self, execution_id: str, events: Sequence[Mapping[str, Any]], *, attempt: int = 1
    ) -> httpx.Response:
        """Publish live events as a runner would; gives the answer as it is."""
        request = {"attempt": attempt, "events": list(events)}
        return self.http.post(f"/v1/executions/{execution_id}/live", json=request)

    def store_blob(self, content: bytes) -> str:
        """Store bytes; gives their SHA-256."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.http.put(f"/v1/blobs/{sha256}", content=content).raise_for_status()
        return sha256

    def read_metrics(self) -> dict[str, float]:
        """Each sample's value by its name and labels, as in the exposition format."""
        lines = self.http.get("/metrics").raise_for_status().text.splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def read_log(self, execution_id: str) -> list[dict[str, Any]]:
        """The whole log, ascending."""
        events: list[dict[str, Any]] = []
        while True:
            after = events[-1]["sequence"] if events else 0
            page = _checked(
                self.http.get(f"/v1/executions/{execution_id}/events", params={"after": after, "limit": 500})
            )
            events.extend(page["items"])
            if page["next_cursor"] is None:
                return events


def _checked(response: httpx.Response) -> dict[str, Any]:
    assert response.is_success, f"{response.status_code}: {response.text}"
    body: dict[str, Any] = response.json()
    return body
