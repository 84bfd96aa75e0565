"""The verbs that build the Python packages, try them, and write what installs them."""

import tempfile
from pathlib import Path

import click

from stigmer_release.formula import render_formula
from stigmer_release.output import say
from stigmer_release.packages import PACKAGES
from stigmer_release.python_packages import build_packages, set_image_digest, try_package
from stigmer_release.requirements import CLIENT, WHOLE, indexed_requirements, requirements_of_wheels
from stigmer_release.versions import Version

OUTPUT = click.Path(path_type=Path, file_okay=False)
REQUIREMENTS = {WHOLE: "requirements.txt", CLIENT: "client-requirements.txt"}


@click.command()
@click.argument("output", type=OUTPUT)
def packages(output: Path) -> None:
    """Build all Python packages into the directory OUTPUT, and write what installs them from there."""
    for file in build_packages(Path.cwd(), output.absolute()):
        print(file.name)
    for name, requirements in REQUIREMENTS.items():
        text = requirements_of_wheels(Path.cwd(), output.absolute(), name)
        (output / requirements).write_text(text, encoding="utf-8")
        print(requirements)


@click.command("try-packages")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
def try_packages(directory: Path) -> None:
    """Install each package of DIRECTORY alone, and import all its modules."""
    with tempfile.TemporaryDirectory() as scratch:
        for name in PACKAGES:
            imported = try_package(Path.cwd(), directory.absolute(), name, Path(scratch))
            say(f"{name} alone: all modules of {imported} are imported")


@click.command("set-image-digest")
@click.argument("digest")
def write_image_digest(digest: str) -> None:
    """Let the command line of this checkout pull exactly the image DIGEST."""
    set_image_digest(Path.cwd(), digest)


@click.command()
@click.argument("tag")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
def formula(tag: str, directory: Path) -> None:
    """Write the Homebrew formula of TAG, and the requirements that it installs, beside the packages."""
    version = Version.of_git_tag(tag)
    requirements = directory / f"stigmer-{version}-requirements.txt"
    requirements.write_text(indexed_requirements(Path.cwd(), directory), encoding="utf-8")
    rendered = directory / "stigmer.rb"
    rendered.write_text(render_formula(version, directory, requirements), encoding="utf-8")
    say(f"{rendered} and {requirements} are written")
