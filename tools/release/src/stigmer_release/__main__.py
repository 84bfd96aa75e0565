"""`python -m stigmer_release`: the verbs of a release, assembled. Errors become one line."""

import sys

import click

from stigmer_release import image_verbs, package_verbs, tree_verbs
from stigmer_release.errors import ReleaseError
from stigmer_release.output import say


@click.group()
def root() -> None:
    """Make and check releases of Stigmer."""


for module in (tree_verbs, image_verbs, package_verbs):
    for value in list(vars(module).values()):
        if isinstance(value, click.Command):
            root.add_command(value)


def main() -> int:
    """Answers the exit code."""
    try:
        root.main(prog_name="python -m stigmer_release", standalone_mode=False)
    except ReleaseError as error:
        say(f"error: {error.message}" + (f"\n\nhint: {error.hint}" if error.hint else ""))
        return error.exit_code
    except click.ClickException as error:
        say(f"error: {error.format_message()}")
        return error.exit_code
    except click.Abort:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
