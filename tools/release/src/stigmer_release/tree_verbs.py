"""The verbs that look at a checkout, or change it."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from stigmer_release.changelog import check_entry
from stigmer_release.git import Checkout
from stigmer_release.notes import notes_file
from stigmer_release.output import say
from stigmer_release.packages import check_agreement, check_expected_image
from stigmer_release.preparation import make_release, plan_release
from stigmer_release.programs import run_program
from stigmer_release.versions import Version


@click.command()
@click.argument("version")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def prepare(version: str, dry_run: bool) -> None:
    """Check the tree, set VERSION everywhere, write the release notes, commit and tag."""
    checkout = Checkout(Path.cwd())
    now = datetime.now(UTC).date().isoformat()
    planned = plan_release(checkout, Version.parse(version), now)
    if dry_run:
        sys.stdout.write(planned.diff(checkout.root))
        say(f"dry run: {planned.version} would be committed and tagged as {planned.version.git_tag}")
        return
    make_release(checkout, planned, say)


@click.command()
@click.argument("tag")
def agree(tag: str) -> None:
    """Check that packages, lock file and the image that the command line pulls are of the version of TAG."""
    version = Version.of_git_tag(tag)
    check_agreement(Path.cwd(), version)
    check_expected_image(version, run_program("stigmer", "version", "--json"))
    print(f"tag, packages, lock file and the command line's image are {version}")


@click.command()
@click.argument("tag")
def notes(tag: str) -> None:
    """Print the release notes of TAG."""
    sys.stdout.write((Path.cwd() / notes_file(Version.of_git_tag(tag))).read_text("utf-8"))


@click.command()
@click.option("--base", required=True, help="The revision that the change is made on.")
def changelog(base: str) -> None:
    """Check that a change of programs brings an entry of the changelog."""
    print(check_entry(Checkout(Path.cwd()), base))
