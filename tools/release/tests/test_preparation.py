"""`make release` in a scratch checkout of this repository: what it commits, tags and refuses."""

import subprocess
import tomllib
from pathlib import Path

import pytest

from scratch_checkout import REPOSITORY, ScratchCheckout
from stigmer_release.packages import PACKAGES, named_versions


@pytest.fixture
def checkout(tmp_path: Path) -> ScratchCheckout:
    """This repository's files, as one commit."""
    return ScratchCheckout(tmp_path / "checkout")


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What it says on stderr, without make's own lines."""
    return [line for line in done.stderr.splitlines() if line and not line.startswith("make")]


def test_a_release_sets_one_version_everywhere_collects_the_changelog_and_tags(
    checkout: ScratchCheckout,
) -> None:
    before = checkout.git("rev-parse", "HEAD")
    first_line = sorted((checkout.root / "_changelog").glob("20*/*.md"))[0].read_text("utf-8").splitlines()[0]

    checkout.make("release", "VERSION=7.8.9-rc.1")

    assert {named.version for named in named_versions(checkout.root)} == {"7.8.9rc1"}
    assert checkout.git("status", "--porcelain") == ""
    assert checkout.git("log", "-1", "--format=%s") == "Release 7.8.9-rc.1"
    assert checkout.git("rev-parse", "HEAD~1") == before
    assert checkout.git("rev-parse", "v7.8.9-rc.1^{commit}") == checkout.git("rev-parse", "HEAD")
    assert checkout.git("cat-file", "-t", "v7.8.9-rc.1") == "tag"
    notes = (checkout.root / "_changelog/releases/7.8.9-rc.1.md").read_text("utf-8")
    assert notes.startswith("# Stigmer 7.8.9-rc.1\n")
    assert f"#{first_line}\n" in notes
    changed = checkout.git("diff", "--name-only", "HEAD~1").splitlines()
    assert set(changed) == {
        "_changelog/releases/7.8.9-rc.1.md",
        "uv.lock",
        *(f"{folder}/pyproject.toml" for folder in PACKAGES.values()),
    }


def test_the_lock_file_of_a_release_is_the_one_that_uv_would_write(checkout: ScratchCheckout) -> None:
    checkout.make("release", "VERSION=7.8.9")
    uv = REPOSITORY / ".uv/bin/uv"
    command = [str(uv) if uv.exists() else "uv", "lock", "--check", "--offline"]

    done = subprocess.run(command, cwd=checkout.root, capture_output=True, encoding="utf-8", check=False)

    assert done.returncode == 0, done.stderr


def test_a_dry_run_shows_the_changes_and_makes_none(checkout: ScratchCheckout) -> None:
    head = checkout.git("rev-parse", "HEAD")
    for asking in ("--dry-run", "DRY_RUN=1"):
        done = checkout.make("release", "VERSION=7.8.9", asking)

        assert '+version = "7.8.9"\n' in done.stdout
        assert "+# Stigmer 7.8.9\n" in done.stdout
        assert said(done) == ["dry run: 7.8.9 would be committed and tagged as v7.8.9"]
        assert (checkout.git("rev-parse", "HEAD"), checkout.git("status", "--porcelain")) == (head, "")
        assert checkout.git("tag") == ""


def test_notes_hold_what_is_new_since_the_last_release_and_not_since_a_pre_release(
    checkout: ScratchCheckout,
) -> None:
    checkout.make("release", "VERSION=7.8.0")
    checkout.write(
        "_changelog/2027-01/2027-01-01-120000-one.md", "# One is new\n\nReally.\n\n## How\n\nSo.\n"
    )
    checkout.make("release", "VERSION=7.9.0-rc.1")
    checkout.write("_changelog/2027-01/2027-01-02-120000-two.md", "# Two is new\n")
    checkout.make("release", "VERSION=7.9.0")

    notes = (checkout.root / "_changelog/releases/7.9.0.md").read_text("utf-8")

    assert notes.partition("\n\n")[2].partition("\n\n")[2] == (
        "## One is new\n\nReally.\n\n### How\n\nSo.\n\n## Two is new\n"
    )


@pytest.mark.parametrize(
    ("version", "exit_code", "message"),
    [
        ("7.8", 2, "error: '7.8' is no version"),
        ("", 2, "error: '' is no version"),
        ("7.8.1", 2, "error: 7.8.1 is released already"),
        ("7.8.0", 2, "error: 7.8.0 comes before 7.8.1, which is released"),
        ("7.8.2", 1, "error: there is no entry in _changelog/ since 7.8.1; nothing to release"),
    ],
)
def test_a_version_that_cannot_follow_is_refused(
    checkout: ScratchCheckout, version: str, exit_code: int, message: str
) -> None:
    checkout.make("release", "VERSION=7.8.1")

    done = checkout.release_tools("prepare", "--", version, check=False)

    assert (done.returncode, said(done)[0]) == (exit_code, message)


def test_a_changed_checkout_and_another_branch_are_refused(checkout: ScratchCheckout) -> None:
    (checkout.root / "README.md").write_text("changed", encoding="utf-8")
    changed = checkout.release_tools("prepare", "7.8.9", check=False)
    checkout.git("checkout", "--quiet", "README.md")
    checkout.git("switch", "--quiet", "--create", "feature")
    elsewhere = checkout.release_tools("prepare", "7.8.9", check=False)
    checkout.git("switch", "--quiet", "--create", "release/7.8")
    old_line = checkout.release_tools("prepare", "7.8.9", check=False)

    assert said(changed)[0] == "error: the checkout has changes: README.md"
    assert said(elsewhere) == [
        "error: a release of 7.8.9 is made on main, or on release/7.8 for an old line; this is feature",
        "hint: run `git switch main`",
    ]
    assert old_line.returncode == 0


def test_a_tag_that_disagrees_with_a_package_or_the_lock_file_stops_the_release(
    checkout: ScratchCheckout,
) -> None:
    checkout.make("release", "VERSION=7.8.9")
    server = checkout.root / PACKAGES["stigmer-server"] / "pyproject.toml"
    server.write_text(server.read_text("utf-8").replace("7.8.9", "7.8.8", 1), encoding="utf-8")

    other_package = checkout.release_tools("agree", "v7.8.9", check=False)
    other_tag = checkout.release_tools("agree", "v7.9.0", check=False)
    no_tag = checkout.release_tools("agree", "7.8.9", check=False)

    assert said(other_package)[0] == (
        "error: the tag v7.8.9 does not agree with the checkout: package stigmer-server is 7.8.8"
    )
    assert "package stigmer-agents is 7.8.9" in said(other_tag)[0]
    assert "what stigmer-agents wants of stigmer-server is 7.8.9" in said(other_tag)[0]
    assert "stigmer-agents in uv.lock is 7.8.9" in said(other_tag)[0]
    assert (no_tag.returncode, said(no_tag)[0]) == (2, "error: '7.8.9' is no tag of a release")


def test_a_command_line_that_pulls_another_image_stops_the_release(checkout: ScratchCheckout) -> None:
    """The command line that is installed here is not the one of the scratch checkout's version."""
    checkout.make("release", "VERSION=7.8.9")
    ours = tomllib.loads((REPOSITORY / PACKAGES["stigmer-agents"] / "pyproject.toml").read_text("utf-8"))
    version = ours["project"]["version"]

    done = checkout.release_tools(
        "agree", "v7.8.9", environment={"STIGMER_HOME": str(checkout.root)}, check=False
    )

    assert said(done)[0] == (
        "error: the tag v7.8.9 does not agree with the command line, "
        f"which pulls ghcr.io/stigmer/agent-runner:{version}"
    )
