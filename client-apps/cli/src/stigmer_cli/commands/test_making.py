"""`stigmer test add`: makes a test of an execution, for a person to edit."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stigmer_cli.commands.completions import complete_directories, complete_executions
from stigmer_cli.errors import StigmerError, UsageError

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient
    from stigmer_contract.api import ExecutionResource
    from stigmer_contract.events import ExecutionStarted, RecordedEvent
    from stigmer_contract.snapshots import Entry

MAX_FILES_BYTES: Final = 10 << 20
"""Of all starting files of a test together."""
MAX_EXPECTED_FILES: Final = 5
MAX_SHOWN: Final = 20


@click.command("add", epilog="Example: stigmer test add 4k2x9q --to tests")
@click.argument("given", metavar="EXECUTION", required=False, shell_complete=complete_executions)
@click.option("--last", is_flag=True, help="The newest one.")
@click.option(
    "--to",
    "target",
    metavar="DIR",
    default=".",
    help="Where to write it; default: this folder.",
    shell_complete=complete_directories,
)
@click.option("--name", metavar="NAME", help="What to call it; default: the agent's name and the id's end.")
def add(given: str | None, last: bool, target: str, name: str | None) -> None:
    """Make a test of an execution: the model's answers, the files it began with, and what it came to.

    Written are NAME.test.yaml, NAME.cassette.yaml, NAME.agent.yaml and the folder NAME.files. What the test
    expects is what the execution came to: look at it, and leave in what matters. Known secrets are masked in
    answers and results; files are copied as they are, and listed.
    """
    from stigmer_cli.commands.connecting import open_client
    from stigmer_cli.commands.references import find_execution_id, short_id
    from stigmer_contract.events import ExecutionStarted

    folder = Path(target).expanduser()
    if not folder.is_dir():
        raise UsageError(f"could not add a test to {target!r}: there is no such folder")
    with open_client() as client:
        execution_id = find_execution_id(client, given, last=last)
        execution = client.get_execution(execution_id)
        events = list(client.read_events(execution_id))
        first = events[0].event
        assert isinstance(first, ExecutionStarted)
        if not execution.phase.is_terminal:
            raise UsageError(f"could not make a test of {execution_id}: it is {execution.phase}")
        if first.fork is not None and first.fork.step:
            raise UsageError(
                f"could not make a test of {execution_id}: it is a fork, and does not hold its own beginning",
                "fork at 0, or make a test of its parent",
            )
        name = name or f"{execution.agent_name}-{short_id(execution_id)}"
        _write(client, folder, name, execution, first, events)


def _write(
    client: "ApiClient",
    folder: Path,
    name: str,
    execution: "ExecutionResource",
    first: "ExecutionStarted",
    events: "Sequence[RecordedEvent]",
) -> None:
    import yaml

    from stigmer_cli.agent_tests.test_file import ENDING
    from stigmer_cli.output import print_line, print_note, sanitize
    from stigmer_contract.cassette import cassette_from_events, dump_cassette

    test, cassette, agent, files = (
        folder / f"{name}{ending}" for ending in (ENDING, ".cassette.yaml", ".agent.yaml", ".files")
    )
    for path in (test, cassette, agent, files):
        if os.path.lexists(path):
            raise UsageError(f"could not write {str(path)!r}: it is there already", "choose another --name")
    begins, ends = (_entries(client, execution.execution_id, at) for at in (0, None))
    try:
        played = dump_cassette(cassette_from_events(events, client.fetch_blob))
    except ValueError as error:
        raise StigmerError(f"could not make a test of {execution.execution_id}: {error}") from error
    copied = _restore(client, begins, files) if begins else []
    document = {
        "agent": f"./{agent.name}",
        "input": client.load_payload(first.input),
        **({"files": f"./{files.name}"} if copied else {}),
        "model": f"replay:{cassette.name}",
        "expect": _expected(client, execution, events, begins or {}, ends or {}),
    }
    cassette.write_text(played, encoding="utf-8")
    agent.write_text(_manifest_text(first), encoding="utf-8")
    test.write_text(
        yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100), encoding="utf-8"
    )
    if begins is None:
        print_note("note: the files that it began with are not known; the test begins with none")
    for path in copied[:MAX_SHOWN]:
        print_note(sanitize(f"copied {path}"))
    if len(copied) > MAX_SHOWN:
        print_note(f"copied {len(copied) - MAX_SHOWN} files more")
    print_note(f"look at what it expects, then run `stigmer test {test}`")
    print_line(str(test))


def _entries(client: "ApiClient", execution_id: str, at: int | None) -> "dict[str, Entry] | None":
    from stigmer_contract.errors import SnapshotDamaged
    from stigmer_contract.snapshots import load_chain, provide

    snapshot = client.get_snapshot(execution_id, at)
    if snapshot.listing is None:
        return None
    try:
        return provide(load_chain(snapshot.listing.sha256), client.fetch_blob).entries
    except SnapshotDamaged as error:
        raise StigmerError(f"the files of step {snapshot.step} cannot be read: {error}") from error


def _restore(client: "ApiClient", entries: "Mapping[str, Entry]", place: Path) -> list[str]:
    """Write the starting files; the paths of those that are files."""
    from stigmer_cli.rendering.snapshots import shown
    from stigmer_contract.errors import SnapshotDamaged
    from stigmer_contract.snapshots import FileEntry, provide, restore_tree

    files = {path: entry for path, entry in entries.items() if isinstance(entry, FileEntry)}
    size = sum(entry.size for entry in files.values())
    if size > MAX_FILES_BYTES:
        raise StigmerError(
            f"could not copy the starting files: they have {size >> 20} MiB, and may have "
            f"{MAX_FILES_BYTES >> 20}",
            "run the agent on a smaller example, and make the test of that",
        )
    if not files:
        return []
    place.mkdir()
    try:
        root = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            provide(restore_tree(entries, root), client.fetch_blob)
        finally:
            os.close(root)
    except (OSError, SnapshotDamaged) as error:
        raise StigmerError(f"could not copy the starting files: {error}") from error
    return sorted(shown(path) for path in files)


def _expected(
    client: "ApiClient",
    execution: "ExecutionResource",
    events: "Sequence[RecordedEvent]",
    begins: "Mapping[str, Entry]",
    ends: "Mapping[str, Entry]",
) -> dict[str, object]:
    from stigmer_contract.conversation import ModelAnswer
    from stigmer_contract.events import ModelResponded
    from stigmer_contract.phases import ExecutionPhase
    from stigmer_contract.snapshots import FileEntry

    expected: dict[str, object] = {}
    if execution.phase is not ExecutionPhase.COMPLETED:
        expected["phase"] = execution.phase.value
    if execution.output is not None:
        expected["answer"] = {"equals": client.load_payload(execution.output)}
    made = [
        path for path, entry in sorted(ends.items()) if isinstance(entry, FileEntry) and path not in begins
    ]
    plain = [path for path in made if path.isprintable() and not path.startswith(".")]
    if plain:
        expected["files"] = [{"path": path} for path in plain[:MAX_EXPECTED_FILES]]
    tools = list[str]()
    for recorded in events:
        if isinstance(event := recorded.event, ModelResponded) and not event.agent_path:
            answer = ModelAnswer.model_validate(client.load_payload(event.response))
            tools += [call.tool for call in answer.tool_calls]
    if tools:
        expected["path"] = {"order": tools}
    return expected


def _manifest_text(first: "ExecutionStarted") -> str:
    import yaml

    spec = first.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    manifest = {
        "apiVersion": "agentic.stigmer.ai/v1",
        "kind": "Agent",
        "metadata": {"name": first.agent_name},
        "spec": spec,
    }
    return yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=100)
