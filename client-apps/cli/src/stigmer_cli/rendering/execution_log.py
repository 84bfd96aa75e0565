"""An execution and its log as text that a person reads from top to bottom."""

import json
from collections.abc import Callable, Sequence
from typing import assert_never

from stigmer_cli.output import sanitize
from stigmer_cli.rendering.artifacts import describe_artifacts, describe_missing
from stigmer_cli.rendering.changed_tools import describe_changed_tools
from stigmer_cli.rendering.compactions import describe_compaction
from stigmer_cli.rendering.execution_table import SHOWN_ID_CHARACTERS, describe_phase, describe_waits
from stigmer_cli.rendering.quantities import format_bytes, format_seconds, format_usage, plural
from stigmer_cli.rendering.snapshots import describe_snapshot
from stigmer_cli.rendering.tool_calls import describe_call, describe_ending
from stigmer_cli.rendering.warned_files import describe_warning
from stigmer_contract import events as contract
from stigmer_contract.api import ExecutionResource
from stigmer_contract.conversation import ModelAnswer, ToolResult
from stigmer_contract.deciders import by_whom
from stigmer_contract.steps import number_steps

LoadPayload = Callable[[contract.Payload], object]
_INDENT = " " * 11


def format_execution(
    execution: ExecutionResource,
    events: Sequence[contract.RecordedEvent],
    load_payload: LoadPayload,
    *,
    full: bool = False,
) -> str:
    """What it is, how it stands, and each event with its time (UTC), steps with their number; `full`: with
    what tool calls gave."""
    facts = [
        ("execution", execution.execution_id),
        ("session", execution.session_id),
        ("agent", execution.agent_name),
        ("model", execution.model or "default"),
        ("phase", describe_phase(execution)),
        ("created", f"{execution.created_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    if execution.ended_at:
        facts.append(("time", format_seconds((execution.ended_at - execution.created_at).total_seconds())))
    facts.append(("usage", format_usage(execution.usage)))
    lines = [f"{name:<9}  {value}" for name, value in facts] + [""]
    answer = ""
    numbers = {step.sequence: step.number for step in number_steps(events)}
    for recorded in events:
        description = describe_event(recorded.event, load_payload)
        if (number := numbers.get(recorded.sequence)) is not None:
            description = f"[{number}] {description}"
        match recorded.event:
            case contract.ToolFinished() as event if full:
                description += f"\n{ToolResult.model_validate(load_payload(event.result)).text}"
            case contract.ModelResponded() as event:
                answer = description.partition("\n")[2]
            case contract.ExecutionCompleted() if description == f"completed: {answer}":
                description = "completed"
            case _:
                pass
        first, *rest = description.splitlines() or [""]
        lines.append(f"{recorded.recorded_at:%H:%M:%S}   {first}")
        lines += [_INDENT + line for line in rest]
    return sanitize("\n".join(lines))


def describe_event(event: contract.AnyEvent, load_payload: LoadPayload) -> str:
    """One event in a line or more."""
    match event:
        case contract.ExecutionStarted():
            files = ", ".join(f"{file.name} ({format_bytes(file.size_bytes)})" for file in event.attachments)
            attached = f"\nattached: {files}" if files else ""
            return f"started: {_text(load_payload(event.input))}{attached}{_describe_origin(event.fork)}"
        case contract.LegStarted():
            return f"attempt {event.attempt} begins on {event.runner}"
        case contract.LegLost():
            how = f": {event.how}" if event.how else ""
            return f"attempt {event.attempt} is lost ({event.cause}){how}"
        case contract.LegEnded():
            waits = f" for {describe_waits(event.waiting_for)}" if event.waiting_for else ""
            return f"attempt {event.attempt} ends: {event.reason}{waits}"
        case contract.EnvironmentDescribed():
            return f"told where it works: {event.workspace}"
        case contract.ModelResponded():
            retries = f", {plural(event.retries, 'failed request')} before" if event.retries else ""
            heading = f"turn {event.turn}: {event.model} in {format_seconds(event.duration_seconds)}{retries}"
            text = ModelAnswer.model_validate(load_payload(event.response)).text
            return f"{heading}\n{text}" if text else heading
        case contract.ModelFailed():
            again = f"asked again at {event.next_try_at:%H:%M:%S}"
            return f"turn {event.turn}: {event.message} ({_ordinal_failure(event)}; {again})"
        case contract.ModelInterrupted():
            heading = f"turn {event.turn}: {event.model} was stopped in the middle of its answer"
            text = _text(load_payload(event.text))
            return f"{heading}\n{text}" if text else heading
        case contract.HistoryRepaired():
            return f"turn {event.turn}: the conversation was changed for the provider: {event.message}"
        case contract.ToolStarted():
            return f"→ {describe_call(event.tool, load_payload(event.arguments))}"
        case contract.ToolFinished():
            ending = describe_ending(event, load_payload(event.result))
            detail = f": {ending.detail}" if ending.detail else ""
            return f"{ending.mark} {event.tool} in {format_seconds(event.duration_seconds)}{detail}"
        case contract.StepFinished(kind="compact", result=result) if result is not None:
            return describe_compaction(load_payload(result))
        case contract.StepFinished():
            return f"{event.kind} {event.key} in {format_seconds(event.duration_seconds)}"
        case contract.RequestChanged():
            return f"from turn {event.turn} on the model is asked with other {' and '.join(event.changed)}"
        case contract.InputRequested():
            return f"{event.kind} {event.input_id}: {event.title}"
        case contract.InputResolved():
            return describe_resolution(event)
        case contract.InputReminded():
            also = f"; {event.escalated_to} may decide, too" if event.escalated_to else ""
            return f"reminder: {event.input_id} still waits{also}"
        case contract.GrantRevoked():
            whose = f"calls like that of {event.input_id}"
            return f"revoked{by_whom(event.revoked_by)}: {whose} are asked about again"
        case contract.MessageReceived():
            return f"message: {_text(load_payload(event.message))}"
        case contract.ExecutionRetried():
            other = event.limits and event.limits.model_dump(
                mode="json", by_alias=True, exclude_defaults=True
            )
            return f"retried, with limits {json.dumps(other)}" if other else "retried"
        case contract.ToolsChanged():
            return f"warning: {describe_changed_tools(event)}"
        case contract.ExecutionPaused():
            return f"paused{by_whom(event.paused_by)}{f': {event.reason}' if event.reason else ''}"
        case contract.ExecutionResumed():
            return f"resumed{by_whom(event.resumed_by)}"
        case contract.WorkspaceWarned():
            return f"warning: {describe_warning(event)}"
        case contract.ArtifactsCollected():
            kept = describe_artifacts(event.files)
            return "\n".join([f"kept {kept}" if kept else "kept no files", *describe_missing(event)])
        case contract.SnapshotTaken():
            return describe_snapshot(event)
        case contract.SnapshotSkipped():
            return f"no snapshot of the files: {event.reason}"
        case contract.ExecutionCompleted():
            return f"completed: {_text(load_payload(event.output))}"
        case contract.ExecutionFailed():
            hint = f"\nhint: {event.hint}" if event.hint else ""
            return f"failed ({event.code}): {event.message}{hint}"
        case contract.ExecutionCancelled():
            return f"cancelled{f': {event.reason}' if event.reason else ''}"
        case contract.HistoryStored():
            return f"conversation kept up to turn {event.turn}"
        case contract.UnknownEvent():
            return f"an event of another version: {event.type}"
        case _ as unreachable:
            assert_never(unreachable)


def describe_resolution(event: contract.InputResolved) -> str:
    """How an input was resolved, in one line."""
    changed = ", with changed arguments" if event.arguments is not None else ""
    if event.granted_with is not None:
        changed = f", as all of its kind ({event.granted_with[-SHOWN_ID_CHARACTERS:]})"
    reason = f": {event.reason}" if event.reason else ""
    return f"{event.outcome}{by_whom(event.resolved_by)}{changed}{reason}"


def _describe_origin(fork: contract.ForkOrigin | None) -> str:
    if fork is None:
        return ""
    if fork.in_place:
        files = f"; the files stay as they are: {fork.no_files_because}" if fork.no_files_because else ""
        return f"\nback to step {fork.step} of {fork.execution_id}{files}"
    files = f"; without files: {fork.no_files_because}" if fork.no_files_because else ""
    return f"\nforked from {fork.execution_id} at step {fork.step}{files}"


def _ordinal_failure(event: contract.ModelFailed) -> str:
    return f"failure {event.failures} since {event.since:%H:%M:%S}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
