"""Runner and server die in snapshots, forks and restores: nothing is lost, and nothing is half there.

Each round takes a minute or two, too long for every run of the tests: `make snapshots-and-kills` takes ten of
them, with five kill -9 in each.
"""

import hashlib
import os
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import httpx
import pytest
import yaml

from e2e_script import QUICK_HEARTBEAT
from executions import Execution, agent_manifest
from running_stack import RunningStack
from stigmer_contract.api import ExecutionResource, SnapshotResource
from stigmer_contract.events import (
    LegStarted,
    RecordedEvent,
    SnapshotTaken,
    ToolFinished,
)
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.snapshots import FileEntry, load_chain, provide, read_file
from stigmer_contract.steps import number_steps

ROUNDS: Final = int(os.environ.get("STIGMER_TEST_ROUNDS", "1"))
FILES: Final = 400 if ROUNDS > 1 else 150
"""Made by each command, so that a snapshot takes its time."""
COMMANDS: Final = 4

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("snapshots-and-kills"),
    pytest.mark.skipif("STIGMER_TEST_ROUNDS" not in os.environ, reason="make snapshots-and-kills runs it"),
]

COMMAND: Final = (
    "mkdir -p d%d; for i in $(seq %d); do head -c 2000 /dev/urandom > d%d/$i; done; "
    "rm -f d1/%d; echo %d >> done.txt"
)
CALLS: Final = [
    {"tool": "run_command", "arguments": {"command": COMMAND % (turn, FILES, turn, turn, turn)}}
    for turn in range(1, COMMANDS + 1)
]
CASSETTE: Final = yaml.safe_dump(
    {"version": 1, "turns": [*({"toolCalls": [call]} for call in CALLS), {"text": "That is all."}]}
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    home = tmp_path_factory.mktemp("kills")
    with RunningStack(home, server_environment=QUICK_HEARTBEAT) as running:
        yield running


class Killer:
    """Kills a part, and starts it again."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack
        self._runners = 1

    def runner(self) -> None:
        self._stack.kill_runner(self._stack.runners[-1])
        self._runners += 1
        self._stack.start_runner(f"runner-{self._runners}")

    def server(self) -> None:
        self._stack.kill_server()
        self._stack.start_server()


@pytest.mark.parametrize("number", range(ROUNDS))
def test_what_dies_in_a_snapshot_a_fork_or_a_restore_loses_nothing(stack: RunningStack, number: int) -> None:
    chance, killer = random.Random(number), Killer(stack)
    digest = hashlib.sha256(CASSETTE.encode()).hexdigest()
    assert stack.client.put(f"/v1/blobs/{digest}", content=CASSETTE.encode()).is_success
    manifest = agent_manifest(name="killed", model=f"replay:sha256:{digest}", tools=("shell",))

    # The snapshot of a call is taken from the moment that the call's end stands in the log.
    first = Execution.start(stack, manifest, "Work.")
    died = chance.sample(range(1, COMMANDS), 2)
    for turn, die in zip(sorted(died), chance.sample([killer.runner, killer.server], 2), strict=True):
        first.wait_for(ended_call(turn))
        die()
    assert first.wait_until_ended().phase is ExecutionPhase.COMPLETED
    check_all_snapshots(stack, first)
    assert files_in(workspace(stack, first)) == files_at(stack, first, None)

    # A fork's files are made before its first step, by its first leg.
    steps = [step.number for step in number_steps(first.log) if step.kind == "tool"]
    at = chance.choice(steps[:-1])
    forked = begin(stack, first, "fork", at)
    forked.wait_for(lambda recorded: isinstance(recorded.event, LegStarted))
    chance.choice([killer.runner, killer.server])()
    assert forked.wait_until_ended().phase is ExecutionPhase.COMPLETED
    check_all_snapshots(stack, forked)
    assert files_in(workspace(stack, forked)) == files_at(stack, forked, None)

    # In place: each path is as it was or as it is to be, and the next runner goes on.
    wanted = files_at(stack, first, at)
    rewound = begin(stack, first, "rewind", at)
    for die in (killer.runner, killer.server)[: 2 if ROUNDS > 1 else 1]:
        if not rewound.resource.phase.is_terminal:
            rewound.wait_for(lambda recorded: isinstance(recorded.event, LegStarted))
            die()
    assert rewound.wait_until_ended().phase is ExecutionPhase.COMPLETED
    assert files_in(workspace(stack, first)) == wanted
    assert not list(workspace(stack, first).rglob("*.stigmer")), "no draft is left"


def ended_call(turn: int) -> Callable[[RecordedEvent], bool]:
    """Whether an event is the end of that turn's call, or of a later one, where it was cut off."""
    return lambda recorded: isinstance(event := recorded.event, ToolFinished) and event.turn >= turn


def begin(stack: RunningStack, execution: Execution, what: str, at: int) -> Execution:
    """A fork or a rewind of it."""
    answer = stack.client.post(f"/v1/executions/{execution.execution_id}/{what}", json={"at": at})
    assert answer.status_code == httpx.codes.CREATED, answer.text
    return Execution(stack, ExecutionResource.model_validate_json(answer.content))


def workspace(stack: RunningStack, execution: Execution) -> Path:
    return stack.workspace_root / execution.session_id


def blob(stack: RunningStack, sha256: str) -> bytes:
    answer = stack.client.get(f"/v1/blobs/{sha256}")
    assert answer.is_success, answer.text
    return answer.content


def load(stack: RunningStack, listing: str, known: dict[str, bytes]) -> dict[str, str]:
    """The SHA-256 by path of what a snapshot has; each content is read, and must be what its digest says."""

    def of(sha256: str) -> bytes:
        return known.setdefault(sha256, known.get(sha256) or blob(stack, sha256))

    files = dict[str, str]()
    for path, entry in provide(load_chain(listing), of).entries.items():
        if isinstance(entry, FileEntry):
            files[path] = hashlib.sha256(provide(read_file(entry), of)).hexdigest()
            assert files[path] == entry.sha256
    return files


def check_all_snapshots(stack: RunningStack, execution: Execution) -> None:
    """Each snapshot that the log names is there as a whole."""
    known: dict[str, bytes] = {}
    taken = [event for event in execution.events if isinstance(event, SnapshotTaken)]
    assert taken
    for event in taken:
        load(stack, event.listing.sha256, known)


def files_at(stack: RunningStack, execution: Execution, at: int | None) -> Mapping[str, str]:
    parameters = {} if at is None else {"at": at}
    answer = stack.client.get(f"/v1/executions/{execution.execution_id}/snapshot", params=parameters)
    snapshot = SnapshotResource.model_validate_json(answer.content)
    assert snapshot.listing is not None, snapshot.none_because
    return load(stack, snapshot.listing.sha256, {})


def files_in(folder: Path) -> Mapping[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
