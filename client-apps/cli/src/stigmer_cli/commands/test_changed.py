"""`stigmer test --changed`: does again what an agent has done, with its manifest of now or another model."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stigmer_cli.errors import StigmerError

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.config import Connection
    from stigmer_cli.rendering.differences import Compared
    from stigmer_contract.api import ExecutionResource

MAX_LOOKED_AT = 500
"""Executions of an agent that are looked through for those to do again."""
TIMEOUT_SECONDS = 3600.0


@dataclass(frozen=True)
class Repeated:
    """One execution, and what doing it again came to."""

    execution_id: str
    head: str
    how: Literal["same", "parted", "worse", "skipped"]
    text: str
    """For a person: in a line or a few."""
    fork_id: str | None = None
    same_steps: int | None = None


def repeat_executions(
    agents: Sequence[str],
    model: str | None,
    newest: int,
    jobs: int,
    connection: "Connection",
    *,
    as_json: bool,
    strict: bool,
) -> bool:
    """Do the newest executions of each agent again; whether none has become worse, or with `strict` parted.

    Raises:
        UsageError: there is no such agent.
        StigmerError: an agent has no executions that can be done again.
    """
    from dataclasses import asdict

    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.output import print_json, print_note, sanitize

    done = list[Repeated]()
    for agent in agents:
        with ApiClient(connection) as client:
            found = _find(client, agent, newest)
        with ThreadPoolExecutor(jobs) as pool:
            running = [pool.submit(_repeat, agent, model, each, connection) for each in found]
            for each in running:
                done.append(each.result())
                mark = {"same": "✓", "parted": "≠", "worse": "✗", "skipped": "-"}[done[-1].how]
                first, *rest = done[-1].text.splitlines()
                print_note(sanitize(f"{mark} {done[-1].execution_id} {done[-1].head!r}: {first}"))
                for line in rest:
                    print_note(sanitize(f"    {line}"))
    if as_json:
        print_json([asdict(each) for each in done])
    bad = ("worse", "parted", "skipped") if strict else ("worse",)
    print_note(_summary(done))
    return not any(each.how in bad for each in done)


def _summary(done: Sequence[Repeated]) -> str:
    from stigmer_cli.rendering.quantities import plural

    words = {"same": "went the same way", "parted": "parted", "worse": "became worse", "skipped": "skipped"}
    counts = {how: sum(each.how == how for each in done) for how in words}
    said = ", ".join(f"{counts[how]} {word}" for how, word in words.items() if counts[how])
    return f"{plural(len(done), 'execution')} done again: {said}"


def _find(client: "ApiClient", agent: str, newest: int) -> "list[ExecutionResource]":
    """The newest executions of the agent that began by themselves and came to an end of their own."""
    from stigmer_cli.commands.manifest_files import names_a_path, read_agent
    from stigmer_contract.events import ExecutionStarted
    from stigmer_contract.phases import ExecutionPhase

    name = read_agent(agent).manifest.metadata.name if names_a_path(agent) else agent
    found = list["ExecutionResource"]()
    for each in client.list_executions(MAX_LOOKED_AT, agent=name):
        if each.phase not in (ExecutionPhase.COMPLETED, ExecutionPhase.FAILED):
            continue
        first = next(iter(client.read_events(each.execution_id))).event
        if isinstance(first, ExecutionStarted) and first.fork is None and first.inspection is None:
            found.append(each)
        if len(found) == newest:
            break
    if not found:
        raise StigmerError(
            f"could not do again what {name!r} has done: no execution of it has ended by itself",
            "run it first, or name another agent",
        )
    return found


def _repeat(
    agent: str, model: str | None, execution: "ExecutionResource", connection: "Connection"
) -> Repeated:
    from stigmer_cli.api_client import ApiClient
    from stigmer_cli.commands.diffing import compared
    from stigmer_cli.commands.forking import fork_request
    from stigmer_cli.commands.test_runs import wait_for_end

    execution_id, head = execution.execution_id, execution.input_head or ""
    with ApiClient(connection) as client:
        try:
            if (reason := _no_beginning(client, execution)) is not None:
                return Repeated(execution_id, head, "skipped", f"skipped: {reason}")
            request = fork_request(client, 0, None, None, agent, model)
            spec = request.manifest.spec if request.manifest is not None else None
            if request.model is None and (spec is None or spec.model is None) and execution.model is not None:
                request = request.model_copy(update={"model": execution.model})
            fork = client.fork_execution(execution_id, request)
            wait_for_end(client, fork.execution_id, TIMEOUT_SECONDS)
            both = [compared(client, each, with_files=True) for each in (execution_id, fork.execution_id)]
            return _told(head, both[0], both[1])
        except StigmerError as error:
            return Repeated(execution_id, head, "worse", f"could not be done again: {error.message}")


def _no_beginning(client: "ApiClient", execution: "ExecutionResource") -> str | None:
    """Why it cannot begin with the files that it began with; None: it can."""
    if client.get_session(execution.session_id).workspace is None:
        return None
    snapshot = client.get_snapshot(execution.execution_id, 0)
    if snapshot.listing is not None:
        return None
    return f"the files that it began with are not known: {snapshot.none_because}"


def _told(head: str, before: "Compared", now: "Compared") -> Repeated:
    from stigmer_cli.rendering.differences import count_changed_paths, first_difference, format_step
    from stigmer_cli.rendering.execution_table import describe_phase
    from stigmer_cli.rendering.quantities import format_usage, plural
    from stigmer_contract.phases import ExecutionPhase
    from stigmer_contract.snapshots import Chain

    place = first_difference(before, now)
    old, new = before.execution, now.execution
    usage = f"{format_usage(old.usage)} → {format_usage(new.usage)}"
    same = len(before.steps) if place is None else place
    ids = (old.execution_id, head)
    if place is None and old.phase is new.phase:
        files = ""
        if isinstance(before.files, Chain) and isinstance(now.files, Chain):
            changed = count_changed_paths(before.files, now.files)
            files = f", {plural(changed, 'path')} otherwise" if changed else ", the same files"
        text = f"the same {plural(len(before.steps), 'step')}{files}; {usage}"
        return Repeated(*ids, "same", text, new.execution_id, same)
    is_worse = old.phase is ExecutionPhase.COMPLETED and new.phase is not ExecutionPhase.COMPLETED
    sides = [side.steps[same] if same < len(side.steps) else None for side in (before, now)]
    ended = f"{describe_phase(old)} → {describe_phase(new)}"
    lines = [
        f"they part at step {same + 1} of {len(before.steps)}; {ended}; {usage}",
        f"was: {format_step(sides[0])}",
        f"now: {format_step(sides[1])}",
        *([f"why: {new.error.message}"] if is_worse and new.error is not None else []),
        f"look: stigmer executions diff {old.execution_id} {new.execution_id}",
    ]
    return Repeated(*ids, "worse" if is_worse else "parted", "\n".join(lines), new.execution_id, same)
