"""Starts executions on a stack and reads their logs, for end-to-end tests."""

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
from pydantic import JsonValue

from stigmer_contract.api import ExecutionResource, Page
from stigmer_contract.events import (
    AnyEvent,
    InlinePayload,
    LegEnded,
    LegEndReason,
    ModelResponded,
    Payload,
    RecordedEvent,
    SnapshotTaken,
    ToolFinished,
    ToolStarted,
)
from stigmer_contract.phases import ExecutionPhase

WAIT_SECONDS = 150.0
"""Longest silence of a log that is followed; recovery takes a runner's start and a heartbeat time-out."""


def agent_manifest(
    *,
    model: str = "openai:gpt-5",
    tools: tuple[str, ...] = ("shell", "files"),
    limits: dict[str, Any] | None = None,
    name: str = "worker",
    model_settings: dict[str, Any] | None = None,
    env: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A manifest as JSON."""
    return {
        "apiVersion": "agentic.stigmer.ai/v1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {
            "instructions": "Do what you are told.",
            "model": model,
            "modelSettings": model_settings or {},
            "tools": list(tools),
            "env": env or {},
            "limits": limits or {},
        },
    }


class Stack(Protocol):
    """Anything with a server."""

    @property
    def client(self) -> httpx.Client:
        """With a token that may start executions."""
        ...


class Execution:
    """One execution on a stack."""

    def __init__(self, stack: Stack, resource: ExecutionResource) -> None:
        self._stack = stack
        self.execution_id = resource.execution_id
        self.session_id = resource.session_id

    @classmethod
    def start(cls, stack: Stack, manifest: dict[str, Any], prompt: str, **more: str) -> "Execution":
        """`POST /v1/executions`."""
        response = stack.client.post("/v1/executions", json={"manifest": manifest, "input": prompt, **more})
        assert response.status_code == httpx.codes.CREATED, response.text
        return cls(stack, ExecutionResource.model_validate_json(response.content))

    @property
    def resource(self) -> ExecutionResource:
        """As it stands now."""
        response = self._stack.client.get(f"/v1/executions/{self.execution_id}")
        return ExecutionResource.model_validate_json(response.content)

    def cancel(self) -> None:
        """Ask for it to stop."""
        self.post("cancel")

    def post(self, what: str) -> None:
        """Ask for something to happen to it: `cancel`, `pause`, `resume`."""
        response = self._stack.client.post(f"/v1/executions/{self.execution_id}/{what}", json={})
        assert response.status_code == httpx.codes.ACCEPTED, response.text

    @property
    def log(self) -> list[RecordedEvent]:
        """The whole log."""
        events: list[RecordedEvent] = []
        while True:
            response = self._stack.client.get(
                f"/v1/executions/{self.execution_id}/events",
                params={"after": events[-1].sequence if events else 0, "limit": 500},
                headers={"Accept": "application/json"},
            )
            page = Page[RecordedEvent].model_validate_json(response.content)
            events += page.items
            if page.next_cursor is None:
                return events

    @property
    def events(self) -> list[AnyEvent]:
        """The whole log, without places."""
        return [recorded.event for recorded in self.log]

    def follow(self, after: int = 0) -> Iterator[RecordedEvent]:
        """Events as they come, to the end. The server may be killed meanwhile."""
        with self._stream(after) as lines:
            fields: dict[str, str] = {}
            for line in lines:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
                if not line:
                    if "id" in fields:  # live events carry none
                        yield RecordedEvent.model_validate_json(fields["data"])
                    fields = {}

    def wait_for(self, is_it: Callable[[RecordedEvent], bool]) -> RecordedEvent:
        """The first event of the log of which that is true."""
        for recorded in self.follow():
            if is_it(recorded):
                return recorded
        raise AssertionError("the execution ended without the event")

    def wait_until_shown(self, text: str) -> None:
        """Follow what is shown of answers that are being written until that stands in it."""
        shown = ""
        with self._stream(0) as lines:
            for line in lines:
                name, _, value = line.partition(": ")
                if name == "data" and json.loads(value).get("type") in ("model.delta", "model.partial"):
                    shown += json.loads(value)["text"]
                if text in shown:
                    return
        raise AssertionError(f"the execution ended, and showed {shown!r}")

    def wait_until_ended(self) -> ExecutionResource:
        """Follow the log to its end."""
        for _ in self.follow():
            pass
        resource = self.resource
        assert resource.phase.is_terminal
        return resource

    def wait_until_completed(self) -> ExecutionResource:
        """Follow the log to its end, which must be a good one."""
        resource = self.wait_until_ended()
        assert resource.phase is ExecutionPhase.COMPLETED, resource
        return resource

    @contextmanager
    def _stream(self, after: int) -> Generator[Iterator[str]]:
        with self._stack.client.stream(
            "GET",
            f"/v1/executions/{self.execution_id}/events",
            headers={"Accept": "text/event-stream", "Last-Event-ID": str(after)},
            timeout=WAIT_SECONDS,
        ) as response:
            yield response.iter_lines()


def inline(payload: Payload) -> JsonValue:
    """The value of a payload that stands in the log itself."""
    assert isinstance(payload, InlinePayload)
    return payload.value


def answered_turns(events: list[AnyEvent]) -> list[int]:
    """The turns that have an answer, in the log's order."""
    return [event.turn for event in events if isinstance(event, ModelResponded)]


def tool_starts(events: list[AnyEvent]) -> list[ToolStarted]:
    """All starts of tools."""
    return [event for event in events if isinstance(event, ToolStarted)]


def tool_results(events: list[AnyEvent]) -> list[ToolFinished]:
    """All results of tools."""
    return [event for event in events if isinstance(event, ToolFinished)]


def snapshot_blobs(events: list[AnyEvent], blobs: Path) -> list[Path]:
    """The files of blobs that hold snapshots of the workspace."""
    taken = [event for event in events if isinstance(event, SnapshotTaken)]
    names = {blob.sha256 for event in taken for blob in (event.listing, *event.contents)}
    return [file for name in sorted(names) for file in blobs.rglob(name)]


def waits(recorded: RecordedEvent) -> bool:
    """Whether a leg was put down, to wait."""
    event = recorded.event
    return isinstance(event, LegEnded) and event.reason is LegEndReason.WAITING
