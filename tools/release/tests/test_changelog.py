"""A change of programs brings an entry of the changelog; one of tests or docs need not."""

from pathlib import Path

import pytest

from scratch_checkout import ScratchCheckout
from stigmer_release.plan import Trigger, event_of, outputs
from stigmer_release.tag_rules import ImageTags, PullRequest, PushToMain, TagPushed, image_tags
from stigmer_release.versions import Version

PROGRAM = "client-apps/cli/src/stigmer_cli/new.py"
ENTRY = "_changelog/2027-01/2027-01-01-120000-new.md"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("files", "exit_code", "said"),
    [
        ([PROGRAM], 1, f"error: {PROGRAM} is changed, and _changelog/ has no new entry"),
        ([PROGRAM, ENTRY], 0, "1 files of programs are changed, 1 entries are new"),
        (
            ["docs/new.md", "client-apps/cli/tests/test_new.py"],
            0,
            "0 files of programs are changed, 0 entries are new",
        ),
    ],
)
def test_a_change_is_held_to_its_entry(tmp_path: Path, files: list[str], exit_code: int, said: str) -> None:
    checkout = ScratchCheckout(tmp_path / "checkout")
    base = checkout.git("rev-parse", "HEAD")
    for name in files:
        checkout.write(name, "new\n")

    done = checkout.release_tools("changelog", "--base", base, check=False)

    assert (done.returncode, (done.stderr or done.stdout).splitlines()[0]) == (exit_code, said)


@pytest.mark.parametrize(
    ("trigger", "event", "version", "push", "release"),
    [
        (
            Trigger("pull_request", "refs/pull/1/merge", COMMIT),
            PullRequest(),
            "dev-0123456789ab",
            "false",
            "false",
        ),
        (Trigger("push", "refs/heads/main", COMMIT), PushToMain(COMMIT), "dev-0123456789ab", "true", "false"),
        (Trigger("push", "refs/tags/v1.2.3", COMMIT), TagPushed(Version(1, 2, 3)), "1.2.3", "true", "true"),
        (
            Trigger("workflow_dispatch", "refs/heads/main", COMMIT, "v1.2.3"),
            TagPushed(Version(1, 2, 3)),
            "1.2.3",
            "false",
            "false",
        ),
        (
            Trigger("workflow_dispatch", "refs/heads/x", COMMIT),
            PushToMain(COMMIT),
            "dev-0123456789ab",
            "false",
            "false",
        ),
    ],
)
def test_a_run_pushes_for_main_and_tags_only_and_a_run_by_hand_never(
    trigger: Trigger, event: PullRequest | PushToMain | TagPushed, version: str, push: str, release: str
) -> None:
    tags: ImageTags = image_tags(event, [])

    told = outputs(trigger, tags, {"PYTHON_IMAGE": "python:3.11-slim@sha256:0"})

    assert event_of(trigger) == event
    assert told == {
        "version": version,
        "push": push,
        "release": release,
        "prerelease": "false",
        "tags": " ".join(tags.all),
        "python-image": "python:3.11-slim@sha256:0",
    }
