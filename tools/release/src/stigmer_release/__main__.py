"""`python -m stigmer_release`: the verbs of a release. Each calls one module; errors become one line."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from stigmer_release.errors import ReleaseError
from stigmer_release.git import Checkout
from stigmer_release.packages import check_agreement, check_expected_image
from stigmer_release.preparation import make_release, plan_release
from stigmer_release.programs import run_program
from stigmer_release.versions import Version


@click.group()
def root() -> None:
    """Make and check releases of Stigmer."""


@root.command()
@click.argument("version")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def prepare(version: str, dry_run: bool) -> None:
    """Check the tree, set VERSION everywhere, write the release notes, commit and tag."""
    checkout = Checkout(Path.cwd())
    now = datetime.now(UTC).date().isoformat()
    planned = plan_release(checkout, Version.parse(version), now)
    if dry_run:
        sys.stdout.write(planned.diff(checkout.root))
        _say(f"dry run: {planned.version} would be committed and tagged as {planned.version.git_tag}")
        return
    make_release(checkout, planned, _say)


@root.command()
@click.argument("tag")
def agree(tag: str) -> None:
    """Check that packages, lock file and the image that the command line pulls are of the version of TAG."""
    version = Version.of_git_tag(tag)
    check_agreement(Path.cwd(), version)
    check_expected_image(version, run_program("stigmer", "version", "--json"))
    print(f"tag, packages, lock file and the command line's image are {version}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def main() -> int:
    """Answers the exit code."""
    try:
        root.main(prog_name="python -m stigmer_release", standalone_mode=False)
    except ReleaseError as error:
        _say(f"error: {error.message}" + (f"\n\nhint: {error.hint}" if error.hint else ""))
        return error.exit_code
    except click.ClickException as error:
        _say(f"error: {error.format_message()}")
        return error.exit_code
    except click.Abort:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
