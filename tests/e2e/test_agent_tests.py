"""`stigmer test` on a real stack: a test is made of an execution, passes, and says why where it fails."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml

from executions import Execution, agent_manifest
from running_stack import RunningStack

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("ten-tools")]

CASSETTE = """\
version: 1
turns:
- toolCalls:
  - tool: run_command
    arguments: {command: "tr a-z A-Z < given.txt > made.txt; cat made.txt"}
- expect:
    results:
    - {tool: run_command, resultMatches: HELLO}
  text: It is made.
"""


def stigmer(
    stack: RunningStack, *arguments: str, code: int = 0, **variables: str
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "stigmer_cli", *arguments],
        env=stack.environment | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == code, done.stderr
    return done


def write_test(folder: Path, name: str, **expect: Any) -> Path:
    """A test of an agent that plays a cassette."""
    (folder / "played.yaml").write_text(CASSETTE, encoding="utf-8")
    manifest = agent_manifest(model="replay:played.yaml", tools=("shell",))
    (folder / "agent.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")
    path = folder / f"{name}.test.yaml"
    document = {"input": "Make it.", "files": {"given.txt": "hello\n"}, "expect": expect}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_tests_pass_and_fail_by_what_they_expect(ten_tools_stack: RunningStack, tmp_path: Path) -> None:
    good = tmp_path / "good"
    good.mkdir()
    write_test(
        good,
        "all",
        answer={"equals": "It is made.", "contains": ["made"], "matches": "^It"},
        files=[{"path": "made.txt", "equals": "HELLO"}, {"path": "other.txt", "exists": False}],
        commands=["grep -q HELLO made.txt", "test ! -e other.txt"],
        path={
            "calls": ["run_command"],
            "neverCalls": ["write_file"],
            "order": [{"tool": "run_command", "arguments": "made"}],
        },
        limits={"turns": 2, "duration": "1h"},
    )
    junit, summary = tmp_path / "good.xml", tmp_path / "summary.md"
    done = stigmer(
        ten_tools_stack,
        *("test", str(good), "--junit", str(junit), "--json"),
        GITHUB_STEP_SUMMARY=str(summary),
    )
    [result] = json.loads(done.stdout)
    assert result["passed"]
    assert done.stderr.splitlines()[-1] == "1 test: 1 passed"
    suite = ElementTree.parse(junit).getroot()[0]  # noqa: S314 - our own
    assert suite.attrib | {"time": ""} == {
        "name": "stigmer test",
        "tests": "1",
        "failures": "0",
        "errors": "0",
        "skipped": "0",
        "time": "",
    }
    assert "| all | passed |" in summary.read_text(encoding="utf-8")

    bad = tmp_path / "bad"
    bad.mkdir()
    write_test(
        bad,
        "all",
        answer={"equals": "It is there."},
        files=[{"path": "made.txt", "contains": "hello"}],
        commands=["false"],
        path={"order": ["run_command", "run_command"]},
        limits={"turns": 1},
    )
    failed = stigmer(ten_tools_stack, "test", str(bad), "--junit", str(junit), code=1)
    said = failed.stderr
    for words in (
        'the answer is not "It is there.", but "It is made."',
        "file 'made.txt' does not contain 'hello'",
        "command `false` did not end with 0",
        "run_command is missing there",
        "it took 2 turns, more than 1",
        "stigmer executions get exe_",
    ):
        assert words in said
    assert len(said.split("✗ all", 1)[1].splitlines()) <= 13
    case = ElementTree.parse(junit).getroot()[0][0]  # noqa: S314 - as above
    assert [child.tag for child in case] == ["failure"]


def test_a_judge_is_asked_once_and_what_it_said_is_kept_in_the_cassette(
    ten_tools_stack: RunningStack, tmp_path: Path
) -> None:
    said = tmp_path / "judge.yaml"
    rubric = {"rubric": "It is in capitals.", "files": ["made.txt"], "model": "replay:judge.yaml"}
    write_test(tmp_path, "judged", judge=rubric)
    said.write_text('version: 1\nturns: [{text: "PASS\\nIt is."}]\n', encoding="utf-8")
    stigmer(ten_tools_stack, "test", str(tmp_path), "--update")
    [kept] = yaml.safe_load((tmp_path / "played.yaml").read_text(encoding="utf-8"))["judgements"]
    assert (kept["passes"], kept["reason"], kept["model"]) == (True, "It is.", "replay:judge.yaml")

    # Where it has been asked the same before, it is not asked again; of another rubric it is.
    said.write_text('version: 1\nturns: [{text: "FAIL\\nIt is small."}]\n', encoding="utf-8")
    stigmer(ten_tools_stack, "test", str(tmp_path))
    write_test_of_judge = rubric | {"rubric": "It is in small letters."}
    (tmp_path / "judged.test.yaml").unlink()
    played = (tmp_path / "played.yaml").read_text(encoding="utf-8")
    write_test(tmp_path, "judged", judge=write_test_of_judge)
    (tmp_path / "played.yaml").write_text(played, encoding="utf-8")
    failed = stigmer(ten_tools_stack, "test", str(tmp_path), code=1, GITHUB_STEP_SUMMARY=str(tmp_path / "s"))
    assert "the judge says it does not hold: It is small." in failed.stderr
    assert f"::error file={tmp_path / 'judged.test.yaml'},title=judged::" in failed.stderr


def test_a_baseline_lets_only_what_has_become_worse_fail(
    ten_tools_stack: RunningStack, tmp_path: Path
) -> None:
    write_test(tmp_path, "weak", answer={"equals": "It is there."})
    baseline = tmp_path / "baseline.json"
    arguments = ("test", str(tmp_path), "--baseline", str(baseline))
    assert "write it with --update" in stigmer(ten_tools_stack, *arguments, code=2).stderr
    stigmer(ten_tools_stack, *arguments, "--update")
    known = json.loads(baseline.read_text(encoding="utf-8"))
    assert known["tests"]["weak.test.yaml"]["good"] is False
    done = stigmer(ten_tools_stack, *arguments)
    assert "1 test: 0 passed, 1 failed as before" in done.stderr

    known["tests"]["weak.test.yaml"] |= {"good": True, "passed": 1}
    baseline.write_text(json.dumps(known), encoding="utf-8")
    assert "it passed in the baseline" in stigmer(ten_tools_stack, *arguments, code=1).stderr
    baseline.write_text('{"version": 2}', encoding="utf-8")
    assert "it is no baseline: version" in stigmer(ten_tools_stack, *arguments, code=2).stderr


def test_a_task_is_compared_between_models_and_done_again_after_a_change(
    ten_tools_stack: RunningStack, tmp_path: Path
) -> None:
    write_test(tmp_path, "unused")
    given = tmp_path / "given"
    given.mkdir()
    (given / "given.txt").write_text("hello\n", encoding="utf-8")
    agent, played, short = tmp_path / "agent.yaml", tmp_path / "played.yaml", tmp_path / "short.yaml"
    manifest = yaml.safe_load(agent.read_text(encoding="utf-8"))
    manifest["metadata"]["name"] = "compared"
    agent.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    short.write_text('version: 1\nturns: [{text: "Nothing to do."}]\n', encoding="utf-8")
    models = f"replay:{played},replay:{short}"
    task = ("run", str(tmp_path), "Make it.", "--workspace", str(given), "--compare")
    both = json.loads(stigmer(ten_tools_stack, *task, models, "--json").stdout)
    assert [(each["answer"], each["changed_paths"]) for each in both] == [
        ("It is made.", 1),
        ("Nothing to do.", 0),
    ]
    assert sorted(path.name for path in given.iterdir()) == ["given.txt"]
    assert "takes 2 to 10 models" in stigmer(ten_tools_stack, *task, "replay:one", code=2).stderr
    assert "leave out --model" in stigmer(ten_tools_stack, *task, models, "--detach", code=2).stderr

    again = ("test", str(tmp_path), "--changed", "--newest", "1", "--json")
    stigmer(ten_tools_stack, "run", str(tmp_path), "Make it.", "--workspace", str(given), "--snapshots")
    (given / "made.txt").unlink()
    done = stigmer(ten_tools_stack, *again)
    [repeated] = json.loads(done.stdout)
    assert (repeated["how"], repeated["same_steps"]) == ("same", 3)

    played.write_text(CASSETTE.replace("a-z A-Z", "a-y A-Y"), encoding="utf-8")
    changed = stigmer(ten_tools_stack, *again)
    [repeated] = json.loads(changed.stdout)
    assert (repeated["how"], repeated["same_steps"]) == ("parted", 0)
    assert "they part at step 1 of 3" in changed.stderr
    stigmer(ten_tools_stack, *again, "--strict", code=1)


def test_a_test_is_made_of_an_execution_and_passes(ten_tools_stack: RunningStack, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "there.txt").write_text("there before\n", encoding="utf-8")
    manifest = agent_manifest()
    manifest["spec"]["snapshots"] = True
    execution = Execution.start(
        ten_tools_stack,
        manifest,
        "Work. [conversation tested]",
        workspace=str(tmp_path / "given"),
    )
    execution.wait_until_completed()
    folder = tmp_path / "tests"
    folder.mkdir()
    command = ("test", "add", execution.execution_id, "--to", str(folder), "--name", "made")
    done = stigmer(ten_tools_stack, *command)
    test = folder / "made.test.yaml"
    assert done.stdout == f"{test}\n"
    assert "copied there.txt" in done.stderr
    expected = yaml.safe_load(test.read_text(encoding="utf-8"))["expect"]
    assert expected["answer"] == {"equals": "All ten are done."}
    assert expected["files"] == [{"path": "done.txt"}]
    assert (folder / "made.files" / "there.txt").read_text(encoding="utf-8") == "there before\n"
    assert "1 test: 1 passed" in stigmer(ten_tools_stack, "test", str(test)).stderr
    assert "already" in stigmer(ten_tools_stack, *command, code=2).stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input: x\nexpect: {answr: {}}\n", "bad.test.yaml:2:10: expect.answr: there is no such field"),
        ("input: x\nexpect: {answer: {matches: '('}}\n", "is not a regular expression"),
        ("input: x\nfiles: {../up: x}\n", "is not a path in the workspace"),
        ("expect: {}\n", "input"),
        ("input: [\n", "bad.test.yaml:"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.test.yaml").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "stigmer_cli", "test", "bad.test.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 2
    assert said in done.stderr
