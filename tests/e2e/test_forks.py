"""Forks on a real stack: what was before is there, with its files, and is neither asked nor done again."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e_script import TOOL_CALLS
from executions import Execution, agent_manifest, answered_turns, inline, tool_results, waits
from model_server import ModelServer
from running_stack import RunningStack
from stigmer_contract.api import ExecutionResource, Page
from stigmer_contract.conversation import ModelAnswer
from stigmer_contract.events import (
    ExecutionStarted,
    InlinePayload,
    ModelResponded,
    SnapshotTaken,
    ToolFinished,
)
from stigmer_contract.steps import number_steps

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("ten-tools")]

LAST_TURN = TOOL_CALLS + 1
MODEL = "openai:gpt-5"


@pytest.fixture(scope="module")
def parent(ten_tools_stack: RunningStack) -> Execution:
    execution = Execution.start(ten_tools_stack, agent_manifest(), "Work. [conversation forked]")
    execution.wait_until_completed()
    return execution


def fork(stack: RunningStack, parent: Execution, at: int, **more: Any) -> Execution:
    response = stack.client.post(f"/v1/executions/{parent.execution_id}/fork", json={"at": at, **more})
    assert response.status_code == httpx.codes.CREATED, response.text
    return Execution(stack, ExecutionResource.model_validate_json(response.content))


def asked(model: ModelServer, conversation: str = "forked") -> Counter[int]:
    return Counter({turn: times for (of, turn), times in model.asked.items() if of == conversation})


def lines(stack: RunningStack, execution: Execution) -> list[str]:
    """What the commands of an execution have written."""
    return (stack.workspace_root / execution.session_id / "done.txt").read_text(encoding="utf-8").split()


ALL_LINES = [f"turn-{turn}" for turn in range(1, LAST_TURN)]


def stigmer(stack: RunningStack, *arguments: str, fails_with: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "stigmer_cli", *arguments],
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == fails_with, done.stderr
    return done.stdout if fails_with == 0 else done.stderr


@pytest.mark.parametrize(
    ("at", "turns"),
    [(8, range(5, LAST_TURN + 1)), (7, range(5, LAST_TURN + 1)), (20, range(LAST_TURN, LAST_TURN + 1))],
    ids=["behind a call", "behind an answer, whose call is made anew", "behind the last call"],
)
def test_a_fork_asks_the_turns_after_its_step_and_no_other(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer, parent: Execution, at: int, turns: range
) -> None:
    before = asked(ten_tools_model)
    forked = fork(ten_tools_stack, parent, at)
    done = forked.wait_until_completed()

    assert asked(ten_tools_model) - before == Counter(turns)
    assert lines(ten_tools_stack, forked) == ALL_LINES
    assert lines(ten_tools_stack, parent) == ALL_LINES
    assert done.usage.requests == len(turns)
    # The turn that was under way is the fork's first, as far as it was done.
    assert answered_turns(forked.events) == list(range(1, len(turns) + 2))
    assert [step.number for step in number_steps(forked.log)] == list(range(at - (at + 1) % 2, 22))


def test_five_forks_ask_five_times_as_much(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer, parent: Execution
) -> None:
    before = asked(ten_tools_model)
    printed = stigmer(
        ten_tools_stack, "executions", "fork", parent.execution_id, "--at", "16", "-n", "5", "--json"
    )
    assert [each["phase"] for each in json.loads(printed)] == ["completed"] * 5
    assert asked(ten_tools_model) - before == Counter({9: 5, 10: 5, 11: 5})


def test_a_fork_of_a_fork_begins_with_what_both_have_in_common(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer, parent: Execution
) -> None:
    first = fork(ten_tools_stack, parent, 6)
    first.wait_until_completed()
    before = asked(ten_tools_model)
    second = fork(ten_tools_stack, first, 14)
    second.wait_until_completed()
    third = fork(ten_tools_stack, second, 18)
    third.wait_until_completed()
    assert asked(ten_tools_model) - before == Counter([8, 9, 10, 11, 10, 11])
    for each in (first, second, third):
        assert lines(ten_tools_stack, each) == ALL_LINES


def test_something_said_at_the_final_answer_goes_on_from_there_with_another_agent(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer, parent: Execution
) -> None:
    refused = ten_tools_stack.client.post(f"/v1/executions/{parent.execution_id}/fork", json={"at": 21})
    assert refused.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert "final answer" in refused.json()["detail"]

    other = agent_manifest(name="other")
    other["spec"]["instructions"] = "Be another one."
    since = len(ten_tools_model.bodies)
    forked = fork(ten_tools_stack, parent, 21, message="And now?", manifest=other)
    forked.wait_until_completed()
    body = json.dumps(ten_tools_model.bodies[since])
    assert len(ten_tools_model.bodies) == since + 1
    assert "Be another one." in body
    assert "Do what you are told." not in body
    assert body.index("All ten are done.") < body.index("And now?")
    assert forked.resource.agent_name == "other"
    assert lines(ten_tools_stack, forked) == ALL_LINES


def test_a_fork_at_nothing_begins_anew_with_another_prompt_and_the_files_of_before(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer, parent: Execution
) -> None:
    forked = fork(ten_tools_stack, parent, 0, prompt="Work anew. [conversation anew]")
    forked.wait_until_completed()
    assert asked(ten_tools_model, "anew") == Counter(range(1, LAST_TURN + 1))
    assert lines(ten_tools_stack, forked) == ALL_LINES


def test_a_session_goes_on_behind_a_fork_with_all_that_was_said(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer, parent: Execution
) -> None:
    forked = fork(ten_tools_stack, parent, 12)
    forked.wait_until_completed()
    since = len(ten_tools_model.bodies)
    following = Execution.start(
        ten_tools_stack,
        agent_manifest(),
        "Thanks. [conversation thanks]",
        session_id=forked.session_id,
    )
    following.wait_until_completed()
    said = json.dumps(ten_tools_model.bodies[since])
    assert said.count("Work. [conversation forked]") == 1
    positions = [said.index(f"Working on {turn}.") for turn in range(1, LAST_TURN)]
    assert positions == sorted(positions)


def test_a_call_has_given_something_else_in_a_fork_and_is_not_made_there(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer, parent: Execution
) -> None:
    since = len(ten_tools_model.bodies)
    command = ("executions", "fork", parent.execution_id, "--json", "--at")
    ids = set[str]()
    for at, call in (("7", "run_command"), ("8", "8")):
        done = stigmer(ten_tools_stack, *command, at, "--answer", f"{call}=made up by a person")
        ids |= {json.loads(line)["execution_id"] for line in done.splitlines()[:1]}
        assert "made up by a person" in json.dumps(ten_tools_model.bodies[since])
        since = len(ten_tools_model.bodies)
    made = [
        (ten_tools_stack.workspace_root / fork["session_id"] / "done.txt").read_text(encoding="utf-8").split()
        for fork in (ten_tools_stack.client.get(f"/v1/executions/{each}").json() for each in sorted(ids))
    ]
    assert sorted(made) == sorted([[line for line in ALL_LINES if line != "turn-4"], ALL_LINES])

    refused = stigmer(ten_tools_stack, *command, "7", "--answer", "write_file=x", fails_with=2)
    assert "there is no call 'write_file' in the turn of step 7" in refused
    assert "CALL=TEXT" in stigmer(ten_tools_stack, *command, "7", "--answer", "x", fails_with=2)
    body = {"at": 7, "answers": {"nothing": "x"}}
    answer = ten_tools_stack.client.post(f"/v1/executions/{parent.execution_id}/fork", json=body)
    assert answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert "has no call 'nothing'" in answer.json()["detail"]


def test_a_question_that_waits_is_answered_in_a_fork_alone(ten_tools_stack: RunningStack) -> None:
    cassette = """\
version: 1
turns:
- toolCalls: [{tool: ask_user, arguments: {question: Which colour?}}]
- expect: {results: [{tool: ask_user, result: Blue}]}
  text: Blue it is.
"""
    digest = hashlib.sha256(cassette.encode()).hexdigest()
    stored = ten_tools_stack.client.put(f"/v1/blobs/{digest}", content=cassette.encode())
    assert stored.is_success, stored.text
    manifest = agent_manifest(model=f"replay:sha256:{digest}", tools=())
    manifest["spec"]["askUser"] = True
    asking = Execution.start(ten_tools_stack, manifest, "Ask.")
    asking.wait_for(waits)
    forked = fork(ten_tools_stack, asking, 1, answers={call_ids(asking)[0]: "Blue"})
    done = forked.wait_until_completed()
    assert isinstance(done.output, InlinePayload)
    assert done.output.value == "Blue it is."
    assert not asking.resource.phase.is_terminal
    asking.cancel()
    asking.wait_until_ended()


def call_ids(execution: Execution) -> list[str]:
    """The calls of its first answer."""
    answers = [event for event in execution.events if isinstance(event, ModelResponded)]
    answer = ModelAnswer.model_validate(inline(answers[0].response))
    return [call.call_id for call in answer.tool_calls]


def test_each_step_of_an_execution_has_its_files(
    ten_tools_stack: RunningStack, parent: Execution, tmp_path: Path
) -> None:
    taken = [event for event in parent.events if isinstance(event, SnapshotTaken)]
    assert [event.turn for event in taken] == [None, *range(1, LAST_TURN)]
    for at, count in ((0, 0), (1, 0), (2, 1), (3, 1), (20, 10), (21, 10)):
        place = tmp_path / str(at)
        command = ("executions", "restore", parent.execution_id, "--at", str(at), "--to", str(place))
        stigmer(ten_tools_stack, *command)
        done = place / "done.txt"
        assert (done.read_text(encoding="utf-8").split() if done.exists() else []) == ALL_LINES[:count]
    assert "already" in stigmer(
        ten_tools_stack,
        *("executions", "restore", parent.execution_id, "--to", str(tmp_path / "0")),
        fails_with=2,
    )
    listed = json.loads(
        stigmer(ten_tools_stack, "executions", "files", parent.execution_id, "--at", "4", "--json")
    )
    assert ("done.txt", len("turn-1\nturn-2\n")) in [(each["path"], each.get("size")) for each in listed]
    shown = stigmer(ten_tools_stack, "executions", "get", parent.execution_id)
    assert "[21] turn 11" in shown


def test_snapshots_are_their_owners_alone_and_closed_to_other_users(
    ten_tools_stack: RunningStack, parent: Execution
) -> None:
    newest = [event for event in parent.events if isinstance(event, SnapshotTaken)][-1]
    files = list((ten_tools_stack.home / "data" / "blobs").rglob(newest.listing.sha256))
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"at": 99}, "the steps are 1 to 21"),
        ({"at": 3, "prompt": "x"}, "at 0"),
        ({"at": 3, "agent": "nobody", "manifest": None}, "nobody"),
        ({"at": 3, "model": "gpt-5"}, "model"),
    ],
)
def test_what_makes_no_sense_is_refused(
    ten_tools_stack: RunningStack, parent: Execution, body: dict[str, Any], said: str
) -> None:
    answer = ten_tools_stack.client.post(f"/v1/executions/{parent.execution_id}/fork", json=body)
    assert answer.is_client_error
    assert said in answer.json()["detail"]


def test_a_cancelled_execution_is_forked_at_what_it_had_done(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer
) -> None:
    cancelled = Execution.start(ten_tools_stack, agent_manifest(), "Work. [conversation cancelled]")
    cancelled.wait_for(lambda recorded: isinstance(recorded.event, ToolFinished) and recorded.event.turn == 3)
    cancelled.cancel()
    cancelled.wait_until_ended()
    forked = fork(ten_tools_stack, cancelled, 6)
    forked.wait_until_completed()
    assert lines(ten_tools_stack, forked) == ALL_LINES
    first = forked.events[0]
    assert isinstance(first, ExecutionStarted)
    assert first.fork is not None
    assert first.fork.no_files_because is None


def test_without_snapshots_a_fork_says_so_and_begins_with_no_files(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer
) -> None:
    manifest = agent_manifest()
    manifest["spec"]["snapshots"] = False
    plain = Execution.start(ten_tools_stack, manifest, "Work. [conversation plain]")
    plain.wait_until_completed()
    forked = fork(ten_tools_stack, plain, 4)
    forked.wait_until_completed()
    first = forked.events[0]
    assert isinstance(first, ExecutionStarted)
    assert first.fork is not None
    assert first.fork.snapshot is None
    assert first.fork.no_files_because == (
        "no snapshot was taken between that step and the next that may change files"
    )
    assert lines(ten_tools_stack, forked) == ALL_LINES[2:]
    assert not [event for event in plain.events if isinstance(event, SnapshotTaken)]


def test_a_directory_is_brought_back_to_before_the_last_execution_in_it(
    ten_tools_stack: RunningStack, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "done.txt").write_text("before\n", encoding="utf-8")
    (mine / "node_modules").mkdir()
    (mine / "node_modules" / "left.js").touch()
    manifest = agent_manifest()
    manifest["spec"]["snapshots"] = True
    execution = Execution.start(ten_tools_stack, manifest, "Work. [conversation undone]", workspace=str(mine))
    execution.wait_until_completed()
    after = (mine / "done.txt").read_text(encoding="utf-8")
    assert after.split() == ["before", *ALL_LINES]

    (mine / "done.txt").write_text(f"{after}mine\n", encoding="utf-8")
    refused = stigmer(ten_tools_stack, "undo", "--workspace", str(mine), "--yes", fails_with=1)
    assert "changed since: done.txt" in refused
    (mine / "done.txt").write_text(after, encoding="utf-8")
    (mine / "other.txt").write_text("made since, and none of the execution's", encoding="utf-8")
    stigmer(ten_tools_stack, "undo", "--workspace", str(mine), "--yes")
    assert (mine / "done.txt").read_text(encoding="utf-8") == "before\n"
    assert sorted(path.name for path in mine.iterdir()) == ["done.txt", "node_modules", "other.txt"]
    assert (mine / "node_modules" / "left.js").exists()
    stigmer(ten_tools_stack, "undo", "--workspace", str(mine), "--yes")  # once more changes nothing


def test_the_copied_turn_of_a_fork_is_paid_for_by_its_parent(
    ten_tools_stack: RunningStack, parent: Execution
) -> None:
    forked = fork(ten_tools_stack, parent, 18)
    forked.wait_until_completed()
    answers = [event for event in forked.events if isinstance(event, ModelResponded)]
    assert [answer.usage.requests for answer in answers] == [0, 1, 1]
    assert len(tool_results(forked.events)) == 2
    assert isinstance(forked.resource.output, InlinePayload)


def test_a_rewound_session_goes_on_from_its_step_with_the_files_of_then_and_asks_nothing_again(
    ten_tools_stack: RunningStack, ten_tools_model: ModelServer
) -> None:
    first = Execution.start(ten_tools_stack, agent_manifest(), "Work. [conversation rewound]")
    first.wait_until_completed()
    before = asked(ten_tools_model, "rewound")
    (ten_tools_stack.workspace_root / first.session_id / "mine.txt").write_text(
        "made since", encoding="utf-8"
    )
    printed = stigmer(ten_tools_stack, "executions", "rewind", first.execution_id, "--at", "8")
    assert f"back at step 8 of {first.execution_id}" in printed
    assert lines(ten_tools_stack, first) == ALL_LINES[:4]
    assert not (ten_tools_stack.workspace_root / first.session_id / "mine.txt").exists()
    assert asked(ten_tools_model, "rewound") == before

    since = len(ten_tools_model.bodies)
    following = Execution.start(
        ten_tools_stack, agent_manifest(), "Thanks. [conversation after]", session_id=first.session_id
    )
    following.wait_until_completed()
    said = json.dumps(ten_tools_model.bodies[since])
    assert said.count("Work. [conversation rewound]") == 1
    assert [turn for turn in range(1, LAST_TURN) if f"Working on {turn}." in said] == [1, 2, 3, 4]
    assert "rewind to" not in said

    # What came after the step is there still, and so is what was there before it was brought back.
    old = fork(ten_tools_stack, first, 20)
    old.wait_until_completed()
    assert lines(ten_tools_stack, old) == ALL_LINES
    [rewound] = [
        each.execution_id
        for each in Page[ExecutionResource]
        .model_validate_json(
            ten_tools_stack.client.get("/v1/executions", params={"session_id": first.session_id}).content
        )
        .items
        if each.execution_id not in (first.execution_id, following.execution_id)
    ]
    names = [
        [each["path"] for each in json.loads(stigmer(ten_tools_stack, *command, "--json"))]
        for command in (
            ("executions", "files", rewound, "--at", "0"),
            ("executions", "files", rewound),
        )
    ]
    assert ["mine.txt" in each for each in names] == [True, False]

    # Once more, to before all of it: only the words that come next are said.
    stigmer(ten_tools_stack, "executions", "rewind", first.execution_id, "--at", "0")
    since = len(ten_tools_model.bodies)
    anew = Execution.start(
        ten_tools_stack, agent_manifest(), "Begin. [conversation begun]", session_id=first.session_id
    )
    anew.wait_until_completed()
    said = json.dumps(ten_tools_model.bodies[since])
    assert "Begin. [conversation begun]" in said
    assert "Working on" not in said
    assert "conversation rewound" not in said
    assert lines(ten_tools_stack, anew) == ALL_LINES


def test_a_directory_is_rewound_after_its_person_was_asked_and_undone_again(
    ten_tools_stack: RunningStack, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    manifest = agent_manifest()
    manifest["spec"]["snapshots"] = True
    execution = Execution.start(ten_tools_stack, manifest, "Work. [conversation mine]", workspace=str(mine))
    execution.wait_until_completed()
    (mine / "node_modules").mkdir()
    command = ("executions", "rewind", execution.execution_id, "--at", "4")
    assert "pass --yes" in stigmer(ten_tools_stack, *command, fails_with=2)
    stigmer(ten_tools_stack, *command, "--yes")
    assert (mine / "done.txt").read_text(encoding="utf-8").split() == ALL_LINES[:2]
    assert (mine / "node_modules").is_dir()
    stigmer(ten_tools_stack, "undo", "--workspace", str(mine), "--yes")
    assert (mine / "done.txt").read_text(encoding="utf-8").split() == ALL_LINES


def test_a_session_that_is_at_work_or_has_no_such_step_is_not_rewound(
    ten_tools_stack: RunningStack, parent: Execution
) -> None:
    path = f"/v1/executions/{parent.execution_id}/rewind"
    refused = ten_tools_stack.client.post(path, json={"at": 99})
    assert (refused.status_code, "1 to 21" in refused.json()["detail"]) == (422, True)
    busy = Execution.start(ten_tools_stack, agent_manifest(), "Work. [conversation busy]")
    refused = ten_tools_stack.client.post(f"/v1/executions/{busy.execution_id}/rewind", json={"at": 0})
    assert refused.json()["code"] == "session_busy"
    busy.cancel()
    busy.wait_until_ended()
