"""The examples do what they promise: each manifest loads, each cassette plays, and the outcome is right."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from running_stack import RunningStack, plain_environment
from stigmer_contract.manifest import unsupported_fields
from stigmer_contract.manifest_reader import read_manifests

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/agent.yaml"))
TIMEOUT_SECONDS = 200

pytestmark = pytest.mark.xdist_group("examples")  # one stack for all of them


def run_example(stack: RunningStack, name: str, workspace: Path) -> subprocess.CompletedProcess[str]:
    """Play the example's cassette in `workspace`, as its README says."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "run.py"), name, "--workspace", str(workspace)],
        env=stack.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def copy_of_input(name: str, workspace: Path) -> Path:
    """The example's input files in a directory of the test's own."""
    return Path(shutil.copytree(EXAMPLES / name / "input", workspace / name))


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_of_an_example_can_be_run(name: str) -> None:
    file = EXAMPLES / name / "agent.yaml"

    [manifest] = read_manifests(file.read_bytes(), str(file))

    assert manifest.metadata.name == name
    assert manifest.spec.model is None, "an example must run with the model that a person has"
    assert unsupported_fields(manifest.spec) == []


def test_the_examples_are_known_and_the_overview_names_them() -> None:
    overview = (EXAMPLES / "README.md").read_text(encoding="utf-8")

    assert NAMES == ["csv-report", "fix-tests", "order-desk", "release-notes", "stock-room", "todo-plan"]
    assert all(f"]({name})" in overview for name in NAMES)


def test_csv_report_computes_the_figures_of_the_data(stack: RunningStack, tmp_path: Path) -> None:
    workspace = copy_of_input("csv-report", tmp_path)

    finished = run_example(stack, "csv-report", workspace)

    assert finished.returncode == 0, finished.stderr
    total, sums, left_out = figures_of(workspace / "sales.csv")
    report = (workspace / "report.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+) \| ([\d,]+\.\d\d) \|$", report, re.MULTILINE))
    products = dict(sorted(sums["product"].items(), key=lambda item: -item[1])[:5])
    assert rows == {
        name: f"{amount:,.2f}" for name, amount in (sums["month"] | sums["region"] | products).items()
    }
    assert f"**{total:,.2f} EUR**" in report
    listed = re.findall(r"^\| (\d+) \|", report.partition("### Left out")[2], re.MULTILINE)
    assert [int(line) for line in listed] == left_out
    assert f"{total:,.2f} EUR" in finished.stdout


def figures_of(file: Path) -> tuple[Decimal, dict[str, dict[str, Decimal]], list[int]]:
    """Revenue in total and by kind and name; the lines that cannot be used. A third computation."""
    sums: dict[str, dict[str, Decimal]] = {
        kind: defaultdict(Decimal) for kind in ("month", "region", "product")
    }
    total, left_out, seen = Decimal(0), list[int](), set[str]()
    with file.open(encoding="utf-8", newline="") as stream:
        for line, row in enumerate(csv.DictReader(stream), start=2):
            try:
                day = date.fromisoformat(row["date"].replace("/", "-"))
                amount = int(row["quantity"]) * Decimal(row["unit_price"].removeprefix("EUR "))
                region = {"N": "North", "S": "South", "E": "East", "W": "West"}[
                    row["region"].strip()[:1].upper()
                ]
            except (ValueError, ArithmeticError, KeyError):
                left_out.append(line)
                continue
            if row["order_id"] in seen:
                left_out.append(line)
                continue
            seen.add(row["order_id"])
            total += amount
            for kind, name in (("month", f"{day:%Y-%m}"), ("region", region), ("product", row["product"])):
                sums[kind][name] += amount
    return total, sums, left_out


def test_todo_plan_names_every_comment_and_nothing_else(stack: RunningStack, tmp_path: Path) -> None:
    workspace = copy_of_input("todo-plan", tmp_path)

    finished = run_example(stack, "todo-plan", workspace)

    assert finished.returncode == 0, finished.stderr
    comments = {
        f"{file.relative_to(workspace).as_posix()}:{number}"
        for file in workspace.rglob("*")
        if file.is_file() and file.name != "PLAN.md"
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if re.search(r"(#|//|/\*) (TODO|FIXME):", line)
    }
    plan = (workspace / "PLAN.md").read_text(encoding="utf-8")
    places = re.findall(r"`([^`\s]+:\d+)`", plan)
    assert len(comments) == 16
    assert sorted(places) == sorted(comments)


def test_fix_tests_repairs_the_code_and_leaves_the_tests_alone(stack: RunningStack, tmp_path: Path) -> None:
    workspace = copy_of_input("fix-tests", tmp_path)

    before = suite_result(workspace)
    finished = run_example(stack, "fix-tests", workspace)

    assert before == 1
    assert finished.returncode == 0, finished.stderr
    assert suite_result(workspace) == 0
    for test in (EXAMPLES / "fix-tests" / "input" / "tests").glob("*.py"):
        assert (workspace / "tests" / test.name).read_bytes() == test.read_bytes()


def test_order_desk_answers_from_books_that_the_agent_cannot_see(stack: RunningStack, tmp_path: Path) -> None:
    workspace = copy_of_input("order-desk", tmp_path)

    finished = run_example(stack, "order-desk", workspace)

    assert finished.returncode == 0, finished.stderr
    reply = (workspace / "reply.md").read_text(encoding="utf-8")
    assert "SO-1002" in reply and "20 November" in reply and "SO-1999" not in reply
    assert sorted(path.name for path in workspace.iterdir()) == ["letter.txt", "reply.md"]


def test_stock_room_reserves_what_its_mcp_server_has(stack: RunningStack, tmp_path: Path) -> None:
    workspace = copy_of_input("stock-room", tmp_path)

    finished = run_example(stack, "stock-room", workspace)

    assert finished.returncode == 0, finished.stderr
    reserved = (workspace / "picking-list.md").read_text(encoding="utf-8")
    assert "| Whisk | 3 | A7 |" in reserved and "Missing: 2 Whisk" in reserved


def test_release_notes_follow_the_skill(stack: RunningStack, tmp_path: Path) -> None:
    workspace = copy_of_input("release-notes", tmp_path)

    finished = run_example(stack, "release-notes", workspace)

    assert finished.returncode == 0, finished.stderr
    notes = (workspace / "NOTES.md").read_text(encoding="utf-8")
    assert notes.count("\n- ") == 2 and "utilize" not in notes
    assert not (workspace / "skills").exists()


def test_the_tests_of_the_examples_pass_on_a_stack_of_their_own(tmp_path: Path) -> None:
    environment = plain_environment() | {
        "STIGMER_HOME": str(tmp_path / "home"),
        "STIGMER_ENGINE": "none",
        "TMPDIR": str(tmp_path),
        "NO_COLOR": "1",
    }

    done = subprocess.run(
        [sys.executable, "-m", "stigmer_cli", "test", str(EXAMPLES), "--json"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=2 * TIMEOUT_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert {"csv-report", "stock-room", "todo-plan"} <= {result["name"] for result in results} <= set(NAMES)
    assert all(result["passed"] for result in results)
    assert "no stack runs: the tests get one of their own" in done.stderr
    left = [*tmp_path.glob("stigmer-private-*"), *tmp_path.glob("stigmer-test-*")]
    assert left == [], "the stack is gone, and so are the workspaces"


def suite_result(folder: Path) -> int:
    """Exit code of the package's own tests."""
    arguments = [sys.executable, "-B", "-m", "unittest"]
    return subprocess.run(
        arguments, cwd=folder, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
    ).returncode


def test_replay_stops_with_the_difference_where_an_input_file_has_changed(
    stack: RunningStack, tmp_path: Path
) -> None:
    workspace = copy_of_input("csv-report", tmp_path)
    data = workspace / "sales.csv"
    changed = data.read_text(encoding="utf-8").replace("Digital scale,5,39.90", "Digital scale,6,39.90", 1)
    data.write_text(changed, encoding="utf-8")

    finished = run_example(stack, "csv-report", workspace)

    assert finished.returncode == 1
    assert "replay_mismatch" in finished.stderr
    assert re.search(
        r"^\+ +3\s+SO-1002,2025-01-04,North,Digital scale,6,39\.90$", finished.stderr, re.MULTILINE
    )
    assert not (workspace / "report.md").exists()


def test_an_example_runs_in_a_fresh_copy_of_its_input(stack: RunningStack) -> None:
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / "run.py"), "todo-plan"],
        env=stack.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    workspace = Path(finished.stderr.rpartition("The agent worked in ")[2].strip())
    assert (workspace / "PLAN.md").is_file()
    assert not (EXAMPLES / "todo-plan" / "input" / "PLAN.md").exists()
    shutil.rmtree(workspace)


@pytest.mark.parametrize("name", NAMES)
def test_recording_a_cassette_again_gives_the_same_cassette(
    stack: RunningStack, tmp_path: Path, name: str
) -> None:
    examples = Path(shutil.copytree(EXAMPLES, tmp_path / "examples"))

    subprocess.run(
        [sys.executable, str(examples / "record.py"), name],
        env=stack.environment | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=True,
    )

    recorded = (examples / name / "cassette.yaml").read_text(encoding="utf-8")
    assert recorded == (EXAMPLES / name / "cassette.yaml").read_text(encoding="utf-8")
